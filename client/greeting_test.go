package client

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"timberline/wire"
	"timberline/wire/sealed"
)

// together hands datagrams of the server to the client in one read.
func (s *story) together(packets ...[]byte) {
	end := s.end()
	end.mu.Lock() // ReadBatch waits
	for _, data := range packets {
		end.in <- wire.Datagram{Addr: serverAddr, Data: data}
	}
	end.mu.Unlock()
	synctest.Wait()
}

// A server answers what was on its way to a dead session with a RESET each, and
// they come together.
func TestResetsThatComeTogetherAreOneReset(t *testing.T) {
	tellSealed(t, func(s *story) {
		s.enter(wire.Accepted{})
		s.live(time.Minute, 0)
		reset := sealed.AppendReset(nil, s.session, s.vault.reset)
		s.together(reset, reset, reset, reset, reset, reset, reset, reset)
		s.advance(firstPause + 2*grain)
		if _, n := s.hello(); n != 1 {
			t.Errorf("%d HELLOs within %v of the first loss of a session, want one", n, firstPause)
		}
	})
}

func TestResetBehindTheEndDoesNotReviveTheDevice(t *testing.T) {
	for why, frame := range map[error]wire.Frame{
		ErrReplaced:  &wire.Closed{Reason: wire.ReasonReplaced},
		errLoggedOut: &wire.Closed{Reason: wire.ReasonLoggedOut},
	} {
		tellSealed(t, func(s *story) {
			s.enter(wire.Accepted{})
			s.together(s.vault.seal(t, []wire.Frame{frame}), sealed.AppendReset(nil, s.session, s.vault.reset))
			s.advance(time.Minute)
			if _, n := s.hello(); n != 0 {
				t.Errorf("%v: %d HELLOs after the end", why, n)
			}
			s.wantState(StateClosed)
			if err := s.c.Err(); !errors.Is(err, why) {
				t.Errorf("closed with %v, want %v", err, why)
			}
		})
	}
}

// The device may get another address between its LOGIN and the answer: that goes
// to the old one, until the challenge is answered.
func TestChallengeOfADeviceThatDoesNotKnowItHasASessionIsEchoed(t *testing.T) {
	tellSealed(t, func(s *story) {
		s.greet()
		s.login()
		s.say(&wire.Challenge{Token: []byte("12345678")})
		if f := one[wire.Echo](s); string(f.Token) != "12345678" {
			t.Errorf("echo of %q", f.Token)
		}
	})
}
