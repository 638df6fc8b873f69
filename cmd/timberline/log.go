package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"timberline/events"
)

var logCommand = &command{
	name:    "log",
	summary: "print the events of the log as lines of JSON",
	about: `
A line is {"journal", "offset", "index", "event"}: which journal, which record of
it, and which event of that record. Journals come in the order they were opened,
each from --offset on. It works while a server runs on the folder, and without.

With --user only events that the user sent or got are printed, the ends of the user's sessions
among them, with --conversation those
between two users, with --from and --to those of a time: that of their ids, when they were
appended. A time is ` + momentHelp + `.

If records are missing in the middle of a journal, or cannot be read, what is behind them is
printed all the same; then the command fails, and says which. It reads a copy, too, that was
not restored yet.`,
	example: "timberline log --conversation alice,bob --from 36h --to 12h",
	run: func(ctx context.Context, c *call) error {
		var w worker
		var do logWork
		var from, to moment
		w.defineStore(c)
		w.copies, w.halves = true, true
		c.flags.Uint64Var(&do.Journal, "journal", 0, "only the journal with that `number` (j:2 is number 2); all if 0")
		c.flags.Uint64Var((*uint64)(&do.Offset), "offset", 1, "first `offset`, in each journal")
		c.flags.StringVar((*string)(&do.User), "user", "", "only events that this `user` sent or got")
		c.flags.Bool("json", true, "print JSON, as it does in any case")
		pair := c.flags.String("conversation", "", "only events of the conversation of two `users`: alice,bob")
		c.flags.Var(&from, "from", "only events from that `time` on")
		c.flags.Var(&to, "to", "only events up to that `time`")
		if err := c.parse(0); err != nil {
			return err
		}
		do.From, do.To = from.Time, to.Time
		if err := do.read(*pair); err != nil {
			return err
		}
		if err := w.check(); err != nil {
			return err
		}
		return w.run(ctx, "log", &do, nil)
	},
}

// A logWork says which part of the log is printed.
type logWork struct {
	Journal      uint64              `json:"journal"` // 0: all
	Offset       events.Offset       `json:"offset"`
	User         events.User         `json:"user,omitempty"`
	Conversation events.Conversation `json:"conversation,omitempty"`
	From         time.Time           `json:"from,omitzero"`
	To           time.Time           `json:"to,omitzero"`
}

// read takes in what was given for the conversation, and finds what is wrong.
func (w *logWork) read(pair string) error {
	if pair != "" {
		a, b, two := strings.Cut(pair, ",")
		if !two || a == "" || b == "" {
			return wrong("conversation", "is %q, want two users, such as alice,bob", pair)
		}
		for _, u := range []string{a, b} {
			if err := events.User(u).Validate(); err != nil {
				return wrong("conversation", "is %q, want two users, such as alice,bob: %v", pair, err)
			}
		}
		w.Conversation = events.Direct(events.User(a), events.User(b))
	}
	if w.User != "" {
		if err := w.User.Validate(); err != nil {
			return wrong("user", "is %q: %v", w.User, err)
		}
	}
	if a, b, pair := w.Conversation.Users(); pair && w.User != "" && w.User != a && w.User != b {
		return wrong("user", "is %q, who is none of the two of --conversation: nothing could be printed", w.User)
	}
	if !w.From.IsZero() && !w.To.IsZero() && w.To.Before(w.From) {
		return wrong("to", "is %s, before --from, which is %s", w.To.Format(time.RFC3339), w.From.Format(time.RFC3339))
	}
	return nil
}

func (w *logWork) do(ctx context.Context, s wholeStore, tell func(report)) error {
	log, err := openLog(ctx, s)
	if err != nil {
		return err
	}
	rows := log.rows
	if w.Journal > uint64(len(rows)) {
		return fmt.Errorf("there is no journal %d, the last one is %d", w.Journal, len(rows))
	}
	if w.Journal > 0 {
		rows = rows[w.Journal-1 : w.Journal]
	}
	for _, row := range rows {
		if err := w.journal(ctx, log, row.Journal(), tell); err != nil {
			return err
		}
	}
	return log.lacks()
}

// journal prints what is wanted of a journal.
func (w *logWork) journal(ctx context.Context, log *logReader, j events.Journal, tell func(report)) error {
	at := max(w.Offset, 1)
	if !w.From.IsZero() {
		first, err := firstSince(ctx, log, j, w.From)
		if errors.Is(err, events.ErrCorrupt) {
			first, err = 1, nil // and all are looked at
		}
		if err != nil {
			return err
		}
		at = max(at, first)
	}
	return log.each(ctx, j, at, func(at events.Offset, i int, raw events.Raw) error {
		e, err := raw.Decode()
		if err != nil {
			return fmt.Errorf("record %d of journal %s: %w", at, j, err)
		}
		if !w.To.IsZero() && e.ID.Time().After(w.To) {
			return errEnough // ids rise
		}
		if w.wants(&e) {
			line := fmt.Appendf(nil, `{"journal":%q,"offset":"%d","index":%d,"event":`, j, at, i)
			tell(report{Line: append(e.AppendJSON(line), '}')})
		}
		return nil
	})
}

func (w *logWork) wants(e *events.Event) bool {
	if w.Conversation != "" && e.Conversation != w.Conversation || e.ID.Time().Before(w.From) {
		return false
	}
	if w.User == "" || e.Sender == w.User {
		return true
	}
	a, b, direct := e.Conversation.Users()
	return direct && (a == w.User || b == w.User)
}
