package events

import (
	"context"
	"fmt"
	"strconv"
	"strings"
)

// A Journal names a sequence of records. "j:" and a number is the journal of an
// edge process; "g:" and a ULID is the journal of a group's versions.
type Journal string

// JournalNumbered returns the name of an edge's journal. Journals are numbered
// 1, 2, 3 … in the order their rows were created.
func JournalNumbered(n uint64) Journal {
	return Journal("j:" + strconv.FormatUint(n, 10))
}

// Number returns the number of an edge's journal; ok is false for any other.
func (j Journal) Number() (n uint64, ok bool) {
	text, ok := strings.CutPrefix(string(j), "j:")
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseUint(text, 10, 64)
	return n, err == nil && n > 0 && JournalNumbered(n) == j
}

// A Consistency says what a read may miss, and what it may show too early.
type Consistency uint8

const (
	// Relaxed reads may lag behind what was written. On an engine that keeps log
	// and timelines in one write-ahead log they may also show what is not durable
	// yet: nothing seen by one may be shown to a client before something written
	// after it is durable (R8).
	Relaxed Consistency = iota
	// Latest reads show everything that was settled before they began, and may
	// show what is not durable yet, as relaxed ones do.
	Latest
	// Strong reads show everything that was settled before they began, and
	// nothing that a crash could still take back.
	Strong
)

// A Log stores records at offsets of journals.
type Log interface {
	// Append stores rec at offset at of journal j. The record lands whole or
	// not at all; nil means durable. If the offset is taken, by whatever record,
	// it returns ErrConflict and what stands there: a caller that finds its own
	// record there knows that an earlier try has landed. ErrFatal says that the
	// store will not take the record however often it is tried (disk full, no
	// access, too big). Any other error settles nothing: the record may still
	// land, even after a later read that did not find it. What stands is owned
	// by the caller; rec is not kept after Append returns.
	//
	// The caller keeps offsets without holes: it appends at 1, or behind an
	// occupied offset.
	Append(ctx context.Context, j Journal, at Offset, rec Record) (stands Record, err error)

	// ReadLog returns the records at offsets from, from+1, … as far as they
	// follow each other without a gap, as many as fit into about size bytes and
	// at least one if there is one. Nothing at from is no error.
	ReadLog(ctx context.Context, j Journal, from Offset, size int, c Consistency) ([]Record, error)
}

// Journals stores the rows.
type Journals interface {
	// CreateJournal makes a row durable on condition that its number is free;
	// otherwise it returns ErrConflict and the row that stands there.
	CreateJournal(ctx context.Context, r Row) (stands Row, err error)
	// UpdateJournal replaces the counter and the end of an existing row, and marks it as
	// trimmed if r is; it takes no such mark away.
	UpdateJournal(ctx context.Context, r Row) error
	// ListJournals returns the rows numbered above after, in order, without
	// gaps.
	ListJournals(ctx context.Context, after uint64, c Consistency) ([]Row, error)
}

// OpenJournal creates the next journal row in the store and returns it. It is
// the caller's for its whole life (R1).
func OpenJournal(ctx context.Context, js Journals, edge EdgeTag, writer [16]byte) (Row, error) {
	rows, err := js.ListJournals(ctx, 0, Strong)
	if err != nil {
		return Row{}, fmt.Errorf("list journals: %w", err)
	}
	r := Row{Number: uint64(len(rows)) + 1, Writer: writer, Edge: edge}
	for {
		stands, err := js.CreateJournal(ctx, r)
		switch {
		case err == nil, stands.Writer == writer:
			return r, nil
		case stands.Number == r.Number:
			r.Number++ // somebody was faster
		default:
			return Row{}, fmt.Errorf("create journal %d: %w", r.Number, err)
		}
	}
}
