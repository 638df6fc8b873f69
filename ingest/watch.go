package ingest

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"timberline/events"
)

// The defaults of a Watch.
const (
	beatEvery = 10 * time.Second
	deadAfter = time.Minute
	mustLook  = deadAfter / 2 // a time without a look counts for nothing
)

// A Watch tells others that a process lives, and ends the journals of those that do
// not: whose rows stood unchanged for a minute on its own clock (R1). It may be wrong:
// an owner that finds its journal ended opens another. Every process with a Writer runs
// one, unless it is the only one there can be.
type Watch struct {
	Log      events.Log
	Journals events.Journals
	Clock    *events.Clock
	Mine     func() events.Journal // the Writer's own
	Logger   *slog.Logger

	through uint64              // journals up to it are known to be ended
	seen    map[uint64]sighting // of those above it that are not
	looked  time.Time           // when it saw them
	row     events.Row          // of the process's own journal, as last written
}

// A sighting is a row as it was seen, and since when it has stood so.
type sighting struct {
	row   events.Row
	since time.Time
}

// Run watches until ctx ends.
func (w *Watch) Run(ctx context.Context) {
	for ; ; sleep(ctx, beatEvery) {
		if ctx.Err() != nil {
			return
		}
		if err := w.round(ctx); err != nil && ctx.Err() == nil {
			w.Logger.Warn("journals of others cannot be watched; trying again", "err", err)
		}
	}
}

// round raises the own row's counter, and ends what is due.
func (w *Watch) round(ctx context.Context) error {
	rows, err := w.Journals.ListJournals(ctx, w.through, events.Latest) // what lags would make the living look dead
	if !w.over(rows) {
		err = errors.Join(err, w.beat(ctx))
	}
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, beatEvery) // then it is time to beat, and to look who is dead
	defer cancel()
	for _, row := range w.look(time.Now(), rows) {
		if err := w.end(ctx, row); err != nil {
			return err
		}
	}
	return nil
}

// over reports whether another process has ended the own journal. Then its row is left
// alone: a beat would take the end away, and others would watch over it once more.
func (w *Watch) over(rows []events.Row) bool {
	number, _ := w.Mine().Number()
	return number <= w.through || slices.ContainsFunc(rows, func(r events.Row) bool { return r.Number == number && r.Ended != 0 })
}

// beat raises the own row's counter. Whoever sees that takes the process for living.
func (w *Watch) beat(ctx context.Context) error {
	number, _ := w.Mine().Number()
	if number != w.row.Number {
		w.row = events.Row{Number: number}
	}
	w.row.Counter++
	return w.Journals.UpdateJournal(ctx, w.row)
}

// look takes in the rows above through, and returns those of the dead.
func (w *Watch) look(now time.Time, rows []events.Row) (dead []events.Row) {
	before := w.seen
	if now.Sub(w.looked) > mustLook {
		before = nil // a row may have changed that nobody could change, or see, for all that time
	}
	w.looked = now
	w.seen = make(map[uint64]sighting)
	for _, row := range rows {
		switch s, known := before[row.Number]; {
		case row.Ended != 0:
			if row.Number == w.through+1 {
				w.through++
			}
		case row.Number == w.row.Number:
		case !known || s.row != row:
			w.seen[row.Number] = sighting{row, now}
		default:
			w.seen[row.Number] = s
			if now.Sub(s.since) >= deadAfter {
				dead = append(dead, row)
			}
		}
	}
	return dead
}

// end ends a journal, and notes it in its row. Most often its owner was stopped and has
// ended it: that needs nobody to look.
func (w *Watch) end(ctx context.Context, row events.Row) error {
	at, died, err := endJournal(ctx, w.Log, row.Journal(), w.Clock, w.Logger)
	if err != nil {
		return err
	}
	if died {
		w.Logger.Warn("ended the journal of a process that says nothing any more", "journal", row.Journal(), "for", deadAfter)
	}
	row.Ended = at
	return w.Journals.UpdateJournal(ctx, row)
}
