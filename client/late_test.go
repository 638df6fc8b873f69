package client

import (
	"errors"
	"testing"
	"time"

	"timberline/events"
	"timberline/wire"
)

// A LOGIN that the network repeats late can meet a server that has forgotten the
// session it once opened, and opens another.

func TestDeviceLogsInAgainWhenItsServerHasForgottenTheSession(t *testing.T) {
	tell(t, Options{}, func(s *story) {
		s.advance(100 * time.Millisecond)
		s.welcome(1, 0)
		s.send("one")
		s.say(&wire.Closed{}) // the server was restarted
		s.advance(time.Second)
		repeated := s.welcome(2, 0) // and restarted again: it is asked to settle a session 2 that it does not know
		if len(repeated.Settle) != 1 || repeated.Settle[0].Session != (events.SessionID{1}) {
			t.Fatalf("LOGIN %+v, want one that settles session 1", repeated)
		}
		took[wire.Login](s)
		s.advance(2 * time.Second)
		if f := s.login(); f.Attempt != repeated.Attempt {
			t.Fatal("the LOGIN is not repeated while session 1 is not settled")
		}
		s.accept(repeated, 3, wire.Accepted{Store: store1})
		s.advance(time.Second)
		fresh := s.login()
		if fresh.Attempt == repeated.Attempt {
			t.Fatal("no new LOGIN, though the server does not know the session")
		}
		s.accept(fresh, 4, wire.Accepted{Store: store1})
		s.say(&wire.Settled{Session: events.SessionID{1}})
		took[wire.Send](s)
		s.advance(5 * time.Second)
		if fs := took[wire.Send](s); len(fs) == 0 || fs[0].Number != 1 {
			t.Errorf("sends %v, want the one left, with number 1", fs)
		}
	})
}

func TestDeviceReplacedByItsOwnLateLoginComesBack(t *testing.T) {
	tell(t, Options{}, func(s *story) {
		s.advance(100 * time.Millisecond)
		s.welcome(1, 0)
		for i := range 3 * maxReplaced {
			s.say(&wire.Closed{Reason: wire.ReasonReplaced})
			s.advance(3 * time.Second)
			s.welcome(byte(i+2), 0)
			s.advance(2 * calm) // so it is not the same story each time
		}
		if got := s.c.State(); got != StateOnline {
			t.Errorf("state %v, want online", got)
		}
	})
}

func TestDeviceThatIsReplacedAgainAndAgainGivesUp(t *testing.T) {
	tell(t, Options{}, func(s *story) {
		s.advance(100 * time.Millisecond)
		s.welcome(1, 0)
		for i := range maxReplaced {
			s.say(&wire.Closed{Reason: wire.ReasonReplaced})
			s.advance(3 * time.Second)
			s.welcome(byte(i+2), 0)
		}
		s.say(&wire.Closed{Reason: wire.ReasonReplaced})
		if !errors.Is(s.c.Err(), ErrReplaced) {
			t.Errorf("another client has the device: %v, want %v", s.c.Err(), ErrReplaced)
		}
		s.advance(time.Hour)
		wantNo[wire.Login](s, "the other one is welcome")
	})
}

func TestLoginThatAnEarlierOneOvertookIsTriedAgain(t *testing.T) {
	tell(t, Options{}, func(s *story) {
		for range maxReplaced {
			s.say(&wire.Denied{Attempt: s.login().Attempt, Reason: wire.ReasonReplaced})
			s.advance(3 * time.Second)
		}
		s.welcome(1, 0)
		if got := s.c.State(); got != StateOnline {
			t.Errorf("state %v, want online: what came late was the device's own", got)
		}
	})
}
