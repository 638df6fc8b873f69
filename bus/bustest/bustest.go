// Package bustest is the contract of bus.Bus as a test that every bus runs.
package bustest

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"timberline/bus"
	"timberline/events"
)

// Run runs the contract; new returns a bus that nobody uses. What a bus carries
// may be lost and may be late, so the tests publish again until it comes.
func Run(t *testing.T, newBus func(t *testing.T) bus.Bus) {
	for _, test := range []struct {
		name string
		run  func(t *testing.T, b bus.Bus)
	}{
		{"Hint comes to everybody who listens, whole", hintComes},
		{"Pushes come to everybody who listens, whole", pushesCome},
		{"A slot may be followed again and again", followAgain},
		{"Missed pushes come to nobody who listens", missedGoElsewhere},
		{"Nothing comes after stop", stopEnds},
		{"Publishing without a listener does not block", nobodyListens},
		{"Listeners come and go while others publish", comeAndGo},
		{"A handler may stop listening", stopInHandler},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, newBus(t)) })
	}
}

const patience = 10 * time.Second

// until publishes again and again until something has come on the channel.
func until[T any](t *testing.T, ch <-chan T, publish func()) T {
	t.Helper()
	deadline := time.After(patience)
	for {
		publish()
		select {
		case got := <-ch:
			return got
		case <-deadline:
			t.Fatalf("nothing has come within %v", patience)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// offer hands on a value if there is room: handlers never block.
func offer[T any](ch chan<- T, v T) {
	select {
	case ch <- v:
	default:
	}
}

var hint = bus.Hint{Store: events.StoreID{1}, Journal: "j:7", Offset: 42, Record: events.Record("record")}

func hintComes(t *testing.T, b bus.Bus) {
	one, two := make(chan bus.Hint, 1), make(chan bus.Hint, 1)
	defer b.OnHint(func(h bus.Hint) { offer(one, h) })()
	defer b.OnHint(func(h bus.Hint) { offer(two, h) })()
	for _, ch := range []chan bus.Hint{one, two} {
		got := until(t, ch, func() { b.PublishHint(hint) })
		if got.Store != hint.Store || got.Journal != hint.Journal || got.Offset != hint.Offset {
			t.Errorf("%+v came, want %+v", got, hint)
		}
		if got.Record != nil && string(got.Record) != string(hint.Record) {
			t.Errorf("record %q came, want %q or none", got.Record, hint.Record)
		}
	}
}

var pushes = []bus.Push{
	{Store: events.StoreID{1}, User: "ann", First: 3, Events: [][]byte{[]byte("three"), []byte("four")}, Newest: events.ID{9}},
	{Store: events.StoreID{1}, User: "ben", First: 1, Events: [][]byte{[]byte("one")}, Newest: events.ID{8}},
}

// follow follows the slots of all pushes.
func follow(t *testing.T, b bus.Bus) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for _, p := range pushes {
		if err := b.Follow(ctx, p.User.Slot()); err != nil {
			t.Fatal(err)
		}
	}
}

func pushesCome(t *testing.T, b bus.Bus) {
	follow(t, b)
	came := make(chan bus.Push, 10)
	defer b.OnPushes(func(ps []bus.Push) {
		for _, p := range ps {
			offer(came, p)
		}
	}, func() {})()
	for range 4 {
		got := until(t, came, func() { b.PublishPushes(pushes) })
		want := pushes[0]
		if got.User == pushes[1].User {
			want = pushes[1]
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%+v came, want %+v", got, want)
		}
		if got.Head() != got.First+events.Seq(len(got.Events))-1 {
			t.Errorf("head %d of %+v", got.Head(), got)
		}
	}
}

func followAgain(t *testing.T, b bus.Bus) {
	came := make(chan bus.Push, 10)
	defer b.OnPushes(func(ps []bus.Push) {
		for _, p := range ps {
			offer(came, p)
		}
	}, func() {})()
	for range 3 {
		follow(t, b)
		until(t, came, func() { b.PublishPushes(pushes) })
	}
	if !b.Connected() {
		t.Error("pushes come through a bus that is not connected")
	}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for s := range events.Slot(100) {
				if err := b.Follow(t.Context(), s); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
}

func missedGoElsewhere(t *testing.T, b bus.Bus) {
	missed, came := make(chan bus.Push, 1), make(chan bus.Push, 1)
	defer b.OnPushes(func(ps []bus.Push) {
		for _, p := range ps {
			if p.First == 100 {
				offer(missed, p)
			} else {
				offer(came, p)
			}
		}
	}, func() {})()
	follow(t, b)
	lost := pushes[0]
	lost.First = 100
	for range 3 {
		until(t, came, func() {
			b.PublishMissed([]bus.Push{lost})
			b.PublishPushes(pushes)
		})
	}
	select {
	case p := <-missed:
		t.Errorf("%+v came, which was missed", p)
	default:
	}
}

// stopEnds: what is on its way while stop is called may come, what is published
// later does not.
func stopEnds(t *testing.T, b bus.Bus) {
	came, late, other := make(chan bus.Hint, 1), make(chan bus.Hint, 1), make(chan bus.Hint, 1)
	later := hint
	later.Offset = 43
	stop := b.OnHint(func(h bus.Hint) {
		if h.Offset == later.Offset {
			offer(late, h)
		}
		offer(came, h)
	})
	until(t, came, func() { b.PublishHint(hint) })
	stop()
	defer b.OnHint(func(h bus.Hint) {
		if h.Offset == later.Offset {
			offer(other, h)
		}
	})()
	until(t, other, func() { b.PublishHint(later) })
	if len(late) > 0 {
		t.Error("a hint came that was published after stop")
	}
}

func nobodyListens(t *testing.T, b bus.Bus) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 10_000 {
			b.PublishHint(hint)
			b.PublishPushes(pushes)
			b.PublishMissed(pushes)
		}
	}()
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatal("publishing blocks")
	}
}

func comeAndGo(t *testing.T, b bus.Bus) {
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 200 {
				b.PublishHint(hint)
				b.PublishPushes(pushes)
			}
		})
		all.Go(func() {
			for range 200 {
				b.OnHint(func(bus.Hint) {})()
				b.OnPushes(func([]bus.Push) {}, func() {})()
			}
		})
	}
	all.Wait()
}

func stopInHandler(t *testing.T, b bus.Bus) {
	came := make(chan bus.Hint, 1)
	var once sync.Once
	var stop func()
	ready := make(chan struct{})
	stop = b.OnHint(func(h bus.Hint) {
		once.Do(func() {
			<-ready
			stop()
			offer(came, h)
		})
	})
	close(ready)
	until(t, came, func() { b.PublishHint(hint) })
}
