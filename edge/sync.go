package edge

import (
	"context"
	"time"

	"timberline/events"
	"timberline/wire"
)

// The bytes of an answer to Sync.
const (
	defaultBudget = 32 << 10
	maxBudget     = 256 << 10
)

// Pacing of answers: each leaves in bursts, so that it does not fill the buffers
// on its way.
const (
	burstEvery = time.Millisecond
	maxBurst   = 64          // packets
	maxSpread  = time.Second // over which a client may have an answer spread
)

// syncing is a session's requests for entries: one is being answered, and of those
// that come meanwhile the newest waits.
type syncing struct {
	busy    bool
	waiting *wire.Sync
	packets [][]byte  // of the answer, not sealed, still to be sent
	burst   int       // how many of them leave at once
	next    time.Time // when
}

// A page is one range's part of an answer.
type page struct {
	template wire.Page
	events   [][]byte
}

// sync takes in a request for entries.
func (t *table) sync(_ time.Time, s *session, f *wire.Sync) {
	t.counts.syncs.Add(1)
	switch {
	case s.sync.busy:
		s.sync.waiting = f
	case t.paced >= t.cfg.SyncBytes:
		t.answerSync(s, f, []page{t.busyPage(s, f)})
	default:
		t.readPages(s, f)
	}
}

func (t *table) readPages(s *session, f *wire.Sync) {
	s.sync.busy = true
	user := s.owner.User
	t.want(func(ctx context.Context) func(time.Time) {
		pages, err := t.pages(ctx, user, f)
		return func(time.Time) {
			if err != nil {
				t.unread(user, err)
				pages = []page{t.busyPage(s, f)}
			}
			t.answerSync(s, f, pages)
		}
	}, func(time.Time) {
		t.answerSync(s, f, []page{t.busyPage(s, f)})
	})
}

func (t *table) busyPage(s *session, f *wire.Sync) page {
	t.counts.syncsBusy.Add(1)
	return page{template: wire.Page{
		Sync: f.ID, Head: s.deliver.head, First: s.deliver.first, Last: true, Status: wire.StatusBusy,
	}}
}

// answerSync puts what was read into packets, which leave in bursts.
func (t *table) answerSync(s *session, f *wire.Sync, pages []page) {
	s.sync.busy = true
	if s.state != open {
		return
	}
	p := s.begin()
	for _, pg := range pages {
		s.deliver.head = max(s.deliver.head, pg.template.Head)
		wire.AppendPages(p, pg.template, pg.events)
	}
	s.sync.packets = p.Packets()
	t.paced += bytesOf(s.sync.packets)
	spread := min(time.Duration(f.Spread)*time.Millisecond, maxSpread)
	bursts := int(max(spread/burstEvery, 1))
	s.sync.burst = min((len(s.sync.packets)+bursts-1)/bursts, maxBurst)
	s.sync.next = time.Time{}
	s.touch()
}

// takePages returns the packets of an answer whose time has come.
func (s *session) takePages(now time.Time) [][]byte {
	y := &s.sync
	if len(y.packets) == 0 || now.Before(y.next) {
		return nil
	}
	burst := y.packets[:min(y.burst, len(y.packets))]
	y.packets = y.packets[len(burst):]
	s.table.paced -= bytesOf(burst)
	if len(y.packets) > 0 {
		y.next = now.Add(burstEvery)
		s.table.timers.set(s, y.next)
		return burst
	}
	y.packets, y.busy = nil, false
	if y.waiting != nil {
		s.table.timers.set(s, now)
	}
	return burst
}

// goOn answers the request that waits, if it is its turn.
func (t *table) goOn(s *session) {
	if f := s.sync.waiting; f != nil && !s.sync.busy {
		s.sync.waiting = nil
		t.readPages(s, f)
	}
}

// dropPages gives up what is still to be sent.
func (s *session) dropPages() {
	s.table.paced -= bytesOf(s.sync.packets)
	s.sync.packets, s.sync.waiting = nil, nil
}

func bytesOf(packets [][]byte) (n int) {
	for _, p := range packets {
		n += len(p)
	}
	return n
}

// pages is a task's part: it reads the ranges asked for, within the budget. The
// clock moves above everything that will be shown (R4).
func (t *table) pages(ctx context.Context, u events.User, f *wire.Sync) ([]page, error) {
	budget := int(f.Budget)
	if budget == 0 {
		budget = defaultBudget
	}
	budget = min(budget, maxBudget)
	var pages []page
	for _, r := range f.Ranges {
		if budget <= 0 {
			break
		}
		run, err := t.cfg.Timelines.Read(ctx, u, r.After, r.Upto, budget)
		if err != nil {
			return nil, err
		}
		for _, raw := range run.Events {
			budget -= len(raw)
			t.cfg.Clock.Observe(events.Raw(raw).EventID())
		}
		pages = append(pages, page{events: run.Events, template: wire.Page{
			Sync: f.ID, From: run.From, Head: run.Head, First: run.First, Status: status(r, run),
		}})
	}
	if len(pages) == 0 {
		run, err := t.cfg.Timelines.Head(ctx, u)
		if err != nil {
			return nil, err
		}
		pages = append(pages, page{template: wire.Page{Sync: f.ID, Head: run.Head, First: run.First}})
	}
	pages[len(pages)-1].template.Last = true
	return pages, nil
}

// status says why a run is not what the client asked for.
func status(r wire.Range, run events.Run) wire.Status {
	switch {
	case r.After > run.Head:
		return wire.StatusAhead
	case r.After+1 < run.First:
		return wire.StatusTooOld
	}
	return wire.StatusOK
}
