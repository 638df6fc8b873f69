package client

import (
	"net/netip"
	"testing"
	"time"

	"timberline/events"
	"timberline/wire"
)

// stop has the server end the session in order, with the last ack before, and waits for
// the next LOGIN.
func (s *story) stop(through events.Number, f wire.Closed) {
	s.t.Helper()
	f.Reason, f.Final = wire.ReasonShutdown, true
	s.say(&wire.Ack{Through: through}, &f)
	s.hear()
	took[wire.Send](s)
	s.awaitLogin()
}

func TestSessionWhoseAnswersAreFinalNeedsNoSettling(t *testing.T) {
	tell(t, Options{}, func(s *story) {
		s.welcome(1, 0)
		s.send("one", "two", "three")
		s.stop(1, wire.Closed{Through: 1})
		if f := s.welcome(2, 0); len(f.Settle) > 0 {
			s.t.Errorf("LOGIN settles %v, want nothing: what is not answered will never be in the log", f.Settle)
		}
		s.wantSends("at once, anew", "two", "three")
		s.say(&wire.Ack{Through: 2})
		s.wantResults("all", "stored", "stored", "stored")
	})
}

func TestFinalAnswersOfWhichOneWasMissedAreSettled(t *testing.T) {
	tell(t, Options{}, func(s *story) {
		s.welcome(1, 0)
		s.send("one", "two", "three")
		s.stop(1, wire.Closed{Through: 2}) // the ack of two is lost
		s.wantSettle(s.welcome(2, 0), 1, 10)
		s.wantSends("two may stand or not")
		s.say(&wire.Settled{Session: events.SessionID{1}, Numbers: []uint64{1, 2}})
		s.wantSends("three does not", "three")
	})
}

// The session that stops has not settled the one before: what it says of its own sends is
// nothing about those of the other.
func TestFinalAnswersAreThoseOfTheirSessionOnly(t *testing.T) {
	tell(t, Options{}, func(s *story) {
		s.welcome(1, 0)
		s.send("one")
		s.lose()
		s.wantSettle(s.welcome(2, 0), 1, 10)
		s.stop(0, wire.Closed{})
		s.wantSettle(s.welcome(3, 0), 1, 10)
		s.wantSends("it may stand in the log")
	})
}

func TestClientGoesWhereAServerThatStopsSends(t *testing.T) {
	tell(t, Options{}, func(s *story) {
		s.welcome(1, 0)
		elsewhere := netip.MustParseAddrPort("192.0.2.7:4747")
		s.stop(0, wire.Closed{Address: elsewhere.String()})
		if to := s.end().last(); to != elsewhere {
			s.t.Errorf("the LOGIN went to %v, want %v", to, elsewhere)
		}
		s.advance(time.Minute) // nobody answers there
		if to := s.end().last(); to != serverAddr {
			s.t.Errorf("the next LOGINs went to %v, want %v as ever", to, serverAddr)
		}
	})
}

func TestAddressOfNoUseIsNotGoneTo(t *testing.T) {
	tell(t, Options{}, func(s *story) {
		s.welcome(1, 0)
		s.stop(0, wire.Closed{Address: "nowhere"})
		if to := s.end().last(); to != serverAddr {
			s.t.Errorf("the LOGIN went to %v, want %v as ever", to, serverAddr)
		}
	})
}
