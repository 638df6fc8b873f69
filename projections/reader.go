package projections

import (
	"context"
	"errors"
	"fmt"

	"timberline/events"
)

// A Reader reads timelines. It takes the contiguous run only, and shows durable
// state only.
type Reader struct{ items Items }

// NewReader returns a reader of the timelines in a store.
func NewReader(items Items) *Reader { return &Reader{items: items} }

// Head returns a run without events: where the timeline ends, from which seq on it
// can be read, and the highest id in it.
func (r *Reader) Head(ctx context.Context, u events.User) (events.Run, error) {
	stored, err := r.items.NewestItem(ctx, u, events.Strong)
	if errors.Is(err, events.ErrNotFound) {
		return events.Run{First: 1}, nil
	}
	if err != nil {
		return events.Run{}, err
	}
	item, err := stored.Decode()
	if err != nil {
		return events.Run{}, err
	}
	first, err := r.first(ctx, u)
	return events.Run{Head: stored.Last, First: first, Newest: item.Newest}, err
}

// first returns the seq of the oldest entry; what was before it was trimmed.
func (r *Reader) first(ctx context.Context, u events.User) (events.Seq, error) {
	oldest, err := r.items.ReadItems(ctx, u, 0, 1, events.Strong)
	if err != nil || len(oldest) == 0 {
		return 1, err
	}
	item, err := oldest[0].Decode()
	return item.First, err
}

// Read returns the entries that follow after, as far as they stand in a row, up
// to and with upto (0: to the end), in about size bytes and at least one if
// there is one. From a seq that was trimmed, or is beyond the end, it returns no
// entries, and the caller sees why from First and Head.
func (r *Reader) Read(ctx context.Context, u events.User, after, upto events.Seq, size int) (events.Run, error) {
	run, err := r.Head(ctx, u)
	if err != nil || after >= run.Head || after+1 < run.First {
		return run, err
	}
	if upto == 0 || upto > run.Head {
		upto = run.Head
	}
	run.From = after + 1
	for next := run.From; next <= upto && (size > 0 || len(run.Events) == 0); {
		stored, err := r.items.ReadItems(ctx, u, next, size, events.Strong)
		if err != nil {
			return events.Run{}, err
		}
		if len(stored) == 0 {
			return run, nil // beyond the contiguous run
		}
		for _, s := range stored {
			item, err := s.Decode()
			if err != nil {
				return events.Run{}, err
			}
			if item.First > next {
				return run, nil
			}
			for i := next - item.First; i < events.Seq(len(item.Entries)) && next <= upto && (size > 0 || len(run.Events) == 0); i++ {
				e := item.Entries[i]
				if e.Ref != nil {
					return events.Run{}, fmt.Errorf("timeline of %s, entry %d: a reference, which this program does not follow: use a newer version", u, next)
				}
				run.Events = append(run.Events, e.Event)
				size -= len(e.Event)
				next++
			}
		}
	}
	return run, nil
}
