package client

import (
	"errors"
	"testing"
	"time"

	"timberline/events"
	"timberline/wire"
)

// begin logs in for an hour, in either mode.
func (s *story) begin() {
	s.t.Helper()
	const hour = 3_600_000
	if s.vault != nil {
		s.enter(wire.Accepted{Expires: hour})
		return
	}
	s.accept(s.login(), 1, wire.Accepted{First: 1, Store: store1, Expires: hour})
}

// inBothModes tells a story in plain and in sealed mode.
func inBothModes(t *testing.T, play func(s *story)) {
	t.Run("plain", func(t *testing.T) { tell(t, Options{}, play) })
	t.Run("sealed", func(t *testing.T) { tellSealed(t, play) })
}

func TestTokenIsRenewedBeforeItsSessionEnds(t *testing.T) {
	inBothModes(t, func(s *story) {
		s.begin()
		session := s.session
		s.live(45*time.Minute, 0)
		wantNo[wire.Login](s, "there is time")
		s.live(10*time.Minute, 0)
		f := s.login()
		if f.Token != "token 2" || len(f.Settle) != 0 {
			s.t.Errorf("LOGIN with %q, want a fresh token, and nothing to settle", f.Token)
		}
		s.accept(f, session[0], wire.Accepted{First: 1, Store: store1, Expires: 3_600_000})
		s.live(45*time.Minute, 0)
		wantNo[wire.Login](s, "it was renewed")
		s.live(10*time.Minute, 0)
		if f := s.login(); f.Token != "token 3" {
			s.t.Errorf("LOGIN with %q, want a fresh token each time", f.Token)
		}
		s.wantStates("all in one session", StateConnecting, StateOnline)
	})
}

func TestRenewalIsRepeatedUntilAnsweredAndTriedAgainWhenDenied(t *testing.T) {
	inBothModes(t, func(s *story) {
		s.begin()
		s.live(54*time.Minute, 0)
		s.hear()
		logins := took[wire.Login](s)
		for len(logins) < 3 {
			s.live(time.Second, 0)
			logins = append(logins, took[wire.Login](s)...)
		}
		if logins[0].Attempt != logins[2].Attempt || logins[0].Token != logins[2].Token {
			s.t.Errorf("a repeat differs: %+v, %+v", logins[0], logins[2])
		}
		s.say(&wire.Denied{Attempt: logins[0].Attempt, Reason: wire.ReasonBadToken})
		s.live(30*time.Second, 0)
		wantNo[wire.Login](s, "it was denied")
		s.live(4*time.Minute, 0)
		if f := s.login(); f.Attempt == logins[0].Attempt || f.Token == logins[0].Token {
			s.t.Errorf("another try with the attempt or the token of the one before: %+v", f)
		}
		s.wantState(StateOnline)
	})
}

func TestTokenThatCannotBeGotInTimeEndsNothingEarly(t *testing.T) {
	inBothModes(t, func(s *story) {
		s.begin()
		s.note(func() { s.noToken = errors.New("no network") })
		s.live(59*time.Minute+50*time.Second, 0)
		wantNo[wire.Login](s, "there is no token")
		s.wantState(StateOnline)
		s.note(func() {
			if s.tokens < 3 || s.tokens > 20 {
				s.t.Errorf("Token was called %d times, want a few", s.tokens)
			}
		})
	})
}

// An old session may be long in being settled, until after the token is to be
// renewed.
func TestRenewalThatHasToWaitDoesNotKeepTheDeviceAwake(t *testing.T) {
	l := link{phase: joined, login: &wire.Login{}, settle: events.SessionID{1}}
	now := time.Unix(1, 0)
	l.pace = newPace(15*time.Second, time.Minute)
	l.pingAt, l.loginAt, l.renewAt = now.Add(10*time.Second), now.Add(time.Second), now.Add(-time.Second)
	if l.renew(now) {
		t.Error("the token is renewed before the old session is settled")
	}
	if next := l.next(); !next.After(now) {
		t.Errorf("there is something to do at %v, now is %v", next, now)
	}
}
