package main

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"strings"
	"time"

	"timberline/events"
)

// A logReader goes through journals, and notes what they lack.
type logReader struct {
	wholeStore
	rows []events.Row
	gaps []string // what is missing, or cannot be read
}

func openLog(ctx context.Context, s wholeStore) (*logReader, error) {
	rows, err := s.ListJournals(ctx, 0, events.Strong)
	return &logReader{wholeStore: s, rows: rows}, err
}

// errEnough ends the reading of a journal.
var errEnough = errors.New("no more is wanted")

// readBytes is how much of the log is read at a time.
const readBytes = 1 << 20

// each calls visit with the events of a journal, from a record on, until it returns an
// error; errEnough is none. Records that are missing or damaged are noted, and it goes on
// behind them.
func (l *logReader) each(ctx context.Context, j events.Journal, at events.Offset, visit func(at events.Offset, index int, raw events.Raw) error) error {
	var bad unread
	defer func() { l.note(&bad) }()
	size := readBytes
	for {
		records, err := l.ReadLog(ctx, j, at, size, events.Strong)
		switch {
		case errors.Is(err, events.ErrCorrupt) && size > 0:
			size = 0 // one by one, to find it
			continue
		case errors.Is(err, events.ErrCorrupt):
			if end, err := l.end(ctx, j); err != nil || at > end {
				return err
			}
			l.skip(&bad, unread{j, at, at, err})
			at++
			continue
		case err != nil:
			return err
		case len(records) == 0:
			next, err := l.behind(ctx, j, at)
			if err != nil || next == 0 {
				return err
			}
			at = next
			continue
		}
		size = readBytes
		for _, rec := range records {
			raws, err := rec.Events(j, at)
			if err != nil {
				l.skip(&bad, unread{j, at, at, err})
			}
			for i, raw := range raws {
				err := visit(at, i, raw)
				if errors.Is(err, errEnough) {
					return nil
				}
				if err != nil {
					return err
				}
			}
			at++
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

// An unread is records in a row that cannot be read, and why the first of them cannot.
type unread struct {
	journal  events.Journal
	from, to events.Offset
	err      error
}

// skip adds the next record to those in a row, or notes them, and begins others.
func (l *logReader) skip(bad *unread, next unread) {
	if bad.err != nil && bad.to+1 == next.from {
		bad.to = next.to
		return
	}
	l.note(bad)
	*bad = next
}

func (l *logReader) note(bad *unread) {
	if bad.err == nil {
		return
	}
	which := fmt.Sprintf("record %d of journal %s", bad.from, bad.journal)
	if bad.to > bad.from {
		which = fmt.Sprintf("records %d to %d of journal %s", bad.from, bad.to, bad.journal)
	}
	l.gaps = append(l.gaps, fmt.Sprintf("%s cannot be read (%v)", which, bad.err))
}

// end returns the last record of a journal, as far as anything tells of it. If where it ends is
// damaged that is noted, and it is 0: of other journals there may be more to read.
func (l *logReader) end(ctx context.Context, j events.Journal) (events.Offset, error) {
	end, err := l.JournalEnd(ctx, j)
	if errors.Is(err, events.ErrCorrupt) {
		l.gaps = append(l.gaps, fmt.Sprintf("end of journal %s", j))
		return 0, nil
	}
	number, _ := j.Number()
	return max(end, l.rows[number-1].Ended), err
}

// behind returns the next record of a journal in which there was none, and notes the gap
// between; 0 if the journal ends there.
func (l *logReader) behind(ctx context.Context, j events.Journal, lacks events.Offset) (next events.Offset, err error) {
	end, err := l.end(ctx, j)
	if err != nil || lacks > end {
		return 0, err
	}
	number, _ := j.Number()
	rows, err := l.ListJournals(ctx, 0, events.Strong)
	if err != nil || rows[number-1].Trimmed { // perhaps meanwhile
		return 0, err
	}
	last := end
	for at := lacks; at <= end && next == 0; at++ {
		records, err := l.ReadLog(ctx, j, at, 0, events.Strong)
		switch {
		case err != nil:
			return 0, err
		case len(records) > 0 && at == lacks:
			return at, nil // it came meanwhile
		case len(records) > 0:
			next, last = at, at-1
		}
	}
	which := fmt.Sprintf("record %d", lacks)
	if last > lacks {
		which = fmt.Sprintf("records %d to %d", lacks, last)
	}
	l.gaps = append(l.gaps, fmt.Sprintf("journal %s lacks %s, and goes up to %d", j, which, end))
	return next, nil
}

// lacks returns an error that names what is missing in what was read.
func (l *logReader) lacks() error {
	if len(l.gaps) == 0 {
		return nil
	}
	return fmt.Errorf("%s: %w", strings.Join(l.gaps, "; "), events.ErrCorrupt)
}

// firstSince returns the first record of a journal whose last event is of a time or later:
// ids rise, so half of what is left falls away with each record that is looked at. Where
// the journal ends is found by going twice as far each time.
func firstSince(ctx context.Context, log events.Log, j events.Journal, t time.Time) (events.Offset, error) {
	var failed error
	reached := func(i int) bool {
		at := events.Offset(i + 1)
		records, err := log.ReadLog(ctx, j, at, 0, events.Strong)
		if err != nil || len(records) == 0 {
			failed = errors.Join(failed, err)
			return true
		}
		raws, err := records[0].Events(j, at)
		if err != nil || len(raws) == 0 {
			failed = errors.Join(failed, err)
			return true
		}
		// Ids have milliseconds only.
		return !events.Raw(raws[len(raws)-1]).EventID().Time().Before(t.Truncate(time.Millisecond))
	}
	end := 1
	for !reached(end) {
		end *= 2
	}
	n := sort.Search(end, reached)
	return events.Offset(n + 1), failed
}
