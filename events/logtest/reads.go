package logtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"timberline/events"
)

func readsAreContiguous(ctx context.Context, p Place) error {
	return opened(p, func(e Engine) error {
		if err := appendAll(ctx, e, 10); err != nil {
			return err
		}
		if err := put(ctx, e, journal, 12, record(12)); err != nil {
			return fmt.Errorf("append behind a hole: %w", err) // as a damaged store may have one
		}
		for _, c := range []events.Consistency{events.Latest, events.Strong} {
			for from, want := range map[events.Offset]int{1: 10, 5: 6, 10: 1, 11: 0, 12: 1, 13: 0, 1 << 40: 0} {
				recs, err := e.ReadLog(ctx, journal, from, 1<<20, c)
				if err != nil || len(recs) != want {
					return fmt.Errorf("read from %d: %d records, %v; want %d: up to the gap", from, len(recs), err, want)
				}
				if want > 0 && !bytes.Equal(recs[0], record(int(from))) {
					return fmt.Errorf("read from %d begins with %q", from, recs[0])
				}
			}
		}
		return nil
	})
}

func readsKeepToTheirSize(ctx context.Context, p Place) error {
	return opened(p, func(e Engine) error {
		const size = 1000
		for n := range 10 {
			if err := put(ctx, e, journal, events.Offset(n+1), make(events.Record, size)); err != nil {
				return err
			}
		}
		for budget, want := range map[int]int{0: 1, 1: 1, size: 1, 4 * size: 4, 100 * size: 10} {
			recs, err := e.ReadLog(ctx, journal, 1, budget, events.Strong)
			if err != nil || len(recs) < 1 || len(recs) > want+1 || want == 10 && len(recs) != 10 {
				return fmt.Errorf("read of %d bytes: %d records of %d bytes, %v", budget, len(recs), size, err)
			}
		}
		return nil
	})
}

func journalsDoNotMix(ctx context.Context, p Place) error {
	return opened(p, func(e Engine) error {
		names := []events.Journal{"j:1", "j:11", "j:2", "g:1", "j:", "j:1\xff"}
		for i, j := range names {
			for at := range events.Offset(i + 1) {
				if err := put(ctx, e, j, at+1, fmt.Appendf(nil, "%s %d", j, at+1)); err != nil {
					return fmt.Errorf("append to %q: %w", j, err)
				}
			}
		}
		for i, j := range names {
			recs, err := e.ReadLog(ctx, j, 1, 1<<20, events.Strong)
			if err != nil || len(recs) != i+1 {
				return fmt.Errorf("journal %q has %d records, %v; want %d", j, len(recs), err, i+1)
			}
			if last := fmt.Sprintf("%s %d", j, i+1); string(recs[i]) != last {
				return fmt.Errorf("journal %q ends with %q, want %q", j, recs[i], last)
			}
		}
		return nil
	})
}

func bytesAreTheCallers(ctx context.Context, p Place) error {
	return opened(p, func(e Engine) error {
		rec := record(1)
		if err := put(ctx, e, journal, 1, rec); err != nil {
			return err
		}
		clear(rec)
		shown, err := e.Append(ctx, journal, 1, rec)
		if err := wantConflict(shown, err, record(1)); err != nil {
			return fmt.Errorf("after the caller's bytes changed: %w", err)
		}
		clear(shown)
		recs, err := e.ReadLog(ctx, journal, 1, 100, events.Strong)
		if err != nil || len(recs) != 1 {
			return fmt.Errorf("read: %d records, %v", len(recs), err)
		}
		clear(recs[0])
		return stands(ctx, e, 1)
	})
}

// row returns the n-th journal's row.
func row(n uint64) events.Row {
	return events.Row{Number: n, Writer: [16]byte{byte(n), 7}, Edge: events.EdgeTag{1, 2, 3, byte(n)}, Counter: n}
}

func rowIsCreatedOnce(ctx context.Context, p Place) error {
	taken := func(e Engine) error {
		other := row(1)
		other.Writer = [16]byte{9}
		shown, err := e.CreateJournal(ctx, other)
		if !errors.Is(err, events.ErrConflict) || shown != row(1) {
			return fmt.Errorf("row 1 again answers %+v, %v; want the one that stands, ErrConflict", shown, err)
		}
		return wantRows(ctx, e, 0, row(1))
	}
	return crashed(p, func(e Engine) error {
		if err := create(ctx, e, row(1)); err != nil {
			return err
		}
		return taken(e)
	}, taken)
}

func rowIsUpdated(ctx context.Context, p Place) error {
	return opened(p, func(e Engine) error {
		if err := create(ctx, e, row(1)); err != nil {
			return err
		}
		want := row(1)
		want.Counter, want.Ended = 17, 5
		if err := e.UpdateJournal(ctx, want); err != nil {
			return fmt.Errorf("update: %w", err)
		}
		if err := e.UpdateJournal(ctx, row(2)); err == nil {
			return errors.New("a row was updated that does not exist")
		}
		for _, trimmed := range []bool{true, false} { // the mark stays
			want.Trimmed = trimmed
			if err := e.UpdateJournal(ctx, want); err != nil {
				return fmt.Errorf("update: %w", err)
			}
		}
		want.Trimmed = true
		return wantRows(ctx, e, 0, want)
	})
}

func rowsAreListed(ctx context.Context, p Place) error {
	return opened(p, func(e Engine) error {
		var all []events.Row
		for n := uint64(1); n <= 300; n++ {
			all = append(all, row(n))
			if err := create(ctx, e, row(n)); err != nil {
				return err
			}
		}
		for _, after := range []uint64{0, 1, 255, 256, 299, 300, 1000} {
			if err := wantRows(ctx, e, after, all[min(after, 300):]...); err != nil {
				return err
			}
		}
		if err := create(ctx, e, row(302)); err != nil {
			return err
		}
		return wantRows(ctx, e, 298, all[298:]...) // up to the gap
	})
}

func rowsAreDurable(ctx context.Context, p Place) error {
	ended := row(1)
	ended.Ended = 3
	return crashed(p, func(e Engine) error {
		for n := range uint64(2) {
			if err := create(ctx, e, row(n+1)); err != nil {
				return err
			}
		}
		return e.UpdateJournal(ctx, ended)
	}, func(e Engine) error { return wantRows(ctx, e, 0, ended, row(2)) })
}

func wantRows(ctx context.Context, e Engine, after uint64, want ...events.Row) error {
	for _, c := range []events.Consistency{events.Latest, events.Strong} {
		got, err := e.ListJournals(ctx, after, c)
		if err != nil {
			return fmt.Errorf("list: %w", err)
		}
		if len(got) != len(want) {
			return fmt.Errorf("%d rows above %d, want %d", len(got), after, len(want))
		}
		for i := range want {
			if got[i] != want[i] {
				return fmt.Errorf("row %+v, want %+v", got[i], want[i])
			}
		}
	}
	return nil
}
