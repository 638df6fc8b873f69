package main

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"

	"timberline/events"
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
