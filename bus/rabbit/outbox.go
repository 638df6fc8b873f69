package rabbit

import (
	"slices"
	"sync"
)

// An outbox is what waits to be published, oldest first. It is bounded in bytes: what
// finds no room is refused.
type outbox struct {
	room  int           // bytes
	ready chan struct{} // has something while there may be messages

	mu    sync.Mutex
	items []*message
	bytes int
}

func newOutbox(room int) *outbox { return &outbox{room: room, ready: make(chan struct{}, 1)} }

// add reports false if there is no room. Messages that somebody waits for always find
// some: who waits does not send more.
func (o *outbox) add(m *message) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if m.waiting == nil && o.bytes+m.size() > o.room {
		return false
	}
	o.items = append(o.items, m)
	o.bytes += m.size()
	o.wake()
	return true
}

func (o *outbox) wake() {
	select {
	case o.ready <- struct{}{}:
	default:
	}
}

// take returns the oldest message, or nil.
func (o *outbox) take() *message {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.items) == 0 {
		o.items = nil // with what it has grown to
		return nil
	}
	m := o.items[0]
	o.items[0] = nil
	o.items = o.items[1:]
	o.bytes -= m.size()
	return m
}

// putBack takes in again what was taken, as the oldest. There may be more than there
// is room for, by as much as is in flight at a time.
func (o *outbox) putBack(ms []*message) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.items = slices.Concat(ms, o.items)
	for _, m := range ms {
		o.bytes += m.size()
	}
	o.wake()
}

// remove takes out what does not count any more and returns it.
func (o *outbox) remove(gone func(*message) bool) (removed []*message) {
	o.mu.Lock()
	defer o.mu.Unlock()
	kept := make([]*message, 0, len(o.items))
	for _, m := range o.items {
		if gone(m) {
			removed = append(removed, m)
			o.bytes -= m.size()
		} else {
			kept = append(kept, m)
		}
	}
	o.items = kept
	return removed
}

// size returns the bytes that wait.
func (o *outbox) size() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.bytes
}
