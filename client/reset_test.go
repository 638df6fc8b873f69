package client

import (
	"math"
	"testing"
	"time"

	"timberline/wire"
)

// Another store behind the same address: what the device has is of no timeline
// there.
func TestAnotherStoreMakesTheDeviceBeginAnew(t *testing.T) {
	tell(t, Options{}, func(s *story) {
		s.welcome(1, 0)
		s.say(&wire.Push{From: 1, Events: entries("one", "two")}, &wire.Push{From: 4, Events: entries("four")})
		s.say(&wire.Closed{})
		s.advance(time.Second)
		f := s.login()
		if f.Cursor != 2 || f.Store != store1 {
			s.t.Errorf("LOGIN with cursor %d of store %v, want 2 of %v", f.Cursor, f.Store, store1)
		}
		took[wire.Sync](s)
		s.accept(f, 2, wire.Accepted{Head: 3, First: 1, Store: store2})
		s.wantApp("first the app is told", "one", "two", "reset")
		if c := s.saved().Cursor; c != (Cursor{Store: store2}) {
			s.t.Errorf("cursor %+v is kept, want 0 of %v", c, store2)
		}
		s.advance(grain)
		s.answer(s.wantSync("everything, and nothing of the old store", wire.Range{After: 0}), []string{"a", "b", "c"})
		s.wantApp("the other timeline", "one", "two", "reset", "a", "b", "c")
		if c := s.saved().Cursor; c != (Cursor{Store: store2, Seq: 3}) {
			s.t.Errorf("cursor %+v is kept, want 3 of %v", c, store2)
		}
	})
}

// An app that was shown messages, and died before it was noted that it took them, is told
// that those are of a store that is no more.
func TestFirstStoreIsKeptBeforeTheAppIsShownAnything(t *testing.T) {
	tell(t, Options{}, func(s *story) {
		s.block = make(chan struct{})
		s.welcome(1, 0)
		s.say(&wire.Push{From: 1, Events: entries("one")})
		left := s.saved()
		close(s.block)
		if left.Cursor != (Cursor{Store: store1}) {
			s.t.Errorf("cursor %+v is kept, want 0 of %v", left.Cursor, store1)
		}
		s.again(Options{Store: &Memory{saved: left}})
		s.accept(s.login(), 2, wire.Accepted{Head: 1, First: 1, Store: store2})
		s.wantApp("before anything of the other store", "one", "reset")
	})
}

// An app that says from where on it wants to read, of whichever store, is not set back to the
// beginning.
func TestFirstStoreIsKeptWithTheCursorThatWasGiven(t *testing.T) {
	tell(t, Options{Store: &Memory{saved: Saved{Cursor: Cursor{Seq: 5}}}}, func(s *story) {
		s.welcome(1, 5)
		if c := s.saved().Cursor; c != (Cursor{Store: store1, Seq: 5}) {
			s.t.Errorf("cursor %+v is kept, want 5 of %v", c, store1)
		}
	})
}

// However far beyond the end a cursor is, nothing was trimmed.
func TestHighestCursorOfAllIsBeyondTheEnd(t *testing.T) {
	tell(t, Options{Store: &Memory{saved: Saved{Cursor: Cursor{store1, math.MaxUint64}}}}, func(s *story) {
		s.welcome(1, 5)
		s.advance(grain)
		f := s.wantSync("is the cursor of this timeline?", wire.Range{After: math.MaxUint64})
		s.say(&wire.Page{Sync: f.ID, Status: wire.StatusAhead, Head: 5, First: 1, Last: true})
		s.wantApp("it is not", "reset")
	})
}

// As long as it cannot be kept which store that is the app is shown nothing: nobody could tell
// it, after a crash, that the store was replaced.
func TestAppIsShownNothingOfAStoreThatIsNotKept(t *testing.T) {
	store := &stalling{Store: NewMemory()}
	tell(t, Options{Store: store}, func(s *story) {
		store.fail(errFull)
		s.welcome(1, 0)
		s.say(&wire.Push{From: 1, Events: entries("one")})
		s.wantApp("its store is not kept")
		store.fail(nil)
		s.advance(saveAgain + grain)
		s.wantApp("it is kept now", "one")
		store.fail(errFull)
		s.say(&wire.Push{From: 2, Events: entries("two")})
		s.wantApp("how far it has read may be kept later", "one", "two")
	})
}

func TestResetDropsWhatTheAppHasNotTaken(t *testing.T) {
	tell(t, Options{}, func(s *story) {
		s.block = make(chan struct{})
		s.welcome(1, 0)
		s.say(&wire.Push{From: 1, Events: entries(texts(takeAtOnce)...)})
		s.say(&wire.Push{From: takeAtOnce + 1, Events: entries(texts(takeAtOnce)...)})
		s.say(&wire.Closed{})
		s.advance(time.Second)
		s.accept(s.login(), 2, wire.Accepted{First: 1, Store: store2})
		close(s.block)
		s.say(&wire.Push{From: 1, Events: entries("anew")})
		s.wantApp("what the app was at, then the new store", "message 1", "reset", "anew")
		if c := s.saved().Cursor; c != (Cursor{Store: store2, Seq: 1}) {
			s.t.Errorf("cursor %+v is kept, want 1 of %v: the app took older ones late", c, store2)
		}
	})
}

// A store that was put back from an older copy and kept its id knows less than
// the device. The device asks at once, whatever heads say: nothing may be missing
// as far as it knows.
func TestCursorBeyondTheTimelineIsAskedAbout(t *testing.T) {
	tell(t, Options{Store: &Memory{saved: Saved{Cursor: Cursor{store1, 7}}}}, func(s *story) {
		s.welcome(1, 5)
		s.advance(grain)
		f := s.wantSync("is the cursor of this timeline?", wire.Range{After: 7})
		s.say(&wire.Page{Sync: f.ID, Head: 7, First: 1, Last: true})
		s.wantApp("it is: the head was an old one")
		s.wantStates("it stays", StateConnecting, StateOnline)
	})
}

func TestDeviceAheadOfItsTimelineBeginsAnewInAnotherSession(t *testing.T) {
	tell(t, Options{Store: &Memory{saved: Saved{Cursor: Cursor{store1, 7}}}}, func(s *story) {
		s.welcome(1, 5)
		s.advance(grain)
		f := one[wire.Sync](s)
		s.say(&wire.Page{Sync: f.ID, Head: 5, First: 1, Last: true, Status: wire.StatusAhead})
		s.wantApp("it is not", "reset")
		s.send("hello")
		s.wantSends("a session with a cursor of no timeline may not send")
		s.advance(time.Second)
		if f := s.login(); f.Cursor != 0 {
			s.t.Errorf("LOGIN with cursor %d, want 0", f.Cursor)
		}
	})
}

func TestWaitingSyncGoesOnAfterAReset(t *testing.T) {
	tell(t, Options{}, func(s *story) {
		s.welcome(1, 0)
		done := make(chan error, 1)
		go func() { done <- s.c.Sync(s.t.Context()) }()
		s.advance(grain)
		took[wire.Sync](s)
		s.say(&wire.Closed{})
		s.advance(time.Second)
		s.accept(s.login(), 2, wire.Accepted{Head: 2, First: 1, Store: store2})
		s.advance(grain)
		s.serve([]string{"a", "b"})
		s.wantApp("the new store's", "reset", "a", "b")
		if err := <-done; err != nil {
			s.t.Error(err)
		}
	})
}

func TestAppTakesAReplacedStoreInItsTurn(t *testing.T) {
	tellPulled(t, Options{}, func(s *story) {
		s.welcome(1, 0)
		s.say(&wire.Closed{})
		s.advance(time.Second)
		s.accept(s.login(), 2, wire.Accepted{First: 1, Store: store2})
		s.say(&wire.Push{From: 1, Events: entries("a")})
		s.wantApp("nobody takes messages")
		for m, err := range s.c.Messages(s.t.Context()) {
			s.wantApp("the reset stands before", "reset")
			if err != nil || m.Cursor() != (Cursor{store2, 1}) {
				s.t.Errorf("message %v, %v, want the first of %v", m.Cursor(), err, store2)
			}
			break
		}
		if c := s.saved().Cursor; c != (Cursor{Store: store2}) {
			s.t.Errorf("cursor %+v is kept, want 0 of %v", c, store2)
		}
	})
}
