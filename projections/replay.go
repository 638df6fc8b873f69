package projections

import (
	"cmp"
	"context"
	"fmt"

	"timberline/events"
)

// A walk goes through the checkpoints of a shard, from the first on, with what each
// covers. It writes nothing.
type walk struct {
	log         events.Log
	checkpoints Checkpoints
	shard       Shard
	mine        func(events.User) bool

	at    positions
	ahead map[uint64][]events.Record // of each journal: read, but not covered yet
}

// A checkpoint covers little of a journal, so more is read than it needs and kept for
// those that follow: so much of so many journals at most.
const (
	aheadBytes    = 512 << 10
	aheadJournals = 64
)

// run calls visit with each checkpoint and what it newly covers, in order.
func (w *walk) run(ctx context.Context, visit func(CheckpointNumber, *cover) error) error {
	w.at, w.ahead = newPositions(), make(map[uint64][]events.Record)
	return eachCheckpoint(ctx, w.checkpoints, w.shard, func(n CheckpointNumber, cp *Checkpoint) error {
		var c cover
		for _, m := range cp.Moved {
			from, open := w.at.next(m.Journal)
			if !open {
				continue
			}
			if err := w.cover(ctx, n, &c, m, from); err != nil {
				return err
			}
		}
		w.at.apply(cp)
		return visit(n, &c)
	})
}

// cover adds to c the records of one journal that checkpoint n covers.
func (w *walk) cover(ctx context.Context, n CheckpointNumber, c *cover, m Position, from events.Offset) (err error) {
	recs := w.ahead[m.Journal]
	for at := from; at <= m.Offset; at++ {
		if len(recs) == 0 {
			if recs, err = w.log.ReadLog(ctx, events.JournalNumbered(m.Journal), at, aheadBytes, events.Strong); err != nil {
				return err
			}
			if len(recs) == 0 {
				return fmt.Errorf("%w: record %d of journal %d is missing, which checkpoint %d of shard %d covers", events.ErrCorrupt, at, m.Journal, n, w.shard)
			}
		}
		if err := c.take(record{m.Journal, at, recs[0]}, w.mine); err != nil {
			return err
		}
		recs = recs[1:]
	}
	if len(w.ahead) >= aheadJournals {
		clear(w.ahead) // what is needed of it is read again
	}
	if w.ahead[m.Journal] = recs; len(recs) == 0 {
		delete(w.ahead, m.Journal)
	}
	return nil
}

// eachCheckpoint calls visit with the checkpoints of a shard, in order, as far as they
// follow each other.
func eachCheckpoint(ctx context.Context, cs Checkpoints, s Shard, visit func(CheckpointNumber, *Checkpoint) error) error {
	for n := CheckpointNumber(1); ; {
		all, err := cs.ReadCheckpoints(ctx, s, n, foldBytes)
		if err != nil || len(all) == 0 {
			return err
		}
		for _, data := range all {
			c, err := decodeRuled(s, n, data)
			if err != nil {
				return err
			}
			if err := ctx.Err(); err != nil { // not every engine looks
				return err
			}
			if err := visit(n, &c); err != nil {
				return err
			}
			n++
		}
	}
}

// Covered returns how many checkpoints of a shard follow each other and cover no more
// than a log has whose journals end so.
func Covered(ctx context.Context, cs Checkpoints, s Shard, ends map[uint64]events.Offset) (n CheckpointNumber, err error) {
	beyond := false
	err = eachCheckpoint(ctx, cs, s, func(at CheckpointNumber, c *Checkpoint) error {
		for _, m := range c.Moved {
			beyond = beyond || m.Offset > ends[m.Journal]
		}
		if !beyond {
			n = at
		}
		return nil
	})
	return n, err
}

// A Replay makes the timelines of a shard again from the log and the shard's checkpoints,
// by the same rules. Nobody else works on the shard meanwhile.
type Replay struct {
	Log         events.Log
	Checkpoints Checkpoints
	Items       Items
	Meta        Meta
	Shard       Shard
	// Empty says that the shard's timelines are: so none has to be read first.
	Empty bool
	// Told is called now and then with how far the replay is; nil: nobody is.
	Told func(ReplayProgress)

	maxTails, putBytes int // 0: those of the package
}

// ReplayProgress is how far a Replay is.
type ReplayProgress struct {
	Checkpoint CheckpointNumber // up to this one all is durable
	Last       CheckpointNumber // of the shard
	Items      uint64           // put since the replay began
}

// putBytes is how many bytes of items are gathered for one put.
const putBytes = 4 << 20

// Run puts the items that follow from the checkpoints. What a replay that was interrupted
// has put is left as it is: of each user that is the beginning of the timeline, as items
// are put in order. The error is events.ErrCorrupt if the log or a checkpoint is damaged,
// or the log has less than a checkpoint covers.
func (r *Replay) Run(ctx context.Context) error {
	last, _, err := r.Checkpoints.LastCheckpoint(ctx, r.Shard)
	if err != nil {
		return err
	}
	b := rebuild{
		items: r.Items, told: r.Told, maxTails: cmp.Or(r.maxTails, maxTails), putBytes: cmp.Or(r.putBytes, putBytes),
		progress: ReplayProgress{Last: last}, tails: make(map[events.User]tail), empty: r.Empty,
	}
	w := walk{log: r.Log, checkpoints: r.Checkpoints, shard: r.Shard, mine: usersOf(r.Shard, r.Meta.Shards)}
	if err := w.run(ctx, func(n CheckpointNumber, c *cover) error { return b.give(ctx, n, c) }); err != nil {
		return err
	}
	return b.flush(ctx)
}

// A rebuild is the state of a Replay that runs.
type rebuild struct {
	items              Items
	told               func(ReplayProgress)
	maxTails, putBytes int

	progress ReplayProgress
	at       CheckpointNumber     // the items up to it are put or pending
	tails    map[events.User]tail // as of at, or later where they are put already
	empty    bool                 // whoever is not in tails has no items
	pending  []Stored
	bytes    int // of pending
}

// give adds what checkpoint n gives.
func (b *rebuild) give(ctx context.Context, n CheckpointNumber, c *cover) error {
	if err := b.know(ctx, c); err != nil {
		return err
	}
	for _, g := range c.gifts(n, b.tails) {
		if b.tails[g.user].checkpoint >= n {
			continue // an interrupted replay has put it (R7)
		}
		item := g.item.Encode(g.user)
		b.pending, b.bytes = append(b.pending, item), b.bytes+len(item.Data)
		b.tails[g.user] = tailOf(&g.item)
	}
	b.at = n
	if b.bytes >= b.putBytes || len(b.tails) > b.maxTails {
		return b.flush(ctx)
	}
	return nil
}

// know makes sure that the ends of all timelines concerned are in tails.
func (b *rebuild) know(ctx context.Context, c *cover) error {
	for _, u := range c.order {
		if _, known := b.tails[u]; known {
			continue
		}
		var t tail
		if !b.empty {
			var err error
			if t, err = newestOf(ctx, b.items, u); err != nil {
				return err
			}
		}
		b.tails[u] = t
	}
	return nil
}

// flush puts what is pending, and then forgets tails if there are too many: they can be
// read now.
func (b *rebuild) flush(ctx context.Context) error {
	if len(b.pending) > 0 {
		if err := b.items.PutItems(ctx, b.pending); err != nil {
			return err
		}
	}
	b.progress.Items += uint64(len(b.pending))
	b.pending, b.bytes = nil, 0
	if len(b.tails) > b.maxTails {
		clear(b.tails)
		b.empty = false
	}
	if b.progress.Checkpoint = b.at; b.told != nil {
		b.told(b.progress)
	}
	return nil
}
