package client

import (
	"time"

	"timberline/events"
	"timberline/wire"
)

// The bounds of a Sync's budget, in bytes.
const (
	firstBudget = 16 << 10
	minBudget   = 4 << 10
	maxBudget   = 256 << 10
	budgetStep  = 8 << 10
)

// slowAnswer is how long an answer may take, beyond two round trips, and still
// let the budget grow.
const slowAnswer = 250 * time.Millisecond

// A syncing is the asking for entries: one request is on the way at a time.
type syncing struct {
	id    uint32    // of the newest request
	asked bool      // its answer is not complete
	began time.Time // when it was sent
	due   time.Time // when to stop waiting for more of the answer
	heard bool      // a page of it has come
	ended bool      // its last page has come
	high  events.Seq
	gain  int // entries, or parts of them, that it brought

	budget int
	fast   bool // nothing was lost yet: the budget doubles
	fails  int  // requests in a row that brought nothing

	at    time.Time // when to ask next; zero: there is no need
	force bool      // ask even if nothing is known to be missing
	owed  bool      // the request under way is one of that kind, without an answer yet
}

func newSyncing() syncing { return syncing{budget: firstBudget, fast: true} }

// want plans a request, no later than one that is planned already.
func (s *syncing) want(at time.Time) {
	if s.fails == 0 || s.at.IsZero() {
		s.at = sooner(s.at, at)
	}
}

// ask makes the device ask for what the timeline holds now.
func (in *inbox) ask(now time.Time) {
	in.sync.force = true
	in.sync.want(now)
}

// leave forgets the request under way: its session is over.
func (s *syncing) leave() {
	s.force, s.owed = s.force || s.owed, false
	s.asked, s.fails, s.at = false, 0, time.Time{}
}

// request returns what to ask for now, nil if nothing.
func (in *inbox) request(now time.Time, r *rtt) *wire.Sync {
	s := &in.sync
	if s.asked || !in.mayAsk() || now.Before(s.at) {
		return nil
	}
	s.at = time.Time{}
	ranges := in.holes()
	switch {
	case len(ranges) > wire.MaxRanges:
		ranges = ranges[:wire.MaxRanges]
	case len(ranges) == 0 && !s.force:
		return nil
	case len(ranges) == 0:
		ranges = []wire.Range{{After: in.head}}
	case ranges[len(ranges)-1].Upto == in.head:
		ranges[len(ranges)-1].Upto = 0 // and whatever has come since
	}
	s.id++
	if s.id == 0 {
		s.id++
	}
	s.asked, s.heard, s.ended, s.high, s.gain = true, false, false, 0, 0
	s.owed, s.force = s.force, false
	s.began, s.due = now, now.Add(r.rto())
	return &wire.Sync{ID: s.id, Ranges: ranges, Budget: uint32(s.budget)}
}

// mayAsk reports whether a request is planned and its answer would find room.
func (in *inbox) mayAsk() bool {
	return (in.sync.force || !in.sync.at.IsZero()) && !in.queue.full()
}

// came notes an entry, or a part of one, that answers a request. It reports
// whether the request is the one under way.
func (s *syncing) came(now time.Time, id uint32, seq events.Seq, fresh bool, r *rtt) bool {
	if !s.asked || id != s.id {
		return false
	}
	if !s.heard {
		s.heard = true
		r.measured(now.Sub(s.began))
	}
	s.high = max(s.high, seq)
	if fresh {
		s.gain++
	}
	s.due = now.Add(s.rest(r))
	return true
}

// rest returns how long to wait for more of an answer: when its end has come, for
// what was overtaken only.
func (s *syncing) rest(r *rtt) time.Duration {
	if s.ended {
		return max(r.smooth/2, 5*time.Millisecond)
	}
	return r.rto()
}

// paged takes in the end of a page whose entries were taken in. It reports
// whether the page says what the timeline held after the request was made.
func (in *inbox) paged(now time.Time, f *wire.Page, r *rtt) bool {
	s := &in.sync
	in.bounds(f.Head, f.First)
	if !s.came(now, f.Sync, 0, false, r) {
		return false
	}
	s.owed = s.owed && f.Status == wire.StatusBusy
	switch {
	case f.Status == wire.StatusBusy:
		s.gain, s.fails = 0, s.fails+1 // wait, the first time too
		in.finish(now, false, r)
		return false
	case f.Last:
		s.ended = true
		s.due = now.Add(s.rest(r))
	}
	if in.have >= in.head || s.ended && s.gain > 0 && !in.missing(s.high) {
		in.finish(now, false, r)
	}
	return true
}

// overdue ends the wait for an answer that does not come.
func (in *inbox) overdue(now time.Time, r *rtt) {
	s := &in.sync
	if !s.asked || now.Before(s.due) {
		return
	}
	if !s.heard {
		r.timedOut()
	}
	in.finish(now, !s.ended || s.gain == 0 || in.missing(s.high), r)
}

// adapt sets the budget after a request. It falls by the part that was lost, or by
// half if nothing came; where answers are fast, a step more is tried. So a network
// that loses every fifth datagram, whatever it is asked for, does not end at the
// least budget.
func (s *syncing) adapt(lost bool, missing int, slow bool) {
	s.fast = s.fast && !lost
	switch {
	case !lost:
	case s.gain == 0:
		s.budget, slow = s.budget/2, true
	default:
		s.budget = s.budget * s.gain / (s.gain + missing)
	}
	switch {
	case slow:
	case s.fast:
		s.budget *= 2
	default:
		s.budget += budgetStep
	}
	s.budget = min(max(s.budget, minBudget), maxBudget)
}

// finish draws the conclusions from a request.
func (in *inbox) finish(now time.Time, lost bool, r *rtt) {
	s := &in.sync
	s.asked = false
	s.force, s.owed = s.force || s.owed, false
	missing := 0
	if lost {
		missing = in.missingUpTo(s.high)
	}
	s.adapt(lost, missing, now.Sub(s.began) > slowAnswer+2*r.smooth)
	if s.gain > 0 || in.have >= in.head && !s.force {
		s.fails = 0
	} else {
		s.fails++
	}
	s.at = time.Time{}
	if in.have < in.head || s.force {
		s.at = now.Add(in.pause(r))
	}
}

// pause returns how long to wait after requests that brought nothing. What was
// not answered at all was waited for already, longer each time; of answers, one
// may have been lost in part, more say that the server cannot give them.
func (in *inbox) pause(r *rtt) time.Duration {
	if in.sync.fails <= 1 || !in.sync.heard {
		return 0
	}
	return min(r.rto()<<min(in.sync.fails-2, 8), maxRTO)
}

// next returns when there is something to ask or to give up; zero: never.
func (s *syncing) next(in *inbox, now time.Time) time.Time {
	switch {
	case s.asked:
		return s.due
	case !in.mayAsk():
		return time.Time{}
	case s.at.IsZero():
		return now
	}
	return s.at
}
