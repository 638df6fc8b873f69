package check

import (
	"cmp"
	"fmt"
	"slices"

	"timberline/events"
)

// Check holds everything recorded so far against the promises. The history can
// be recorded further, and checked again.
func (h *History) Check() *Report {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := &checker{h: h, report: new(Report), seen: make(map[place]map[int32]bool), byID: make(map[events.ID]int32)}
	for _, v := range h.found {
		c.report.add(1, v)
	}
	c.ids = make([]events.ID, len(h.messages))
	for _, t := range h.sorted() {
		c.timeline(t)
	}
	for i := range h.messages {
		c.message(int32(i))
	}
	for _, r := range h.readers {
		c.reader(r)
	}
	return c.report
}

// sorted returns the timelines in an order that is the same for equal histories.
func (h *History) sorted() []*timeline {
	var list []*timeline
	for _, t := range h.timelines {
		list = append(list, t)
	}
	slices.SortFunc(list, func(a, b *timeline) int {
		return cmp.Or(slices.Compare(a.store[:], b.store[:]), cmp.Compare(a.user, b.user))
	})
	return list
}

// A checker is one run of Check.
type checker struct {
	h      *History
	report *Report
	ids    []events.ID              // of the messages; zero: stands nowhere
	byID   map[events.ID]int32      // the messages by these
	seen   map[place]map[int32]bool // the messages that every complete reader was shown
}

func (c *checker) violated(k Kind, n int, format string, args ...any) {
	if n > 0 {
		c.report.add(n, Violation{k, fmt.Sprintf(format, args...)})
	}
}

// timeline holds the entries of one timeline against what was sent.
func (c *checker) timeline(t *timeline) {
	seen := make(map[int32]bool, len(t.entries))
	c.seen[t.place] = make(map[int32]bool, len(t.entries))
	readable := c.readable(t)
	sessions := make(map[events.SessionID][]uint32) // the places of its sends, by seq
	for i, e := range t.entries {
		seq := events.Seq(i + 1)
		if e == (entry{}) {
			c.violated(Gap, 1, "timeline of %s: nobody was shown seq %d", t.user, seq)
			continue
		}
		if e.message < 0 {
			continue
		}
		m := &c.h.messages[e.message]
		if seen[e.message] {
			c.violated(Doubled, 1, "timeline of %s: message %v stands there again at seq %d", t.user, m.id, seq)
			continue
		}
		seen[e.message] = true
		if seq <= readable {
			c.seen[t.place][e.message] = true
		}
		if !c.belongs(t, seq, e, m) {
			continue
		}
		c.identity(t, seq, e, m)
		session := c.h.claims[e.claim].session
		sessions[session] = append(sessions[session], m.nth)
		if t.store == c.h.store && t.user == m.to && t.user != m.sender.user {
			c.report.Delivered++
		}
	}
	for session, places := range sessions {
		c.violated(OutOfOrder, inversions(places), "timeline of %s: sends of session %v stand against the order sent", t.user, session)
	}
}

// readable returns the last seq that every complete reader was shown.
func (c *checker) readable(t *timeline) events.Seq {
	last := events.Seq(len(t.entries))
	for _, r := range c.h.readers {
		if r.complete && r.user == t.user && r.store == t.store {
			last = min(last, r.cursor)
		}
	}
	return last
}

// belongs reports whether the entry is what its sender sent, and to there.
func (c *checker) belongs(t *timeline, seq events.Seq, e entry, m *message) bool {
	claim := c.h.claims[e.claim]
	switch {
	case m.sender == nil:
		c.violated(Foreign, 1, "timeline of %s: nobody sent message %v at seq %d", t.user, m.id, seq)
		return false
	case claim.sender != m.sender.user || claim.device != m.sender.device || claim.conversation != events.Direct(m.sender.user, m.to):
		c.violated(Foreign, 1, "timeline of %s: message %v at seq %d is from %s/%s in %q, was sent by %s to %s",
			t.user, m.id, seq, claim.sender, claim.device, claim.conversation, m.sender, m.to)
	case e.body != m.body && !(e.body == 0 && m.empty):
		c.violated(Foreign, 1, "timeline of %s: message %v at seq %d has another body than was sent", t.user, m.id, seq)
	case t.user != m.to && t.user != m.sender.user:
		c.violated(Foreign, 1, "timeline of %s: message %v at seq %d is from %s to %s", t.user, m.id, seq, m.sender, m.to)
	}
	return true
}

// identity holds the entry's id against the message's other entries, and against
// what its device had been shown before.
func (c *checker) identity(t *timeline, seq events.Seq, e entry, m *message) {
	if t.store != c.h.store {
		return // ids are of one store
	}
	id := &c.ids[e.message]
	switch {
	case *id == events.ID{}:
		*id = e.id
		if other, taken := c.byID[e.id]; taken {
			c.violated(OutOfOrder, 1, "messages %v and %v both have the id %v", c.h.messages[other].id, m.id, e.id)
		}
		c.byID[e.id] = e.message
	case *id != e.id:
		c.violated(Doubled, 1, "timeline of %s: message %v at seq %d has the id %v, and %v elsewhere", t.user, m.id, seq, e.id, *id)
		return
	default:
		return
	}
	if e.id.Compare(m.after) <= 0 {
		c.violated(Acausal, 1, "message %v has the id %v, though its device had been shown %v before", m.id, e.id, m.after)
	}
	if m.answer == refused {
		c.violated(Refused, 1, "timeline of %s: message %v stands at seq %d, but its sender was told that it is refused", t.user, m.id, seq)
	}
}

// message holds what became of a message against where it stands.
func (c *checker) message(i int32) {
	m := &c.h.messages[i]
	if m.sender == nil {
		if m.answer != open {
			c.violated(Foreign, 1, "message %v was answered, but nobody sent it", m.id)
		}
		return
	}
	c.report.Sent++
	switch m.answer {
	case acked:
		c.report.Acked++
	case refused:
		c.report.Refused++
	case unknown:
		c.report.Unknown++
	}
	if m.answer != acked || m.excuse {
		return
	}
	for _, u := range []events.User{m.sender.user, m.to} {
		if !c.seen[place{c.h.store, u}][i] {
			c.violated(Lost, 1, "message %v from %s to %s was acked and is not in the timeline of %s", m.id, m.sender, m.to, u)
		}
		if m.to == m.sender.user {
			break
		}
	}
}

// reader holds a device that says to have everything against what others were
// shown.
func (c *checker) reader(r *Reader) {
	if trimmed := c.h.timeline(place{r.store, r.user}).trimmed; r.skipped > trimmed {
		c.violated(Gap, 1, "%s was told that all up to seq %d was trimmed, it was up to %d", r, r.skipped, trimmed)
	}
	if !r.complete {
		return
	}
	if r.store != c.h.store {
		c.violated(Behind, 1, "%s has entries of store %v, which was replaced by %v", r, r.store, c.h.store)
		return
	}
	if t := c.h.timelines[place{r.store, r.user}]; t != nil && r.cursor < events.Seq(len(t.entries)) {
		c.violated(Behind, 1, "%s stopped at seq %d, others were shown %d", r, r.cursor, len(t.entries))
	}
}

// inversions counts the pairs that stand against their order.
func inversions(list []uint32) int {
	if slices.IsSorted(list) {
		return 0
	}
	return mergeCount(slices.Clone(list), make([]uint32, len(list)))
}

// mergeCount sorts a list and counts the inversions that it had.
func mergeCount(list, room []uint32) int {
	if len(list) < 2 {
		return 0
	}
	half := len(list) / 2
	n := mergeCount(list[:half], room) + mergeCount(list[half:], room)
	merged := room[:0]
	i, j := 0, half
	for i < half || j < len(list) {
		if j == len(list) || i < half && list[i] <= list[j] {
			merged = append(merged, list[i])
			i++
			continue
		}
		merged = append(merged, list[j])
		n += half - i
		j++
	}
	copy(list, merged)
	return n
}
