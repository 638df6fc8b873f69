package sim

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"timberline/bus"
	"timberline/cmd/node"
	"timberline/events"
	"timberline/projections"
)

// errAnswer is what a failing access returns. Of an append it settles nothing (R2).
var errAnswer = errors.New("the store did not answer")

// An engine is the store as one process has it. It gives every access a moment of
// its own, and makes some reads fail, and some writes: before they did anything, after they landed,
// or so that they land when the caller has gone on. It stops the process between
// two accesses, and refuses everything to one that is killed.
type engine struct {
	node.Engine
	p    *process
	plan *plan

	serves  atomic.Bool
	mu      sync.Mutex
	stalled map[part]time.Time // until then
}

func newEngine(p *process) *engine {
	return &engine{Engine: p.boot.store, p: p, plan: p.w.plan, stalled: make(map[part]time.Time)}
}

// A part is one of those that use the store, and can stall.
type part uint8

const (
	writer part = iota // and edge
	projector
	relayer
	parts
)

// String names the part.
func (p part) String() string {
	return [...]string{"ingest", "projector", "relay", "ingest, projector and relay"}[p]
}

// stall has a part get no further for a while: it stands before what it does next,
// or behind what it did last. parts is all.
func (e *engine) stall(what part, lasts time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for p := range parts {
		if what == p || what == parts {
			e.stalled[p] = time.Now().Add(lasts)
		}
	}
}

func (e *engine) stalledFor(p part) time.Duration {
	e.mu.Lock()
	defer e.mu.Unlock()
	return time.Until(e.stalled[p])
}

// An access is one call of the store.
type access struct {
	e    *engine
	part part
	r    *rand.Rand
}

// access begins a call. Accesses at one instant are told apart by their names.
func (e *engine) access(p part, format string, args ...any) *access {
	return &access{e, p, e.draw(format, args...)}
}

// draw draws for this process alone: what one begins while it is being killed is no
// matter to the next.
func (e *engine) draw(format string, args ...any) *rand.Rand {
	return e.p.w.draws.next(e.p.name + " " + fmt.Sprintf(format, args...))
}

// wait gives the access its moment before it begins, and one more as it ends:
// several may have waited for the same sync.
func (a *access) wait(most time.Duration) error {
	for pause := between(a.r, time.Microsecond, most); pause > 0; {
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-a.e.p.dead:
			timer.Stop()
			return errDead
		}
		if pause = a.e.stalledFor(a.part); pause > 0 { // until then, or it is taken back
			pause = min(pause, 100*time.Millisecond) + between(a.r, time.Microsecond, most)
		}
	}
	return nil
}

// do does what an access is for.
func do[T any](a *access, call func() (T, error)) (T, error) {
	var nothing T
	if err := a.wait(time.Millisecond); err != nil {
		return nothing, err
	}
	got, err := call()
	if err := a.wait(time.Millisecond); err != nil {
		return nothing, err // nobody hears the answer
	}
	return got, err
}

// away reports whether the store answers nobody for a while.
func (e *engine) away() bool {
	now := e.p.w.time()
	return slices.ContainsFunc(e.plan.outages, func(o outage) bool { return o.at <= now && now < o.at+o.lasts })
}

// fetch does a read that may fail, once the node serves.
func fetch[T any](a *access, call func() (T, error)) (T, error) {
	return do(a, func() (nothing T, err error) {
		if a.e.serves.Load() && (a.e.away() || chance(a.r, a.e.plan.unread)) {
			return nothing, errAnswer
		}
		return call()
	})
}

// write does a write that may fail.
func write[T any](ctx context.Context, a *access, name string, call func(context.Context) (T, error)) (T, error) {
	return do(a, func() (nothing T, err error) {
		e := a.e
		away := 0.0
		if e.away() {
			away = 1
		}
		switch r := e.draw("%s fails", name); {
		case chance(r, max(e.plan.refused, 0.8*away)):
			return nothing, errAnswer
		case chance(r, max(e.plan.lost, 0.5*away)):
			call(ctx) // its answer is lost
			return nothing, errAnswer
		case chance(r, max(e.plan.late, away)):
			e.p.boot.later(between(r, time.Millisecond, 100*time.Millisecond), func() {
				call(e.p.boot.ctx) // nobody hears the answer
			})
			return nothing, errAnswer
		}
		return call(ctx)
	})
}

// note tells of a write that is over, in the trace. Many may have waited for one sync,
// so it is told at the access's end, which has a moment of its own; what is killed has
// none.
func (e *engine) note(err error, format string, args ...any) {
	what := ""
	switch {
	case errors.Is(err, events.ErrFatal):
		return
	case errors.Is(err, events.ErrConflict):
		what = " (another stands there)"
	case err != nil:
		what = " (" + err.Error() + ")"
	}
	e.p.w.net.Note(fmt.Sprintf("%s %s%s", e.p, fmt.Sprintf(format, args...), what))
}

// Append implements events.Log.
func (e *engine) Append(ctx context.Context, j events.Journal, at events.Offset, rec events.Record) (events.Record, error) {
	a := e.access(writer, "append %s %d", j, at)
	stands, err := write(ctx, a, "append", func(ctx context.Context) (events.Record, error) {
		if e.plan.early { // projectors may run ahead of the sync (R8)
			e.p.bus.PublishHint(bus.Hint{Store: e.p.boot.store.Meta().Store, Journal: j, Offset: at})
		}
		return e.Engine.Append(ctx, j, at, rec)
	})
	e.note(err, "appends record %d to %s, %d bytes", at, j, len(rec))
	return stands, err
}

// reader tells who reads the log: only the projector does with what may be old.
func reader(c events.Consistency) part {
	if c == events.Strong {
		return writer
	}
	return projector
}

// ReadLog implements events.Log.
func (e *engine) ReadLog(ctx context.Context, j events.Journal, from events.Offset, size int, c events.Consistency) ([]events.Record, error) {
	return fetch(e.access(reader(c), "read log %s %d", j, from), func() ([]events.Record, error) { return e.Engine.ReadLog(ctx, j, from, size, c) })
}

// ListJournals implements events.Journals.
func (e *engine) ListJournals(ctx context.Context, after uint64, c events.Consistency) ([]events.Row, error) {
	return fetch(e.access(reader(c), "list journals as %d", c), func() ([]events.Row, error) { return e.Engine.ListJournals(ctx, after, c) })
}

// CreateJournal implements events.Journals.
func (e *engine) CreateJournal(ctx context.Context, r events.Row) (events.Row, error) {
	return do(e.access(writer, "create journal"), func() (events.Row, error) { return e.Engine.CreateJournal(ctx, r) })
}

// UpdateJournal implements events.Journals.
func (e *engine) UpdateJournal(ctx context.Context, r events.Row) error {
	_, err := do(e.access(writer, "update journal"), func() (none struct{}, err error) { return none, e.Engine.UpdateJournal(ctx, r) })
	return err
}

// A last checkpoint, as LastCheckpoint returns it.
type last struct {
	n    projections.CheckpointNumber
	data []byte
}

// LastCheckpoint implements projections.Checkpoints.
func (e *engine) LastCheckpoint(ctx context.Context, s projections.Shard, c events.Consistency) (projections.CheckpointNumber, []byte, error) {
	l, err := fetch(e.access(reader(c), "last checkpoint %d as %d", s, c), func() (l last, err error) {
		l.n, l.data, err = e.Engine.LastCheckpoint(ctx, s, c)
		return l, err
	})
	return l.n, l.data, err
}

// ReadCheckpoints implements projections.Checkpoints.
func (e *engine) ReadCheckpoints(ctx context.Context, s projections.Shard, from projections.CheckpointNumber, size int) ([][]byte, error) {
	return fetch(e.access(projector, "read checkpoints %d", s), func() ([][]byte, error) { return e.Engine.ReadCheckpoints(ctx, s, from, size) })
}

// Commit implements projections.Checkpoints.
func (e *engine) Commit(ctx context.Context, s projections.Shard, n projections.CheckpointNumber, checkpoint []byte, items []projections.Stored) ([]byte, error) {
	if e.plan.many {
		return e.commitEach(ctx, s, n, checkpoint, items)
	}
	name := fmt.Sprintf("commit %d", s)
	stands, err := write(ctx, e.access(projector, "%s", name), name, func(ctx context.Context) ([]byte, error) { return e.Engine.Commit(ctx, s, n, checkpoint, items) })
	e.note(err, "commits checkpoint %d of shard %d, %d items", n, s, len(items))
	return stands, err
}

// NewestItem implements projections.Items.
func (e *engine) NewestItem(ctx context.Context, t projections.Timeline, c events.Consistency) (projections.Stored, error) {
	return fetch(e.access(reader(c), "newest item %s as %d", t, c), func() (projections.Stored, error) { return e.Engine.NewestItem(ctx, t, c) })
}

// GetRow implements projections.Rows.
func (e *engine) GetRow(ctx context.Context, space, key string) (projections.Row, error) {
	return fetch(e.access(writer, "get row %s %s", space, key), func() (projections.Row, error) { return e.Engine.GetRow(ctx, space, key) })
}

// ReadRows implements projections.Rows.
func (e *engine) ReadRows(ctx context.Context, space, from string, size int) ([]projections.Row, error) {
	return fetch(e.access(writer, "read rows %s", space), func() ([]projections.Row, error) { return e.Engine.ReadRows(ctx, space, from, size) })
}

// PutRows implements projections.Rows.
func (e *engine) PutRows(ctx context.Context, rows []projections.Row) error {
	if len(rows) == 0 {
		return nil
	}
	name := fmt.Sprintf("put rows %s %s", rows[0].Space, rows[0].Key)
	_, err := write(ctx, e.access(writer, "%s", name), name, func(ctx context.Context) (none struct{}, err error) { return none, e.Engine.PutRows(ctx, rows) })
	return err
}

// ReadItems implements projections.Items.
func (e *engine) ReadItems(ctx context.Context, t projections.Timeline, from events.Seq, size int, c events.Consistency) ([]projections.Stored, error) {
	return fetch(e.access(writer, "read items %s %d", t, from), func() ([]projections.Stored, error) { return e.Engine.ReadItems(ctx, t, from, size, c) })
}

// commitEach commits as an engine of many machines does: the checkpoint is a write of its
// own, and so is each item.
func (e *engine) commitEach(ctx context.Context, s projections.Shard, n projections.CheckpointNumber, checkpoint []byte, items []projections.Stored) ([]byte, error) {
	name := fmt.Sprintf("checkpoint %d", s)
	stands, err := write(ctx, e.access(projector, "%s", name), name, func(ctx context.Context) ([]byte, error) { return e.Engine.Commit(ctx, s, n, checkpoint, nil) })
	e.note(err, "appends checkpoint %d to shard %d", n, s)
	if err != nil {
		return stands, err
	}
	return nil, e.PutItems(ctx, items)
}

// putEach writes each item by itself, and the stream tells of it.
func (e *engine) putEach(ctx context.Context, items []projections.Stored) error {
	for i := range items {
		item := items[i : i+1]
		name := fmt.Sprintf("put item %s %d", item[0].Timeline, item[0].Last)
		_, err := write(ctx, e.access(projector, "%s", name), name, func(ctx context.Context) (none struct{}, err error) {
			e.p.boot.disk.ready(item, e.plan.tables)
			if err = e.Engine.PutItems(ctx, item); err == nil {
				e.p.boot.stream.tell(item)
			}
			return none, err
		})
		if err != nil {
			e.note(err, "puts the item of %s that ends at %d", item[0].Timeline, item[0].Last)
			return err
		}
	}
	return nil
}

// PutItems implements projections.Items.
func (e *engine) PutItems(ctx context.Context, items []projections.Stored) error {
	if e.plan.many {
		return e.putEach(ctx, items)
	}
	if len(items) == 0 {
		return nil
	}
	name := fmt.Sprintf("put items %s %d", items[0].Timeline, items[0].Last)
	_, err := write(ctx, e.access(projector, "%s", name), name, func(ctx context.Context) (none struct{}, err error) {
		e.p.boot.disk.ready(items, e.plan.tables)
		return none, e.Engine.PutItems(ctx, items)
	})
	e.note(err, "puts %d items", len(items))
	return err
}
