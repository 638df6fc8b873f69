package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"

	"timberline/events"
	"timberline/projections"
)

func checkpointsStand(ctx context.Context, s Store, _ func() (Store, error)) error {
	if err := commitAll(ctx, s, 300); err != nil {
		return err
	}
	all, err := s.ReadCheckpoints(ctx, 0, 1, 1<<20)
	if err != nil || len(all) != 300 || !bytes.Equal(all[256], checkpoint(257)) {
		return fmt.Errorf("%d checkpoints, %v; want 300", len(all), err)
	}
	return wantLast(ctx, s, 0, 300)
}

func commitIsDurable(ctx context.Context, s Store, again func() (Store, error)) (err error) {
	for n := 1; n <= 5; n++ {
		items := []projections.Stored{item("ann", events.Seq(n)), item("ben", events.Seq(n))}
		if _, err := s.Commit(ctx, 0, projections.CheckpointNumber(n), checkpoint(n), items); err != nil {
			return err
		}
		if s, err = again(); err != nil {
			return err
		}
		if err := wantLast(ctx, s, 0, n); err != nil {
			return fmt.Errorf("after a crash: %w", err)
		}
		for _, i := range items {
			if got, err := s.NewestItem(ctx, i.Timeline, events.Strong); err != nil || got.Last != i.Last {
				return fmt.Errorf("after a crash: newest item of %s is up to %d, %v; want %d", i.User, got.Last, err, n)
			}
		}
	}
	return nil
}

func takenCheckpointStays(ctx context.Context, s Store, again func() (Store, error)) error {
	if err := commitAll(ctx, s, 2); err != nil {
		return err
	}
	for range 2 {
		for n := 1; n <= 2; n++ {
			stands, err := s.Commit(ctx, 0, projections.CheckpointNumber(n), []byte("another"), []projections.Stored{item("ben", 1), {Timeline: timeline("ann"), Last: 20, Data: []byte("x")}})
			if !errors.Is(err, events.ErrConflict) || !bytes.Equal(stands, checkpoint(n)) {
				return fmt.Errorf("commit at a taken number answers %q, %v; want what stands, ErrConflict", stands, err)
			}
		}
		err := errors.Join(wantLast(ctx, s, 0, 2), wantItems(ctx, s, "ben", 0), wantItems(ctx, s, "ann", 0, item("ann", 10), item("ann", 20)))
		if err != nil {
			return err
		}
		if s, err = again(); err != nil {
			return err
		}
	}
	return nil
}

func oneCommitWins(ctx context.Context, s Store, _ func() (Store, error)) error {
	for n := projections.CheckpointNumber(1); n <= 20; n++ {
		const callers = 6
		users := [callers]events.User{"a", "b", "c", "d", "e", "f"}
		var errs [callers]error
		var all sync.WaitGroup
		for i := range callers {
			all.Go(func() {
				_, errs[i] = s.Commit(ctx, 0, n, []byte(users[i]), []projections.Stored{item(users[i], events.Seq(n))})
			})
		}
		all.Wait()
		_, stands, err := s.LastCheckpoint(ctx, 0, events.Strong)
		if err != nil {
			return err
		}
		winners := 0
		for i, u := range users {
			items, err := s.ReadItems(ctx, timeline(u), events.Seq(n), 100, events.Strong)
			if err != nil {
				return err
			}
			if errs[i] == nil {
				winners++
			}
			if won := errs[i] == nil; won != (string(stands) == string(u)) || won != (len(items) == 1) {
				return fmt.Errorf("commit %d of %s: %v; %q stands there, and %d of its items", n, u, errs[i], stands, len(items))
			}
		}
		if winners != 1 {
			return fmt.Errorf("%d commits of checkpoint %d succeeded, want 1", winners, n)
		}
	}
	return nil
}

func shardsDoNotMix(ctx context.Context, s Store, _ func() (Store, error)) error {
	shards := []projections.Shard{0, 1, 255, 256, 4095}
	for i, shard := range shards {
		for n := 1; n <= i+1; n++ {
			if _, err := s.Commit(ctx, shard, projections.CheckpointNumber(n), checkpoint(n), nil); err != nil {
				return err
			}
		}
	}
	for i, shard := range shards {
		if err := wantLast(ctx, s, shard, i+1); err != nil {
			return err
		}
	}
	return wantLast(ctx, s, 2, 0)
}

func checkpointsAreContiguous(ctx context.Context, s Store, _ func() (Store, error)) error {
	if err := commitAll(ctx, s, 10); err != nil {
		return err
	}
	for from, want := range map[projections.CheckpointNumber]int{1: 10, 7: 4, 10: 1, 11: 0} {
		all, err := s.ReadCheckpoints(ctx, 0, from, 1<<20)
		if err != nil || len(all) != want {
			return fmt.Errorf("%d checkpoints from %d, %v; want %d", len(all), from, err, want)
		}
	}
	size := len(checkpoint(1))
	for budget, want := range map[int]int{0: 1, size: 1, 3 * size: 3} {
		all, err := s.ReadCheckpoints(ctx, 0, 1, budget)
		if err != nil || len(all) < 1 || len(all) > want+1 {
			return fmt.Errorf("%d checkpoints in %d bytes, %v; want about %d", len(all), budget, err, want)
		}
	}
	return nil
}
