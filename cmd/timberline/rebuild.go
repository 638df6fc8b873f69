package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"timberline/events"
	"timberline/projections"
)

var rebuildCommand = &command{
	name:    "rebuild",
	summary: "make timelines again from the log",
	about: `
It replays the log along the checkpoints into new timelines, a version beside the one that
is read, while servers and projectors go on. When all is there a checkpoint makes the new
version the one that is read: from one moment to the next, with the same entries at the
same seqs, so clients notice nothing. The old one stays until it is dropped. What was trimmed
is out of it.

  timberline rebuild               all shards
  timberline rebuild --shard 3     one
  timberline rebuild --user bob    one user: his items are written again in their places
  timberline rebuild --status      which versions there are
  timberline rebuild --back        read the version before again, after adding what it lacks
  timberline rebuild --forward     read the version again from which --back has led
  timberline rebuild --drop 0      give a version up that is not read, and delete its items

Interrupted, each goes on where it was when it is run again, also behind the shards that it
has done: rebuild --shard 3 makes one anew in any case. In a data folder a rebuild reads all
files first, and begins nothing where one is damaged: verify says what to do.`,
	example: "timberline rebuild --rate 20000",
	run: func(ctx context.Context, c *call) error {
		var w worker
		var do rebuildWork
		w.define(c)
		shard := c.flags.Int("shard", -1, "only the shard with that `number`, counted from 0; all if it is missing")
		c.flags.StringVar(&do.User, "user", "", "only that `user`'s timeline, in its place")
		c.flags.Float64Var(&do.Rate, "rate", 0, "`events` to go through in a second at most; 0: as many as can be")
		c.flags.BoolVar(&do.Back, "back", false, "go back to the version that was read before")
		c.flags.BoolVar(&do.Forward, "forward", false, "read the newer version again from which --back has led")
		drop := c.flags.Int("drop", -1, "`version` to be given up, and its items deleted; none if it is missing")
		status := c.flags.Bool("status", false, "tell which versions there are, and do nothing")
		if err := c.parse(0); err != nil {
			return err
		}
		if c.given["shard"] {
			do.Shard = shard
		}
		if c.given["drop"] {
			do.Drop = drop
		}
		do.Status = *status
		if err := do.check(c.given); err != nil {
			return err
		}
		if err := w.check(); err != nil {
			return err
		}
		return w.run(ctx, "rebuild", &do, nil)
	},
}

// A rebuildWork is what rebuild does to a store.
type rebuildWork struct {
	User    string  `json:"user,omitempty"`
	Shard   *int    `json:"shard,omitempty"` // nil: all
	Rate    float64 `json:"rate"`
	Back    bool    `json:"back"`
	Forward bool    `json:"forward,omitempty"`
	Drop    *int    `json:"drop,omitempty"` // nil: none
	Status  bool    `json:"status"`
}

func (w *rebuildWork) check(given map[string]bool) error {
	var what []string
	for _, flag := range []string{"user", "back", "forward", "drop", "status"} {
		if given[flag] {
			what = append(what, "--"+flag)
		}
	}
	switch {
	case len(what) > 1:
		return &usageError{fmt.Errorf("%s are different things to do: choose one", strings.Join(what, " and "))}
	case given["user"] && w.Shard != nil:
		return wrong("shard", "is of no use with --user: a user is in one shard")
	case w.Shard != nil && *w.Shard < 0:
		return wrong("shard", "is %d, want 0 or more", *w.Shard)
	case given["rate"] && (w.Status || w.Drop != nil):
		return wrong("rate", "is of no use with --status or --drop: nothing is replayed")
	case w.Drop != nil && *w.Drop < 0:
		return wrong("drop", "is %d, want a version, 0 or more", *w.Drop)
	case !(w.Rate >= 0 && w.Rate <= math.MaxFloat64): // NaN, too
		return wrong("rate", "is %v, want events per second, or 0 for no limit", w.Rate)
	case given["user"]:
		if err := events.User(w.User).Validate(); err != nil {
			return wrong("user", "is %q: %v", w.User, err)
		}
	}
	return nil
}

// A rebuilt is a shard, or a user, whose timelines were made again.
type rebuilt struct {
	Shard      uint32  `json:"shard"`
	User       string  `json:"user,omitempty"`
	Version    uint32  `json:"version"`
	Checkpoint uint64  `json:"checkpoint,omitempty,string"` // that made the version the one that is read
	Events     uint64  `json:"events,string"`
	Items      uint64  `json:"items,string"`
	Seconds    float64 `json:"seconds"`
	Dropped    bool    `json:"dropped,omitempty"`
	Stays      bool    `json:"stays,omitempty"` // it was read already, nothing was done
	// What is out of it, because it was trimmed.
	TrimmedJournals uint64 `json:"trimmed_journals,omitempty,string"`
	First           uint64 `json:"first,omitempty,string"` // seq with which the user's timeline begins; 0: with 1
}

// String is the result for people.
func (r *rebuilt) String() string {
	switch {
	case r.Dropped:
		return fmt.Sprintf("shard %d: version %d is dropped", r.Shard, r.Version)
	case r.Stays:
		return fmt.Sprintf("shard %d: version %d is read from checkpoint %d on, as was asked for", r.Shard, r.Version, r.Checkpoint)
	case r.User != "" && r.Items == 0:
		return fmt.Sprintf("timeline of %s: no message of the log that is not trimmed is to or from this user, so nothing is written", r.User)
	case r.User != "" && r.First > 0:
		return fmt.Sprintf("timeline of %s: %s written again, from seq %d on: what was before is trimmed", r.User, counted(r.Items, "item", "items"), r.First)
	case r.User != "":
		return fmt.Sprintf("timeline of %s: %s written again", r.User, counted(r.Items, "item", "items"))
	}
	s := fmt.Sprintf("shard %d: version %d is read from checkpoint %d on; %s, %s, %.1f s", r.Shard, r.Version, r.Checkpoint, counted(r.Events, "event", "events"), counted(r.Items, "item", "items"), r.Seconds)
	if r.TrimmedJournals > 0 {
		s += "; " + counted(r.TrimmedJournals, "journal was", "journals were") + " trimmed, and out of this"
	}
	return s
}

// A versions is what versions a shard has.
type versions struct {
	Shard   uint32   `json:"shard"`
	Live    uint32   `json:"live"`
	Since   uint64   `json:"since,omitempty,string"`
	Before  *uint32  `json:"before,omitempty"` // to which --back leads, or --forward if it is newer
	Dropped []uint32 `json:"dropped,omitempty"`
	Next    uint32   `json:"next"`
	// Others were live once, and take room until they are dropped.
	Others []uint32 `json:"others,omitempty"`
	// Begun says that a rebuild has begun to make Next, and Upto to which checkpoint it has got.
	Begun bool   `json:"begun,omitempty"`
	Upto  uint64 `json:"upto,omitempty,string"`
}

// String is the shard's state for people.
func (v *versions) String() string {
	s := fmt.Sprintf("shard %d: version %d is read", v.Shard, v.Live)
	if v.Since > 0 {
		s += fmt.Sprintf(" since checkpoint %d", v.Since)
	}
	switch {
	case v.Before == nil:
	case *v.Before < v.Live:
		s += fmt.Sprintf("; --back leads to %d", *v.Before)
	default:
		s += fmt.Sprintf("; --forward leads to %d", *v.Before)
	}
	if len(v.Others) > 0 {
		s += "; not read any more, and dropped by --drop: " + listed(v.Others)
	}
	if len(v.Dropped) > 0 {
		s += "; dropped: " + listed(v.Dropped)
	}
	if v.Begun {
		return s + fmt.Sprintf("; %d is begun, up to checkpoint %d: the next rebuild goes on there, --drop %d gives it up", v.Next, v.Upto, v.Next)
	}
	return s + fmt.Sprintf("; the next rebuild makes %d", v.Next)
}

func listed(versions []uint32) string {
	all := make([]string, len(versions))
	for i, v := range versions {
		all[i] = strconv.Itoa(int(v))
	}
	return strings.Join(all, ", ")
}

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
			tell(report{Progress: fmt.Sprintf("shard %d: done by the rebuild that was begun %s, and interrupted; --shard %d makes it again", shard, r.Begun.Format(time.DateTime), shard)})
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
	var damage error
	_, err := files.Scrub(ctx, func(file string, err error) {
		if damage == nil {
			damage = fmt.Errorf("file %s: %w; a rebuild does not mend files, so none was begun (timberline verify says more)", file, err)
		}
	})
	return cmp.Or(err, damage)
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
		tell(report{Progress: fmt.Sprintf("shard %d: checkpoint %d of %d, %s, %.0f a second, %s left", r.Shard, at.Checkpoint, at.Last, counted(at.Events, "event", "events"), p.perSecond(at.Events), left)})
	}
	return done
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
