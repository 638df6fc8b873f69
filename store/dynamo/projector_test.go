package dynamo

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"timberline/bus/local"
	"timberline/events"
	"timberline/projections"
	"timberline/store/dynamo/faults"
)

// Two projectors own the same shards, and both have bad days: checkpoints and items land
// without an answer, late, or in part. Every message is once in each timeline (R6, R7).
func TestTwoProjectorsPlaceEveryMessageOnceOnBadDays(t *testing.T) {
	const users, records, perRecord, shards = 8, 40, 4, 3
	p := newPlaceOf(t, shards)
	var nets []*faults.Transport
	open := func(seed uint64) *Store {
		net := badNet(p, seed)
		nets = append(nets, net)
		o := p.o
		o.Transport, o.Attempts, o.Backoff = net, 2, time.Millisecond
		s, err := again(func() (*Store, error) { return Open(t.Context(), o) })
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			net.Land()
			s.Close()
		})
		return s
	}

	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	stop, stopped := context.WithCancel(ctx)
	defer stopped()
	projectors, running := errgroup.WithContext(stop)
	for seed := range uint64(2) {
		s := open(seed)
		pr, err := projections.NewProjector(projections.Config{
			Log: s, Journals: s, Checkpoints: s, Items: s, Meta: s.Meta(), Bus: new(local.Bus), Poll: 20 * time.Millisecond,
			Random: rand.NewChaCha8([32]byte{byte(seed)}), Logger: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			t.Fatal(err)
		}
		projectors.Go(func() error { return pr.Run(running) })
	}

	want := make(map[events.User]map[events.ID]bool)
	edge := patientLog{open(7)}
	draws := rand.New(rand.NewPCG(1, 1))
	clock, err := events.NewClock(time.Now, rand.NewChaCha8([32]byte{9}))
	if err != nil {
		t.Fatal(err)
	}
	for j := range uint64(2) {
		row := events.Row{Number: j + 1, Writer: [16]byte{byte(j)}}
		if stands, err := edge.CreateJournal(ctx, row); err != nil && stands != row {
			t.Fatal(err)
		}
	}
	for n := range records {
		journal, at := events.JournalNumbered(uint64(n%2+1)), events.Offset(n/2+1)
		var raws [][]byte
		for range perRecord {
			a, b := events.User(fmt.Sprint("u", draws.IntN(users))), events.User(fmt.Sprint("u", draws.IntN(users)))
			e := events.Event{ID: clock.Next(), Kind: events.KindMessage, Sender: a, Device: "d", Conversation: events.Direct(a, b), Body: []byte("hi")}
			for _, u := range []events.User{a, b} {
				if want[u] == nil {
					want[u] = make(map[events.ID]bool)
				}
				want[u][e.ID] = true
			}
			raws = append(raws, e.Encode())
		}
		rec := events.NewRecord(journal, at, raws)
		time.Sleep(5 * time.Millisecond) // so that there are many checkpoints
		if stands, err := edge.Append(ctx, journal, at, rec); err != nil && string(stands) != string(rec) {
			t.Fatal(err)
		}
	}

	plain := openAs(t, p)
	timelines := projections.NewReader(plain, plain.Meta())
	for u, ids := range want {
		waitForHead(ctx, t, timelines, running, u, events.Seq(len(ids)))
	}
	stopped()
	if err := projectors.Wait(); err != nil {
		t.Fatal(err)
	}
	for _, net := range nets {
		net.Land()
	}
	for u, ids := range want {
		run, err := timelines.Read(t.Context(), u, 0, 0, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		for _, raw := range run.Events {
			id := events.Raw(raw).EventID()
			if !ids[id] {
				t.Errorf("timeline of %s has %v, which is not for it, or twice", u, id)
			}
			delete(ids, id)
		}
		if len(ids) > 0 || run.First != 1 {
			t.Errorf("timeline of %s begins with %d and lacks %d messages", u, run.First, len(ids))
		}
	}
	wantMet(t, nets)
}

// waitForHead waits until a timeline has as many entries as it should.
func waitForHead(ctx context.Context, t *testing.T, r *projections.Reader, running context.Context, u events.User, want events.Seq) {
	t.Helper()
	for {
		run, err := r.Head(ctx, u)
		if err != nil {
			t.Fatal(err)
		}
		if run.Head >= want {
			return
		}
		select {
		case <-running.Done():
			t.Fatalf("the projectors have ended; timeline of %s has %d entries, want %d", u, run.Head, want)
		case <-time.After(20 * time.Millisecond):
		}
	}
}
