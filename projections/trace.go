package projections

import (
	"context"
	"errors"
	"fmt"

	"timberline/events"
)

// A Placement is where an event stands in the timeline of one of its recipients.
type Placement struct {
	Timeline Timeline // the one that is read
	Shard    Shard
	// Checkpoint is the one that covers the event; 0: none does yet.
	Checkpoint CheckpointNumber
	// Seq is where the event stands; 0: nowhere, as the item is not written yet, or was
	// trimmed.
	Seq events.Seq
}

// Placements tells where an event of the log, which stands in that record of a journal,
// stands in the timelines of its recipients. It reads the checkpoints of their shards up
// to the one that covers it.
func Placements(ctx context.Context, s Timelines, m Meta, journal uint64, at events.Offset, raw events.Raw) ([]Placement, error) {
	p, ok, _, err := place(raw, func(events.User) bool { return true })
	if err != nil || !ok {
		return nil, err
	}
	all := []Placement{{Timeline: Timeline{User: p.a}}}
	if p.b != "" {
		all = append(all, Placement{Timeline: Timeline{User: p.b}})
	}
	for i := range all {
		if err := all[i].find(ctx, s, m, journal, at, p.id); err != nil {
			return nil, err
		}
	}
	return all, nil
}

func (p *Placement) find(ctx context.Context, s Timelines, m Meta, journal uint64, at events.Offset, id events.ID) error {
	p.Shard = ShardOf(p.Timeline.User.Slot(), m.Shards)
	err := eachCheckpoint(ctx, s, p.Shard, 1, func(n CheckpointNumber, c *Checkpoint) error {
		p.Timeline.Version = c.Version
		for _, moved := range c.Moved {
			if moved.Journal == journal && moved.Offset >= at && p.Checkpoint == 0 {
				p.Checkpoint = n
			}
		}
		return nil
	})
	if err != nil || p.Checkpoint == 0 {
		return err
	}
	item, err := itemOf(ctx, s, p.Timeline, p.Checkpoint)
	if err != nil || item == nil {
		return err
	}
	for i, e := range item.Entries {
		if events.Raw(e.Event).EventID() == id {
			p.Seq = item.First + events.Seq(i)
			return nil
		}
	}
	return fmt.Errorf("%w: timeline of %s, item of checkpoint %d, lacks event %s, which the checkpoint covers", events.ErrCorrupt, p.Timeline, p.Checkpoint, id)
}

// itemOf returns the item that a checkpoint gave a timeline, nil if it is not there. The
// checkpoints of a timeline's items rise with their seqs, so it halves what is left.
func itemOf(ctx context.Context, s Items, t Timeline, n CheckpointNumber) (*Item, error) {
	newest, err := s.NewestItem(ctx, t, events.Strong)
	if errors.Is(err, events.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for low, high := events.Seq(0), newest.Last; low <= high; { // the item ends at low or above, and has a seq up to high
		items, err := s.ReadItems(ctx, t, low+(high-low)/2, 0, events.Strong)
		if err != nil || len(items) == 0 {
			return nil, err
		}
		item, err := items[0].Decode()
		switch {
		case err != nil:
			return nil, err
		case item.Checkpoint == n:
			return &item, nil
		case item.Checkpoint < n:
			low = item.Last() + 1
		case low == high:
			return nil, nil
		default:
			high = item.First - 1
		}
	}
	return nil, nil
}
