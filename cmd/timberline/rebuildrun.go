package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"timberline/events"
	"timberline/projections"
)

func (w *rebuildWork) do(ctx context.Context, s wholeStore, tell func(report)) error {
	shards := s.Meta().Shards
	if w.User != "" {
		return w.user(ctx, s, projections.ShardOf(events.User(w.User).Slot(), shards), tell)
	}
	if w.Shard != nil && *w.Shard >= int(shards) {
		return fmt.Errorf("there is no shard %d: the store has %s", *w.Shard, shardsOf(shards))
	}
	if !w.Status && w.Drop == nil {
		if err := intact(ctx, s); err != nil {
			return err
		}
	}
	all := make([]projections.Versions, shards)
	for shard := range all {
		var err error
		if all[shard], err = projections.ReadVersions(ctx, s, projections.Shard(shard)); err != nil {
			return err
		}
	}
	switch {
	case w.Status:
		return w.each(all, func(shard projections.Shard, v *projections.Versions) error { return w.status(ctx, s, shard, v, tell) })
	case w.Drop != nil:
		return w.drop(ctx, s, all, tell)
	case w.Back, w.Forward:
		return w.turn(ctx, s, all, tell)
	case w.Shard != nil:
		shard := projections.Shard(*w.Shard)
		return w.into(ctx, s, shard, all[shard].Next, 0, tell)
	}
	return w.round(ctx, s, all, tell)
}

// each does something with the shards that are meant, given the versions of all, up to the
// first error.
func (w *rebuildWork) each(all []projections.Versions, do func(projections.Shard, *projections.Versions) error) error {
	for shard := range all {
		if w.Shard != nil && *w.Shard != shard {
			continue
		}
		if err := do(projections.Shard(shard), &all[shard]); err != nil {
			return err
		}
	}
	return nil
}

// round rebuilds all shards, or those that an interrupted one has not done.
func (w *rebuildWork) round(ctx context.Context, s wholeStore, all []projections.Versions, tell func(report)) error {
	r, resumed, err := projections.BeginRound(ctx, s, all, time.Now())
	if err != nil {
		return err
	}
	err = w.each(all, func(shard projections.Shard, v *projections.Versions) error {
		if resumed && r.Has(shard, v) {
			tell(report{Progress: fmt.Sprintf("shard %d: done by the rebuild that was begun %s, and interrupted; --shard %d makes it again", shard, r.Begun().Format(time.DateTime), shard)})
			return nil
		}
		return w.into(ctx, s, shard, v.Next, 0, tell)
	})
	if err != nil {
		return err
	}
	return r.End(ctx, s)
}

// turn has the version before read again in all shards that are meant, or the one from which
// that has led. In which of them it can it looks first, and those in which it was done before
// it leaves as they are: so it can be interrupted, and run again.
func (w *rebuildWork) turn(ctx context.Context, s wholeStore, all []projections.Versions, tell func(report)) error {
	done := func(v *projections.Versions) bool { return w.Back == (v.Before > v.Live) }
	err := w.each(all, func(shard projections.Shard, v *projections.Versions) error {
		_, leads := v.Back()
		switch {
		case v.Since == 0 && w.Forward:
			return fmt.Errorf("shard %d: no --back has led away from a version newer than %d", shard, v.Live)
		case v.Since == 0:
			return fmt.Errorf("shard %d: no version was read before %d", shard, v.Live)
		case !done(v) && !leads:
			return fmt.Errorf("shard %d: version %d is dropped, so nothing leads to it: make another, by timberline rebuild", shard, v.Before)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return w.each(all, func(shard projections.Shard, v *projections.Versions) error {
		if done(v) {
			tell(report{Rebuilt: &rebuilt{Shard: uint32(shard), Version: uint32(v.Live), Checkpoint: uint64(v.Since), Stays: true}})
			return nil
		}
		return w.into(ctx, s, shard, v.Before, v.Whole(), tell)
	})
}

// intact refuses a store that has damaged files: a rebuild reads and writes beside those of
// timelines, but sooner or later the engine compacts them, and ends the process.
func intact(ctx context.Context, s wholeStore) error {
	files, ok := s.(projections.Scrubber)
	if !ok {
		return nil
	}
	damage, err := damagedFile(ctx, files)
	if err == nil && damage != nil {
		err = fmt.Errorf("%w; a rebuild does not mend files, so none was begun (timberline verify says more)", damage)
	}
	return err
}

// damagedFile reads all files, and returns what is wrong with the first that is damaged; nil if
// none is.
func damagedFile(ctx context.Context, s projections.Scrubber) (damage, err error) {
	_, err = s.Scrub(ctx, func(file string, err error) {
		if damage == nil {
			damage = fmt.Errorf("file %s: %w", file, err)
		}
	})
	return damage, err
}

// shardsOf names the shards of a store.
func shardsOf(n uint32) string {
	if n == 1 {
		return "only shard 0"
	}
	return fmt.Sprintf("shards 0 to %d", n-1)
}

// status tells which versions a shard has.
func (w *rebuildWork) status(ctx context.Context, s wholeStore, shard projections.Shard, v *projections.Versions, tell func(report)) error {
	upto, begun, err := projections.PlaceOfRebuild(ctx, s, shard, v.Next)
	if err != nil {
		return err
	}
	st := &versions{Shard: uint32(shard), Live: uint32(v.Live), Since: uint64(v.Since), Next: uint32(v.Next), Begun: begun, Upto: uint64(upto)}
	if back, ok := v.Back(); ok {
		st.Before = (*uint32)(&back)
	}
	for n := range v.Next {
		switch {
		case v.Dropped[n]:
			st.Dropped = append(st.Dropped, uint32(n))
		case n != v.Live && (st.Before == nil || uint32(n) != *st.Before):
			st.Others = append(st.Others, uint32(n))
		}
	}
	tell(report{Versions: st})
	return nil
}

// replay returns what makes timelines of a shard again, in a version.
func (w *rebuildWork) replay(s wholeStore, shard projections.Shard, v projections.Version) projections.Replay {
	return projections.Replay{Store: s, Meta: s.Meta(), Shard: shard, Version: v, Rate: w.Rate}
}

// into makes the timelines of a shard again in a version that is whole up to a checkpoint, and
// has them read.
func (w *rebuildWork) into(ctx context.Context, s wholeStore, shard projections.Shard, version projections.Version, behind projections.CheckpointNumber, tell func(report)) error {
	r := projections.Rebuild{Replay: w.replay(s, shard, version), Behind: behind}
	done := w.tellOf(&r.Replay, tell)
	n, err := r.Run(ctx)
	if errors.Is(err, projections.ErrDropped) { // and what was put since then is to go, too
		err = errors.Join(err, r.Drop(ctx, s))
	}
	if err != nil {
		return fmt.Errorf("rebuild shard %d: %w", shard, err)
	}
	rows, err := s.ListJournals(ctx, 0, events.Strong)
	if err != nil {
		return err
	}
	for _, row := range rows {
		if row.Trimmed {
			done.TrimmedJournals++
		}
	}
	done.Checkpoint = uint64(n)
	tell(report{Rebuilt: done})
	return nil
}

// user writes a user's items again.
func (w *rebuildWork) user(ctx context.Context, s wholeStore, shard projections.Shard, tell func(report)) error {
	v, err := projections.ReadVersions(ctx, s, shard)
	if err != nil {
		return err
	}
	r := w.replay(s, shard, v.Live)
	r.User = events.User(w.User)
	done := w.tellOf(&r, tell)
	if err := r.Run(ctx); err != nil {
		return fmt.Errorf("rebuild the timeline of %s: %w", w.User, err)
	}
	run, err := projections.NewReader(s, s.Meta()).Head(ctx, r.User)
	if err != nil {
		return err
	}
	if run.First > 1 {
		done.First = uint64(run.First)
	}
	tell(report{Rebuilt: done})
	return nil
}

// drop gives a version up in all shards that are meant and have it. It looks at all before it
// begins.
func (w *rebuildWork) drop(ctx context.Context, s wholeStore, all []projections.Versions, tell func(report)) error {
	n := *w.Drop
	has := make(map[projections.Shard]bool)
	err := w.each(all, func(shard projections.Shard, v *projections.Versions) (err error) {
		switch {
		case n == int(v.Live):
			way := ""
			if back, ok := v.Back(); ok && int(back) < n {
				way = fmt.Sprintf(", or timberline rebuild --back, which leads back to version %d", back)
			}
			return fmt.Errorf("version %d of shard %d: %w: have another one read first, by timberline rebuild, which makes one%s", n, shard, projections.ErrIsLive, way)
		case n == int(v.Next): // a rebuild may have begun it
			_, has[shard], err = projections.PlaceOfRebuild(ctx, s, shard, v.Next)
		default:
			has[shard] = n < int(v.Next)
		}
		return err
	})
	if err != nil {
		return err
	}
	dropped := false
	err = w.each(all, func(shard projections.Shard, v *projections.Versions) error {
		if !has[shard] {
			return nil
		}
		r := w.replay(s, shard, projections.Version(n))
		if err := r.Drop(ctx, s); err != nil {
			return fmt.Errorf("drop: %w", err)
		}
		dropped = true
		tell(report{Rebuilt: &rebuilt{Shard: uint32(shard), Version: uint32(n), Dropped: true}})
		return nil
	})
	if err != nil || dropped {
		return err
	}
	if w.Shard != nil {
		return fmt.Errorf("shard %d has no version %d: rebuild --status tells which there are", *w.Shard, n)
	}
	return fmt.Errorf("no shard has a version %d: rebuild --status tells which there are", n)
}

// tellOf has a replay tell how far it is, and returns what it comes to.
func (w *rebuildWork) tellOf(r *projections.Replay, tell func(report)) *rebuilt {
	p := newPace()
	done := &rebuilt{Shard: uint32(r.Shard), User: string(r.User), Version: uint32(r.Version)}
	var begun projections.ReplayProgress // where it was when it told first: it may have been interrupted
	r.Told = func(at projections.ReplayProgress) {
		done.Events, done.Items, done.Seconds = at.Events, at.Items, time.Since(p.began).Seconds()
		if begun.Last == 0 {
			begun = at
		}
		if at.Events > 0 && !p.due() {
			return
		}
		left := timeLeft(time.Since(p.began), uint64(at.Checkpoint-begun.Checkpoint), uint64(max(at.Last, at.Checkpoint)-at.Checkpoint))
		tell(report{Progress: fmt.Sprintf("shard %d: %s %s left, %.0f events a second, %s, checkpoint %d of %d", r.Shard, progressBar(uint64(at.Checkpoint), uint64(at.Last)), left, p.perSecond(at.Events), counted(at.Events, "event", "events"), at.Checkpoint, at.Last)})
	}
	return done
}

// progressBar draws how much of all is done.
func progressBar(done, all uint64) string {
	const cells = 20
	full := cells
	if done < all {
		full = int(cells * float64(done) / float64(all))
	}
	return "[" + strings.Repeat("#", full) + strings.Repeat("-", cells-full) + "]"
}

// timeLeft returns how long the rest takes if it goes on as it did, "?" as long as nothing
// is done.
func timeLeft(took time.Duration, done, left uint64) string {
	if done == 0 {
		return "?"
	}
	rest := took.Seconds() * float64(left) / float64(done)
	if rest > (1000 * time.Hour).Seconds() {
		return "more than 1000h"
	}
	return time.Duration(rest * float64(time.Second)).Round(time.Second).String()
}
