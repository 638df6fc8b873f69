package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"timberline/events"
	"timberline/projections"
)

func newestItem(ctx context.Context, s Store, _ func() (Store, error)) error {
	for _, last := range []events.Seq{1, 255, 256, 1 << 40, 70000} {
		if err := s.PutItems(ctx, []projections.Stored{item("ann", last)}); err != nil {
			return err
		}
	}
	for _, c := range []events.Consistency{events.Latest, events.Strong} {
		got, err := s.NewestItem(ctx, timeline("ann"), c)
		if err != nil {
			return err
		}
		if err := equal("newest item", item("ann", 1<<40), got); err != nil {
			return err
		}
	}
	return nil
}

func itemsAreRead(ctx context.Context, s Store, _ func() (Store, error)) error {
	var all []projections.Stored
	for last := events.Seq(3); last <= 300; last += 3 {
		all = append(all, item("ann", last))
	}
	if err := s.PutItems(ctx, all); err != nil {
		return err
	}
	for from, want := range map[events.Seq]int{0: 0, 1: 0, 3: 0, 4: 1, 6: 1, 299: 99, 300: 99, 301: 100} {
		if err := wantItems(ctx, s, "ann", from, all[want:]...); err != nil {
			return err
		}
	}
	got, err := s.ReadItems(ctx, timeline("ann"), 1, 0, events.Strong)
	if err != nil || len(got) != 1 {
		return fmt.Errorf("%d items in no bytes, %v; want at least and at most one", len(got), err)
	}
	return nil
}

func usersDoNotMix(ctx context.Context, s Store, _ func() (Store, error)) error {
	users := []events.User{"a", "ab", "a.b", "a-", "a_", "A", "b", "a.", "aa"}
	for i, u := range users {
		for last := range events.Seq(i + 1) {
			if err := s.PutItems(ctx, []projections.Stored{item(u, last+1)}); err != nil {
				return err
			}
		}
	}
	for i, u := range users {
		var want []projections.Stored
		for last := range events.Seq(i + 1) {
			want = append(want, item(u, last+1))
		}
		if err := wantItems(ctx, s, u, 0, want...); err != nil {
			return err
		}
		if got, err := s.NewestItem(ctx, timeline(u), events.Strong); err != nil || got.User != u || got.Last != events.Seq(i+1) {
			return fmt.Errorf("newest item of %s: %+v, %v", u, got, err)
		}
	}
	return nil
}

// of returns an item in another version.
func of(v projections.Version, i projections.Stored) projections.Stored {
	i.Version = v
	return i
}

func versionsDoNotMix(ctx context.Context, s Store, _ func() (Store, error)) error {
	versions := []projections.Version{0, 1, 2, 256, 1<<32 - 1}
	for n, v := range versions {
		quiet := of(v, item("ann", events.Seq(10+n)))
		quiet.Quiet = v == 1 // makes no difference here
		if err := s.PutItems(ctx, []projections.Stored{of(v, item("ann", 1)), quiet, of(v, item("1", 7))}); err != nil {
			return err
		}
	}
	if _, err := s.Commit(ctx, 0, 1, checkpoint(1), []projections.Stored{of(2, item("ann", 50))}); err != nil {
		return err
	}
	for n, v := range versions {
		want := []projections.Stored{of(v, item("ann", 1)), of(v, item("ann", events.Seq(10+n)))}
		if v == 2 {
			want = append(want, of(2, item("ann", 50)))
		}
		t := projections.Timeline{Version: v, User: "ann"}
		got, err := s.ReadItems(ctx, t, 0, 1<<20, events.Strong)
		if err != nil {
			return err
		}
		if err := equal("items of "+t.String(), want, got); err != nil {
			return err
		}
		newest, err := s.NewestItem(ctx, t, events.Strong)
		if err != nil {
			return err
		}
		if err := equal("newest item of "+t.String(), want[len(want)-1], newest); err != nil {
			return err
		}
	}
	_, err := s.NewestItem(ctx, projections.Timeline{Version: 3, User: "ann"}, events.Strong)
	if !errors.Is(err, events.ErrNotFound) {
		return fmt.Errorf("newest item in a version that nobody wrote: %v, want ErrNotFound", err)
	}
	return nil
}

func itemsAreScanned(ctx context.Context, s Store, _ func() (Store, error)) error {
	want := make(map[projections.Timeline][]projections.Stored)
	for n := range 6 {
		var items []projections.Stored
		for u := range 4 {
			for _, v := range []projections.Version{0, 1, 5} {
				i := of(v, item(events.User(fmt.Sprint("u", u)), events.Seq(n*n+u+1)))
				i.Data = bytes.Repeat(i.Data, 1500)
				items = append(items, i)
				want[i.Timeline] = append(want[i.Timeline], i)
			}
		}
		if err := s.PutItems(ctx, items); err != nil {
			return err
		}
	}
	got := make(map[projections.Timeline][]projections.Stored)
	for _, v := range []projections.Version{0, 1, 5} {
		var before projections.Timeline
		err := s.ScanItems(ctx, v, func(i projections.Stored) error {
			if i.Timeline != before && len(got[i.Timeline]) > 0 {
				return fmt.Errorf("items of %s, then others, then more of them", i.Timeline)
			}
			before = i.Timeline
			got[before] = append(got[before], i)
			return nil
		})
		if err != nil {
			return err
		}
	}
	if err := equal("scanned items", want, got); err != nil {
		return err
	}
	enough, visited := errors.New("enough"), 0
	err := s.ScanItems(ctx, 1, func(projections.Stored) error {
		if visited++; visited == 3 {
			return enough
		}
		return nil
	})
	if !errors.Is(err, enough) || visited != 3 {
		return fmt.Errorf("a scan that was ended at the third item visited %d, and returned %v", visited, err)
	}
	return nil
}

func itemsArePutAgain(ctx context.Context, s Store, again func() (Store, error)) error {
	items := []projections.Stored{item("ann", 5), item("ben", 7)}
	for range 2 {
		if err := s.PutItems(ctx, items); err != nil {
			return err
		}
	}
	s, err := again()
	if err != nil {
		return err
	}
	return errors.Join(wantItems(ctx, s, "ann", 0, items[0]), wantItems(ctx, s, "ben", 0, items[1]))
}

func itemsArePutAtOnce(ctx context.Context, s Store, _ func() (Store, error)) error {
	var items []projections.Stored
	want := make(map[events.User][]projections.Stored)
	for i := range 120 {
		u := events.User(fmt.Sprintf("u%d", i%7*(i%3))) // some have many of them
		items = append(items, item(u, events.Seq(i+1)))
		want[u] = append(want[u], items[i])
	}
	if err := s.PutItems(ctx, items); err != nil {
		return err
	}
	for u, all := range want {
		if err := wantItems(ctx, s, u, 0, all...); err != nil {
			return err
		}
	}
	return nil
}

func bytesAreTheCallers(ctx context.Context, s Store, _ func() (Store, error)) error {
	i, cp := item("ann", 1), checkpoint(1)
	if _, err := s.Commit(ctx, 0, 1, cp, []projections.Stored{i}); err != nil {
		return err
	}
	clear(i.Data)
	clear(cp)
	for range 2 { // what is read is changed, too
		got, err := s.NewestItem(ctx, timeline("ann"), events.Strong)
		if err != nil || !bytes.Equal(got.Data, item("ann", 1).Data) {
			return fmt.Errorf("item %q, %v, after the caller's bytes changed", got.Data, err)
		}
		clear(got.Data)
		if err := wantLast(ctx, s, 0, 1); err != nil {
			return fmt.Errorf("after the caller's bytes changed: %w", err)
		}
		_, last, _ := s.LastCheckpoint(ctx, 0, events.Strong)
		clear(last)
	}
	return nil
}
