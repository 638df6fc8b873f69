package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"timberline/events"
	"timberline/projections"
)

func journalsEnd(ctx context.Context, s Store, again func() (Store, error)) error {
	ends, err := s.JournalEnds(ctx)
	if err != nil || len(ends) > 0 {
		return fmt.Errorf("ends of an empty log: %v, %v", ends, err)
	}
	for j, last := range map[events.Journal]events.Offset{"j:1": 3, "j:2": 1, "j:10": 260, "j:11": 2, "g:01ARZ3NDEKTSV4RRFFQ69G5FAV": 5} {
		for at := events.Offset(1); at <= last; at++ {
			if _, err := s.Append(ctx, j, at, events.Record("record")); err != nil {
				return err
			}
		}
	}
	if s, err = again(); err != nil {
		return err
	}
	if ends, err = s.JournalEnds(ctx); err != nil {
		return err
	}
	return equal("ends of the journals", map[uint64]events.Offset{1: 3, 2: 1, 10: 260, 11: 2}, ends)
}

func checkpointsAreCut(ctx context.Context, s Store, again func() (Store, error)) error {
	if err := commitAll(ctx, s, 10); err != nil {
		return err
	}
	if _, err := s.Commit(ctx, 1, 1, checkpoint(1), nil); err != nil {
		return err
	}
	for range 2 { // the second time nothing is left to do
		if err := s.CutCheckpoints(ctx, 0, 4); err != nil {
			return err
		}
		if err := errors.Join(wantLast(ctx, s, 0, 3), wantLast(ctx, s, 1, 1)); err != nil {
			return err
		}
	}
	s, err := again()
	if err != nil {
		return err
	}
	all, err := s.ReadCheckpoints(ctx, 0, 1, 1<<20)
	if err != nil || len(all) != 3 {
		return fmt.Errorf("%d checkpoints, %v; want 3", len(all), err)
	}
	if _, err := s.Commit(ctx, 0, 4, checkpoint(4), nil); err != nil {
		return fmt.Errorf("commit where a checkpoint was cut off: %w", err)
	}
	if err := wantLast(ctx, s, 0, 4); err != nil {
		return err
	}
	if err := errors.Join(s.CutCheckpoints(ctx, 0, 1), wantLast(ctx, s, 0, 0), wantLast(ctx, s, 1, 1)); err != nil {
		return err
	}
	if _, err := s.Commit(ctx, 0, 1, checkpoint(7), nil); err != nil {
		return fmt.Errorf("commit where a checkpoint was cut off: %w", err)
	}
	stands, err := s.Commit(ctx, 0, 1, checkpoint(1), nil)
	if !errors.Is(err, events.ErrConflict) || !bytes.Equal(stands, checkpoint(7)) {
		return fmt.Errorf("commit at a taken number answers %q, %v; want what stands, ErrConflict", stands, err)
	}
	return nil
}

func recordsAreDeleted(ctx context.Context, s Store, again func() (Store, error)) error {
	if err := s.DeleteRecords(ctx, "j:1", 20); err != nil {
		return fmt.Errorf("delete what is not there: %w", err)
	}
	for _, j := range []events.Journal{"j:1", "j:10", "j:2"} {
		for at := range events.Offset(20) {
			if _, err := s.Append(ctx, j, at+1, events.Record(fmt.Sprint(j, at))); err != nil {
				return err
			}
		}
	}
	if err := s.DeleteRecords(ctx, "j:1", 20); err != nil {
		return err
	}
	s, err := again()
	if err != nil {
		return err
	}
	ends, err := s.JournalEnds(ctx)
	if err != nil {
		return err
	}
	if err := equal("ends of the journals", map[uint64]events.Offset{2: 20, 10: 20}, ends); err != nil {
		return err
	}
	if recs, err := s.ReadLog(ctx, "j:1", 1, 1, events.Strong); err != nil || len(recs) > 0 {
		return fmt.Errorf("the deleted journal has %d records, %v", len(recs), err)
	}
	if recs, err := s.ReadLog(ctx, "j:1", 20, 1, events.Strong); err != nil || len(recs) != 1 {
		return fmt.Errorf("%d records of what was not to be deleted, %v", len(recs), err)
	}
	return nil
}

func itemsAreDeleted(ctx context.Context, s Store, again func() (Store, error)) error {
	if err := s.DeleteItems(ctx, timeline("ann"), 10); err != nil {
		return fmt.Errorf("delete what is not there: %w", err)
	}
	var items []projections.Stored
	for n := range 60 {
		items = append(items, item("ann", events.Seq(2*n+1)))
		if len(items)%10 > 0 {
			continue
		}
		if err := s.PutItems(ctx, items[n-9:]); err != nil { // of one timeline, so one after the other
			return err
		}
	}
	others := []projections.Stored{of(1, item("ann", 5)), item("an", 5), item("ann_", 5)}
	if err := s.PutItems(ctx, others); err != nil {
		return err
	}
	if err := s.DeleteItems(ctx, timeline("ann"), 101); err != nil {
		return err
	}
	s, err := again()
	if err != nil {
		return err
	}
	if err := wantItems(ctx, s, "ann", 0, items[50:]...); err != nil {
		return err
	}
	for _, i := range others {
		if got, err := s.NewestItem(ctx, i.Timeline, events.Strong); err != nil || got.Last != i.Last {
			return fmt.Errorf("newest item of %s is %+v, %v, though only ann's were deleted", i.Timeline, got, err)
		}
	}
	if err := s.DeleteItems(ctx, timeline("ann"), 1<<64-1); err != nil {
		return err
	}
	if err := wantItems(ctx, s, "ann", 0); err != nil {
		return err
	}
	many := items[:0] // in some engines that is another way
	for n := range 120 {
		many = append(many, item("bob", events.Seq(n+1)))
	}
	for some := range slices.Chunk(many, 20) {
		if err := s.PutItems(ctx, some); err != nil {
			return err
		}
	}
	if err := s.DeleteItems(ctx, timeline("bob"), 111); err != nil {
		return err
	}
	return wantItems(ctx, s, "bob", 0, many[110:]...)
}

func timelinesAreEmptied(ctx context.Context, s Store, again func() (Store, error)) error {
	if err := s.EmptyTimelines(ctx); err != nil {
		return fmt.Errorf("empty what is empty: %w", err)
	}
	if err := commitAll(ctx, s, 5); err != nil {
		return err
	}
	if err := s.PutItems(ctx, []projections.Stored{item("ben", 7), item("A", 1), item("z_", 70), of(3, item("ben", 7))}); err != nil {
		return err
	}
	if err := s.EmptyTimelines(ctx); err != nil {
		return err
	}
	s, err := again()
	if err != nil {
		return err
	}
	for _, u := range []events.User{"ann", "ben", "A", "z_"} {
		if err := wantItems(ctx, s, u, 0); err != nil {
			return err
		}
	}
	for _, v := range []projections.Version{0, 3} {
		err := s.ScanItems(ctx, v, func(i projections.Stored) error { return fmt.Errorf("%s still has items", i.Timeline) })
		if err != nil {
			return err
		}
	}
	if err := wantLast(ctx, s, 0, 5); err != nil {
		return fmt.Errorf("checkpoints are no timelines: %w", err)
	}
	if err := s.PutItems(ctx, []projections.Stored{item("ben", 3)}); err != nil {
		return err
	}
	return wantItems(ctx, s, "ben", 0, item("ben", 3))
}
