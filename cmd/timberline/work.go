package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"golang.org/x/term"

	"timberline/events"
	"timberline/migrations"
	"timberline/projections"
	"timberline/store/pebble"
)

// A work is something that a command does to a whole store, such as to verify it. While a
// server runs on the data folder it is done there, as the store is open in that process;
// the command asks for it by POST /NAME, with the work as JSON, and gets reports, a line
// of JSON each. It ends when the command does.
type work interface {
	do(ctx context.Context, s wholeStore, tell func(report)) error
}

// wholeStore is a store as a work has it.
type wholeStore interface {
	projections.Whole
	Meta() projections.Meta
	JournalEnd(context.Context, events.Journal) (events.Offset, error)
}

// A report is one thing that a work tells. One of its fields is set.
type report struct {
	Progress string          `json:"progress,omitempty"` // for people
	Line     json.RawMessage `json:"line,omitempty"`     // to be printed as it is
	Traced   *traced         `json:"traced,omitempty"`
	Found    *found          `json:"found,omitempty"`
	Verified *verified       `json:"verified,omitempty"`
	Rebuilt  *rebuilt        `json:"rebuilt,omitempty"`
	Versions *versions       `json:"versions,omitempty"`
	BackedUp *backedUp       `json:"backed_up,omitempty"`
	Trimmed  *trimmed        `json:"trimmed,omitempty"`
}

// String is the report for people.
func (r report) String() string {
	switch {
	case r.Traced != nil:
		return r.Traced.String()
	case r.Found != nil:
		return r.Found.String()
	case r.Verified != nil:
		return r.Verified.String()
	case r.Rebuilt != nil:
		return r.Rebuilt.String()
	case r.Versions != nil:
		return r.Versions.String()
	case r.BackedUp != nil:
		return r.BackedUp.String()
	case r.Trimmed != nil:
		return r.Trimmed.String()
	}
	return r.Progress
}

// A worker is a command that has a work done.
type worker struct {
	c *call
	dynamoFlags
	engine, data string
	copies       bool // it works on a copy, too, which nobody can serve yet
	halves       bool // and on one whose restore was interrupted
	json         bool
	narrow       bool // the last report stands on a line that may be written over
}

func (w *worker) define(c *call) {
	w.defineStore(c)
	c.flags.BoolVar(&w.json, "json", false, "print a line of JSON for each report")
}

func (w *worker) defineStore(c *call) {
	w.c = c
	defineEngine(c.flags, &w.engine)
	c.flags.StringVar(&w.data, "data", defaultData, "the server's data `folder`, for --store pebble")
	w.dynamoFlags.define(c.flags)
}

func (w *worker) check() error {
	if err := checkEngine(w.engine); err != nil {
		return err
	}
	return w.dynamoFlags.check()
}

// run has the work done where the store is, and prints its reports; seen, if not nil, is
// told of each.
func (w *worker) run(ctx context.Context, name string, do work, seen func(report)) error {
	var printed error
	tell := func(r report) {
		if seen != nil {
			seen(r)
		}
		printed = errors.Join(printed, w.print(r))
	}
	err := w.runAnywhere(ctx, name, do, tell)
	if w.narrow {
		fmt.Fprintln(w.c.stderr)
	}
	return errors.Join(err, printed)
}

func (w *worker) runAnywhere(ctx context.Context, name string, do work, tell func(report)) error {
	if w.engine == engineDynamoDB {
		s, err := w.dynamoFlags.open(ctx, nil, nil)
		if err != nil {
			return err
		}
		return w.dynamoFlags.advise(errors.Join(do.do(ctx, s, tell), s.Close()))
	}
	order, err := json.Marshal(do)
	if err != nil {
		return err
	}
	answer, err := askAdmin(ctx, http.MethodPost, w.data, "/"+name, nil, bytes.NewReader(order))
	switch {
	case errors.Is(err, errNoServer):
		return w.runHere(ctx, do, tell)
	case err != nil:
		return err
	}
	defer answer.Close()
	return readReports(answer, tell)
}

// logError says what to do about damage.
func logError(data string, err error) error {
	if events.Final(err) {
		return folderError(data, err)
	}
	return err
}

// runHere does the work on the folder itself.
func (w *worker) runHere(ctx context.Context, do work, tell func(report)) (err error) {
	s, err := openStore(w.data, pebble.Options{Restored: w.copies})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if p := s.Phase(); p != migrations.Whole && p != migrations.Copied && !w.halves {
		return notWhole(migrations.ErrRestoring, "--data "+quoted(w.data))
	}
	return logError(w.data, do.do(ctx, s, tell))
}

// readReports reads what a server answers.
func readReports(answer io.Reader, tell func(report)) error {
	lines := bufio.NewReader(answer)
	for {
		line, err := lines.ReadBytes('\n')
		if text, is := strings.CutPrefix(string(line), errorLine); is {
			return errors.New(strings.TrimSpace(text))
		}
		if string(line) == doneLine {
			return nil
		}
		if err != nil {
			return fmt.Errorf("the server's answer ends in the middle; run the command again, it goes on: %w", err)
		}
		var r report
		if err := json.Unmarshal(line, &r); err != nil {
			return fmt.Errorf("the server's answer is not understood; is it another version? %w", err)
		}
		tell(r)
	}
}

// doneLine ends an answer that is whole.
const doneLine = "done\n"

// serveWork does a work that a command asks for.
func serveWork[W any, P interface {
	*W
	work
}](s wholeStore, data string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		do := P(new(W))
		if err := json.NewDecoder(r.Body).Decode(do); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/x-ndjson")
		w.(http.Flusher).Flush() // so that the command knows that it is under way
		out := json.NewEncoder(w)
		err := do.do(r.Context(), s, func(r report) {
			if out.Encode(r) == nil && r.Line == nil {
				w.(http.Flusher).Flush()
			}
		})
		if err != nil && r.Context().Err() != nil { // if the command has ended, nobody reads it
			err = errors.New("the server was stopped in the middle; run the command again when it is back, it goes on")
		}
		if err = logError(data, err); err != nil {
			fmt.Fprintf(w, "%s%v\n", errorLine, err)
			return
		}
		fmt.Fprint(w, doneLine)
	}
}

// print prints a report: progress to stderr, on one line if that is a terminal's.
func (w *worker) print(r report) error {
	if r.Progress != "" {
		f, isFile := w.c.stderr.(*os.File)
		if w.narrow = isFile && term.IsTerminal(int(f.Fd())); w.narrow {
			line := r.Progress
			if width, _, err := term.GetSize(int(f.Fd())); err == nil && len(line) >= width && width > 0 {
				line = line[:width-1] // what goes on in the next row could not be written over
			}
			fmt.Fprintf(w.c.stderr, "\r\x1b[K%s", line)
		} else {
			fmt.Fprintln(w.c.stderr, r.Progress)
		}
		return nil
	}
	if w.narrow {
		fmt.Fprintln(w.c.stderr)
		w.narrow = false
	}
	switch {
	case r.Line != nil:
		return w.c.print("%s\n", r.Line)
	case w.json:
		return w.c.printJSON(r)
	}
	return w.c.print("%s\n", r)
}

// A pace tells of progress now and then.
type pace struct {
	began, told time.Time
}

func newPace() *pace {
	now := time.Now()
	return &pace{began: now, told: now}
}

// due reports whether it is time to tell.
func (p *pace) due() bool {
	now := time.Now()
	if now.Sub(p.told) < tellEvery {
		return false
	}
	p.told = now
	return true
}

// tellEvery is how often a work tells how far it is.
const tellEvery = time.Second

// perSecond returns how many of n there were in a second, since the beginning.
func (p *pace) perSecond(n uint64) float64 {
	return float64(n) / max(time.Since(p.began).Seconds(), 0.001)
}
