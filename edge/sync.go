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

// syncing is a session's requests for entries: one is being read, and of those
// that come meanwhile the newest waits.
type syncing struct {
	reading bool
	waiting *wire.Sync
	pages   []page // read, to be sent
}

// A page is one range's part of an answer.
type page struct {
	template wire.Page
	events   [][]byte
}

// pack adds the pages to packets.
func (y *syncing) pack(p *wire.Packer) {
	for _, pg := range y.pages {
		wire.AppendPages(p, pg.template, pg.events)
	}
	y.pages = nil
}

// sync takes in a request for entries.
func (t *table) sync(_ time.Time, s *session, f *wire.Sync) {
	t.counts.syncs.Add(1)
	if s.sync.reading {
		s.sync.waiting = f
		return
	}
	t.readPages(s, f)
}

func (t *table) readPages(s *session, f *wire.Sync) {
	s.sync.reading = true
	user := s.owner.User
	t.want(func(ctx context.Context) func(time.Time) {
		pages, err := t.pages(ctx, user, f)
		return func(time.Time) {
			if err != nil {
				t.cfg.Logger.Error("timeline cannot be read", "user", user, "err", err)
				pages = []page{t.busyPage(s, f)}
			}
			t.answerSync(s, pages)
		}
	}, func(time.Time) {
		t.answerSync(s, []page{t.busyPage(s, f)})
	})
}

func (t *table) busyPage(s *session, f *wire.Sync) page {
	return page{template: wire.Page{
		Sync: f.ID, Head: s.deliver.head, First: s.deliver.first, Last: true, Status: wire.StatusBusy,
	}}
}

// answerSync sends what was read and goes on with the request that waits.
func (t *table) answerSync(s *session, pages []page) {
	s.sync.reading = false
	if s.state != open {
		return
	}
	for _, pg := range pages {
		s.deliver.head = max(s.deliver.head, pg.template.Head)
	}
	s.sync.pages = append(s.sync.pages, pages...)
	s.touch()
	if f := s.sync.waiting; f != nil {
		s.sync.waiting = nil
		t.readPages(s, f)
	}
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
