package dynamo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"timberline/events"
	"timberline/projections"
	"timberline/projections/lease"
	"timberline/projections/lease/leasetest"
	"timberline/store/dynamo/faults"
)

func TestStoreKeepsLeases(t *testing.T) {
	leasetest.Run(t, func(t *testing.T) lease.Leases { return openNew(t) })
}

// A patientTaker tries again what settles nothing.
type patientTaker struct{ *Store }

func (p patientTaker) ListLeases(ctx context.Context, kind string) ([]lease.Lease, error) {
	return again(func() ([]lease.Lease, error) { return p.Store.ListLeases(ctx, kind) })
}

func (p patientTaker) PutLease(ctx context.Context, was, is lease.Lease) error {
	_, err := again(func() (none, error) { return none{}, p.Store.PutLease(ctx, was, is) })
	return err
}

func TestStoreKeepsLeasesOnBadDays(t *testing.T) {
	var all []*faults.Transport
	leasetest.Run(t, func(t *testing.T) lease.Leases {
		p, net := badPlace(t, uint64(len(all)), 1)
		all = append(all, net)
		s, err := openPatiently(p)
		if err != nil {
			t.Fatal(err)
		}
		return patientTaker{s}
	})
	wantMet(t, all, faults.Throttled, faults.Failed, faults.Dropped, faults.Lost, faults.Late)
}

// once chooses a fault for the first call of a kind.
func once(operation string, f faults.Fault) func(faults.Call) faults.Fault {
	var met atomic.Bool
	return func(c faults.Call) faults.Fault {
		if c.Operation == operation && !met.Swap(true) {
			return f
		}
		return faults.None
	}
}

// on returns an option: requests go through net.
func on(net *faults.Transport) func(*Options) {
	return func(o *Options) { o.Transport, o.Backoff = net, time.Millisecond }
}

// The SDK tries again, and meets what its first try has left.
func TestOwnRecordThatLandedWithoutAnAnswerIsAConflictThatShowsIt(t *testing.T) {
	s := openNew(t, on(&faults.Transport{Next: http.DefaultTransport, Choose: once("PutItem", faults.Lost)}))
	stands, err := s.Append(t.Context(), "j:1", 1, events.Record("mine"))
	if !errors.Is(err, events.ErrConflict) || string(stands) != "mine" {
		t.Errorf("%q, %v; want the own record and ErrConflict", stands, err)
	}
}

func TestRecordThatLandsLateFindsItsOffsetTaken(t *testing.T) {
	net := &faults.Transport{Next: http.DefaultTransport, Choose: once("PutItem", faults.Late)}
	s := openNew(t, on(net), func(o *Options) { o.Attempts = 1 })
	if stands, err := s.Append(t.Context(), "j:1", 1, events.Record("late")); err == nil || settles(err) {
		t.Fatalf("%q, %v; want an error that settles nothing", stands, err)
	}
	if recs, err := s.ReadLog(t.Context(), "j:1", 1, 100, events.Strong); err != nil || len(recs) != 0 {
		t.Fatalf("%d records, %v; want none yet", len(recs), err)
	}
	if _, err := s.Append(t.Context(), "j:1", 1, events.Record("other")); err != nil {
		t.Fatal(err)
	}
	net.Land()
	if recs, err := s.ReadLog(t.Context(), "j:1", 1, 100, events.Strong); err != nil || len(recs) != 1 || string(recs[0]) != "other" {
		t.Errorf("%q, %v; want what stood there", recs, err)
	}
}

func TestRecordThatLandsLateStandsWhereNothingDid(t *testing.T) {
	net := &faults.Transport{Next: http.DefaultTransport, Choose: once("PutItem", faults.Late)}
	s := openNew(t, on(net), func(o *Options) { o.Attempts = 1 })
	if _, err := s.Append(t.Context(), "j:1", 1, events.Record("late")); err == nil || settles(err) {
		t.Fatalf("%v; want an error that settles nothing", err)
	}
	net.Land()
	stands, err := s.Append(t.Context(), "j:1", 1, events.Record("other"))
	if !errors.Is(err, events.ErrConflict) || string(stands) != "late" {
		t.Errorf("%q, %v; want the late one, and ErrConflict", stands, err)
	}
}

func TestUpdateThatLandsLateUndoesNothing(t *testing.T) {
	p := newPlace(t)
	s := openAs(t, p)
	if _, err := s.CreateJournal(t.Context(), events.Row{Number: 1}); err != nil {
		t.Fatal(err)
	}
	net := &faults.Transport{Next: http.DefaultTransport, Choose: once("PutItem", faults.Late)}
	slow := openAs(t, p, on(net), func(o *Options) { o.Attempts = 1 })
	if err := slow.UpdateJournal(t.Context(), events.Row{Number: 1, Counter: 1}); err == nil {
		t.Fatal("no error, want one that settles nothing")
	}
	want := events.Row{Number: 1, Counter: 2, Ended: 9}
	if err := s.UpdateJournal(t.Context(), want); err != nil {
		t.Fatal(err)
	}
	net.Land()
	if rows, err := s.ListJournals(t.Context(), 0, events.Strong); err != nil || len(rows) != 1 || rows[0] != want {
		t.Errorf("%+v, %v; want %+v", rows, err, want)
	}
}

func TestCutThatLandsLateTakesNoLaterCheckpointAway(t *testing.T) {
	p := newPlace(t)
	s := openAs(t, p)
	if _, err := s.Commit(t.Context(), 0, 1, []byte("covers too much"), nil); err != nil {
		t.Fatal(err)
	}
	net := &faults.Transport{Next: http.DefaultTransport, Choose: once("DeleteItem", faults.Late)}
	slow := openAs(t, p, on(net), func(o *Options) { o.Attempts = 1 })
	if err := slow.CutCheckpoints(t.Context(), 0, 1); err == nil {
		t.Fatal("no error, want one that settles nothing")
	}
	if err := s.CutCheckpoints(t.Context(), 0, 1); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Commit(t.Context(), 0, 1, []byte("goes on"), nil); err != nil {
		t.Fatal(err)
	}
	net.Land()
	if n, value, err := s.LastCheckpoint(t.Context(), 0, events.Strong); n != 1 || string(value) != "goes on" || err != nil {
		t.Errorf("checkpoint %d %q, %v; want the one that was written since", n, value, err)
	}
}

func TestCutWithoutAnAnswerIsNoFailure(t *testing.T) {
	s := openNew(t, on(&faults.Transport{Next: http.DefaultTransport, Choose: once("DeleteItem", faults.Lost)}))
	for n := range projections.CheckpointNumber(3) {
		if _, err := s.Commit(t.Context(), 0, n+1, []byte("covers too much"), nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.CutCheckpoints(t.Context(), 0, 2); err != nil {
		t.Fatal(err)
	}
	if n, _, err := s.LastCheckpoint(t.Context(), 0, events.Strong); n != 1 || err != nil {
		t.Errorf("checkpoint %d, %v; want 1", n, err)
	}
}

func TestUpdatesOfARowAtOnceAllHaveTheirSay(t *testing.T) {
	s := openNew(t)
	owner := events.Row{Number: 1, Writer: [16]byte{7}, Edge: events.EdgeTag{1}}
	if _, err := s.CreateJournal(t.Context(), owner); err != nil {
		t.Fatal(err)
	}
	var errs [6]error
	var all sync.WaitGroup
	for i := range errs {
		all.Go(func() { errs[i] = s.UpdateJournal(t.Context(), events.Row{Number: 1, Counter: uint64(i + 1)}) })
	}
	all.Wait()
	rows, listing := s.ListJournals(t.Context(), 0, events.Strong)
	if err := errors.Join(append(errs[:], listing)...); err != nil || len(rows) != 1 {
		t.Fatalf("%d rows, %v", len(rows), err)
	}
	if r := rows[0]; r.Counter == 0 || r.Writer != owner.Writer || r.Edge != owner.Edge {
		t.Errorf("%+v, want one of the counters, and the owner's names", r)
	}
}

// As much as one checkpoint may give: 64 users with 256 KiB each.
func TestCommitWritesItemsOfAnySize(t *testing.T) {
	net := &faults.Transport{Next: http.DefaultTransport, Choose: always("BatchWriteItem", faults.None)}
	s := openNew(t, on(net))
	var items []projections.Stored
	for n := range 64 {
		items = append(items, projections.Stored{Timeline: projections.Timeline{User: events.User(fmt.Sprint("u", n))}, Last: 1, Data: bytes.Repeat([]byte{byte(n)}, 256<<10+1<<10)})
	}
	for n := range 100 {
		items = append(items, projections.Stored{Timeline: projections.Timeline{User: events.User(fmt.Sprint("v", n))}, Last: 1, Data: []byte{byte(n)}})
	}
	if _, err := s.Commit(t.Context(), 0, 1, []byte("checkpoint"), items); err != nil {
		t.Fatal(err)
	}
	for _, i := range items {
		got, err := s.NewestItem(t.Context(), i.Timeline, events.Strong)
		if err != nil || !bytes.Equal(got.Data, i.Data) {
			t.Fatalf("item of %s: %d bytes, %v; want %d", i.User, len(got.Data), err, len(i.Data))
		}
	}
}

func TestBatchesKeepToTheLimits(t *testing.T) {
	var items []projections.Stored
	for n := range 200 {
		items = append(items, projections.Stored{Timeline: projections.Timeline{User: "ann"}, Last: events.Seq(n), Data: make([]byte, (n%3)*150<<10)})
	}
	all, err := batches(items)
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	for _, batch := range all {
		bytes, _ := tally(batch)
		if len(batch) == 0 || len(batch) > batchItems || bytes > batchBytes {
			t.Errorf("a batch of %d items, %d bytes", len(batch), bytes)
		}
		count += len(batch)
	}
	if count != len(items) {
		t.Errorf("%d items in all, want %d", count, len(items))
	}
}

func TestNothingIsLeftUnprocessed(t *testing.T) {
	net := &faults.Transport{Next: http.DefaultTransport}
	tries := make(map[string]int)
	net.Choose = func(c faults.Call) faults.Fault { // one batch at a time: no lock
		if c.Operation == "BatchWriteItem" {
			if tries[c.Operation]++; tries[c.Operation] < 5 {
				return faults.Unprocessed
			}
		}
		return faults.None
	}
	s := openNew(t, on(net))
	var items []projections.Stored
	for n := range 20 {
		items = append(items, projections.Stored{Timeline: projections.Timeline{User: events.User(fmt.Sprint("u", n))}, Last: 1, Data: []byte{byte(n)}})
	}
	if err := s.PutItems(t.Context(), items); err != nil {
		t.Fatal(err)
	}
	for _, i := range items {
		if _, err := s.NewestItem(t.Context(), i.Timeline, events.Strong); err != nil {
			t.Error(err)
		}
	}
	if net.Met()[faults.Unprocessed] != 4 {
		t.Errorf("%v", net.Met())
	}
}

func TestCommitDoesNotSucceedWhileAnythingIsUnprocessed(t *testing.T) {
	net := &faults.Transport{Next: http.DefaultTransport, Choose: always("BatchWriteItem", faults.Unprocessed)}
	s := openNew(t, on(net), func(o *Options) { o.Deadline = time.Second })
	item := projections.Stored{Timeline: projections.Timeline{User: "ann"}, Last: 1, Data: []byte("x")}
	_, err := s.Commit(t.Context(), 0, 1, []byte("checkpoint"), []projections.Stored{item})
	if err == nil || settles(err) {
		t.Errorf("%v, want an error that settles nothing", err)
	}
	if n, _, err := s.LastCheckpoint(t.Context(), 0, events.Strong); err != nil || n != 1 {
		t.Errorf("checkpoint %d, %v; want 1: it was first", n, err)
	}
}

func TestItemThatIsTooLargeIsRefusedBeforeTheCheckpointStands(t *testing.T) {
	s := openNew(t)
	large := projections.Stored{Timeline: projections.Timeline{User: "ann"}, Last: 1, Data: make([]byte, MaxItemSize)}
	_, err := s.Commit(t.Context(), 0, 1, []byte("checkpoint"), []projections.Stored{large})
	if !errors.Is(err, events.ErrFatal) || !strings.Contains(err.Error(), `user "ann"`) {
		t.Errorf("%v, want ErrFatal that names the item", err)
	}
	if n, _, err := s.LastCheckpoint(t.Context(), 0, events.Strong); err != nil || n != 0 {
		t.Errorf("checkpoint %d, %v; want none", n, err)
	}
	if err := s.PutItems(t.Context(), []projections.Stored{large}); !errors.Is(err, events.ErrFatal) {
		t.Errorf("%v, want ErrFatal", err)
	}
	if _, err := s.Append(t.Context(), "j:1", 1, make(events.Record, MaxItemSize)); !errors.Is(err, events.ErrFatal) {
		t.Errorf("append: %v, want ErrFatal", err)
	}
	if _, err := s.Append(t.Context(), "j:1", 1, make(events.Record, events.MaxRecordBytes)); err != nil {
		t.Errorf("append of the largest record: %v", err)
	}
}

// Whoever reads a version when it is dropped, as it was live a moment ago, may find it empty
// and look again, but never one that ends earlier.
func TestTimelineThatIsDeletedEndsWhereItDidUntilItIsGone(t *testing.T) {
	p := newPlace(t)
	s := openAs(t, p)
	user := projections.Timeline{Version: 1, User: "ann"}
	var items []projections.Stored
	const all = 4 * batchItems
	for n := range events.Seq(all) {
		items = append(items, projections.Stored{Timeline: user, Last: n + 1, Data: []byte("item")})
	}
	if err := s.PutItems(t.Context(), items); err != nil {
		t.Fatal(err)
	}
	net := roundTrip(func(r *http.Request) (*http.Response, error) {
		if !strings.HasSuffix(r.Header.Get("X-Amz-Target"), ".BatchWriteItem") {
			return http.DefaultTransport.RoundTrip(r)
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		if !bytes.Contains(body, fmt.Appendf(nil, "%q", fmt.Sprint(all))) {
			time.Sleep(50 * time.Millisecond) // whatever goes beside it comes later
		}
		answer, err := http.DefaultTransport.RoundTrip(r)
		newest, failed := s.NewestItem(t.Context(), user, events.Strong)
		if failed == nil && newest.Last != all || failed != nil && !errors.Is(failed, events.ErrNotFound) {
			t.Errorf("while it is deleted it ends at %d, %v; want %d, or nothing", newest.Last, failed, all)
		}
		return answer, err
	})
	deleter := openAs(t, p, func(o *Options) { o.Transport = net })
	if err := deleter.DeleteItems(t.Context(), user, all+1); err != nil {
		t.Fatal(err)
	}
	if _, err := s.NewestItem(t.Context(), user, events.Strong); !errors.Is(err, events.ErrNotFound) {
		t.Errorf("an item is left: %v", err)
	}
}
