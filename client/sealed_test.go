package client

import (
	"bytes"
	"crypto/ecdh"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"timberline/events"
	"timberline/wire"
	"timberline/wire/sealed"
)

// A vault is the server's end of sealed sockets: it notes HELLOs and opens what
// the client seals.
type vault struct {
	key    sealed.ServerKey
	random *rand.ChaCha8

	mu      sync.Mutex
	hellos  []sealed.Hello
	channel *sealed.Channel
	reset   sealed.Token
	made    byte // connections
}

func newVault(t *testing.T) *vault {
	t.Helper()
	private, err := ecdh.X25519().NewPrivateKey(bytes.Repeat([]byte{1}, 32))
	if err != nil {
		t.Fatal(err)
	}
	return &vault{key: sealed.NewServerKey(private), random: rand.NewChaCha8([32]byte{1})}
}

// open takes in a packet of the client.
func (v *vault) open(data []byte) (wire.Packet, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(data) > 0 && data[0] == sealed.TypeHello {
		h, err := sealed.ParseHello(data)
		v.hellos = append(v.hellos, h)
		return wire.Packet{}, err
	}
	if v.channel == nil {
		return wire.Packet{}, errors.New("sealed frames before a handshake")
	}
	frames, _, err := v.channel.Open(data)
	if err != nil {
		return wire.Packet{}, err
	}
	return wire.DecodeSealed(v.channel.Session(), frames)
}

// seal returns a packet with frames for the client.
func (v *vault) seal(t *testing.T, fs []wire.Frame) []byte {
	t.Helper()
	v.mu.Lock()
	defer v.mu.Unlock()
	p := wire.NewSealedPacker(wire.Proto)
	for _, f := range fs {
		p.Add(f)
	}
	packet, err := v.channel.Seal(p.Packets()[0])
	if err != nil {
		t.Fatal(err)
	}
	return packet
}

// hello returns the last HELLO, and how many have come since it was asked last.
func (s *story) hello() (h sealed.Hello, n int) {
	s.t.Helper()
	synctest.Wait()
	v := s.vault
	v.mu.Lock()
	defer v.mu.Unlock()
	if n = len(v.hellos); n == 0 {
		return h, 0
	}
	h, v.hellos = v.hellos[n-1], nil
	return h, n
}

// retry answers a HELLO with a RETRY.
func (s *story) retry(h sealed.Hello, r sealed.Retry) {
	s.put(serverAddr, h.AppendRetry(nil, r))
}

// greet answers the HELLO that must have come with a WELCOME.
func (s *story) greet() {
	s.t.Helper()
	h, n := s.hello()
	if n == 0 {
		s.t.Fatal("no HELLO came")
	}
	v := s.vault
	v.mu.Lock()
	v.made++
	v.reset = sealed.Token{v.made}
	packet, channel, err := h.Respond(v.key, sealed.Welcome{Session: events.SessionID{v.made}, Reset: v.reset}, v.random)
	v.channel = channel
	v.mu.Unlock()
	if err != nil {
		s.t.Fatal(err)
	}
	s.put(serverAddr, packet)
}

// sockets returns how many the client has opened.
func (s *story) sockets() (n int) {
	s.note(func() { n = len(s.ends) })
	return n
}

// enter shakes hands and accepts the LOGIN. The session is that of the connection.
func (s *story) enter(a wire.Accepted) *wire.Login {
	s.t.Helper()
	s.greet()
	f := s.login()
	if a.Store == (events.StoreID{}) {
		a.Store, a.First = store1, 1
	}
	s.accept(f, s.vault.made, a)
	s.wantState(StateOnline)
	return f
}

// tellSealed tells a story of a client that seals.
func tellSealed(t *testing.T, play func(s *story)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &story{t: t, heartMS: 15000, vault: newVault(t)}
		o := Options{Store: NewMemory(), ServerKey: s.vault.key.Public.String(), Random: rand.NewChaCha8([32]byte{9})}
		s.hooks(&o)
		s.dial(o)
		defer func() { s.c.Close() }()
		play(s)
	})
}

func TestDeviceProvesItsAddressAndThenLogsIn(t *testing.T) {
	tellSealed(t, func(s *story) {
		first, _ := s.hello()
		if first.Cookie != (sealed.Cookie{}) || first.Key != s.vault.key.Public.ID() || first.Version != sealed.Version {
			t.Errorf("the first HELLO is %+v", first)
		}
		s.retry(first, sealed.Retry{Version: 1, Cookie: sealed.Cookie{7}})
		again, n := s.hello()
		if n != 1 || again.Cookie != (sealed.Cookie{7}) || again.Echo() != first.Echo() {
			t.Errorf("%d HELLOs after RETRY, the last with cookie %x", n, again.Cookie)
		}
		wantNo[wire.Login](s, "nobody has proved to be the server")
		s.retry(again, sealed.Retry{Version: 1, Cookie: sealed.Cookie{7}})
		s.enter(wire.Accepted{Cookie: bytes.Repeat([]byte{8}, sealed.CookieSize)})

		s.say(&wire.Closed{Reason: wire.ReasonIdle})
		s.advance(time.Second)
		if next, _ := s.hello(); next.Cookie != sealed.Cookie(bytes.Repeat([]byte{8}, sealed.CookieSize)) || next.Echo() == first.Echo() {
			t.Errorf("the next connection has cookie %x, want the one of the login, and keys of its own", next.Cookie)
		}
	})
}

func TestLostLoginOfANewDeviceIsRepeatedAfterTheRoundTripOfItsHello(t *testing.T) {
	tellSealed(t, func(s *story) {
		s.advance(20 * time.Millisecond) // the way of HELLO and RETRY
		h, _ := s.hello()
		s.retry(h, sealed.Retry{Version: 1, Cookie: sealed.Cookie{7}})
		s.advance(20 * time.Millisecond)
		s.greet()
		one[wire.Login](s)
		s.advance(minRTO + 2*grain)
		one[wire.Login](s)
	})
}

func TestForgedAnswersChangeNothing(t *testing.T) {
	tellSealed(t, func(s *story) {
		s.hello()
		stranger := newVault(t)
		i, err := sealed.NewInitiator(stranger.key.Public, stranger.random)
		if err != nil {
			t.Fatal(err)
		}
		other, err := sealed.ParseHello(i.Hello(sealed.Cookie{}))
		if err != nil {
			t.Fatal(err)
		}
		s.retry(other, sealed.Retry{Version: 1, Cookie: sealed.Cookie{7}})
		for _, kind := range []byte{0, sealed.TypeHello, sealed.TypeRetry, sealed.TypeWelcome, sealed.TypeData, sealed.TypeReset, 6, '{'} {
			s.put(serverAddr, append([]byte{kind}, make([]byte, 120)...))
		}
		s.put(serverAddr, nil)
		if _, n := s.hello(); n != 0 {
			t.Errorf("%d HELLOs after answers that are none, want none", n)
		}
		s.wantState(StateConnecting)
		s.advance(firstRTO + 2*grain)
		s.enter(wire.Accepted{Head: 0})

		packet := s.vault.seal(t, []wire.Frame{&wire.Closed{}})
		packet[len(packet)-1] ^= 1
		s.put(serverAddr, packet)
		s.put(serverAddr, sealed.AppendReset(nil, s.session, sealed.Token{99}))
		plain := wire.Packet{Session: s.session, Frames: []wire.Frame{&wire.Closed{}}}
		s.put(serverAddr, plain.Encode())
		s.wantState(StateOnline)
		true1 := s.vault.seal(t, []wire.Frame{&wire.Push{From: 1, Events: [][]byte{entry("hi")}}})
		s.put(serverAddr, bytes.Clone(true1))
		s.put(serverAddr, true1)
		s.wantApp("once", "hi")
	})
}

func TestServerWithAnotherKeyOrVersionIsTriedAgainLater(t *testing.T) {
	for _, cause := range []sealed.Cause{sealed.CauseKey, sealed.CauseVersion, 99} {
		tellSealed(t, func(s *story) {
			h, _ := s.hello()
			s.retry(h, sealed.Retry{Version: 2, Cause: cause})
			s.wantState(StateOffline)
			if s.c.Trouble() == nil {
				t.Error("nobody is told why")
			}
			s.advance(time.Second) // it may be forged: so the device does not give up
			s.enter(wire.Accepted{})
			if err := s.c.Trouble(); err != nil {
				t.Errorf("online, and in trouble: %v", err)
			}
		})
	}
}

func TestRetriesAreObeyedAFewTimesOnly(t *testing.T) {
	tellSealed(t, func(s *story) {
		all := 0
		for i := range byte(20) {
			h, n := s.hello()
			all += n
			if n == 0 {
				break
			}
			s.retry(h, sealed.Retry{Version: 1, Cookie: sealed.Cookie{i}})
		}
		if all != 1+maxRetries {
			t.Errorf("%d HELLOs at once, want %d", all, 1+maxRetries)
		}
	})
}

func TestHelloIsRepeatedAndThenTriedAnew(t *testing.T) {
	tellSealed(t, func(s *story) {
		first, n := s.hello()
		for range 40 {
			s.advance(time.Second)
			h, more := s.hello()
			if n += more; more > 0 && h.Echo() != first.Echo() {
				break
			}
		}
		if n != maxLogins+1 || s.sockets() != 2 {
			t.Errorf("%d HELLOs from %d sockets, want %d, and another from another", n, s.sockets(), maxLogins)
		}
	})
}

func TestResetMakesTheDeviceConnectAgain(t *testing.T) {
	tellSealed(t, func(s *story) {
		s.enter(wire.Accepted{})
		id := s.send("hi")
		took[wire.Send](s)
		s.put(serverAddr, sealed.AppendReset(nil, s.session, s.vault.reset))
		s.wantState(StateOffline)
		s.advance(time.Second)
		if f := s.enter(wire.Accepted{}); len(f.Settle) != 1 || f.Settle[0].Session != (events.SessionID{1}) {
			t.Errorf("the next LOGIN settles %+v, want the session with message %v", f.Settle, id)
		}
	})
}

func TestChallengeIsEchoed(t *testing.T) {
	tellSealed(t, func(s *story) {
		s.enter(wire.Accepted{})
		s.say(&wire.Challenge{Token: []byte("12345678")})
		if f := one[wire.Echo](s); string(f.Token) != "12345678" {
			t.Errorf("echo of %q", f.Token)
		}
	})
}

func TestSessionGoesOnFromAnotherSocketWhenNothingIsAnswered(t *testing.T) {
	tellSealed(t, func(s *story) {
		s.enter(wire.Accepted{})
		sockets := s.sockets()
		var pings []*wire.Ping
		for s.sockets() == sockets && len(pings) <= rebindAfter {
			s.advance(100 * time.Millisecond)
			pings = append(pings, took[wire.Ping](s)...)
		}
		if s.sockets() != sockets+1 || len(pings) != rebindAfter+1 {
			t.Fatalf("%d more sockets, %d pings, want one more after %d, and a ping from there", s.sockets()-sockets, len(pings), rebindAfter)
		}
		s.say(&wire.Challenge{Token: []byte("12345678")}, &wire.Pong{ID: pings[len(pings)-1].ID, First: 1})
		one[wire.Echo](s)
		s.advance(10 * time.Second)
		wantNo[wire.Login](s, "the session goes on")
		s.wantState(StateOnline)
		s.wantStates("never offline", StateConnecting, StateOnline)
	})
}

func TestChangeOfNetworkIsFollowedAtOnce(t *testing.T) {
	tellSealed(t, func(s *story) {
		s.enter(wire.Accepted{})
		sockets := s.sockets()
		s.c.NetworkChanged()
		if s.advance(time.Millisecond); s.sockets() != sockets+1 {
			t.Fatalf("%d more sockets, want one", s.sockets()-sockets)
		}
		s.advance(2 * grain)
		if f := one[wire.Ping](s); len(f.Padding) < 24 {
			t.Errorf("a ping with padding of %d bytes leaves no room for a challenge", len(f.Padding))
		}
	})
}

func TestSocketThatFailsDoesNotEndASealedSession(t *testing.T) {
	tellSealed(t, func(s *story) {
		s.enter(wire.Accepted{})
		s.end().Close()
		s.advance(10 * time.Millisecond)
		one[wire.Ping](s)
		s.wantState(StateOnline)
		wantNo[wire.Login](s, "the session goes on")
	})
}

func TestReplacedSealedDeviceIsOverAtOnce(t *testing.T) {
	tellSealed(t, func(s *story) {
		s.enter(wire.Accepted{})
		s.say(&wire.Closed{Reason: wire.ReasonReplaced})
		if s.wantState(StateClosed); !errors.Is(s.c.Err(), ErrReplaced) {
			t.Errorf("closed with %v, want ErrReplaced", s.c.Err())
		}
	})
}

// beats returns the times between heartbeats that are all answered, as long as
// answer says so.
func (s *story) beats(n int, answer func(i int, f *wire.Ping) []wire.Frame) (gaps []time.Duration) {
	last := time.Now()
	for i := range n {
		var fs []*wire.Ping
		for len(fs) == 0 {
			s.advance(50 * time.Millisecond)
			fs = took[wire.Ping](s)
		}
		gaps = append(gaps, time.Since(last).Round(100*time.Millisecond))
		last = time.Now()
		s.say(answer(i, fs[0])...)
	}
	return gaps
}

func TestHeartbeatsBecomeRarerWhileTheWayHolds(t *testing.T) {
	tellSealed(t, func(s *story) {
		s.enter(wire.Accepted{MaxHeartbeat: 120_000})
		var next []uint32
		gaps := s.beats(12, func(_ int, f *wire.Ping) []wire.Frame {
			next = append(next, f.Next)
			return []wire.Frame{&wire.Pong{ID: f.ID, First: 1}}
		})
		if gaps[0] > 15*time.Second || gaps[11] < 96*time.Second || gaps[11] > 2*time.Minute {
			t.Errorf("heartbeats after %v, want some 15 s at first and 2 minutes at last", gaps)
		}
		if next[0] != 15_000 || next[11] != 120_000 {
			t.Errorf("the pings announce %v ms", next)
		}
	})
}

func TestHeartbeatsBecomeMoreFrequentWhereANATForgets(t *testing.T) {
	const forgets = time.Minute
	for what, lost := range map[string]func(f *wire.Ping) []wire.Frame{
		"another address": func(f *wire.Ping) []wire.Frame {
			return []wire.Frame{&wire.Challenge{Token: []byte{1}}, &wire.Pong{ID: f.ID, First: 1}}
		},
		"pushes that are lost": func(f *wire.Ping) []wire.Frame { return []wire.Frame{&wire.Pong{ID: f.ID, Head: 9, First: 1}} },
	} {
		tellSealed(t, func(s *story) {
			s.enter(wire.Accepted{MaxHeartbeat: 120_000})
			last, broken, head := time.Now(), 0, events.Seq(0)
			gaps := s.beats(60, func(_ int, f *wire.Ping) []wire.Frame {
				gap := time.Since(last)
				last = time.Now()
				if gap < forgets {
					return []wire.Frame{&wire.Pong{ID: f.ID, Head: head, First: 1}}
				}
				broken++
				fs := lost(f)
				if p, ok := fs[0].(*wire.Pong); ok {
					head += p.Head
					p.Head = head
				}
				return fs
			})
			if broken < 1 || broken > 5 {
				t.Errorf("%s: the way broke %d times in 60 heartbeats (%v), want a few", what, broken, gaps)
			}
			if end := gaps[55]; end < 20*time.Second {
				t.Errorf("%s: heartbeats after %v, want them to stay at what the way holds", what, gaps)
			}
		})
	}
}
