package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"timberline/events"
	"timberline/projections"
)

func row(space, key string, n projections.CheckpointNumber, value string) projections.Row {
	return projections.Row{Space: space, Key: key, Checkpoint: n, Data: []byte(value)}
}

func wantRows(ctx context.Context, s Store, space, from string, want ...projections.Row) error {
	got, err := s.ReadRows(ctx, space, from, 1<<20)
	if err != nil {
		return err
	}
	return equal(fmt.Sprintf("rows of %s from %q", space, from), want, got)
}

func rowsStand(ctx context.Context, s Store, again func() (Store, error)) error {
	if _, err := s.GetRow(ctx, "days.1/ann", "2026-01-01"); !errors.Is(err, events.ErrNotFound) {
		return fmt.Errorf("a row that nobody put: %v, want ErrNotFound", err)
	}
	if err := wantRows(ctx, s, "days.1/ann", ""); err != nil {
		return err
	}
	var ann []projections.Row
	for day := range 20 {
		ann = append(ann, row("days.1/ann", fmt.Sprintf("2026-01-%02d", day), 7, strings.Repeat("x", 20*day)))
	}
	others := []projections.Row{row("days.1/an", "2026-01-01", 1, "an"), row("days.1/ann_", "2026-01-01", 1, "ann_"), row("days.1", "/ann2026-01-01", 1, "")}
	if err := s.PutRows(ctx, append(slices.Clone(others), ann...)); err != nil {
		return err
	}
	s, err := again()
	if err != nil {
		return err
	}
	if err := wantRows(ctx, s, "days.1/ann", "", ann...); err != nil {
		return err
	}
	if err := wantRows(ctx, s, "days.1/ann", "2026-01-15", ann[15:]...); err != nil {
		return err
	}
	for _, r := range append(others, ann...) {
		got, err := s.GetRow(ctx, r.Space, r.Key)
		if err != nil {
			return err
		}
		if err := equal("row", r, got); err != nil {
			return err
		}
	}
	some, err := s.ReadRows(ctx, "days.1/ann", "2026-01-10", 700)
	if err != nil {
		return err
	}
	if len(some) == 0 || len(some) > 5 {
		return fmt.Errorf("%d rows of 200 bytes and more in about 700", len(some))
	}
	return equal("the first rows of many", ann[10:10+len(some)], some)
}

func newerRowsWin(ctx context.Context, s Store, _ func() (Store, error)) error {
	for _, r := range []projections.Row{row("a", "k", 5, "five"), row("a", "k", 4, "four"), row("a", "k", 5, "five again"), row("a", "k", 9, "nine"), row("a", "k", 8, "eight")} {
		if err := s.PutRows(ctx, []projections.Row{row("a", "other "+string(r.Data), r.Checkpoint, ""), r}); err != nil {
			return err
		}
		want := "five"
		if r.Checkpoint > 5 {
			want = "nine"
		}
		got, err := s.GetRow(ctx, "a", "k")
		if err != nil {
			return err
		}
		if string(got.Data) != want {
			return fmt.Errorf("after %q of checkpoint %d was put there is %q of %d, want %q", r.Data, r.Checkpoint, got.Data, got.Checkpoint, want)
		}
	}
	all, err := s.ReadRows(ctx, "a", "", 1<<20)
	if err != nil {
		return err
	}
	if len(all) != 6 {
		return fmt.Errorf("%d rows, want 6: one that is refused keeps no other from being put", len(all))
	}
	return nil
}

func latestRowWins(ctx context.Context, s Store, _ func() (Store, error)) error {
	g, each := errgroup.WithContext(ctx)
	for n := range projections.CheckpointNumber(20) {
		g.Go(func() error { return s.PutRows(each, []projections.Row{row("a", "k", n+1, fmt.Sprint(n+1))}) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return wantRows(ctx, s, "a", "", row("a", "k", 20, "20"))
}

func longRowsAreRefused(ctx context.Context, s Store, again func() (Store, error)) error {
	long, large := strings.Repeat("n", 500), strings.Repeat("x", projections.MaxRow)
	taken := []projections.Row{row("s", "k", 1, large), row(long, "k", 1, "x"), row("s", long, 1, "x"), row("s/ü", "k\x01€", 1, "")}
	if err := s.PutRows(ctx, taken); err != nil {
		return fmt.Errorf("rows as long as they may be: %w", err)
	}
	for _, r := range []projections.Row{
		row("", "k", 1, "x"), row("s", "", 1, "x"), row(long+"n", "k", 1, "x"), row("s", long+"n", 1, "x"),
		row("s\x00", "k", 1, "x"), row("s\xff", "k", 1, "x"), row("s", "k\xff", 1, "x"), row("s", "k\x00k", 1, "x"), row("s", "k", 2, large+"x"),
	} {
		if err := s.PutRows(ctx, []projections.Row{row("put with", "k", 1, "x"), r}); !errors.Is(err, projections.ErrRow) || errors.Is(err, events.ErrFatal) {
			return fmt.Errorf("a row of %d bytes, space %.40q, key %.40q: %v, want ErrRow", len(r.Data), r.Space, r.Key, err)
		}
	}
	s, err := again()
	if err != nil {
		return err
	}
	for _, r := range taken {
		got, err := s.GetRow(ctx, r.Space, r.Key)
		if err != nil {
			return err
		}
		if err := equal("row", r, got); err != nil {
			return err
		}
	}
	if _, err := s.GetRow(ctx, "put with", "k"); !errors.Is(err, events.ErrNotFound) {
		return fmt.Errorf("a row that was put with one that is refused: %v, want ErrNotFound", err)
	}
	return nil
}

func rowsAreDeleted(ctx context.Context, s Store, again func() (Store, error)) error {
	var rows []projections.Row
	for n := range 28 {
		rows = append(rows, row(fmt.Sprint("days.1/u", n%7), fmt.Sprint("k", n), 1, "x"))
	}
	stays := []projections.Row{row("days.10/u1", "k", 1, "x"), row("days", "k", 1, "x")}
	if err := s.PutRows(ctx, append(rows, stays...)); err != nil {
		return err
	}
	if err := s.DeleteRows(ctx, "days.1/"); err != nil {
		return err
	}
	s, err := again()
	if err != nil {
		return err
	}
	for n := range 7 {
		if err := wantRows(ctx, s, fmt.Sprint("days.1/u", n), ""); err != nil {
			return err
		}
	}
	if err := s.PutRows(ctx, rows[:1]); err != nil {
		return err
	}
	if err := wantRows(ctx, s, "days.1/u0", "", rows[0]); err != nil {
		return err
	}
	for _, r := range stays {
		if err := wantRows(ctx, s, r.Space, "", r); err != nil {
			return err
		}
	}
	return nil
}
