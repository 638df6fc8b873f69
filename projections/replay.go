package projections

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"timberline/events"
	"timberline/sim/planted"
)

// A Replay makes the timelines of a shard again from the log and the shard's checkpoints,
// by the same rules. If they are in the version that is read and written, nobody else
// works on the shard meanwhile.
type Replay struct {
	Store   Store
	Meta    Meta
	Shard   Shard
	Version Version // of the timelines made
	// User limits the replay to one user of the shard. Every item is put again then, over
	// what stands in its place, also where projectors go on: it is the same, or damaged.
	User events.User
	// Empty says that the shard's timelines are: so none has to be read first.
	Empty bool
	// Rate limits the events gone through in a second; 0: as many as can be.
	Rate float64
	// Told is called when it begins, and now and then, with how far the replay is; nil: nobody is.
	Told func(ReplayProgress)

	// PutBytes is how many bytes of items are gathered for one put; default: 8 MiB, for a
	// Rebuild what the engine likes best if it is a BulkWriter, or 4 KiB if there is a rate. KeepEvery is how often a rebuild stores how far it is;
	// default: each second.
	PutBytes  int
	KeepEvery time.Duration

	maxTails int // 0: that of the package
}

// ReplayProgress is how far a Replay is.
type ReplayProgress struct {
	Checkpoint CheckpointNumber // up to this one all is durable
	Last       CheckpointNumber // of the shard, when the replay began, or the highest met since
	Events     uint64           // gone through since the replay began
	Items      uint64           // put since then
}

// putBytes is how many bytes of items are gathered for one put, and pacedBytes if others
// are not to be held up: what is appended meanwhile waits until they are synced, too.
const (
	putBytes   = 8 << 20
	pacedBytes = 4 << 10
)

// roomBytes is how much memory for items is allocated at a time.
const roomBytes = 256 << 10

// pacedStages are what an event goes through: it is read, it is looked up to whom it goes, and
// what it gives is put. Each has its part of the time, so that nothing is done in a burst.
const pacedStages = 3

// keepEvery is how often it is stored how far a rebuild is.
const keepEvery = time.Second

// Run puts the items that follow from the checkpoints. What a replay that was interrupted
// has put is left as it is: of each user that is the beginning of the timeline, as items
// are put in order. The error is events.ErrCorrupt if the log or a checkpoint is damaged,
// or the log has less than a checkpoint covers.
func (r *Replay) Run(ctx context.Context) error {
	f, err := r.begin(ctx, 0)
	if err != nil {
		return err
	}
	return f.fill(ctx)
}

// begin returns what fills the timelines with what follows from the checkpoints behind one.
func (r *Replay) begin(ctx context.Context, behind CheckpointNumber) (*filler, error) {
	last, _, err := r.Store.LastCheckpoint(ctx, r.Shard, events.Strong)
	if err != nil {
		return nil, err
	}
	f := &filler{
		Replay: r, maxTails: cmp.Or(r.maxTails, maxTails), putBytes: cmp.Or(r.PutBytes, putBytes),
		walk:     walk{store: r.Store, shard: r.Shard, mine: usersOf(r.Shard, r.Meta.Shards)},
		progress: ReplayProgress{Checkpoint: behind, Last: last}, tails: make(map[events.User]*tail), empty: r.Empty, room: room{each: roomBytes}, pace: newPace(pacedStages * r.Rate), kept: time.Now(),
	}
	f.walk.again = f.trimmed
	if r.Rate > 0 {
		f.putBytes = min(f.putBytes, pacedBytes)
		f.walk.took = f.pace.did
	}
	if r.User != "" {
		f.empty, f.walk.mine = true, func(u events.User) bool { return u == r.User }
	}
	if err := f.walk.from(ctx, behind); err != nil {
		return nil, err
	}
	f.walk.versions, err = versionsAt(ctx, r.Store, r.Shard, behind)
	return f, err
}

// A filler is the state of a Replay that runs.
type filler struct {
	*Replay
	walk               walk
	maxTails, putBytes int
	// beside says that the version is not live. Nobody is told of its items: who asked
	// for them would not find them where one reads yet.
	beside bool

	// keep stores up to which checkpoint all is put; nil: nobody does.
	keep func(context.Context, CheckpointNumber) error
	kept time.Time

	pace  *pace                 // of events, each of which counts in each stage
	tails map[events.User]*tail // as of the walk, or later where they are put already
	old   map[events.User]*tail // likewise, but timelines may have been trimmed since
	empty bool                  // whoever is in neither has no items

	// The items up to the walk are put, on their way, or pending. One put is on its way
	// at a time, while the walk goes on: so of each timeline a beginning stands.
	progress ReplayProgress // all up to here is put
	onWay    ReplayProgress // or on its way
	put      func() error   // waits for what is on its way; nil: nothing is
	events   uint64         // gone through
	paused   uint64         // likewise, as of the last pause
	pending  []Stored
	spare    []Stored // what was put before that: its room is used again
	bytes    int      // of pending
	room     room     // for what they hold
}

// meanwhile has something done while its caller goes on, and returns what waits for it.
var meanwhile = func(do func() error) (wait func() error) { // but for tests, which want one order
	done := make(chan error, 1)
	go func() { done <- do() }()
	return func() error { return <-done }
}

// fill puts what follows from the checkpoints, until there is no more.
func (f *filler) fill(ctx context.Context) error {
	if f.Told != nil {
		f.Told(f.progress)
	}
	err := f.walk.run(ctx, func(n CheckpointNumber, c *cover) error { return f.give(ctx, n, c) })
	if err == nil {
		err = f.send(ctx, f.walk.n)
	}
	if err == nil {
		err = f.pause(ctx)
	}
	if put := f.settle(); err == nil { // nothing is on its way any more, whatever has happened
		err = put
	}
	return err
}

// trimmed notes that timelines may have been trimmed since their ends were known.
func (f *filler) trimmed() {
	if f.old == nil {
		f.old = make(map[events.User]*tail)
	}
	maps.Copy(f.old, f.tails)
	clear(f.tails)
}

// give adds what checkpoint n gives.
func (f *filler) give(ctx context.Context, n CheckpointNumber, c *cover) error {
	switch v := &f.walk.versions; {
	case f.beside && v.Live == f.Version && n >= f.progress.Last: // before, it may have been for a while
		return errLive // and whole: projectors go on with it
	case f.beside && v.Dropped[f.Version] && !planted.Is(planted.DroppedComesLive):
		return fmt.Errorf("version %d of shard %d: %w", f.Version, f.Shard, ErrDropped)
	}
	tails, err := f.know(ctx, c)
	if err != nil {
		return err
	}
	from, given := f.events, 0
	for g := range c.gifts(n, tails) {
		if err := f.pace.rest(ctx); err != nil {
			return err
		}
		if given++; g.before >= n {
			continue // an interrupted replay has put it (R7)
		}
		item := g.item.encodeIn(f.timeline(g.user), &f.room)
		item.Quiet = f.beside
		f.pending, f.bytes = append(f.pending, item), f.bytes+len(item.Data)
		*g.tail = tailOf(&g.item)
		if f.bytes < f.putBytes {
			continue
		}
		f.events = from + uint64(len(c.events)*given/len(c.order))
		if err := f.send(ctx, n-1); err != nil {
			return err
		}
		if err := f.pause(ctx); err != nil {
			return err
		}
	}
	f.events = from + uint64(len(c.events))
	if len(f.tails) > f.maxTails {
		return f.forget(ctx)
	}
	return nil
}

// forget forgets the ends of timelines. They can be read again when all is put.
func (f *filler) forget(ctx context.Context) error {
	if err := f.send(ctx, f.walk.n); err != nil {
		return err
	}
	if err := f.settle(); err != nil {
		return err
	}
	clear(f.tails)
	f.old, f.empty = nil, false
	return nil
}

func (f *filler) timeline(u events.User) Timeline { return Timeline{f.Version, u} }

// know returns the ends of all timelines concerned.
func (f *filler) know(ctx context.Context, c *cover) ([]*tail, error) {
	tails, unknown := known(c, f.tails)
	least := len(unknown)
	if f.Rate > 0 {
		least = usersAtOnce
	}
	left := len(c.events)
	for some := range slices.Chunk(unknown, max(least, 1)) {
		ends, err := ofEach(ctx, c.at(some), f.tailOf)
		if err != nil {
			return nil, err
		}
		for i, at := range some {
			tails[at] = &ends[i]
			f.tails[c.order[at]] = tails[at]
		}
		n := len(c.events) * len(some) / len(unknown)
		left -= n
		if err := f.pace.did(ctx, n); err != nil {
			return nil, err
		}
	}
	return tails, f.pace.did(ctx, left)
}

// tailOf returns the end of what a user has of a timeline. Where there is nothing, or less
// than was trimmed, it begins where those who read begin: what would stand between may not
// be in the log any more.
func (f *filler) tailOf(ctx context.Context, u events.User) (t tail, err error) {
	if old := f.old[u]; old != nil {
		t = *old
	} else if !f.empty {
		if t, err = newestOf(ctx, f.Store, f.timeline(u)); err != nil {
			return t, err
		}
	}
	if planted.Is(planted.RebuiltFromOne) || planted.Is(planted.ResumedBelowFirst) && t.last > 0 {
		return t, nil
	}
	m, err := readMark(ctx, f.Store, u)
	return m.behind(t), err
}

// send has what is pending put, when all before it is; then all up to a checkpoint is.
func (f *filler) send(ctx context.Context, upto CheckpointNumber) error {
	if err := f.settle(); err != nil {
		return err
	}
	items := f.pending
	f.pending, f.spare, f.bytes = f.spare[:0], items, 0
	f.onWay = ReplayProgress{upto, max(f.progress.Last, upto), f.events, f.progress.Items + uint64(len(items))}
	if f.keep != nil && planted.Is(planted.PlaceBeforePut) {
		if err := f.keep(ctx, upto); err != nil {
			return err
		}
	}
	f.put = meanwhile(func() error {
		if len(items) == 0 {
			return nil
		}
		return f.Store.PutItems(ctx, items)
	})
	if f.keep != nil && time.Since(f.kept) >= cmp.Or(f.KeepEvery, keepEvery) {
		f.kept = time.Now()
		if err := f.keep(ctx, f.progress.Checkpoint); err != nil {
			return err
		}
	}
	return nil
}

// settle waits until what is on its way is put, and tells of it.
func (f *filler) settle() error {
	if f.put == nil {
		return nil
	}
	err := f.put()
	if f.put = nil; err != nil {
		return err
	}
	if f.progress = f.onWay; f.Told != nil {
		f.Told(f.progress)
	}
	return nil
}

// pause waits until as much time has gone by as the rate gives to what was gone through.
func (f *filler) pause(ctx context.Context) error {
	n := f.events - f.paused
	f.paused = f.events
	return f.pace.did(ctx, int(n))
}
