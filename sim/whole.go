package sim

import (
	"context"
	"fmt"
	"strings"

	"timberline/events"
	"timberline/migrations"
	"timberline/projections"
)

// A whole is an engine for those who work on the store as a whole. What takes something
// away does not land late: a request of which that can be said is one that nobody sends.
type whole struct {
	*engine
	trims bool // what is deleted is trimmed
}

// doing does a write of that name that may fail, or lose its answer, and lands at once if it
// lands.
func (w *whole) doing(name string, call func() error) error {
	_, err := do(w.access(writer, "%s", name), func() (none struct{}, err error) {
		r := w.draw("%s fails", name)
		switch refused, lost := chance(r, w.plan.refused), chance(r, w.plan.lost); {
		case refused || w.away():
			return none, errAnswer
		case lost:
			call() // its answer is lost
			return none, errAnswer
		}
		return none, call()
	})
	return err
}

// UpdateJournal implements events.Journals.
func (w *whole) UpdateJournal(ctx context.Context, r events.Row) error {
	return w.doing(fmt.Sprintf("update journal %d", r.Number), func() error { return w.Engine.UpdateJournal(ctx, r) })
}

// ScanItems implements projections.Items.
func (w *whole) ScanItems(ctx context.Context, v projections.Version, visit func(projections.Stored) error) error {
	_, err := fetch(w.access(writer, "scan version %d", v), func() (none struct{}, err error) { return none, w.Engine.ScanItems(ctx, v, visit) })
	return err
}

// JournalEnds implements projections.Upkeep.
func (w *whole) JournalEnds(ctx context.Context) (map[uint64]events.Offset, error) {
	return fetch(w.access(writer, "ends of the journals"), func() (map[uint64]events.Offset, error) { return w.p.boot.store.JournalEnds(ctx) })
}

// CutCheckpoints implements projections.Upkeep.
func (w *whole) CutCheckpoints(ctx context.Context, s projections.Shard, from projections.CheckpointNumber) error {
	return w.doing(fmt.Sprintf("cut checkpoints of %d", s), func() error { return w.p.boot.store.CutCheckpoints(ctx, s, from) })
}

// DeleteRecords implements projections.Upkeep.
func (w *whole) DeleteRecords(ctx context.Context, j events.Journal, below events.Offset) error {
	b := w.p.boot
	if err := b.w.archive.journal(ctx, b.store, j); err != nil {
		return err
	}
	b.w.note("%s trims journal %s", w.p.name, j)
	return w.doing(fmt.Sprintf("delete journal %s", j), func() error { return b.store.DeleteRecords(ctx, j, below) })
}

// PutRows implements projections.Rows. Behind a mark nobody is owed any more what is below it,
// also if it is never deleted: a version that is rebuilt begins there.
func (w *whole) PutRows(ctx context.Context, rows []projections.Row) error {
	for i := range rows {
		if u, is := strings.CutPrefix(rows[i].Space, "trim/"); is && w.trims {
			if err := w.archiveBelow(ctx, events.User(u), events.Seq(rows[i].Checkpoint)); err != nil {
				return err
			}
		}
	}
	return w.engine.PutRows(ctx, rows)
}

// archiveBelow takes what stands in a timeline below a seq into the archive.
func (w *whole) archiveBelow(ctx context.Context, u events.User, below events.Seq) error {
	store := w.p.boot.store
	v, err := projections.ReadVersions(ctx, store, projections.ShardOf(u.Slot(), shards))
	if err != nil {
		return err
	}
	items, err := store.ReadItems(ctx, projections.Timeline{Version: v.Live, User: u}, 0, wholeTimeline, events.Strong)
	if err != nil {
		return err
	}
	return w.p.boot.w.archive.items(u, items, below)
}

// DeleteItems implements projections.Upkeep: one by one where each is a write of its own.
func (w *whole) DeleteItems(ctx context.Context, t projections.Timeline, below events.Seq) error {
	b := w.p.boot
	items, err := b.store.ReadItems(ctx, t, 0, wholeTimeline, events.Strong)
	if err != nil {
		return err
	}
	if w.trims {
		b.w.net.Note(fmt.Sprintf("%s trims %s below %d", w.p.name, t, below))
		if err := b.w.archive.items(t.User, items, below); err != nil {
			return err
		}
	}
	if w.plan.many {
		for _, i := range items {
			if i.Last+1 >= below {
				break
			}
			if err := w.deleteBelow(ctx, t, i.Last+1); err != nil {
				return err
			}
		}
	}
	return w.deleteBelow(ctx, t, below)
}

func (w *whole) deleteBelow(ctx context.Context, t projections.Timeline, below events.Seq) error {
	return w.doing(fmt.Sprintf("delete items of %s", t), func() error { return w.p.boot.store.DeleteItems(ctx, t, below) })
}

// EmptyTimelines implements projections.Upkeep.
func (w *whole) EmptyTimelines(ctx context.Context) error {
	return w.doing("empty timelines", func() error {
		w.p.boot.disk.hurry() // for what is in memory is flushed
		return w.p.boot.store.EmptyTimelines(ctx)
	})
}

// CutRows implements migrations.Restorable.
func (w *whole) CutRows(ctx context.Context, prefix string, cut func(projections.Row) (bool, error)) error {
	return w.doing("cut rows of "+prefix, func() error { return w.p.boot.store.CutRows(ctx, prefix, cut) })
}

// Meta implements migrations.Restorable.
func (w *whole) Meta() projections.Meta { return w.p.boot.store.Meta() }

// BeginRestore implements migrations.Restorable.
func (w *whole) BeginRestore(ctx context.Context, id events.StoreID) (p migrations.Phase, err error) {
	err = w.doing("begin restore", func() error {
		p, err = w.p.boot.store.BeginRestore(ctx, id)
		return err
	})
	return p, err
}

// SetPhase implements migrations.Restorable.
func (w *whole) SetPhase(ctx context.Context, p migrations.Phase) error {
	return w.doing(fmt.Sprintf("phase %d", p), func() error { return w.p.boot.store.SetPhase(ctx, p) })
}
