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
	rows, err := b.store.ListJournals(ctx, 0, events.Strong)
	if err != nil {
		return err
	}
	trimmed := make(map[uint64]bool)
	for _, row := range rows {
		trimmed[row.Number] = row.Trimmed
	}
	for s := range projections.Shard(shards) {
		r := &replay{
			store: b.store, shard: s, trimmed: trimmed, archive: w.archive, read: make(map[uint64]events.Offset),
			ends: make(map[events.User]projections.Item), want: make(map[events.User][]projections.Stored), gone: make(map[events.User]events.Seq),
		}
		if err := r.all(ctx); err != nil {
			return fmt.Errorf("rebuild shard %d: %w", s, err)
		}
		for _, u := range users {
			if projections.ShardOf(u.Slot(), shards) != s {
				continue
			}
			if err := w.hold(ctx, b, r, u); err != nil {
				return fmt.Errorf("timeline of %s: %w", u, err)
			}
		}
	}
	return nil
}

// hold holds a timeline, in the version that is read, against what a replay gives.
func (w *world) hold(ctx context.Context, b *boot, r *replay, u events.User) error {
	have, err := b.store.ReadItems(ctx, projections.Timeline{Version: r.version, User: u}, 0, wholeTimeline, events.Strong)
	if err != nil {
		return err
	}
	first, err := firstOf(ctx, b.store, u)
	if err != nil {
		return err
	}
	if r.gone[u] >= first {
		w.history.Inexact("timeline of %s: seq %d is in a journal that was trimmed, though it begins with %d", u, r.gone[u], first)
	}
	want := r.want[u]
	if last := len(want) - 1; w.plan.many && last >= 0 && r.ends[u].Checkpoint == r.last && (len(have) == 0 || have[len(have)-1].Last < want[last].Last) {
		want = want[:last]
	}
	below := func(s projections.Stored) bool { return s.Last < first } // trimmed: it may be left, or not
	w.compare(u, slices.DeleteFunc(have, below), slices.DeleteFunc(slices.Clone(want), below))
	var all events.Seq
	if item, any := r.ends[u]; any {
		all = item.Last()
	}
	whole := !slices.Contains(slices.Collect(maps.Values(r.trimmed)), true)
	return w.counted(ctx, b, u, uint64(all), whole)
}

// counted holds what a projection of one's own has counted against how many entries there
// are, if the log is whole. What was trimmed before it came there is not in it.
func (w *world) counted(ctx context.Context, b *boot, u events.User, all uint64, whole bool) error {
	if !w.plan.tallies() {
		return nil
	}
	f := projections.Follower{Store: b.store, Meta: b.store.Meta(), Shard: projections.ShardOf(u.Slot(), shards), Projection: entries}
	if _, err := f.Run(ctx); err != nil {
		return err
	}
	rows, err := projections.ReadProjection(ctx, b.store, entries, u, "", wholeTimeline)
	if err != nil {
		return err
	}
	var n uint64
	if len(rows) > 0 {
		n = tallied(rows[0].Value)
	}
	if n > all || n < all && whole {
		w.history.Inexact("timeline of %s: %d entries were counted, there are %d", u, n, all)
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
	shard   projections.Shard
	trimmed map[uint64]bool // journals, which are in the archive
	archive *archive
	last    projections.CheckpointNumber
	version projections.Version                  // as of last
	read    map[uint64]events.Offset             // of each journal
	ends    map[events.User]projections.Item     // the newest of each user
	want    map[events.User][]projections.Stored // all of them
	gone    map[events.User]events.Seq           // the last one of a journal that was trimmed
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
		var all []covered
		for _, moved := range c.Moved {
			if all, err = r.cover(ctx, all, moved); err != nil {
				return err
			}
		}
		if err := r.give(n, all); err != nil {
			return err
		}
		r.last, r.version = n, c.Version
	}
	return nil
}

// covered is an event that a checkpoint covers.
type covered struct {
	events.Raw
	trimmed bool // with its journal
}

// cover adds the events that a journal has up to a position.
func (r *replay) cover(ctx context.Context, all []covered, to projections.Position) ([]covered, error) {
	j, from := events.JournalNumbered(to.Journal), r.read[to.Journal]+1
	if to.Offset < from {
		return all, nil // it stands in a full checkpoint and has not moved
	}
	recs, err := r.records(ctx, to.Journal, from)
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
			all = append(all, covered{raw, r.trimmed[to.Journal]})
		}
	}
	r.read[to.Journal] = to.Offset
	return all, nil
}

// records returns the records of a journal from an offset on.
func (r *replay) records(ctx context.Context, journal uint64, from events.Offset) ([]events.Record, error) {
	j := events.JournalNumbered(journal)
	recs := r.archive.records(j)
	if !r.trimmed[journal] || recs == nil { // or that it is trimmed was noted, and no more
		return r.store.ReadLog(ctx, j, from, wholeTimeline, events.Strong)
	}
	return recs[min(int(from)-1, len(recs)):], nil
}

// give adds the items that a checkpoint gives.
func (r *replay) give(n projections.CheckpointNumber, all []covered) error {
	slices.SortFunc(all, func(a, b covered) int { return a.EventID().Compare(b.EventID()) })
	items := make(map[events.User]projections.Item)
	for _, c := range all {
		e, err := c.Decode()
		if err != nil {
			return err
		}
		if !e.Kind.Sent() {
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
			item.Entries = append(item.Entries, projections.Entry{Event: c.Raw})
			if e.ID.Compare(item.Newest) > 0 {
				item.Newest = e.ID
			}
			if items[u] = item; c.trimmed {
				r.gone[u] = item.Last()
			}
		}
	}
	for u, item := range items {
		r.want[u] = append(r.want[u], item.Encode(projections.Timeline{User: u}))
	}
	maps.Copy(r.ends, items)
	return nil
}
