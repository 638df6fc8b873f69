package client

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"timberline/events"
	"timberline/wire"
)

var errNotNow = errors.New("not now")

func (s *story) refuseWith(err error) { s.note(func() { s.refuse = err }) }

// wantCursor checks the cursor that the store keeps.
func (s *story) wantCursor(why string, want events.Seq) {
	s.t.Helper()
	if c := s.saved().Cursor; c.Seq != want {
		s.t.Errorf("%s: cursor %d is kept, want %d", why, c.Seq, want)
	}
}

func TestEntryThatTheAppDoesNotTakeComesAgain(t *testing.T) {
	tell(t, Options{}, func(s *story) {
		s.welcome(1, 0)
		s.say(&wire.Push{From: 1, Events: entries("one")})
		s.refuseWith(errNotNow)
		s.say(&wire.Push{From: 2, Events: entries("two", "three")})
		s.advance(time.Minute)
		s.wantApp("it refuses two, and must not see three before", "one")
		s.wantCursor("two was not taken", 1)
		s.refuseWith(nil)
		s.advance(maxRetake)
		s.wantApp("the next try succeeds", "one", "two", "three")
		s.wantCursor("all taken", 3)
	})
}

func TestPausesBeforeAnEntryComesAgainGrow(t *testing.T) {
	tell(t, Options{}, func(s *story) {
		s.welcome(1, 0)
		s.refuseWith(errNotNow)
		s.say(&wire.Push{From: 1, Events: entries("one")})
		var tries []int
		for range 4 {
			s.note(func() { s.refused = 0 })
			s.advance(10 * time.Second)
			s.note(func() { tries = append(tries, s.refused) })
		}
		if tries[0] < 5 || tries[3] > 3 || tries[3] == 0 {
			s.t.Errorf("tries %v in 10 s each, want many at first, then one every %v", tries, maxRetake)
		}
	})
}

func TestDeviceThatCloseInterruptsInARefusalKeepsItsCursor(t *testing.T) {
	tell(t, Options{}, func(s *story) {
		s.welcome(1, 0)
		s.say(&wire.Push{From: 1, Events: entries("one")})
		s.refuseWith(errNotNow)
		s.say(&wire.Push{From: 2, Events: entries("two")})
		s.again(Options{})
		if f := s.login(); f.Cursor != 1 || f.Store != store1 {
			s.t.Errorf("LOGIN with cursor %d of store %v, want 1 of %v", f.Cursor, f.Store, store1)
		}
	})
}

// The cursor must not run ahead of the app: whatever is kept when the machine
// dies, the app has taken everything up to there.
func TestCursorNeverRunsAheadOfTheApp(t *testing.T) {
	tell(t, Options{}, func(s *story) {
		s.block = make(chan struct{})
		s.welcome(1, 0)
		s.say(&wire.Push{From: 1, Events: entries("one", "two")})
		s.advance(time.Minute)
		s.wantCursor("the app is still at the first", 0)
		close(s.block)
		s.wantApp("it has taken both", "one", "two")
		s.wantCursor("it has taken both", 2)
	})
}

func TestProgressOfASlowAppIsKeptEveryNowAndThen(t *testing.T) {
	tell(t, Options{}, func(s *story) {
		s.slow = 60 * time.Millisecond
		s.welcome(1, 0)
		s.say(&wire.Push{From: 1, Events: entries(texts(takeAtOnce)...)})
		s.advance(300 * time.Millisecond)
		if c := s.saved().Cursor.Seq; c < 2 || c > 5 {
			s.t.Errorf("cursor %d is kept after 5 messages, want it not far behind", c)
		}
		s.advance(time.Second)
		s.wantCursor("all taken", takeAtOnce)
	})
}

func TestStuckAppStopsNeitherHeartbeatsNorAcks(t *testing.T) {
	tell(t, Options{}, func(s *story) {
		s.block = make(chan struct{})
		defer close(s.block)
		s.welcome(1, 0)
		s.say(&wire.Push{From: 1, Events: entries("one")})
		s.send("hello")
		s.say(&wire.Ack{Through: 1})
		s.wantResults("results come by another way", "stored")
		if n := s.live(time.Minute, 1); n < 4 {
			s.t.Errorf("%d heartbeats within a minute, want one every 15 s or so", n)
		}
		s.wantStates("it stays", StateConnecting, StateOnline)
	})
}

func TestDeviceWithASlowAppAsksForNoMoreThanFindsRoom(t *testing.T) {
	timeline := texts(5000)
	tell(t, Options{}, func(s *story) {
		s.block = make(chan struct{})
		s.welcome(1, events.Seq(len(timeline)))
		s.advance(grain)
		s.serve(timeline)
		s.live(time.Minute, events.Seq(len(timeline)))
		wantNo[wire.Sync](s, "there is no room")
		queued, early := s.waiting()
		if queued > maxQueued || early > maxEarly {
			s.t.Errorf("%d entries wait for the app and %d before their turn, want at most %d and %d", queued, early, maxQueued, maxEarly)
		}
		close(s.block)
		for range 100 {
			s.advance(10 * time.Millisecond)
			s.serve(timeline)
		}
		s.wantApp("it has taken everything", timeline...)
	})
}

// waiting returns how many entries wait for the app, and before their turn.
func (s *story) waiting() (queued, early int) {
	s.c.do(s.t.Context(), func(time.Time) {
		queued, early = len(s.c.loop.d.in.queue.list), len(s.c.loop.d.in.early)
	})
	return queued, early
}

func TestQueueIsBoundedInBytes(t *testing.T) {
	in := newInbox(Cursor{})
	body := make([]byte, 64<<10)
	for seq := events.Seq(1); seq < 1000; seq++ {
		in.entry(seq, events.Event{Body: body})
	}
	if in.queue.bytes > maxQueuedBytes+len(body)+1000 {
		t.Errorf("%d bytes wait for the app, want about %d", in.queue.bytes, maxQueuedBytes)
	}
	if len(in.early) == 0 || in.bytes > maxEarlyBytes {
		t.Errorf("%d entries of %d bytes wait behind the full queue, want some, of at most %d", len(in.early), in.bytes, maxEarlyBytes)
	}
}

func TestMessagesEndsWhereItsLoopIsLeftAndGoesOnFromThere(t *testing.T) {
	tellPulled(t, Options{}, func(s *story) {
		s.welcome(1, 0)
		s.say(&wire.Push{From: 1, Events: entries("one", "two", "three")})
		take := func(until string) (got []string) {
			for m, err := range s.c.Messages(s.t.Context()) {
				if err != nil {
					s.t.Fatal(err)
				}
				got = append(got, string(m.Event.Body))
				if string(m.Event.Body) == until {
					break
				}
			}
			return got
		}
		if got := take("two"); fmt.Sprint(got) != "[one two]" {
			s.t.Errorf("first loop: %v", got)
		}
		s.wantCursor("the loop was left at two", 1)
		if got := take("three"); fmt.Sprint(got) != "[two three]" {
			s.t.Errorf("second loop: %v, want it to go on with two", got)
		}
		s.wantCursor("the loop was left at three", 2)
	})
}

func TestPanicInAMessagesLoopTakesOnlyWhatCameBefore(t *testing.T) {
	tellPulled(t, Options{}, func(s *story) {
		s.welcome(1, 0)
		s.say(&wire.Push{From: 1, Events: entries("one", "two", "three")})
		func() {
			defer func() { recover() }()
			for m := range s.c.Messages(s.t.Context()) {
				if m.Seq == 3 {
					panic("the app has a bug")
				}
			}
		}()
		s.wantCursor("the third was not taken", 2)
		for m := range s.c.Messages(s.t.Context()) {
			if m.Seq != 3 {
				s.t.Errorf("the next loop begins with %d, want 3", m.Seq)
			}
			break
		}
	})
}

// endOf returns the error that a loop over Messages ends with.
func (s *story) endOf(d time.Duration) error {
	ctx, cancel := in(d)
	defer cancel()
	for _, err := range s.c.Messages(ctx) {
		if err != nil {
			return err
		}
	}
	return nil
}

func TestMessagesEndsWithTheReason(t *testing.T) {
	tellPulled(t, Options{}, func(s *story) {
		s.welcome(1, 0)
		if err := s.endOf(time.Second); err == nil || errors.Is(err, ErrClosed) {
			s.t.Errorf("the context ends: %v, want its error", err)
		}
		ended := make(chan error)
		go func() { ended <- s.endOf(time.Hour) }()
		s.advance(time.Second)
		s.say(&wire.Closed{Reason: wire.ReasonLoggedOut})
		if err := <-ended; !errors.Is(err, ErrClosed) || !errors.Is(err, errLoggedOut) {
			s.t.Errorf("logged out: %v, want ErrClosed and the reason", err)
		}
	})
	tellPulled(t, Options{}, func(s *story) {
		ended := make(chan error)
		go func() { ended <- s.endOf(time.Hour) }()
		s.advance(time.Second)
		s.c.Close()
		if err := <-ended; !errors.Is(err, ErrClosed) {
			s.t.Errorf("closed: %v, want ErrClosed", err)
		}
		if err := s.endOf(time.Hour); !errors.Is(err, ErrClosed) {
			s.t.Errorf("after Close: %v, want ErrClosed", err)
		}
	})
	tell(t, Options{}, func(s *story) {
		if err := s.endOf(time.Hour); err == nil {
			s.t.Error("messages go to OnMessage, and Messages does not say so")
		}
	})
}

func TestLoopsOverMessagesTakeTurns(t *testing.T) {
	tellPulled(t, Options{}, func(s *story) {
		s.welcome(1, 0)
		done := make(chan int)
		for range 2 {
			go func() {
				n := 0
				ctx, cancel := in(time.Second)
				defer cancel()
				for _, err := range s.c.Messages(ctx) {
					if err != nil {
						break
					}
					n++
				}
				done <- n
			}()
		}
		s.advance(100 * time.Millisecond)
		s.say(&wire.Push{From: 1, Events: entries("one", "two", "three")})
		if a, b := <-done, <-done; a+b != 3 || a*b != 0 {
			s.t.Errorf("one loop had %d, the other %d: want all in one", a, b)
		}
	})
}

func TestFlushWaitsForAnswersAndForTheApp(t *testing.T) {
	tell(t, Options{}, func(s *story) {
		s.block = make(chan struct{})
		s.welcome(1, 1)
		s.send("hello")
		done := make(chan error, 1)
		go func() { done <- s.c.Flush(s.t.Context()) }()
		waits := func(why string) {
			s.t.Helper()
			s.advance(time.Second)
			select {
			case err := <-done:
				s.t.Fatalf("%s: Flush returned %v", why, err)
			default:
			}
		}
		waits("nothing came")
		s.say(&wire.Ack{Through: 1})
		waits("an entry is missing")
		s.serve([]string{"one"})
		waits("the app has not taken it")
		close(s.block)
		synctest.Wait()
		if err := <-done; err != nil {
			s.t.Error(err)
		}
		s.c.Close()
		if err := s.c.Flush(s.t.Context()); !errors.Is(err, ErrClosed) {
			s.t.Errorf("after Close: %v, want ErrClosed", err)
		}
	})
}

func TestFlushThatIsGivenUpIsForgotten(t *testing.T) {
	tell(t, Options{}, func(s *story) {
		s.welcome(1, 1)
		ctx, cancel := in(time.Second)
		defer cancel()
		if err := s.c.Flush(ctx); !errors.Is(err, ctx.Err()) {
			s.t.Errorf("%v, want the context's error", err)
		}
		s.c.do(s.t.Context(), func(time.Time) {
			if n := len(s.c.loop.waiters); n != 0 {
				s.t.Errorf("%d waiters are left", n)
			}
		})
	})
}
