package pebble

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"timberline/events"
	"timberline/projections"
)

// A stalled disk syncs no log while it is on.
type stalled struct {
	on  atomic.Bool
	met chan struct{} // an element when a sync is asked for
	may chan struct{} // closed when it may go on
}

func (s *stalled) MaybeError(op errorfs.Op) error {
	switch op.Kind {
	case errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpFileSyncTo:
		if s.on.Load() && strings.HasSuffix(op.Path, ".log") {
			select {
			case s.met <- struct{}{}:
			default:
			}
			<-s.may
		}
	}
	return nil
}

func (s *stalled) String() string { return "stalled" }

// What stands, or does not any more, counts when it is durable. Who does not wait for that
// learns nothing: as the answer to an append it would be acknowledged (R2, R8).
func TestWhoDoesNotWaitForASyncLearnsNothing(t *testing.T) {
	row := projections.Row{Space: "p/per-day.1/ann", Key: "k", Checkpoint: 1}
	gaveUp, cancel := context.WithCancel(t.Context())
	cancel()
	for name, c := range map[string]struct {
		write func(*Store) error
		read  func(*Store) error
		hides error
	}{
		"a record that stands": {
			write: func(s *Store) error { _, err := s.Append(t.Context(), "j:1", 1, events.Record("a")); return err },
			read:  func(s *Store) error { _, err := s.Append(gaveUp, "j:1", 1, events.Record("b")); return err },
			hides: events.ErrConflict,
		},
		"a row that is gone": {
			write: func(s *Store) error { return s.DeleteRows(t.Context(), "p/per-day.1/") },
			read:  func(s *Store) error { _, err := s.GetRow(gaveUp, row.Space, row.Key); return err },
			hides: events.ErrNotFound,
		},
	} {
		disk := &stalled{met: make(chan struct{}, 1), may: make(chan struct{})}
		s := openMem(t, Options{FS: errorfs.Wrap(vfs.NewMem(), disk)})
		if err := s.PutRows(t.Context(), []projections.Row{row}); err != nil {
			t.Fatal(err)
		}
		disk.on.Store(true)
		wrote := make(chan error, 1)
		go func() { wrote <- c.write(s) }()
		<-disk.met
		if err := c.read(s); !errors.Is(err, context.Canceled) || errors.Is(err, c.hides) {
			t.Errorf("%s: %v, want the context's error alone", name, err)
		}
		disk.on.Store(false)
		close(disk.may)
		if err := errors.Join(<-wrote, s.Close()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What is on its way to the disk is shown to nobody but by reads that say so (R8).
func TestReadsWaitForTheSyncOfWhatTheySee(t *testing.T) {
	row := projections.Row{Space: "p/per-day.1/ann", Key: "k", Checkpoint: 1}
	item := projections.Stored{Timeline: projections.Timeline{User: "ann"}, Last: 1, Data: []byte("item")}
	commit := func(ctx context.Context, s *Store) error {
		_, err := s.Commit(ctx, 0, 1, []byte("checkpoint"), []projections.Stored{item})
		return err
	}
	put := func(ctx context.Context, s *Store) error { return s.PutRows(ctx, []projections.Row{row}) }
	quiet := func(ctx context.Context, s *Store) error {
		hushed := item
		hushed.Quiet = true
		return s.PutItems(ctx, []projections.Stored{hushed})
	}
	for name, c := range map[string]struct {
		write, read func(context.Context, *Store) error
	}{
		"last checkpoint": {commit, func(ctx context.Context, s *Store) error {
			_, _, err := s.LastCheckpoint(ctx, 0, events.Strong)
			return err
		}},
		"checkpoints": {commit, func(ctx context.Context, s *Store) error {
			_, err := s.ReadCheckpoints(ctx, 0, 1, 100)
			return err
		}},
		"newest item": {commit, func(ctx context.Context, s *Store) error {
			_, err := s.NewestItem(ctx, item.Timeline, events.Strong)
			return err
		}},
		"quiet item": {quiet, func(ctx context.Context, s *Store) error {
			_, err := s.NewestItem(ctx, item.Timeline, events.Strong)
			return err
		}},
		"items": {commit, func(ctx context.Context, s *Store) error {
			_, err := s.ReadItems(ctx, item.Timeline, 1, 100, events.Strong)
			return err
		}},
		"all items": {commit, func(ctx context.Context, s *Store) error {
			return s.ScanItems(ctx, 0, func(projections.Stored) error { return nil })
		}},
		"a row": {put, func(ctx context.Context, s *Store) error {
			_, err := s.GetRow(ctx, row.Space, row.Key)
			return err
		}},
		"rows": {put, func(ctx context.Context, s *Store) error {
			_, err := s.ReadRows(ctx, row.Space, "", 100)
			return err
		}},
		"a row that is put again": {put, put},
	} {
		t.Run(name, func(t *testing.T) {
			disk := &stalled{met: make(chan struct{}, 1), may: make(chan struct{})}
			s := openMem(t, Options{FS: errorfs.Wrap(vfs.NewMem(), disk)})
			disk.on.Store(true)
			before, wrote := s.applied.Load(), make(chan error, 1)
			go func() { wrote <- c.write(t.Context(), s) }()
			for visible := false; !visible; time.Sleep(100 * time.Microsecond) {
				s.mu.Lock() // which is held while a batch is applied
				visible = s.applied.Load() > before
				s.mu.Unlock()
			}
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
			defer cancel()
			if err := c.read(ctx, s); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("before it is durable: %v, want that it is waited for", err)
			}
			disk.on.Store(false)
			close(disk.may)
			if err := errors.Join(<-wrote, c.read(t.Context(), s), s.Close()); err != nil {
				t.Errorf("when it is durable: %v", err)
			}
		})
	}
}
