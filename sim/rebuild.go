package sim

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"

	"timberline/events"
	"timberline/projections"
)

// wholeTimeline is more bytes than there are in any.
const wholeTimeline = 1 << 30

// rebuild holds the timelines of a store that nobody writes to against what its log
// and its checkpoints say (promise 6). It is written after the rules, not after the
// projector.
//
// Where each item is a write of its own those of a shard's last checkpoint may be missing:
// the projector was stopped behind the checkpoint.
func (w *world) rebuild(b *boot) error {
	ctx := context.Background()
	want := make(map[events.User][]projections.Stored)
	due := make(map[events.User]bool) // whose last item may be missing
	for s := range projections.Shard(shards) {
		r := replay{store: b.store, shard: s, read: make(map[uint64]events.Offset), ends: make(map[events.User]projections.Item), want: want}
		if err := r.all(ctx); err != nil {
			return fmt.Errorf("rebuild shard %d: %w", s, err)
		}
		for u, item := range r.ends {
			due[u] = w.plan.many && item.Checkpoint == r.last
		}
	}
	for _, u := range users {
		have, err := b.store.ReadItems(ctx, projections.Timeline{User: u}, 0, wholeTimeline, events.Strong)
		if err != nil {
			return fmt.Errorf("read the timeline of %s: %w", u, err)
		}
		if n := len(want[u]); due[u] && len(have) == n-1 {
			want[u] = want[u][:n-1]
		}
		w.compare(u, have, want[u])
	}
	return nil
}

// compare tells of the first item that is not as it should be.
func (w *world) compare(u events.User, have, want []projections.Stored) {
	for i := range max(len(have), len(want)) {
		switch {
		case i == len(have):
			w.history.Inexact("timeline of %s: the item that ends with seq %d is missing", u, want[i].Last)
		case i == len(want):
			w.history.Inexact("timeline of %s: the item that ends with seq %d follows from no checkpoint", u, have[i].Last)
		case have[i].Last != want[i].Last || !bytes.Equal(have[i].Data, want[i].Data):
			w.history.Inexact("timeline of %s: the item that ends with seq %d is not what its checkpoint gives", u, have[i].Last)
		default:
			continue
		}
		return
	}
}

// A replay is one shard's timelines, made again.
type replay struct {
	store interface {
		events.Log
		projections.Checkpoints
	}
	shard projections.Shard
	last  projections.CheckpointNumber
	read  map[uint64]events.Offset             // of each journal
	ends  map[events.User]projections.Item     // the newest of each user
	want  map[events.User][]projections.Stored // all of them
}

// all replays all checkpoints.
func (r *replay) all(ctx context.Context) error {
	all, err := r.store.ReadCheckpoints(ctx, r.shard, 1, wholeTimeline)
	if err != nil {
		return err
	}
	for i, data := range all {
		n := projections.CheckpointNumber(i + 1)
		c, err := projections.DecodeCheckpoint(r.shard, n, data)
		if err != nil {
			return err
		}
		var covered []events.Raw
		for _, moved := range c.Moved {
			if covered, err = r.cover(ctx, covered, moved); err != nil {
				return err
			}
		}
		if err := r.give(n, covered); err != nil {
			return err
		}
		r.last = n
	}
	return nil
}

// cover adds the events that a journal has up to a position.
func (r *replay) cover(ctx context.Context, covered []events.Raw, to projections.Position) ([]events.Raw, error) {
	j, from := events.JournalNumbered(to.Journal), r.read[to.Journal]+1
	if to.Offset < from {
		return covered, nil // it stands in a full checkpoint and has not moved
	}
	recs, err := r.store.ReadLog(ctx, j, from, wholeTimeline, events.Strong)
	if err != nil {
		return nil, err
	}
	if last := from + events.Offset(len(recs)) - 1; last < to.Offset {
		return nil, fmt.Errorf("journal %s ends with record %d, a checkpoint covers %d", j, last, to.Offset)
	}
	for i, rec := range recs[:to.Offset-from+1] {
		raws, err := rec.Events(j, from+events.Offset(i))
		if err != nil {
			return nil, err
		}
		for _, raw := range raws {
			covered = append(covered, raw)
		}
	}
	r.read[to.Journal] = to.Offset
	return covered, nil
}

// give adds the items that a checkpoint gives.
func (r *replay) give(n projections.CheckpointNumber, covered []events.Raw) error {
	slices.SortFunc(covered, func(a, b events.Raw) int { return a.EventID().Compare(b.EventID()) })
	items := make(map[events.User]projections.Item)
	for _, raw := range covered {
		e, err := raw.Decode()
		if err != nil {
			return err
		}
		if e.Kind != events.KindMessage {
			continue
		}
		a, b, _ := e.Conversation.Users()
		for _, u := range slices.Compact([]events.User{a, b}) {
			if projections.ShardOf(u.Slot(), shards) != r.shard {
				continue
			}
			item, begun := items[u]
			if !begun {
				item = projections.Item{First: 1, Checkpoint: n}
				if before, ok := r.ends[u]; ok {
					item.First, item.Newest = before.Last()+1, before.Newest
				}
			}
			item.Entries = append(item.Entries, projections.Entry{Event: raw})
			if e.ID.Compare(item.Newest) > 0 {
				item.Newest = e.ID
			}
			items[u] = item
		}
	}
	for u, item := range items {
		r.want[u] = append(r.want[u], item.Encode(projections.Timeline{User: u}))
	}
	maps.Copy(r.ends, items)
	return nil
}
