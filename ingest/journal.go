package ingest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"time"

	"timberline/events"
)

// EndJournals moves the clock above all that stands in any journal (R4), and ends
// every journal that has not been ended: all owners are known to be dead (R1). It
// returns how many it ended.
func EndJournals(ctx context.Context, log events.Log, js events.Journals, clock *events.Clock, logger *slog.Logger) (int, error) {
	rows, err := js.ListJournals(ctx, 0, events.Strong)
	if err != nil {
		return 0, fmt.Errorf("list journals: %w", err)
	}
	if err := observeNewest(ctx, log, rows, clock); err != nil {
		return 0, fmt.Errorf("read the newest id: %w", err)
	}
	n := 0
	for _, row := range rows {
		if row.Ended != 0 {
			continue
		}
		end, mine, err := endJournal(ctx, log, row.Journal(), clock, logger)
		if err != nil {
			return n, fmt.Errorf("end journal %s: %w", row.Journal(), err)
		}
		row.Ended = end
		if err := js.UpdateJournal(ctx, row); err != nil {
			return n, fmt.Errorf("end journal %s: %w", row.Journal(), err)
		}
		if mine {
			n++
		}
	}
	return n, nil
}

// observeNewest moves the clock above the end of the newest journal that has
// records. Of processes that ran one after the other its owner's clock stood above the
// end of every journal before; of those that ran together a login finds what matters
// (see edge).
func observeNewest(ctx context.Context, log events.Log, rows []events.Row, clock *events.Clock) error {
	for _, row := range slices.Backward(rows) {
		last, err := lastOffset(ctx, log, row.Journal(), 0)
		if err != nil {
			return err
		}
		if last > 0 {
			_, err := readEnd(ctx, log, row.Journal(), last, clock)
			return err
		}
	}
	return nil
}

// endJournal appends the last record of a journal, unless it stands there
// already, and returns its offset, and whether it was appended now.
func endJournal(ctx context.Context, log events.Log, j events.Journal, clock *events.Clock, logger *slog.Logger) (end events.Offset, mine bool, err error) {
	last, err := lastOffset(ctx, log, j, 0)
	if err != nil {
		return 0, false, err
	}
	if last > 0 {
		ended, err := readEnd(ctx, log, j, last, clock)
		if ended || err != nil {
			return last, false, err
		}
	}
	for at := last + 1; ; at++ {
		end := events.Event{ID: clock.Next(), Kind: events.KindJournalEnded}
		rec := events.NewRecord(j, at, [][]byte{end.Encode()})
		stands, err := settle(ctx, log, logFailed(logger), j, at, rec)
		if err != nil {
			return 0, false, err
		}
		if string(stands) == string(rec) {
			return at, true, nil
		}
		if ended, err := readEnd(ctx, log, j, at, clock); ended || err != nil {
			return at, false, err
		}
	}
}

// readEnd observes the ids of a record and reports whether the journal ends in
// it.
func readEnd(ctx context.Context, log events.Log, j events.Journal, at events.Offset, clock *events.Clock) (ended bool, err error) {
	recs, err := log.ReadLog(ctx, j, at, 1, events.Strong)
	if err != nil || len(recs) == 0 {
		return false, err
	}
	raws, err := recs[0].Events(j, at)
	if err != nil {
		return false, err
	}
	for _, raw := range raws {
		e, err := events.Raw(raw).Decode()
		if err != nil {
			return false, err
		}
		clock.Observe(e.ID)
		ended = ended || e.Kind == events.KindJournalEnded
	}
	return ended, nil
}

// lastOffset finds the last offset of a journal in about 2 log n reads, which
// works because a journal has no holes. If below is not 0 it looks no further
// than that: a journal that reaches it is answered with it.
func lastOffset(ctx context.Context, log events.Log, j events.Journal, below events.Offset) (events.Offset, error) {
	stands := func(at events.Offset) (bool, error) {
		recs, err := log.ReadLog(ctx, j, at, 1, events.Strong)
		return len(recs) > 0, err
	}
	low, high := events.Offset(0), events.Offset(1) // low stands (or is 0), high does not
	if below != 0 {
		high = below
	}
	for {
		ok, err := stands(high)
		if err != nil {
			return 0, err
		}
		if !ok {
			break
		}
		if below != 0 {
			return below, nil
		}
		low, high = high, 2*high
	}
	for high-low > 1 {
		mid := low + (high-low)/2
		ok, err := stands(mid)
		switch {
		case err != nil:
			return 0, err
		case ok:
			low = mid
		default:
			high = mid
		}
	}
	return low, nil
}

// The times of retries. An append is tried without end: nothing else settles it.
const (
	retryFirst = 10 * time.Millisecond
	retryMost  = time.Second
)

// settle appends until something stands at the offset, and returns it (R2). It calls
// failed for each try that settled nothing.
func settle(ctx context.Context, log events.Log, failed failing, j events.Journal, at events.Offset, rec events.Record) (events.Record, error) {
	for pause := retryFirst; ; pause = min(2*pause, retryMost) {
		stands, err := log.Append(ctx, j, at, rec)
		switch {
		case err == nil:
			return rec, nil
		case errors.Is(err, events.ErrConflict):
			return stands, nil
		case events.Final(err):
			return nil, fmt.Errorf("append record %d to journal %s: %w", at, j, err)
		}
		failed(j, at, err)
		if err := sleep(ctx, pause/2+jitter(rec, pause/2)); err != nil {
			return nil, err
		}
	}
}

// A failing is told of appends that settled nothing.
type failing func(j events.Journal, at events.Offset, err error)

func logFailed(logger *slog.Logger) failing {
	return func(j events.Journal, at events.Offset, err error) {
		logger.Warn("append is not settled; trying again", "journal", j, "offset", at, "err", err)
	}
}

// jitter is a time below most that differs from record to record, and is the
// same whenever a run is repeated.
func jitter(rec events.Record, most time.Duration) time.Duration {
	var seed uint64
	for _, b := range rec[1:5] { // the checksum
		seed = seed<<8 | uint64(b)
	}
	return time.Duration(rand.New(rand.NewPCG(seed, uint64(most))).Int64N(int64(most)))
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
