package client

import (
	"errors"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"timberline/wire"
)

// A system may tell of one change of network several times, all within the time
// that an answer takes.
func TestChangeOfNetworkThatIsToldOftenDoesNotEndTheSession(t *testing.T) {
	tellSealed(t, func(s *story) {
		s.enter(wire.Accepted{})
		for range 80 {
			s.c.NetworkChanged()
			s.advance(2 * grain)
		}
		s.advance(200 * time.Millisecond) // on its way
		pings := took[wire.Ping](s)
		if len(pings) == 0 || len(pings) > 80 {
			t.Fatalf("%d pings, want one from each socket", len(pings))
		}
		s.say(&wire.Challenge{Token: []byte("12345678")}, &wire.Pong{ID: pings[len(pings)-1].ID, First: 1})
		one[wire.Echo](s)
		s.advance(10 * time.Second)
		s.wantStates("never offline", StateConnecting, StateOnline)
	})
}

// And if there is no server any more, the device notices all the same.
func TestServerThatIsGoneIsNoticedBehindAChangeOfNetwork(t *testing.T) {
	tellSealed(t, func(s *story) {
		s.enter(wire.Accepted{})
		for range 80 {
			s.c.NetworkChanged()
			s.advance(2 * grain)
		}
		s.advance(8 * time.Second)
		s.wantStates("nothing is answered", StateConnecting, StateOnline, StateOffline, StateConnecting)
	})
}

// slowly makes every later socket take some time to be opened. fails says how many
// then cannot.
func (s *story) slowly(d time.Duration, fails int) func() (wire.PacketConn, error) {
	return func() (wire.PacketConn, error) {
		slow, fail := false, false
		s.note(func() {
			if slow = len(s.ends) > 0; slow && fails > 0 {
				fail = true
				fails--
			}
		})
		if slow {
			time.Sleep(d)
		}
		if fail {
			return nil, errors.New("no network")
		}
		return s.listen()
	}
}

// tellSlow tells a story whose later sockets take some time.
func tellSlow(t *testing.T, d time.Duration, fails int, play func(s *story)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &story{t: t, heartMS: 15000, vault: newVault(t)}
		o := Options{
			Store: NewMemory(), ServerKey: s.vault.key.Public.String(), Random: rand.NewChaCha8([32]byte{9}),
			Listen: s.slowly(d, fails),
		}
		s.hooks(&o)
		s.dial(o)
		defer func() { s.c.Close() }()
		play(s)
	})
}

func TestNetworkThatChangesAgainMeanwhileIsFollowed(t *testing.T) {
	tellSlow(t, 100*time.Millisecond, 0, func(s *story) {
		s.enter(wire.Accepted{})
		s.c.NetworkChanged()
		s.advance(50 * time.Millisecond)
		s.c.NetworkChanged() // the socket that is being opened is of a network that is gone
		s.advance(time.Second)
		if n := s.sockets(); n != 3 {
			t.Errorf("%d sockets, want one for each network", n)
		}
	})
}

func TestSocketThatFailsWhileAnotherIsOpenedDoesNotEndTheSession(t *testing.T) {
	tellSlow(t, 100*time.Millisecond, 0, func(s *story) {
		s.enter(wire.Accepted{})
		s.c.NetworkChanged()
		s.advance(50 * time.Millisecond)
		s.end().Close() // it went with its network
		s.advance(200 * time.Millisecond)
		one[wire.Ping](s)
		s.wantStates("never offline", StateConnecting, StateOnline)
	})
}

// The session is over before it is known that there is no other socket for it.
func TestSocketThatComesToNothingDisturbsNoLaterLogin(t *testing.T) {
	tellSlow(t, 4*time.Second, 1, func(s *story) {
		s.enter(wire.Accepted{})
		s.c.NetworkChanged()
		s.advance(50 * time.Millisecond)
		s.say(&wire.Closed{Reason: wire.ReasonIdle})
		s.advance(5 * time.Second)
		s.enter(wire.Accepted{})
		s.live(10*time.Second, 0)
		s.wantStates("one more login", StateConnecting, StateOnline, StateOffline, StateConnecting, StateOnline)
		open := 0
		for _, e := range s.ends {
			select {
			case <-e.gone:
			default:
				open++
			}
		}
		if open != 1 {
			t.Errorf("%d sockets are open, want one", open)
		}
	})
}
