package sealed

// windowSize is how many packets may be overtaken before one that comes late is
// taken for a repeat: more than are ever on the way to somebody at once.
const windowSize = 512

// A window remembers which of the last counters were seen (RFC 6479, with a ring
// of words): a packet is opened once.
type window struct {
	next uint64                  // one above the highest seen
	bits [windowSize / 64]uint64 // of the counters from next−windowSize on, by counter modulo windowSize
}

// seen reports whether a counter was seen, or is too old to tell.
func (w *window) seen(counter uint64) bool {
	switch {
	case counter >= w.next:
		return false
	case counter+windowSize < w.next:
		return true
	}
	return w.bits[counter/64%uint64(len(w.bits))]&(1<<(counter%64)) != 0
}

// add notes a counter that was not seen, and reports whether it is the highest.
func (w *window) add(counter uint64) (newest bool) {
	newest = counter >= w.next
	if newest {
		for c := max(w.next, counter-min(counter, windowSize-1)); c < counter; c++ {
			w.clear(c)
		}
		w.next = counter + 1
	}
	w.bits[counter/64%uint64(len(w.bits))] |= 1 << (counter % 64)
	return newest
}

func (w *window) clear(counter uint64) {
	w.bits[counter/64%uint64(len(w.bits))] &^= 1 << (counter % 64)
}
