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
The version to which rebuild --back leads is looked at as well as the one that is read.
If there is any the command fails. It writes nothing, and may run beside a server or
beside the processes that use the tables, and on a backup.

With --repair what is missing or different in timelines is written again, as the log and
the checkpoints say. What they do not say is never written, and a damaged file stays one.`,
	example: "timberline verify --repair",
	run: func(ctx context.Context, c *call) error {
		var w worker
		var do verifyWork
		w.define(c)
		w.copies = true
		c.flags.BoolVar(&do.Repair, "repair", false, "write again what is missing or different in timelines")
		if err := c.parse(0); err != nil {
			return err
		}
		if err := w.check(); err != nil {
			return err
		}
		var left differences
		err := w.run(ctx, "verify", &do, func(r report) {
			if r.Found != nil && !r.Found.Repaired {
				left.add(r.Found)
			}
		})
		if err == nil {
			err = left.err(do.Repair)
		}
		return err
	},
}

// A differences counts what a verification has found and not repaired, by what mends it.
type differences struct{ files, source, version, timelines uint64 }

func (d *differences) add(f *found) {
	switch f.In {
	case projections.InTimelines:
		d.timelines++
	case projections.InFiles:
		d.files++
	case projections.InVersion:
		d.version++
	default:
		d.source++
	}
}

// err says what to do about them, nil if there are none. repaired says that repairing was
// tried.
func (d *differences) err(repaired bool) error {
	var todo string
	switch {
	case d.source > 0:
		todo = "log and checkpoints come back from a backup only: docs/operations.md, Backup and restore"
	case d.version > 0:
		todo = "run the version of the program that wrote it: log and checkpoints may be whole"
	case d.files > 0:
		todo = "log and checkpoints can be read: restore a backup, or have all timelines made again on a copy of the folder: docs/operations.md, Damaged files"
	case d.timelines == 0:
		return nil
	case repaired:
		todo = "for what timelines lack after --repair run timberline rebuild"
	default:
		todo = "for timelines run timberline verify --repair"
	}
	return fmt.Errorf("%s left; %s", counted(d.files+d.source+d.version+d.timelines, "difference is", "differences are"), todo)
}

// A verifyWork is what verify does to a store.
type verifyWork struct {
	Repair bool `json:"repair"`
}

// A found is a difference.
type found struct {
	In       projections.Part `json:"in"`
	Where    string           `json:"where"`
	User     string           `json:"user,omitempty"`
	Seq      uint64           `json:"seq,omitempty,string"`
	Expected string           `json:"expected"`
	Found    string           `json:"found"`
	Repaired bool             `json:"repaired"`
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
		s = counted(v.Files, "file", "files") + ", "
	}
	s += fmt.Sprintf("%s with %s, %s: ", counted(v.Records, "record", "records"), counted(v.Events, "event", "events"), counted(v.Items, "timeline item", "timeline items"))
	switch {
	case v.Found == 0:
		s += "no difference"
	default:
		s += fmt.Sprintf("%s, %d repaired", counted(v.Found, "difference", "differences"), v.Repaired)
	}
	if v.Due > 0 {
		s += fmt.Sprintf("; %s not there yet: the projectors that take over the shards write them", counted(v.Due, "item of a last checkpoint is", "items of last checkpoints are"))
	}
	if v.TrimmedJournals+v.TrimmedTimelines > 0 {
		s += fmt.Sprintf("; %s and the beginnings of %s were trimmed, and are out of this", counted(v.TrimmedJournals, "journal", "journals"), counted(v.TrimmedTimelines, "timeline", "timelines"))
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
			tell(report{Found: &found{f.In, f.Where, string(f.User), uint64(f.Seq), f.Expected, f.Found, f.Repaired}})
		},
		Told: func(at projections.VerifyProgress) {
			if p.due() {
				tell(report{Progress: fmt.Sprintf("%s read in %s, %d replayed, %s held against them, %s", counted(at.Events, "event", "events"), counted(at.Records, "record", "records"), at.Replayed,
					counted(at.Items, "timeline item", "timeline items"), counted(at.Found, "difference", "differences"))})
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
