package projections

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"timberline/events"
)

// A Placement is where an event stands in the timeline of one of its recipients.
type Placement struct {
	Timeline Timeline // the one that is read
	Shard    Shard
	// Checkpoint is the one that covers the event; 0: none does yet.
	Checkpoint CheckpointNumber
	// Seq is where the event stands; 0: nowhere, as its item was trimmed, or else is not
	// written yet.
	Seq     events.Seq
	Trimmed bool
}

// Placements tells where an event of the log, which stands in that record of a journal,
// stands in the timelines of its recipients. It reads the checkpoints of their shards up
// to the one that covers it.
func Placements(ctx context.Context, s Timelines, m Meta, journal uint64, at events.Offset, raw events.Raw) ([]Placement, error) {
	var all []Placement
	for _, u := range candidates(raw) {
		p := Placement{Timeline: Timeline{User: u}}
		placed, err := p.find(ctx, s, m, journal, at, raw)
		if err != nil {
			return nil, err
		}
		if placed {
			all = append(all, p)
		}
	}
	return all, nil
}

// candidates returns those whom any rules give an entry of the event.
func candidates(raw events.Raw) (users []events.User) {
	for _, place := range rules[1:] {
		p, ok, _, err := place(raw, func(events.User) bool { return true })
		if err != nil || !ok {
			continue
		}
		for _, u := range []events.User{p.a, p.b} {
			if u != "" && !slices.Contains(users, u) {
				users = append(users, u)
			}
		}
	}
	return users
}

// find looks for the checkpoint that covers the event, and then for the entry. placed is
// false if the event is none of the user's, by the rules of that checkpoint: or by the newest,
// if there is none yet.
func (p *Placement) find(ctx context.Context, s Timelines, m Meta, journal uint64, at events.Offset, raw events.Raw) (placed bool, err error) {
	p.Shard = ShardOf(p.Timeline.User.Slot(), m.Shards)
	by := newestRules()
	err = eachCheckpoint(ctx, s, p.Shard, 1, func(n CheckpointNumber, c *Checkpoint) error {
		p.Timeline.Version = c.Version
		for _, moved := range c.Moved {
			if moved.Journal == journal && moved.Offset >= at && p.Checkpoint == 0 {
				p.Checkpoint, by = n, c.Rules
			}
		}
		return nil
	})
	if err != nil {
		return false, err
	}
	if _, placed, _, err = rules[by](raw, func(u events.User) bool { return u == p.Timeline.User }); err != nil || !placed || p.Checkpoint == 0 {
		return placed, err
	}
	return true, p.seq(ctx, s, raw.EventID())
}

// seq finds the entry in the item that the checkpoint gave.
func (p *Placement) seq(ctx context.Context, s Timelines, id events.ID) error {
	item, err := itemOf(ctx, s, p.Timeline, p.Checkpoint)
	if err != nil {
		return err
	}
	begins, err := readMark(ctx, s, p.Timeline.User)
	if err != nil {
		return err
	}
	if begins.first > 1 && p.Checkpoint < begins.checkpoint {
		p.Trimmed = true // also if the item is still there: nobody reads it
		return nil
	}
	if item == nil {
		return nil
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
		middle := low + (high-low)/2
		items, err := s.ReadItems(ctx, t, middle, 0, events.Strong)
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
		case middle == low:
			return nil, nil
		default: // what stands below the middle may be trimmed: then the item begins above
			high = min(item.First, middle) - 1
		}
	}
	return nil, nil
}
