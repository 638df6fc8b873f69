package sim

import (
	"context"
	"errors"
	"fmt"
	"time"

	"timberline/cmd/node"
	"timberline/events"
	"timberline/projections"
)

// errAppend is what a failing append returns. It settles nothing (R2).
var errAppend = errors.New("the store did not answer")

// An engine gives every access to the store a moment of its own, and makes some
// appends fail: before they did anything, after they landed, or so that they land
// when the caller has gone on.
type engine struct {
	node.Engine
	draws *draws
	plan  *plan
	later func(time.Duration, func()) // calls back after a while, if the process lives
}

// slowly gives an access to the store a moment before it begins, and has one more
// follow it: several may have waited for the same sync. Accesses at one instant
// are told apart by their names.
func (e *engine) slowly(format string, args ...any) (end func()) {
	r := e.draws.next(fmt.Sprintf(format, args...))
	time.Sleep(between(r, time.Microsecond, time.Millisecond))
	return func() { time.Sleep(between(r, time.Microsecond, 100*time.Microsecond)) }
}

// Append implements events.Log.
func (e *engine) Append(ctx context.Context, j events.Journal, at events.Offset, rec events.Record) (events.Record, error) {
	defer e.slowly("append %s %d", j, at)()
	switch r := e.draws.next("append fails"); {
	case chance(r, e.plan.refused):
		return nil, errAppend
	case chance(r, e.plan.lost):
		e.Engine.Append(ctx, j, at, rec) // its answer is lost
		return nil, errAppend
	case chance(r, e.plan.late):
		e.later(between(r, time.Millisecond, 100*time.Millisecond), func() {
			e.Engine.Append(context.WithoutCancel(ctx), j, at, rec) // nobody hears the answer
		})
		return nil, errAppend
	}
	return e.Engine.Append(ctx, j, at, rec)
}

// ReadLog implements events.Log.
func (e *engine) ReadLog(ctx context.Context, j events.Journal, from events.Offset, size int, c events.Consistency) ([]events.Record, error) {
	defer e.slowly("read log %s %d", j, from)()
	return e.Engine.ReadLog(ctx, j, from, size, c)
}

// ListJournals implements events.Journals.
func (e *engine) ListJournals(ctx context.Context, after uint64, c events.Consistency) ([]events.Row, error) {
	defer e.slowly("list journals")()
	return e.Engine.ListJournals(ctx, after, c)
}

// LastCheckpoint implements projections.Checkpoints.
func (e *engine) LastCheckpoint(ctx context.Context, s projections.Shard) (projections.CheckpointNumber, []byte, error) {
	defer e.slowly("last checkpoint %d", s)()
	return e.Engine.LastCheckpoint(ctx, s)
}

// ReadCheckpoints implements projections.Checkpoints.
func (e *engine) ReadCheckpoints(ctx context.Context, s projections.Shard, from projections.CheckpointNumber, size int) ([][]byte, error) {
	defer e.slowly("read checkpoints %d", s)()
	return e.Engine.ReadCheckpoints(ctx, s, from, size)
}

// Commit implements projections.Checkpoints.
func (e *engine) Commit(ctx context.Context, s projections.Shard, n projections.CheckpointNumber, checkpoint []byte, items []projections.Stored) ([]byte, error) {
	defer e.slowly("commit %d", s)()
	switch r := e.draws.next(fmt.Sprintf("commit %d fails", s)); {
	case chance(r, e.plan.refused):
		return nil, errAppend
	case chance(r, e.plan.lost):
		e.Engine.Commit(ctx, s, n, checkpoint, items) // its answer is lost
		return nil, errAppend
	}
	return e.Engine.Commit(ctx, s, n, checkpoint, items)
}

// NewestItem implements projections.Items.
func (e *engine) NewestItem(ctx context.Context, u events.User, c events.Consistency) (projections.Stored, error) {
	defer e.slowly("newest item %s", u)()
	return e.Engine.NewestItem(ctx, u, c)
}

// ReadItems implements projections.Items.
func (e *engine) ReadItems(ctx context.Context, u events.User, from events.Seq, size int, c events.Consistency) ([]projections.Stored, error) {
	defer e.slowly("read items %s %d", u, from)()
	return e.Engine.ReadItems(ctx, u, from, size, c)
}

// PutItems implements projections.Items.
func (e *engine) PutItems(ctx context.Context, items []projections.Stored) error {
	defer e.slowly("put items")()
	return e.Engine.PutItems(ctx, items)
}
