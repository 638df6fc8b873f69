package migrations

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	"timberline/events"
	"timberline/projections"
	"timberline/sim/planted"
)

// A Phase says how far the restore of a store is. It is stored.
type Phase uint32

// The phases, in their order.
const (
	Whole    Phase = iota // no restore is under way
	Emptying              // the store has a new id; what is in its timelines counts for nothing
	Filling               // its timelines are the beginnings of what they will be
	Copied                // it is a whole copy of one moment, and lacks an id of its own only
)

// ErrRestoring says that a store cannot be used yet. Which command makes it whole says who knows
// where it is.
var ErrRestoring = errors.New("the store comes from a backup and is not whole again yet")

// A Restorable store is one that comes from a backup, as an engine opens it for Restore.
type Restorable interface {
	projections.Whole
	Meta() projections.Meta

	// CutRows removes the rows for which cut says so, of the spaces whose names begin with
	// a text.
	CutRows(ctx context.Context, prefix string, cut func(projections.Row) (bool, error)) error
	// BeginRestore gives the store that id, durably, and with it the phase Emptying, or
	// leaves it in that of a restore that was interrupted. It returns the phase.
	BeginRestore(ctx context.Context, id events.StoreID) (Phase, error)
	// SetPhase makes another phase durable, on condition that no other restore has begun
	// since this one did: else it returns events.ErrConflict.
	SetPhase(ctx context.Context, p Phase) error
}

// RestoreConfig says how a store is restored. Zero fields have the defaults named.
type RestoreConfig struct {
	Random io.Reader         // for the store's new id
	Afresh bool              // timelines are made again even of a copy that has them whole
	Pause  time.Duration     // before what has failed is tried again; default: 1 s
	Told   func(what string) // is told what is done and how far it is; default: nobody is
}

// A Restoration is what a restore has done.
type Restoration struct {
	Store events.StoreID // the new id
	Rows  int            // of journals that had none though the log has records, or that said too much
	Cut   uint64         // checkpoints that covered more than the log has, and all behind them
	Items uint64         // timeline items put; less than all if an interrupted restore had put some
}

// Restore makes a store whole that comes from a backup: see the package. Nothing else may
// use the store meanwhile. What fails is tried again, until ctx ends; the error is that of
// ctx, or one that no retry mends: events.Final, or events.ErrConflict if another restore
// has begun. Interrupted, it goes on when it is called again, with another new id.
func Restore(ctx context.Context, s Restorable, c RestoreConfig) (done Restoration, err error) {
	if c.Pause <= 0 {
		c.Pause = time.Second
	}
	if c.Told == nil {
		c.Told = func(string) {}
	}
	if _, err := io.ReadFull(c.Random, done.Store[:]); err != nil {
		return done, fmt.Errorf("draw the store's new id: %w", err)
	}
	if planted.Is(planted.RestoredSameID) {
		done.Store = s.Meta().Store
	}
	r := restore{Restorable: s, c: &c, done: &done}
	for _, step := range []func(context.Context) error{r.begin, r.mendRows, r.cut, r.empty, r.fill, r.end} {
		if err := r.untilDone(ctx, step); err != nil {
			return done, fmt.Errorf("restore: %w", err)
		}
	}
	return done, nil
}

// A restore is one that is under way.
type restore struct {
	Restorable
	c     *RestoreConfig
	done  *Restoration
	phase Phase
	fresh bool // the timelines were emptied by this restore
	again bool // the shard was tried before
	shard projections.Shard
	ends  map[uint64]events.Offset
	told  time.Time // how far it is
}

// tellEvery is how often a restore tells how far it is, but for what is done.
const tellEvery = time.Second

// untilDone tries a step until it succeeds, or fails for good.
func (r *restore) untilDone(ctx context.Context, step func(context.Context) error) error {
	for {
		err := step(ctx)
		if err == nil || events.Final(err) || errors.Is(err, events.ErrConflict) || ctx.Err() != nil {
			return err
		}
		r.tell("failed, and is tried again: %v", err)
		t := time.NewTimer(r.c.Pause)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		}
	}
}

func (r *restore) tell(format string, args ...any) { r.c.Told(fmt.Sprintf(format, args...)) }

func (r *restore) begin(ctx context.Context) (err error) {
	if r.phase, err = r.BeginRestore(ctx, r.done.Store); err != nil {
		return err
	}
	r.tell("the store is %s from now on", r.done.Store)
	if r.phase == Copied && r.c.Afresh {
		r.phase = Emptying
		err = r.SetPhase(ctx, Emptying)
	}
	return err
}

// mendRows makes a row for each journal that has records, so that its number is given to
// nobody else (R1), and takes back ends that the log does not have (again).
func (r *restore) mendRows(ctx context.Context) (err error) {
	if r.ends, err = r.JournalEnds(ctx); err != nil {
		return err
	}
	var highest uint64
	for number := range r.ends {
		highest = max(highest, number)
	}
	rows, err := r.ListJournals(ctx, 0, events.Strong)
	if err != nil {
		return err
	}
	for _, row := range rows {
		if row.Trimmed {
			r.ends[row.Number] = math.MaxUint64 // it had all that a checkpoint covers
		}
		if row.Ended <= r.ends[row.Number] {
			continue
		}
		row.Ended = 0
		if err := r.UpdateJournal(ctx, row); err != nil {
			return err
		}
		r.done.Rows++
	}
	for number := uint64(len(rows)) + 1; number <= highest; number++ {
		row := events.Row{Number: number, Writer: [16]byte(r.done.Store)} // nobody's
		if _, err := r.CreateJournal(ctx, row); err != nil && !errors.Is(err, events.ErrConflict) {
			return err
		}
		r.done.Rows++
	}
	if r.done.Rows > 0 {
		r.tell("%d journals had no row, or one that said too much", r.done.Rows)
	}
	return nil
}

// cut cuts off the checkpoints that cover more than the log has.
func (r *restore) cut(ctx context.Context) error {
	for ; uint32(r.shard) < r.Meta().Shards; r.shard++ {
		last, _, err := r.LastCheckpoint(ctx, r.shard, events.Strong)
		if err != nil {
			return err
		}
		covered, err := projections.Covered(ctx, r, r.shard, r.ends)
		if err != nil {
			return err
		}
		if last == covered {
			continue
		}
		r.tell("shard %d: checkpoints %d to %d cover more than the log has, or stand behind one that does: they are cut off", r.shard, covered+1, last)
		if err := r.CutCheckpoints(ctx, r.shard, covered+1); err != nil {
			return err
		}
		r.done.Cut += uint64(last - covered)
	}
	return nil
}

func (r *restore) empty(ctx context.Context) error {
	switch r.shard = 0; r.phase {
	case Copied:
		return nil
	case Filling:
		r.tell("a restore was interrupted: this one goes on with its timelines")
		return nil
	}
	if err := r.cutMarks(ctx); err != nil {
		return err
	}
	if err := r.EmptyTimelines(ctx); err != nil {
		return err
	}
	if err := projections.EmptyRows(ctx, r); err != nil {
		return err
	}
	if err := r.SetPhase(ctx, Filling); err != nil {
		return err
	}
	r.tell("the timelines are empty, and the rows of other projections")
	r.phase, r.fresh = Filling, true
	return nil
}

// cutMarks takes away what says that a timeline begins at an item that comes from no
// checkpoint which the store has: what was trimmed was trimmed behind its moment.
func (r *restore) cutMarks(ctx context.Context) error {
	last := make([]projections.CheckpointNumber, r.Meta().Shards)
	for s := range last {
		n, _, err := r.LastCheckpoint(ctx, projections.Shard(s), events.Strong)
		if err != nil {
			return err
		}
		last[s] = n
	}
	marks := 0
	err := r.CutRows(ctx, projections.Marks, func(row projections.Row) (bool, error) {
		ahead, err := projections.MarkAhead(&row, last)
		if ahead {
			marks++
		}
		return ahead, err
	})
	if err == nil && marks > 0 {
		r.tell("%d timelines were trimmed later than what the store has: of them all is there again that the log has", marks)
	}
	return err
}

// fill makes the timelines again, a shard after the other.
func (r *restore) fill(ctx context.Context) error {
	if r.phase == Copied {
		r.tell("it is a copy of one moment: its timelines are what they should be")
		return nil
	}
	for shards := r.Meta().Shards; uint32(r.shard) < shards; r.shard, r.again = r.shard+1, false {
		v, err := projections.ReadVersions(ctx, r, r.shard)
		if err != nil {
			return err
		}
		var put uint64
		replay := projections.Replay{
			Store: r, Meta: r.Meta(), Shard: r.shard, Version: v.Live, Empty: r.fresh && !r.again,
			Told: func(p projections.ReplayProgress) {
				r.done.Items += p.Items - put
				put = p.Items
				if p.Checkpoint < p.Last && time.Since(r.told) < tellEvery {
					return
				}
				r.told = time.Now()
				r.tell("shard %d of %d: checkpoint %d of %d, %d items", r.shard+1, shards, p.Checkpoint, p.Last, r.done.Items)
			},
		}
		err = replay.Run(ctx)
		if err == nil {
			err = r.giveUp(ctx, &v)
		}
		if err != nil {
			r.again = true
			return err
		}
	}
	return nil
}

// giveUp gives the version up that was read before the one that is live. What it had is gone,
// and a rebuild that goes back to it would add only what came since.
func (r *restore) giveUp(ctx context.Context, v *projections.Versions) error {
	back, ok := v.Back()
	if !ok {
		return nil
	}
	before := projections.Replay{Store: r, Meta: r.Meta(), Shard: r.shard, Version: back}
	return before.GiveUp(ctx)
}

func (r *restore) end(ctx context.Context) error { return r.SetPhase(ctx, Whole) }
