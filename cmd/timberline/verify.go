package main

import (
	"context"
	"fmt"

	"timberline/projections"
)

var verifyCommand = &command{
	name:    "verify",
	summary: "hold a store against itself: files, log, checkpoints, timelines",
	about: `
In a data folder it reads all files of the store that are in use, also what is seldom or
never read otherwise. Then it reads the whole log (every record whole, without a gap, ids rising), the checkpoints
(without a gap, within the log), and replays both to know what each timeline should hold.
Every difference is named: whose timeline, which seqs, what was expected, what was found.
If there is any the command fails. It writes nothing, and may run beside a server or
beside the processes that use the tables.

With --repair what is missing or different in timelines is written again, as the log and
the checkpoints say. What they do not say is never written, and a damaged file stays one.`,
	example: "timberline verify --repair",
	run: func(ctx context.Context, c *call) error {
		var w worker
		var do verifyWork
		w.define(c)
		c.flags.BoolVar(&do.Repair, "repair", false, "write again what is missing or different in timelines")
		if err := c.parse(0); err != nil {
			return err
		}
		if err := w.check(); err != nil {
			return err
		}
		differ := uint64(0)
		err := w.run(ctx, "verify", &do, func(r report) {
			if r.Verified != nil {
				differ = r.Verified.Found - r.Verified.Repaired
			}
		})
		if err == nil && differ > 0 {
			return fmt.Errorf("%d differences are left", differ)
		}
		return err
	},
}

// A verifyWork is what verify does to a store.
type verifyWork struct {
	Repair bool `json:"repair"`
}

// A found is a difference.
type found struct {
	Where    string `json:"where"`
	User     string `json:"user,omitempty"`
	Seq      uint64 `json:"seq,omitempty,string"`
	Expected string `json:"expected"`
	Found    string `json:"found"`
	Repaired bool   `json:"repaired"`
}

// String is the difference for people.
func (f *found) String() string {
	s := fmt.Sprintf("%s: expected %s, found %s", f.Where, f.Expected, f.Found)
	if f.Repaired {
		s += "; repaired"
	}
	return s
}

// A verified is what a verification has gone through.
type verified struct {
	Files    uint64 `json:"files,omitempty,string"` // of the engine
	Records  uint64 `json:"records,string"`
	Events   uint64 `json:"events,string"`
	Items    uint64 `json:"items,string"`
	Due      uint64 `json:"due,string"`
	Found    uint64 `json:"found,string"`
	Repaired uint64 `json:"repaired,string"`
	// What is out of it, because it was trimmed.
	TrimmedJournals  uint64 `json:"trimmed_journals,string"`
	TrimmedTimelines uint64 `json:"trimmed_timelines,string"`
}

// String is the result for people.
func (v *verified) String() string {
	s := ""
	if v.Files > 0 {
		s = fmt.Sprintf("%d files, ", v.Files)
	}
	s += fmt.Sprintf("%d records with %d events, %d timeline items: ", v.Records, v.Events, v.Items)
	switch {
	case v.Found == 0:
		s += "no difference"
	default:
		s += fmt.Sprintf("%d differences, %d repaired", v.Found, v.Repaired)
	}
	if v.Due > 0 {
		s += fmt.Sprintf("; %d items of last checkpoints are not there yet: the projectors that take over the shards write them", v.Due)
	}
	if v.TrimmedJournals+v.TrimmedTimelines > 0 {
		s += fmt.Sprintf("; %d journals and the beginnings of %d timelines were trimmed, and are out of this", v.TrimmedJournals, v.TrimmedTimelines)
	}
	return s
}

func (w *verifyWork) do(ctx context.Context, s wholeStore, tell func(report)) error {
	p := newPace()
	var repaired uint64
	v := projections.Verification{
		Store: s, Meta: s.Meta(), Repair: w.Repair,
		Found: func(f projections.Finding) {
			if f.Repaired {
				repaired++
			}
			tell(report{Found: &found{f.Where, string(f.User), uint64(f.Seq), f.Expected, f.Found, f.Repaired}})
		},
		Told: func(at projections.VerifyProgress) {
			if p.due() {
				tell(report{Progress: fmt.Sprintf("%d events read in %d records, %d replayed, %d timeline items held against them, %d differences", at.Events, at.Records, at.Replayed, at.Items, at.Found)})
			}
		},
	}
	done, err := v.Run(ctx)
	if err != nil {
		return err
	}
	tell(report{Verified: &verified{done.Files, done.Records, done.Events, done.Items, done.Due, done.Found, repaired, done.TrimmedJournals, done.TrimmedTimelines}})
	return nil
}
