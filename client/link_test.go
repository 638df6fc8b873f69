package client

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"timberline/events"
	"timberline/wire"
)

func TestLoginIsRepeatedUnchangedUntilAnswered(t *testing.T) {
	tell(t, Options{}, func(s *story) {
		s.advance(3 * time.Second)
		fs := took[wire.Login](s)
		if len(fs) < 3 || len(fs) > 5 {
			s.t.Fatalf("%d LOGINs within 3 s, want some, with pauses that grow", len(fs))
		}
		for _, f := range fs {
			if f.Attempt != fs[0].Attempt || f.Token != "token 1" || f.Version != wire.Version {
				s.t.Errorf("LOGIN %+v differs from the first: %+v", f, fs[0])
			}
		}
		s.frames = []wire.Frame{fs[0]}
		s.welcome(1, 0)
		s.advance(5 * time.Second)
		wantNo[wire.Login](s, "it is answered")
	})
}

func TestLoginWithoutAnAnswerIsTriedAnewFromAnotherSocket(t *testing.T) {
	tell(t, Options{}, func(s *story) {
		first := s.login()
		s.advance(10 * time.Second) // a server that restarts is back by then, and knows nothing of the first
		second := s.login()
		if second.Attempt == first.Attempt || second.Token == first.Token {
			s.t.Errorf("LOGIN %+v, want another attempt, with a token of its own", second)
		}
		if n := s.sockets(); n < 2 {
			s.t.Errorf("%d sockets were opened, want one for each try", n)
		}
		s.accept(second, 1, wire.Accepted{First: 1, Store: store1})
		s.wantState(StateOnline)
	})
}

// wantState checks the state that the client is in.
func (s *story) wantState(want State) {
	s.t.Helper()
	synctest.Wait()
	if got := s.c.State(); got != want {
		s.t.Errorf("the client is %v, want %v", got, want)
	}
}

func TestAnswersToAnotherLoginAreNotTaken(t *testing.T) {
	tell(t, Options{}, func(s *story) {
		f := s.login()
		s.say(&wire.Accepted{Attempt: events.MessageID{9}, Session: events.SessionID{9}, First: 1})
		s.say(&wire.Denied{Attempt: events.MessageID{9}, Reason: wire.ReasonBadToken})
		s.sayAs(netip.MustParseAddrPort("10.0.0.66:4747"), events.SessionID{}, &wire.Denied{Attempt: f.Attempt, Reason: wire.ReasonBadToken})
		s.wantState(StateConnecting)
		s.accept(f, 1, wire.Accepted{First: 1, Store: store1})
		s.wantState(StateOnline)
	})
}

func TestFramesOfStrangersAndOtherSessionsAreDropped(t *testing.T) {
	tell(t, Options{}, func(s *story) {
		s.welcome(1, 0)
		s.send("one")
		stranger := netip.MustParseAddrPort("10.0.0.66:4747")
		for _, f := range []wire.Frame{
			&wire.Ack{Through: 1}, &wire.Push{From: 1, Events: entries("false")}, &wire.Closed{Reason: wire.ReasonLoggedOut},
		} {
			s.sayAs(stranger, s.session, f)
			s.sayAs(serverAddr, events.SessionID{9}, f)
		}
		s.put(serverAddr, []byte("no packet"))
		s.wantResults("nothing was acked")
		s.wantApp("nothing came")
		s.wantState(StateOnline)
		mapped := netip.AddrPortFrom(netip.AddrFrom16(serverAddr.Addr().As16()), serverAddr.Port())
		s.sayAs(mapped, s.session, &wire.Ack{Through: 1})
		s.wantResults("the server's address as a socket of IPv6 has it", "stored")
	})
}

func TestDeniedLoginEndsTheClient(t *testing.T) {
	tell(t, Options{OutboxLimit: 1}, func(s *story) {
		s.send("one")
		waits := make(chan error, 2)
		go func() { waits <- s.c.Flush(s.t.Context()) }()
		go func() {
			_, err := s.c.Send(s.t.Context(), "bob", []byte("two"))
			waits <- err
		}()
		synctest.Wait()
		s.say(&wire.Denied{Attempt: s.login().Attempt, Reason: wire.ReasonBadToken, Detail: "signature is wrong"})
		s.wantStates("for good", StateConnecting, StateClosed)
		for range 2 {
			if err := <-waits; !errors.Is(err, ErrDenied) || !errors.Is(err, ErrClosed) {
				s.t.Errorf("who waits is told %v, want ErrClosed and ErrDenied", err)
			}
		}
		if err := s.c.Err(); !errors.Is(err, ErrDenied) || !bytes.Contains([]byte(err.Error()), []byte("signature is wrong")) {
			s.t.Errorf("Err is %v, want ErrDenied with the server's words", err)
		}
		s.advance(time.Hour)
		wantNo[wire.Login](s, "it would be denied again")
	})
}

func TestBusyServerIsTriedAgainWhenItSays(t *testing.T) {
	tell(t, Options{}, func(s *story) {
		s.say(&wire.Denied{Attempt: s.login().Attempt, Reason: wire.ReasonBusy, RetryAfter: 5000})
		s.advance(5*time.Second - grain)
		wantNo[wire.Login](s, "not before its time")
		s.wantState(StateOffline)
		s.advance(firstPause + 2*grain)
		s.welcome(1, 0)
		s.wantState(StateOnline)
	})
}

func TestExpiredTokenIsReplacedOnceByAFreshOne(t *testing.T) {
	tell(t, Options{}, func(s *story) {
		s.welcome(1, 0)
		s.say(&wire.Closed{Reason: wire.ReasonExpired})
		s.advance(time.Second)
		s.say(&wire.Denied{Attempt: s.login().Attempt, Reason: wire.ReasonExpired})
		s.advance(time.Second)
		if f := s.welcome(2, 0); f.Token != "token 3" {
			s.t.Errorf("LOGIN with %q, want a fresh one", f.Token)
		}
		s.wantState(StateOnline)
		s.say(&wire.Closed{Reason: wire.ReasonExpired})
		for range 2 {
			s.wantState(StateOffline)
			s.advance(time.Second)
			s.say(&wire.Denied{Attempt: s.login().Attempt, Reason: wire.ReasonExpired})
		}
		if !errors.Is(s.c.Err(), ErrDenied) {
			s.t.Errorf("two tokens were expired: %v, want ErrDenied", s.c.Err())
		}
	})
}

func TestTokenThatCannotBeGotIsAskedForAgain(t *testing.T) {
	tell(t, Options{}, func(s *story) {
		s.note(func() { s.noToken = errors.New("no network") })
		s.welcome(1, 0)
		s.say(&wire.Closed{})
		s.advance(time.Minute)
		wantNo[wire.Login](s, "there is no token")
		s.note(func() {
			if s.tokens < 4 || s.tokens > 20 {
				s.t.Errorf("Token was called %d times within a minute, want some, with pauses that grow", s.tokens)
			}
			s.noToken = nil
		})
		s.advance(maxPause)
		s.welcome(2, 0)
		s.wantState(StateOnline)
	})
}

func TestTokenThatTakesTooLongIsGivenUp(t *testing.T) {
	calls := 0
	slow := func(ctx context.Context) (string, error) {
		if calls++; calls > 1 {
			return "token", nil
		}
		<-ctx.Done()
		return "", ctx.Err()
	}
	tell(t, Options{Token: slow}, func(s *story) {
		s.advance(tokenPatience + 2*firstPause)
		s.welcome(1, 0)
		s.wantState(StateOnline)
	})
}

func TestSocketThatFailsIsReplaced(t *testing.T) {
	tell(t, Options{}, func(s *story) {
		s.welcome(1, 0)
		s.end().Close()
		s.wantState(StateOffline)
		s.advance(time.Second)
		s.welcome(2, 0)
		if n := s.sockets(); n != 2 {
			s.t.Errorf("%d sockets, want 2", n)
		}
	})
}

func TestSocketThatCannotBeOpenedIsTriedAgain(t *testing.T) {
	broken := 2
	var s *story
	listen := func() (wire.PacketConn, error) {
		if broken--; broken >= 0 {
			return nil, errors.New("no network")
		}
		return s.listen()
	}
	synctest.Test(t, func(t *testing.T) {
		s = &story{t: t, heartMS: 15000}
		o := Options{Listen: listen, Store: NewMemory()}
		s.hooks(&o)
		s.dial(o)
		defer s.c.Close()
		s.wantState(StateOffline)
		s.advance(time.Second)
		s.welcome(1, 0)
	})
}

func TestHeartbeatsAreSentAndLostOnesRepeated(t *testing.T) {
	tell(t, Options{}, func(s *story) {
		s.welcome(1, 0)
		s.advance(15 * time.Second)
		first := took[wire.Ping](s)
		if len(first) == 0 {
			s.t.Fatal("no heartbeat within its interval")
		}
		s.advance(3 * time.Second)
		again := took[wire.Ping](s)
		if len(again) == 0 {
			s.t.Fatal("a lost heartbeat is not repeated")
		}
		s.say(&wire.Pong{ID: again[len(again)-1].ID, First: 1})
		s.advance(11 * time.Second)
		wantNo[wire.Ping](s, "answered: the next one is far away")
		s.advance(4 * time.Second)
		if len(took[wire.Ping](s)) == 0 {
			s.t.Error("no heartbeat after the one that was answered")
		}
	})
}

// A server on a busy disk may say nothing for seconds. A fast network makes the
// time-outs short, but not the patience.
func TestServerThatStallsForSecondsIsNotLeft(t *testing.T) {
	tell(t, Options{}, func(s *story) {
		s.welcome(1, 0)
		s.live(30*time.Second, 0)
		for len(took[wire.Ping](s)) == 0 {
			s.advance(grain)
		}
		s.advance(4 * time.Second)
		s.wantState(StateOnline)
		s.live(time.Minute, 0)
		s.wantStates("it was there all the time", StateConnecting, StateOnline)
	})
}

func TestServerThatSaysNothingIsLeftAndFoundAgain(t *testing.T) {
	tell(t, Options{}, func(s *story) {
		s.welcome(1, 0)
		s.advance(15*time.Second + 10*time.Second)
		s.note(func() { s.states = s.states[:4] }) // the first try may have failed
		s.wantStates("gone", StateConnecting, StateOnline, StateOffline, StateConnecting)
		s.advance(10 * time.Minute)
		if n := len(took[wire.Login](s)); n < 50 || n > 500 {
			s.t.Errorf("%d LOGINs within 10 minutes, want some: the server may come back", n)
		}
		s.awaitLogin()
		s.welcome(2, 0)
		s.wantState(StateOnline)
	})
}

// awaitLogin lets time pass until a LOGIN has just come.
func (s *story) awaitLogin() {
	s.t.Helper()
	for begin := time.Now(); time.Since(begin) < 2*maxPause; s.advance(10 * grain) {
		if fs := took[wire.Login](s); len(fs) > 0 {
			s.frames = append(s.frames, fs[len(fs)-1])
			return
		}
	}
	s.t.Fatal("no LOGIN comes")
}

// A device that sends notices a dead server long before the next heartbeat.
func TestUnansweredSendIsFollowedByAHeartbeat(t *testing.T) {
	tell(t, Options{}, func(s *story) {
		s.welcome(1, 0)
		s.live(5*time.Second, 0)
		s.send("one")
		s.advance(time.Second)
		if len(took[wire.Ping](s)) == 0 {
			s.t.Error("nothing asks whether the server lives")
		}
		s.advance(8 * time.Second)
		s.hear()
		if s.c.State() == StateOnline {
			s.t.Error("it is not noticed that the server is gone")
		}
	})
}

func TestServerThatWasRestartedIsJoinedAgain(t *testing.T) {
	tell(t, Options{}, func(s *story) {
		for session := byte(1); session < 5; session++ {
			s.welcome(session, 0)
			s.wantState(StateOnline)
			s.say(&wire.Closed{}) // it does not know the session
			s.wantState(StateOffline)
			s.advance(2 * time.Second)
		}
		s.note(func() {
			if s.tokens != 5 {
				s.t.Errorf("%d tokens were asked for, want one for each login", s.tokens)
			}
		})
	})
}

func TestDeviceThatWasLoggedOutStaysOut(t *testing.T) {
	tell(t, Options{}, func(s *story) {
		s.welcome(1, 0)
		s.say(&wire.Closed{Reason: wire.ReasonLoggedOut})
		s.wantStates("for good", StateConnecting, StateOnline, StateClosed)
		if !errors.Is(s.c.Err(), errLoggedOut) || !errors.Is(s.c.Err(), ErrClosed) {
			s.t.Errorf("Err is %v, want %v", s.c.Err(), errLoggedOut)
		}
		s.advance(time.Hour)
		wantNo[wire.Login](s, "it was told to go")
	})
}

func TestCloseTellsTheServer(t *testing.T) {
	tell(t, Options{}, func(s *story) {
		s.welcome(1, 0)
		s.c.Close()
		one[wire.Bye](s)
		s.wantStates("closed", StateConnecting, StateOnline, StateClosed)
		if err := s.c.Err(); err != ErrClosed {
			s.t.Errorf("Err is %v, want ErrClosed alone", err)
		}
	})
}

func TestTokenThatDoesNotFitIntoAPacketIsAnErrorForGood(t *testing.T) {
	for _, c := range []wire.Codec{wire.Proto, wire.JSON} {
		tell(t, Options{Codec: c}, func(s *story) {
			s.welcome(1, 0)
			s.note(func() { s.longToken = strings.Repeat("x", wire.MaxPacket) })
			s.say(&wire.Closed{})
			s.advance(time.Second)
			if err := s.c.Err(); !errors.Is(err, ErrDenied) || !strings.Contains(err.Error(), "token of 1200 bytes") {
				s.t.Errorf("Err is %v, want one that tells the token's size", err)
			}
			wantNo[wire.Login](s, "it would be dropped")
		})
	}
}
