package projections

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"timberline/events"
)

// compare tells of each item of some users' timelines that is not as it should be, and
// repairs it if asked.
func (r *verifier) compare(ctx context.Context, sc *scope, users map[events.User]bool) error {
	due := make(map[events.User]map[events.Seq]bool)
	for u := range users {
		due[u] = make(map[events.Seq]bool)
	}
	picks := func(_ *walk, c *cover) bool {
		return slices.ContainsFunc(c.order, func(u events.User) bool { return users[u] })
	}
	_, err := r.replay(ctx, sc, &room{each: roomBytes}, picks, func(_ *replayed, want Stored) error {
		if !users[want.User] {
			return nil
		}
		due[want.User][want.Last] = true
		return r.item(ctx, sc, &want)
	})
	if err != nil {
		return r.unreadable(InSource, fmt.Sprintf("shard %d", sc.shard), "what its checkpoints cover, in the log", err)
	}
	for _, u := range slices.Sorted(maps.Keys(users)) {
		if err := r.strangers(ctx, sc, u, due[u]); err != nil {
			return err
		}
	}
	return nil
}

// item holds one item against what stands in its place.
func (r *verifier) item(ctx context.Context, sc *scope, want *Stored) error {
	should, err := want.Decode()
	if err != nil {
		return err
	}
	f := Finding{
		In: InTimelines, Where: fmt.Sprintf("timeline of %s, seqs %d to %d", want.Timeline, should.First, want.Last), User: want.User, Seq: want.Last,
		Expected: fmt.Sprintf("the item of checkpoint %d", should.Checkpoint),
	}
	got, err := r.Store.ReadItems(ctx, want.Timeline, want.Last, 0, events.Strong)
	switch {
	case errors.Is(err, events.ErrCorrupt):
		f.Found = err.Error()
	case err != nil:
		return err
	case len(got) == 0 || got[0].Last != want.Last:
		if m, err := readMark(ctx, r.Store, want.User); err != nil || want.Last < m.first {
			return err // trimmed meanwhile
		}
		if err := r.dropped(ctx, sc); err != nil {
			return err
		}
		f.Found = nothing
	case bytes.Equal(got[0].Data, want.Data):
		return nil
	default:
		f.Found = describe(&got[0])
	}
	if r.Repair {
		if err := r.Store.PutItems(ctx, []Stored{*want}); err != nil {
			return err
		}
		// What is damaged beneath the item may keep it from being read all the same.
		got, err := r.Store.ReadItems(ctx, want.Timeline, want.Last, 0, events.Strong)
		if err != nil && !errors.Is(err, events.ErrCorrupt) {
			return err
		}
		f.Repaired = len(got) > 0 && got[0].Last == want.Last && bytes.Equal(got[0].Data, want.Data)
	}
	if f.Found == nothing && should.Checkpoint == sc.last && sc.live {
		r.tell(func(p *VerifyProgress) { p.Due++ })
		return nil
	}
	r.found(f)
	return nil
}

// dropped returns an error if the version that is verified was dropped meanwhile: what is
// missing there is missing rightly, and nothing more can be said of it.
func (r *verifier) dropped(ctx context.Context, sc *scope) error {
	_, last, err := lastCheckpoint(ctx, r.Store, sc.shard)
	if err != nil || last.Version == sc.version {
		return err
	}
	v, err := ReadVersions(ctx, r.Store, sc.shard)
	if err == nil && v.Dropped[sc.version] {
		err = fmt.Errorf("version %d of shard %d, run it again: %w", sc.version, sc.shard, ErrDropped)
	}
	return err
}

// describe says for people what an item that is not as it should be is.
func describe(s *Stored) string {
	i, err := s.Decode()
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("another item, of checkpoint %d, with seqs %d to %d", i.Checkpoint, i.First, s.Last)
}

// strangers tells of the items of a user's timeline that follow from no checkpoint.
func (r *verifier) strangers(ctx context.Context, sc *scope, u events.User, due map[events.Seq]bool) error {
	t := Timeline{sc.version, u}
	for next := events.Seq(0); ; {
		items, err := r.Store.ReadItems(ctx, t, next, verifyBytes, events.Strong)
		if err != nil {
			return r.unreadable(InTimelines, "timeline of "+t.String(), "items that can be read", err)
		}
		if len(items) == 0 {
			return nil
		}
		for _, s := range items {
			next = s.Last + 1
			if item, err := s.Decode(); due[s.Last] || s.Last < sc.begins[u] || err == nil && item.Checkpoint > sc.last {
				continue
			}
			r.stranger(&s)
		}
	}
}

// stranger tells of an item that follows from no checkpoint.
func (r *verifier) stranger(s *Stored) {
	r.found(Finding{In: InTimelines, Where: fmt.Sprintf("timeline of %s, item that ends at seq %d", s.Timeline, s.Last), User: s.User, Seq: s.Last, Expected: nothing, Found: describe(s)})
}
