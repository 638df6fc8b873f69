package client

import (
	"errors"
	"testing"
	"time"

	"timberline/events"
	"timberline/wire"
)

func TestSendWaitsWhileTheAppTakesNoResults(t *testing.T) {
	tell(t, Options{OutboxLimit: 2}, func(s *story) {
		s.stick()
		s.welcome(1, 0)
		s.send("one", "two")
		s.say(&wire.Ack{Through: 2})
		ctx, cancel := in(time.Second)
		defer cancel()
		if _, err := s.c.Send(ctx, "bob", []byte("three")); !errors.Is(err, ctx.Err()) {
			s.t.Errorf("%v, want that it waits: two results are not taken", err)
		}
		s.unstick()
		s.wantResults("taken", "stored", "stored")
		s.send("three")
	})
}

// Of states that an app is too slow for, only the newest are of use.
func TestStatesThatAnAppIsTooSlowForAreLeftOut(t *testing.T) {
	tell(t, Options{}, func(s *story) {
		s.stick() // the states wait behind a result
		s.welcome(1, 0)
		s.send("one")
		s.say(&wire.Ack{Through: 1})
		for session := byte(2); session < 40; session++ {
			s.lose()
			s.welcome(session, 0)
		}
		s.c.do(s.t.Context(), func(time.Time) {
			if n := len(s.c.loop.pending); n > maxStates {
				s.t.Errorf("%d states wait, want at most %d", n, maxStates)
			}
		})
		s.unstick()
		s.say(&wire.Closed{Reason: wire.ReasonLoggedOut})
		s.wantResults("results are never left out", "stored")
		s.note(func() {
			if n := len(s.states); n > maxStates+5 || s.states[n-1] != StateClosed || s.states[n-2] != StateOnline {
				s.t.Errorf("states %v, want the newest", s.states)
			}
		})
	})
}

func TestSendTooLargeForItsCodecIsAnError(t *testing.T) {
	tell(t, Options{Codec: wire.JSON}, func(s *story) { // before the login: the server has not told its limit
		if _, err := s.c.Send(s.t.Context(), "bob", make([]byte, 60<<10)); !errors.Is(err, events.ErrTooLarge) {
			s.t.Errorf("%v, want events.ErrTooLarge", err)
		}
		s.send("small")
		s.welcome(1, 0)
		s.wantSends("it left nothing behind", "small")
	})
}

func TestSendsKeptUnderALargerLimitAreRefusedByTheServerAlone(t *testing.T) {
	tell(t, Options{}, func(s *story) {
		if _, err := s.c.Send(s.t.Context(), "bob", make([]byte, 20<<10)); err != nil {
			s.t.Fatal(err)
		}
		s.send("small")
		s.welcome(1, 0) // its limit is lower
		fs := took[wire.Send](s)
		last := fs[len(fs)-1].Number
		for string(fs[len(fs)-1].Body) != "small" { // the window is smaller than the send
			s.say(&wire.Ack{Through: last})
			fs = took[wire.Send](s)
			last = fs[len(fs)-1].Number
		}
		s.say(&wire.Ack{Through: last, Refused: []wire.Refusal{{From: 1, To: last - 1, Reason: wire.ReasonTooLarge}}})
		s.wantResults("the small one is not held up", refusal(wire.ReasonTooLarge).Error(), "stored")
	})
}

// What is trimmed while the device has a gap there closes the gap.
func TestTrimmingDropsWhatWaitedBeforeItsTurn(t *testing.T) {
	tell(t, Options{}, func(s *story) {
		s.welcome(1, 0)
		s.say(&wire.Push{From: 3, Events: entries("three")}, &wire.Push{From: 6, Events: entries("six")})
		s.advance(gapWait + grain)
		f := one[wire.Sync](s)
		s.say(&wire.Page{Sync: f.ID, From: 6, Head: 6, First: 6, Last: true, Status: wire.StatusTooOld})
		s.wantApp("six is next now", "trimmed 1-5", "six")
		if queued, early := s.waiting(); queued != 0 || early != 0 {
			s.t.Errorf("%d and %d entries are left waiting", queued, early)
		}
		s.c.do(s.t.Context(), func(time.Time) {
			if n := s.c.loop.d.in.bytes; n != 0 {
				s.t.Errorf("%d bytes are counted as waiting", n)
			}
		})
	})
}
