// Package storetest is the contract of projections.Checkpoints, projections.Items,
// projections.Rows and projections.Upkeep as a test that every engine runs.
package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"timberline/events"
	"timberline/projections"
)

// A Store is what is tested.
type Store interface {
	events.Log
	projections.Checkpoints
	projections.Items
	projections.Upkeep
	projections.Rows
}

// A Place is where a store keeps its data; see logtest.Place for its methods.
type Place interface {
	Open() (Store, error)
	Crash() error
	Close() error
}

// Run runs the contract, each part of it in a place of its own.
func Run(t *testing.T, newPlace func(t *testing.T) Place) {
	for _, part := range Contract {
		t.Run(part.Name, func(t *testing.T) {
			p := newPlace(t)
			s, err := p.Open()
			if err != nil {
				t.Fatal(err)
			}
			again := func() (Store, error) {
				if err := p.Crash(); err != nil {
					return nil, err
				}
				return p.Open()
			}
			if err := part.Holds(t.Context(), s, again); err != nil {
				t.Error(err)
			}
			if err := p.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// A Part is one part of the contract. Holds tries an empty store and says what is
// wrong; again crashes it and opens what is left.
type Part struct {
	Name  string
	Holds func(ctx context.Context, s Store, again func() (Store, error)) error
}

// Contract lists the parts.
var Contract = []Part{
	{"Empty store has nothing", emptyStore},
	{"Checkpoints stand as they were committed", checkpointsStand},
	{"Commit that succeeded survives a crash", commitIsDurable},
	{"Taken checkpoint stays, and its items too", takenCheckpointStays},
	{"One of many commits wins", oneCommitWins},
	{"Shards do not mix", shardsDoNotMix},
	{"Reads of checkpoints follow each other and keep to their size", checkpointsAreContiguous},
	{"Newest item is the one with the highest seq", newestItem},
	{"Items are read from a seq on", itemsAreRead},
	{"Users do not mix", usersDoNotMix},
	{"Versions do not mix", versionsDoNotMix},
	{"Scan visits the items of a version, each timeline's in order", itemsAreScanned},
	{"Items that were put again are the same", itemsArePutAgain},
	{"Many items of many users are put at once", itemsArePutAtOnce},
	{"Bytes belong to the caller", bytesAreTheCallers},
	{"Ends of journals are those of the log", journalsEnd},
	{"Deleted records are gone, those of others stand", recordsAreDeleted},
	{"Cut checkpoints are gone, others stand", checkpointsAreCut},
	{"Rows stand as they were put, in order", rowsStand},
	{"A row gives way to what follows from a later checkpoint only", newerRowsWin},
	{"Of rows put at the same time the latest stands", latestRowWins},
	{"Rows that are too long are refused, and those put with them", longRowsAreRefused},
	{"Deleted rows are gone, others stand", rowsAreDeleted},
	{"Deleted items are gone, others stand", itemsAreDeleted},
	{"Emptied timelines are written anew", timelinesAreEmptied},
}

func checkpoint(n int) []byte { return fmt.Appendf(nil, "checkpoint %d", n) }

// timeline names a user's first one.
func timeline(u events.User) projections.Timeline { return projections.Timeline{User: u} }

func item(u events.User, last events.Seq) projections.Stored {
	return projections.Stored{Timeline: timeline(u), Last: last, Data: fmt.Appendf(nil, "item of %s up to %d", u, last)}
}

// commitAll commits checkpoints 1 to n, each with an item for ann.
func commitAll(ctx context.Context, s Store, n int) error {
	for i := 1; i <= n; i++ {
		items := []projections.Stored{item("ann", events.Seq(10*i))}
		if _, err := s.Commit(ctx, 0, projections.CheckpointNumber(i), checkpoint(i), items); err != nil {
			return fmt.Errorf("commit %d: %w", i, err)
		}
	}
	return nil
}

func equal(what string, want, got any) error {
	if reflect.DeepEqual(want, got) { // cmp takes long to find nothing
		return nil
	}
	if d := cmp.Diff(want, got, cmpopts.EquateEmpty()); d != "" {
		return fmt.Errorf("%s (-want +got):\n%s", what, d)
	}
	return nil
}

func wantLast(ctx context.Context, s Store, shard projections.Shard, n int) error {
	got, data, err := s.LastCheckpoint(ctx, shard, events.Strong)
	if err != nil {
		return err
	}
	if n == 0 && got == 0 {
		return nil
	}
	if got != projections.CheckpointNumber(n) || !bytes.Equal(data, checkpoint(n)) {
		return fmt.Errorf("last checkpoint of shard %d is %d, %q; want %d", shard, got, data, n)
	}
	return nil
}

func wantItems(ctx context.Context, s Store, u events.User, from events.Seq, want ...projections.Stored) error {
	got, err := s.ReadItems(ctx, timeline(u), from, 1<<20, events.Strong)
	if err != nil {
		return err
	}
	return equal(fmt.Sprintf("items of %s from %d", u, from), want, got)
}

func emptyStore(ctx context.Context, s Store, _ func() (Store, error)) error {
	if err := wantLast(ctx, s, 0, 0); err != nil {
		return err
	}
	all, err := s.ReadCheckpoints(ctx, 0, 1, 100)
	if err != nil || len(all) != 0 {
		return fmt.Errorf("%d checkpoints, %v; want none", len(all), err)
	}
	if _, err := s.NewestItem(ctx, timeline("ann"), events.Strong); !errors.Is(err, events.ErrNotFound) {
		return fmt.Errorf("newest item: %v, want ErrNotFound", err)
	}
	return wantItems(ctx, s, "ann", 0)
}
