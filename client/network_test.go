package client

import (
	"testing"
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
