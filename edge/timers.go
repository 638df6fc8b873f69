package edge

import (
	"container/heap"
	"time"
)

// timers is a heap of sessions by when something is due for them; a session
// stands in it once.
type timers []*session

// Len, Less, Swap, Push and Pop serve container/heap.
func (ts timers) Len() int           { return len(ts) }
func (ts timers) Less(i, j int) bool { return ts[i].due.Before(ts[j].due) }
func (ts timers) Swap(i, j int) {
	ts[i], ts[j] = ts[j], ts[i]
	ts[i].slot, ts[j].slot = i, j
}

// Push adds a session.
func (ts *timers) Push(x any) {
	s := x.(*session)
	s.slot = len(*ts)
	*ts = append(*ts, s)
}

// Pop takes the last session off.
func (ts *timers) Pop() any {
	last := len(*ts) - 1
	s := (*ts)[last]
	(*ts)[last] = nil
	*ts = (*ts)[:last]
	s.slot = -1
	return s
}

// due takes off a session for which something is due, or returns nil.
func (ts *timers) due(now time.Time) *session {
	if len(*ts) == 0 || (*ts)[0].due.After(now) {
		return nil
	}
	return heap.Pop(ts).(*session)
}

// set makes something due for s at a time, no later than before.
func (ts *timers) set(s *session, at time.Time) {
	switch {
	case s.slot < 0:
		s.due = at
		heap.Push(ts, s)
	case at.Before(s.due):
		s.due = at
		heap.Fix(ts, s.slot)
	}
}

// drop takes s off.
func (ts *timers) drop(s *session) {
	if s.slot >= 0 {
		heap.Remove(ts, s.slot)
	}
}
