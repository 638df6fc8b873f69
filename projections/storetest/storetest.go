// Package storetest is the contract of projections.Checkpoints, projections.Items and
// projections.Upkeep as a test that every engine runs.
package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"
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

func takenCheckpointStays(ctx context.Context, s Store, _ func() (Store, error)) error {
	if err := commitAll(ctx, s, 2); err != nil {
		return err
	}
	stands, err := s.Commit(ctx, 0, 2, []byte("another"), []projections.Stored{item("ben", 1), {Timeline: timeline("ann"), Last: 20, Data: []byte("x")}})
	if !errors.Is(err, events.ErrConflict) || !bytes.Equal(stands, checkpoint(2)) {
		return fmt.Errorf("commit at a taken number answers %q, %v; want what stands, ErrConflict", stands, err)
	}
	return errors.Join(wantLast(ctx, s, 0, 2), wantItems(ctx, s, "ben", 0),
		wantItems(ctx, s, "ann", 0, item("ann", 10), item("ann", 20)))
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
	return errors.Join(s.CutCheckpoints(ctx, 0, 1), wantLast(ctx, s, 0, 0), wantLast(ctx, s, 1, 1))
}

func recordsAreDeleted(ctx context.Context, s Store, again func() (Store, error)) error {
	if err := s.DeleteRecords(ctx, "j:1"); err != nil {
		return fmt.Errorf("delete what is not there: %w", err)
	}
	for _, j := range []events.Journal{"j:1", "j:10", "j:2"} {
		for at := range events.Offset(20) {
			if _, err := s.Append(ctx, j, at+1, events.Record(fmt.Sprint(j, at))); err != nil {
				return err
			}
		}
	}
	if err := s.DeleteRecords(ctx, "j:1"); err != nil {
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
	return wantItems(ctx, s, "ann", 0)
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
