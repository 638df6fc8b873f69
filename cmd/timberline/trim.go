package main

import (
	"context"
	"fmt"
	"time"

	"timberline/projections"
)

var trimCommand = &command{
	name:    "trim",
	summary: "take the beginnings of timelines away, and what of the log nobody needs any more",
	about: `
Of each timeline the oldest entries go: --keep says how many stay at least, --older-than how
old what goes is at least; with both, both hold. What goes are whole items, each what a user
was given at a time: a few entries, or hundreds where many came at once. That something was
read is an entry as a message is. The newest item of a timeline stays in any case. A device
that comes back with a cursor below what is left is told from where on it can read. Journals that have ended, before that time if one is given, and of whose
messages no timeline has any more, are removed from the log.

What was trimmed is gone: no rebuild brings it back, and verify does not look for it. It
works beside servers and processes that use the store, and may be interrupted and run again.
It is cheap where there is nothing to do, but reads all timelines: once a day is often.
A server or projector does it by itself: serve --trim-keep 1000 --trim-older-than 2160h.`,
	example: "timberline trim --keep 1000 --older-than 2160h",
	run: func(ctx context.Context, c *call) error {
		var w worker
		var do trimWork
		w.define(c)
		c.flags.Uint64Var(&do.Keep, "keep", 0, "`entries` of each timeline that stay at least")
		c.flags.DurationVar(&do.OlderThan, "older-than", 0, "only entries that are older than this `duration`: 2160h is 90 days")
		c.flags.BoolVar(&do.KeepLog, "keep-log", false, "trim timelines only, and leave the log as it is")
		if err := c.parse(0); err != nil {
			return err
		}
		switch {
		case do.OlderThan < 0:
			return wrong("older-than", "is %v, want a time, such as 2160h", do.OlderThan)
		case do.Keep == 0 && do.OlderThan == 0:
			return wrong("keep", "and --older-than are missing: say what stays, such as --keep 1000 or --older-than 2160h")
		}
		if err := w.check(); err != nil {
			return err
		}
		return w.run(ctx, "trim", &do, nil)
	},
}

// A trimWork says what stays.
type trimWork struct {
	Keep      uint64        `json:"keep"`
	OlderThan time.Duration `json:"older_than"`
	KeepLog   bool          `json:"keep_log"`
}

// A trimmed is what was taken away.
type trimmed struct {
	Timelines uint64   `json:"timelines,string"` // looked at
	Trimmed   uint64   `json:"trimmed,string"`   // of them
	Entries   uint64   `json:"entries,string"`
	Journals  []uint64 `json:"journals"` // whose records were removed
}

// String is the result for people.
func (t *trimmed) String() string {
	return fmt.Sprintf("%d of %s trimmed by %s; %s removed from the log", t.Trimmed, counted(t.Timelines, "timeline", "timelines"), counted(t.Entries, "entry", "entries"), counted(len(t.Journals), "journal", "journals"))
}

func (w *trimWork) do(ctx context.Context, s wholeStore, tell func(report)) error {
	p := newPace()
	t := projections.Trim{Store: s, Meta: s.Meta(), Keep: w.Keep, Told: func(at projections.TrimProgress) {
		if p.due() {
			tell(report{Progress: fmt.Sprintf("%s looked at, %d trimmed by %s", counted(at.Users, "timeline", "timelines"), at.Trimmed, counted(at.Entries, "entry", "entries"))})
		}
	}}
	if w.OlderThan > 0 {
		t.Before = time.Now().Add(-w.OlderThan)
	}
	done, err := t.Run(ctx)
	if err != nil {
		return err
	}
	result := &trimmed{Timelines: done.Users, Trimmed: done.Trimmed, Entries: done.Entries, Journals: []uint64{}}
	if !w.KeepLog {
		gone, err := t.TrimJournals(ctx)
		if err != nil {
			return err
		}
		result.Journals = append(result.Journals, gone...)
	}
	tell(report{Trimmed: result})
	return nil
}
