package projections

import (
	"context"
	"errors"
	"fmt"

	"timberline/events"
)

// A Reader reads timelines, in the version that is live. It takes the contiguous run
// only, and shows durable state only.
type Reader struct {
	store  Timelines
	shards uint32
}

// Timelines is what a Reader reads.
type Timelines interface {
	Checkpoints
	Items
	Rows
}

// NewReader returns a reader of the timelines in a store.
func NewReader(s Timelines, m Meta) *Reader { return &Reader{store: s, shards: m.Shards} }

// live names a user's timeline as the shard's last checkpoint has it. By which rules that was
// made is nothing to those who read.
func (r *Reader) live(ctx context.Context, u events.User) (Timeline, error) {
	shard := ShardOf(u.Slot(), r.shards)
	n, data, err := r.store.LastCheckpoint(ctx, shard, events.Strong)
	if err != nil || n == 0 {
		return Timeline{User: u}, err
	}
	last, err := DecodeCheckpoint(shard, n, data)
	return Timeline{last.Version, u}, err
}

// Head returns a run without events: where the timeline ends, from which seq on it
// can be read, and the highest id in it.
func (r *Reader) Head(ctx context.Context, u events.User) (events.Run, error) {
	_, run, err := r.head(ctx, u)
	return run, err
}

// head returns the timeline that is live, too.
func (r *Reader) head(ctx context.Context, u events.User) (Timeline, events.Run, error) {
	t, err := r.live(ctx, u)
	if err != nil {
		return t, events.Run{}, err
	}
	stored, err := r.store.NewestItem(ctx, t, events.Strong)
	for errors.Is(err, events.ErrNotFound) { // it is empty, or was dropped just now, after a switch
		was := t
		if t, err = r.live(ctx, u); err != nil || t == was {
			return t, events.Run{First: 1}, err
		}
		stored, err = r.store.NewestItem(ctx, t, events.Strong)
	}
	if err != nil {
		return t, events.Run{}, err
	}
	item, err := stored.Decode()
	if err != nil {
		return t, events.Run{}, err
	}
	begins, err := readMark(ctx, r.store, u)
	return t, events.Run{Head: stored.Last, First: begins.first, Newest: item.Newest}, err
}

// Read returns the entries that follow after, up to and with upto (0: to the end), in about
// size bytes and at least one if there is one. From a seq that was trimmed, or is beyond the
// end, it returns no entries, and the caller sees why from First and Head. The error is
// events.ErrCorrupt if the next one is missing, and what follows a gap is never returned.
func (r *Reader) Read(ctx context.Context, u events.User, after, upto events.Seq, size int) (events.Run, error) {
	t, run, err := r.head(ctx, u)
	for err == nil && after < run.Head && after+1 >= run.First && (upto == 0 || after < upto) {
		run.From = after + 1
		if err = r.entries(ctx, t, &run, upto, size); err != nil || len(run.Events) > 0 {
			break
		}
		was, first := t, run.First // which was trimmed, or dropped after a switch, since; or else it is missing
		if t, run, err = r.head(ctx, u); err == nil && t == was && run.First == first {
			err = fmt.Errorf("%w: timeline of %s has no entry %d, though it ends with %d: see verify --repair", events.ErrCorrupt, t, after+1, run.Head)
		}
	}
	if err != nil {
		return events.Run{}, err
	}
	return run, nil
}

// entries adds the entries of a timeline from run.From on, as far as they stand in a row.
func (r *Reader) entries(ctx context.Context, t Timeline, run *events.Run, upto events.Seq, size int) error {
	if upto == 0 || upto > run.Head {
		upto = run.Head
	}
	for next := run.From; next <= upto && (size > 0 || len(run.Events) == 0); {
		stored, err := r.store.ReadItems(ctx, t, next, size, events.Strong)
		if err != nil || len(stored) == 0 {
			return err
		}
		for _, s := range stored {
			item, err := s.Decode()
			if err != nil || item.First > next {
				return err
			}
			for i := next - item.First; i < events.Seq(len(item.Entries)) && next <= upto && (size > 0 || len(run.Events) == 0); i++ {
				e := item.Entries[i]
				if e.Ref != nil {
					return fmt.Errorf("timeline of %s, entry %d: a reference, which this program does not follow: use a newer version", t, next)
				}
				run.Events = append(run.Events, e.Event)
				size -= len(e.Event)
				next++
			}
		}
	}
	return nil
}
