package projections

import (
	"context"
	"errors"
	"fmt"

	"timberline/events"
)

// A walk goes through the checkpoints of a shard, in order, with what each covers. It
// writes nothing.
type walk struct {
	store History
	shard Shard
	mine  func(events.User) bool

	n        CheckpointNumber           // the last one visited
	cp       *Checkpoint                // what that is; of 0 the zero one
	at       positions                  // as of n
	versions Versions                   // as of n, if they were as the walk began
	covers   cover                      // by n
	ahead    map[uint64][]events.Record // of each journal: read, but not covered yet
	trimmed  map[uint64]bool            // journals without records, as of the last look

	// again is called when journals were trimmed in the middle, after a look: the walk goes
	// on without them, and who walks behind where timelines begin by now. nil: that ends the
	// walk, with errTrimmed.
	again func()

	// took is called behind each record with how many events it gave; nil: nobody is.
	took func(context.Context, int) error

	// only are the journals whose records are gone through, as long as they are true in it;
	// nil: all.
	only map[uint64]bool
}

// A checkpoint covers little of a journal, so more is read than it needs and kept for
// those that follow: so much of so many journals at most.
const (
	aheadBytes    = 512 << 10
	aheadJournals = 64
)

// from makes the walk go on behind checkpoint n.
func (w *walk) from(ctx context.Context, n CheckpointNumber) (err error) {
	w.n, w.versions = n, newVersions()
	if err = w.look(ctx); err != nil {
		return err
	}
	if w.cp = new(Checkpoint); n > 0 {
		if w.cp, err = readCheckpoint(ctx, w.store, w.shard, n); err != nil {
			return err
		}
	}
	w.at, err = positionsAt(ctx, w.store, w.shard, n)
	return err
}

// look makes the walk know which journals are trimmed by now. It may go on then, where it
// was: whoever has entries of theirs reads on behind them. So where a timeline begins is
// to be read anew, too, after the look.
func (w *walk) look(ctx context.Context) (err error) {
	w.ahead = make(map[uint64][]events.Record)
	w.trimmed, err = trimmedJournals(ctx, w.store)
	return err
}

// run calls visit with each checkpoint that follows and what it newly covers, which is visit's
// until it returns, in order, until there is no more.
func (w *walk) run(ctx context.Context, visit func(CheckpointNumber, *cover) error) error {
	return eachCheckpoint(ctx, w.store, w.shard, w.n+1, func(n CheckpointNumber, cp *Checkpoint) error {
		c, err := w.step(ctx, n, cp)
		if err != nil {
			return err
		}
		return visit(n, c)
	})
}

// step goes on to the next checkpoint, and returns what it newly covers, until the next step.
func (w *walk) step(ctx context.Context, n CheckpointNumber, cp *Checkpoint) (*cover, error) {
	c, err := w.covered(ctx, n, cp)
	for errors.Is(err, errTrimmed) && w.again != nil {
		if err := w.look(ctx); err != nil {
			return nil, err
		}
		w.again()
		c, err = w.covered(ctx, n, cp)
	}
	if err != nil {
		return nil, err
	}
	w.at.apply(cp)
	w.versions.apply(n, cp)
	w.n, w.cp = n, cp
	return c, nil
}

// covered returns what the next checkpoint newly covers.
func (w *walk) covered(ctx context.Context, n CheckpointNumber, cp *Checkpoint) (*cover, error) {
	w.covers.empty(rules[cp.Rules])
	for _, m := range cp.Moved {
		from, open := w.at.next(m.Journal)
		if !open || w.trimmed[m.Journal] || w.only != nil && !w.only[m.Journal] {
			continue // of what was trimmed nobody has an entry any more
		}
		if err := w.cover(ctx, n, &w.covers, m, from); err != nil {
			return nil, err
		}
	}
	return &w.covers, nil
}

// next returns a checkpoint behind the last one that covers nothing new.
func (w *walk) next() *Checkpoint {
	full := fullAt(w.n+1, w.cp.Full)
	return &Checkpoint{
		Rules: newestRules(), Moved: w.at.since(&w.at, full == w.n+1), Through: w.at.through, Full: full, Version: w.versions.Live,
	}
}

// cover adds to c the records of one journal that checkpoint n covers.
func (w *walk) cover(ctx context.Context, n CheckpointNumber, c *cover, m Position, from events.Offset) (err error) {
	recs := w.ahead[m.Journal]
	for at := from; at <= m.Offset; at++ {
		if len(recs) == 0 {
			if recs, err = w.read(ctx, m.Journal, at); err != nil {
				return err
			}
			if len(recs) == 0 {
				return unread(ctx, w.store, m.Journal, at, n, w.shard)
			}
		}
		before := len(c.events)
		if err := c.take(record{m.Journal, at, recs[0]}, w.mine); err != nil {
			return err
		}
		if n := len(c.events) - before; w.took != nil && n > 0 {
			if err := w.took(ctx, n); err != nil {
				return err
			}
		}
		recs = recs[1:]
	}
	w.keep(m.Journal, recs)
	return nil
}

// read reads on in a journal. What a checkpoint covers is as durable as the checkpoint
// (R8), so that need not be waited for: it would be for what a rebuild has on its way.
func (w *walk) read(ctx context.Context, journal uint64, at events.Offset) ([]events.Record, error) {
	size := aheadBytes
	if w.took != nil {
		size = pacedBytes
	}
	return w.store.ReadLog(ctx, events.JournalNumbered(journal), at, size, events.Latest)
}

// keep keeps the records of a journal that are not covered yet.
func (w *walk) keep(journal uint64, recs []events.Record) {
	if len(w.ahead) >= aheadJournals {
		clear(w.ahead) // what is needed of it is read again
	}
	if w.ahead[journal] = recs; len(recs) == 0 {
		delete(w.ahead, journal)
	}
}

// readOn reads what the next checkpoint may cover, in journals that moved, if nothing of
// it is at hand.
func (w *walk) readOn(ctx context.Context, moved []Position) error {
	for _, m := range moved {
		at, open := w.at.next(m.Journal)
		if !open || w.trimmed[m.Journal] || len(w.ahead[m.Journal]) > 0 {
			continue
		}
		recs, err := w.read(ctx, m.Journal, at)
		if err != nil {
			return err
		}
		w.keep(m.Journal, recs)
	}
	return nil
}

// trimmedJournals returns the numbers of the journals whose records were removed.
func trimmedJournals(ctx context.Context, js JournalLister) (map[uint64]bool, error) {
	rows, err := js.ListJournals(ctx, 0, events.Strong)
	trimmed := make(map[uint64]bool)
	for _, row := range rows {
		if row.Trimmed {
			trimmed[row.Number] = true
		}
	}
	return trimmed, err
}

// errTrimmed says that a journal was trimmed while it was gone through.
var errTrimmed = errors.New("journals were trimmed meanwhile: run it again")

// unread says why a record that a checkpoint covers is not there.
func unread(ctx context.Context, js JournalLister, journal uint64, at events.Offset, n CheckpointNumber, s Shard) error {
	trimmed, err := trimmedJournals(ctx, js)
	switch {
	case err != nil:
		return err
	case trimmed[journal]:
		return errTrimmed
	}
	return fmt.Errorf("%w: record %d of journal %d is missing, which checkpoint %d of shard %d covers", events.ErrCorrupt, at, journal, n, s)
}
