package logtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"

	"timberline/events"
)

// An Engine is what is tested.
type Engine interface {
	events.Log
	events.Journals
}

// A Place is where an engine keeps its data. Its methods are called in turn: Open
// first, and again after each Crash and Close.
type Place interface {
	Open() (Engine, error)
	// Crash ends the engine as the machine's death does: of what it has written,
	// only what is durable is left. A call that is under way may go on, on what
	// is dead.
	Crash() error
	// Close ends the engine in order.
	Close() error
}

// Run runs the contract, each part of it in a place of its own.
func Run(t *testing.T, newPlace func(t *testing.T) Place) {
	for _, part := range Contract {
		t.Run(part.Name, func(t *testing.T) {
			if err := part.Holds(t.Context(), newPlace(t)); err != nil {
				t.Error(err)
			}
		})
	}
}

// A Part is one part of the contract. Holds opens the engine in an empty place,
// tries it, and says what is wrong.
type Part struct {
	Name  string
	Holds func(ctx context.Context, p Place) error
}

// Contract lists the parts.
var Contract = []Part{
	{"Record stands as it was appended", recordStands},
	{"Append that succeeded survives a crash", appendIsDurable},
	{"Taken offset stays as it is", takenOffsetStays},
	{"What a conflict shows survives a crash", conflictIsDurable},
	{"What a strong read shows survives a crash", strongReadIsDurable},
	{"One of many appends at an offset wins", oneWins},
	{"Append that lands late changes nothing", lateAppendChangesNothing},
	{"Record that landed without an answer is found in its place", lostAnswerIsFound},
	{"Every record lands once whatever fails", everythingOnce},
	{"Reads follow each other without a gap", readsAreContiguous},
	{"Reads keep to their size", readsKeepToTheirSize},
	{"Journals do not mix", journalsDoNotMix},
	{"Bytes belong to the caller", bytesAreTheCallers},
	{"Row is created once", rowIsCreatedOnce},
	{"Row that is updated keeps its owner", rowIsUpdated},
	{"Rows are listed in order", rowsAreListed},
	{"Rows survive a crash", rowsAreDurable},
}

// opened runs a part on an engine, and closes it.
func opened(p Place, part func(e Engine) error) error {
	e, err := p.Open()
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	if err := part(e); err != nil {
		return err
	}
	if err := p.Close(); err != nil {
		return fmt.Errorf("close: %w", err)
	}
	return nil
}

// crashed runs before, crashes, and runs after on what is left.
func crashed(p Place, before, after func(e Engine) error) error {
	e, err := p.Open()
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	if err := before(e); err != nil {
		return err
	}
	if err := p.Crash(); err != nil {
		return fmt.Errorf("crash: %w", err)
	}
	if err := opened(p, after); err != nil {
		return fmt.Errorf("after a crash: %w", err)
	}
	return nil
}

const journal = events.Journal("j:1")

// record returns bytes that stand for the n-th record.
func record(n int) events.Record { return fmt.Appendf(nil, "record %d", n) }

// put appends a record. To find it in its place is a success: an engine that tries
// again by itself meets what its first try has left.
func put(ctx context.Context, l events.Log, j events.Journal, at events.Offset, rec events.Record) error {
	stands, err := l.Append(ctx, j, at, rec)
	if errors.Is(err, events.ErrConflict) && bytes.Equal(stands, rec) {
		return nil
	}
	return err
}

// create creates a row. To find it in its place is a success, as with put.
func create(ctx context.Context, js events.Journals, r events.Row) error {
	stands, err := js.CreateJournal(ctx, r)
	if errors.Is(err, events.ErrConflict) && stands == r {
		return nil
	}
	return err
}

// appendAll appends records 1 to n at their offsets.
func appendAll(ctx context.Context, l events.Log, n int) error {
	for i := 1; i <= n; i++ {
		if err := put(ctx, l, journal, events.Offset(i), record(i)); err != nil {
			return fmt.Errorf("append at %d: %w", i, err)
		}
	}
	return nil
}

// stands checks that records 1 to n stand there, and nothing else.
func stands(ctx context.Context, l events.Log, n int) error {
	recs, err := readAll(ctx, l, 1)
	if err != nil {
		return err
	}
	for i, rec := range recs {
		if !bytes.Equal(rec, record(i+1)) {
			return fmt.Errorf("%q stands at %d, want %q", rec, i+1, record(i+1))
		}
	}
	if len(recs) != n {
		return fmt.Errorf("%d records stand, want %d", len(recs), n)
	}
	return nil
}

// readAll reads a journal from an offset to its end.
func readAll(ctx context.Context, l events.Log, from events.Offset) (all []events.Record, err error) {
	for {
		recs, err := l.ReadLog(ctx, journal, from+events.Offset(len(all)), 1<<20, events.Strong)
		if err != nil {
			return nil, fmt.Errorf("read from %d: %w", from, err)
		}
		if len(recs) == 0 {
			return all, nil
		}
		all = append(all, recs...)
	}
}

// wantConflict checks the answer of an append at an offset that is taken.
func wantConflict(stands events.Record, err error, want events.Record) error {
	if !errors.Is(err, events.ErrConflict) || !bytes.Equal(stands, want) {
		return fmt.Errorf("append at a taken offset answers %q, %v; want %q, ErrConflict", stands, err, want)
	}
	return nil
}
