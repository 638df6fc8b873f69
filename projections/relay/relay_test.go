package relay

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"timberline/events"
	"timberline/projections/lease/leasetest"
)

// A stage is a stream, relays and a broker.
type stage struct {
	t      *testing.T
	stream *stream
	broker *broker
	leases *leasetest.Memory
	heads  map[events.User]events.Seq
	relays int
}

func newStage(t *testing.T) *stage {
	return &stage{t: t, stream: newStream(), broker: newBroker(t), leases: new(leasetest.Memory), heads: make(map[events.User]events.Seq)}
}

// relay starts a relay, and returns what stops it in order.
func (s *stage) relay() (stop func()) {
	s.t.Helper()
	s.relays++
	r, err := New(Config{
		Stream: s.stream, Leases: s.leases, Owner: fmt.Sprint("relay ", s.relays), Publisher: s.broker, Store: storeID,
		Random: rand.NewChaCha8([32]byte{byte(s.relays)}), Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.Run(ctx)
	}()
	stop = func() { cancel(); <-done }
	s.t.Cleanup(stop)
	return stop
}

// write adds an entry to each of some timelines.
func (s *stage) write(users ...events.User) {
	for _, u := range users {
		s.heads[u]++
		s.stream.write(u, s.heads[u])
	}
}

// wantAll says that every entry came, in order.
func (s *stage) wantAll(why string) {
	s.t.Helper()
	for u, head := range s.heads {
		var want []events.Seq
		for seq := range head {
			want = append(want, seq+1)
		}
		if got := s.broker.firsts(u); !slices.Equal(got, want) {
			s.t.Errorf("%s: pushes of %s came as %v, want each of %v in order", why, u, got, want)
		}
	}
}

func TestChangesArePassedOnSoonAndOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t)
		stop := s.relay()
		time.Sleep(time.Minute)
		for range 10 {
			s.write("ann", "ben", "cat")
			time.Sleep(300 * time.Millisecond)
			s.wantAll("a poll later")
		}
		if n := s.broker.count("ann"); n != 10 {
			t.Errorf("%d pushes for 10 entries", n)
		}
		stop()
		s.write("ann")
		s.relay()
		time.Sleep(time.Second)
		s.wantAll("another relay goes on")
		if n := s.broker.count("ann"); n != 11 {
			t.Errorf("%d pushes for 11 entries: a relay that stops in order leaves its place", n)
		}
		if n := s.broker.distrusts(); n != 0 {
			t.Errorf("edges were told to distrust %d times, and nothing was left out", n)
		}
	})
}

func TestChildIsReadAfterItsParent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t)
		for range 5 {
			s.write("ann", "ben")
			s.stream.roll()
		}
		s.write("ann", "ben")
		s.relay()
		s.relay()
		time.Sleep(time.Minute)
		s.wantAll("five generations")
		if n := s.broker.count("ann"); n != 6 {
			t.Errorf("%d pushes for 6 entries", n)
		}
		s.stream.trim()
		time.Sleep(time.Minute)
		all, err := s.leases.ListLeases(t.Context(), leaseKind)
		if n := len(all); n != 1 || err != nil {
			t.Errorf("%d leases are kept, want 1: the other shards are gone", n)
		}
		if n := s.broker.distrusts(); n != 0 {
			t.Errorf("edges were told to distrust %d times, and all was read", n)
		}
	})
}

func TestExpiredIteratorIsSoughtAgainBeforeAnythingWasRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t)
		s.relay()
		time.Sleep(time.Second)
		s.stream.expire() // before the first change
		s.write("ann")
		time.Sleep(time.Second)
		s.wantAll("before the first change")
		s.stream.expire()
		s.write("ann")
		time.Sleep(time.Second)
		s.wantAll("after it")
		if n := s.broker.count("ann"); n != 2 {
			t.Errorf("%d pushes for 2 entries", n)
		}
	})
}

func TestEdgesAreToldWhenTheStreamHasLostChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t)
		stop := s.relay()
		s.write("ann")
		time.Sleep(time.Second)
		stop()
		s.write("ann", "ann")
		s.stream.trim()
		s.write("ann")
		s.relay()
		time.Sleep(time.Second)
		if got := s.broker.firsts("ann"); !slices.Equal(got, []events.Seq{1, 4}) {
			t.Errorf("pushes %v came, want what the stream still had", got)
		}
		if n := s.broker.distrusts(); n != 1 {
			t.Errorf("edges were told to distrust %d times, want once", n)
		}
	})
}

func TestEdgesAreToldWhenAWholeShardIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t)
		s.relay()
		time.Sleep(time.Second)
		s.stream.disturb(func(what string) error {
			if what == "shards" {
				return nil
			}
			return errFault
		})
		s.write("ann")
		s.stream.roll()
		s.stream.trim() // while it cannot be read
		s.stream.disturb(func(string) error { return nil })
		s.write("ben")
		time.Sleep(time.Minute)
		if got := s.broker.firsts("ben"); !slices.Equal(got, []events.Seq{1}) {
			t.Errorf("pushes %v came of the child, want 1", got)
		}
		if s.broker.distrusts() == 0 {
			t.Error("a shard was lost unread, and edges were not told")
		}
	})
}

func TestOldChangesAreLeftOutAndEdgesToldOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t)
		for range 100 {
			s.write("ann")
		}
		time.Sleep(10 * time.Minute)
		s.write("ben")
		s.relay()
		time.Sleep(5 * time.Second)
		if got := s.broker.firsts("ann"); len(got) > 0 {
			t.Errorf("pushes %v came of what is old", got)
		}
		if got := s.broker.firsts("ben"); !slices.Equal(got, []events.Seq{1}) {
			t.Errorf("pushes %v came, want the new one", got)
		}
		if n := s.broker.distrusts(); n != 1 {
			t.Errorf("edges were told to distrust %d times, want once", n)
		}
	})
}

func TestDamagedItemIsLeftOutAndTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t)
		s.write("ann", "ben")
		s.stream.shards[0].changes[0].Data[9] ^= 1
		s.relay()
		time.Sleep(time.Second)
		if got := s.broker.firsts("ann"); len(got) > 0 {
			t.Error("a damaged item was pushed")
		}
		if got := s.broker.firsts("ben"); len(got) != 1 || s.broker.distrusts() != 1 {
			t.Errorf("%v came behind it, %d distrusts, want one each", got, s.broker.distrusts())
		}
	})
}

func TestPlaceWaitsForTheBus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t)
		s.broker.disturb(func() error { return errFault })
		stop := s.relay()
		s.write("ann")
		time.Sleep(time.Minute)
		stop()
		s.broker.disturb(func() error { return nil })
		s.relay()
		time.Sleep(time.Second)
		s.wantAll("the bus is back")
	})
}

// Whatever fails, relays come and go, shards roll: what was not left out comes in
// order, and edges know of the rest.
func TestNothingIsLeftOutUntold(t *testing.T) {
	for seed := range uint64(30) {
		synctest.Test(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 4))
			s := newStage(t)
			var mu sync.Mutex // r is used by all
			draw := func(n int) int {
				mu.Lock()
				defer mu.Unlock()
				return r.IntN(n)
			}
			fault := func() error {
				if draw(6) == 0 {
					return errFault
				}
				return nil
			}
			s.stream.fault = func(string) error { return fault() }
			s.broker.fault = fault
			stops := []func(){s.relay()}
			for range 150 {
				what := draw(20)
				switch what {
				case 0:
					s.stream.roll()
				case 1:
					s.stream.expire()
				case 2:
					if len(stops) > 0 {
						stops[0]()
						stops = stops[1:]
					}
				case 3:
					stops = append(stops, s.relay())
				default:
					s.write("ann", "ben", "cat")
				}
				time.Sleep(time.Duration(what) * 50 * time.Millisecond)
			}
			s.relay()
			time.Sleep(5 * time.Minute)
			s.wantAll(fmt.Sprintf("seed %d", seed))
			if most := s.stream.together(); most > 2 {
				t.Errorf("seed %d: %d readers of a shard at one time, want at most 2", seed, most)
			}
		})
	}
}
