package edge

import (
	"bytes"
	"crypto/ecdh"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"timberline/edge/auth"
	"timberline/events"
	"timberline/wire"
	"timberline/wire/sealed"
)

// A guest is a client of a sealed socket, with nothing of its own but keys.
type guest struct {
	tl      *tale
	at      netip.AddrPort
	begun   *sealed.Initiator
	cookie  sealed.Cookie
	channel *sealed.Channel
	reset   sealed.Token
	codec   wire.Codec
	heard   []string
	sent    int // bytes
	got     int
	last    []byte // the last packet that it sent
}

var testKey = func() sealed.ServerKey {
	private, err := ecdh.X25519().NewPrivateKey(bytes.Repeat([]byte{1}, 32))
	if err != nil {
		panic(err)
	}
	return sealed.NewServerKey(private)
}()

// newSealedTale is a tale of an edge with a sealed socket.
func newSealedTale(t *testing.T) *tale {
	tl := newTale(t)
	cfg := *tl.table.cfg
	cfg.Sockets = []Socket{{PacketConn: noConn{}}}
	cfg.Keys = func() []sealed.ServerKey { return []sealed.ServerKey{testKey} }
	cfg.Secret = sealed.Secret{1}
	cfg.HalfOpen = 64
	if err := cfg.setDefaults(); err != nil {
		t.Fatal(err)
	}
	tl.table = newTable(&cfg)
	return tl
}

func (tl *tale) guest(at string) *guest {
	tl.t.Helper()
	g := &guest{tl: tl, at: netip.MustParseAddrPort(at)}
	var err error
	if g.begun, err = sealed.NewInitiator(testKey.Public, tl.table.cfg.Random); err != nil {
		tl.t.Fatal(err)
	}
	return g
}

// put hands a packet to the edge and takes in what it answers to this guest.
func (g *guest) put(packet []byte) {
	g.tl.t.Helper()
	g.last = bytes.Clone(packet)
	g.sent += len(packet)
	g.tl.table.packet(g.tl.now, from{addr: g.at}, packet)
	g.listen()
}

// listen takes in what the edge sends.
func (g *guest) listen() {
	g.tl.t.Helper()
	for !g.tl.hold && len(g.tl.table.tasks) > 0 {
		for _, task := range g.tl.table.takeTasks() {
			task.do(g.tl.t.Context())(g.tl.now)
		}
	}
	for _, d := range g.tl.packets()[0] {
		if d.Addr == g.at {
			g.got += len(d.Data)
			g.take(d.Data)
		}
	}
}

func (g *guest) take(packet []byte) {
	g.tl.t.Helper()
	switch packet[0] {
	case sealed.TypeRetry:
		r, err := g.begun.Retry(packet)
		if err != nil {
			g.tl.t.Fatal(err)
		}
		g.cookie = r.Cookie
		g.heard = append(g.heard, fmt.Sprintf("retry %d", r.Cause))
	case sealed.TypeWelcome:
		c, w, err := g.begun.Finish(packet)
		if err != nil {
			g.tl.t.Fatal(err)
		}
		g.channel, g.reset = c, w.Reset
		g.heard = append(g.heard, "welcome")
	case sealed.TypeReset:
		if g.channel == nil || !sealed.IsReset(packet, g.channel.Session(), g.reset) {
			g.tl.t.Errorf("a RESET that is not the guest's: %x", packet)
		}
		g.heard = append(g.heard, "reset")
	default:
		frames, _, err := g.channel.Open(packet)
		if err != nil {
			g.tl.t.Fatal(err)
		}
		p, err := wire.DecodeSealed(g.channel.Session(), frames)
		if err != nil {
			g.tl.t.Fatal(err)
		}
		for _, f := range p.Frames {
			g.heard = append(g.heard, say(f))
			if c, ok := f.(*wire.Challenge); ok {
				g.say(&wire.Echo{Token: bytes.Clone(c.Token)})
			}
		}
	}
}

// seal returns a packet with frames.
func (g *guest) seal(fs ...wire.Frame) []byte {
	g.tl.t.Helper()
	p := wire.NewSealedPacker(g.codec)
	for _, f := range fs {
		p.Add(f)
	}
	packet, err := g.channel.Seal(p.Packets()[0])
	if err != nil {
		g.tl.t.Fatal(err)
	}
	return packet
}

func (g *guest) say(fs ...wire.Frame) {
	g.tl.t.Helper()
	g.put(g.seal(fs...))
}

func (g *guest) want(why, what string) {
	g.tl.t.Helper()
	if got := strings.Join(g.heard, ", "); got != what {
		g.tl.t.Errorf("%s:\n got %q\nwant %q", why, got, what)
	}
	g.heard = nil
}

// enter shakes hands and logs in.
func (g *guest) enter(token string) {
	g.tl.t.Helper()
	g.put(g.begun.Hello(sealed.Cookie{}))
	g.put(g.begun.Hello(g.cookie))
	g.want("the address is proved first", "retry 0, welcome")
	g.say(&wire.Login{Version: 1, Attempt: events.MessageID{1}, Token: token})
	if len(g.heard) == 0 || !strings.HasPrefix(g.heard[0], "accepted") {
		g.tl.t.Fatalf("login of %s: %v", token, g.heard)
	}
	g.heard = nil
}

func TestSealedDeviceLogsInAndSends(t *testing.T) {
	for _, codec := range []wire.Codec{wire.Proto, wire.JSON} {
		tl := newSealedTale(t)
		alice := tl.guest("192.0.2.1:1000")
		alice.codec = codec
		alice.enter("alice/phone")
		alice.say(message(1, "bob", "hi"))
		tl.appended()
		alice.listen()
		alice.want("durable", "ack 1")
		alice.say(message(2, "b@b", "hi"))
		alice.want("in its own codec", "ack 2 refused 2-2 recipient")
	}
}

func TestBadTokensAreRefusedClearlyBehindTheSeal(t *testing.T) {
	for _, codec := range []wire.Codec{wire.Proto, wire.JSON} {
		for token, answer := range map[string]string{"old": "denied expired", "nonsense": "denied bad_token"} {
			tl := newSealedTale(t)
			g := tl.guest("192.0.2.1:1000")
			g.codec = codec
			g.put(g.begun.Hello(tl.table.cfg.Secret.Cookie(g.at.Addr(), tl.now)))
			g.say(&wire.Login{Version: 1, Attempt: events.MessageID{1}, Token: token})
			g.want("token "+token, "welcome, "+answer)
			g.say(&wire.Login{Version: 1, Attempt: events.MessageID{2}, Token: "alice/phone"})
			g.want("a good one afterwards", "accepted head 0")
		}
	}
}

func TestFloodOfHellosFromMadeUpSourcesLeavesNothing(t *testing.T) {
	tl := newSealedTale(t)
	h := tl.guest("192.0.2.1:1000").begun.Hello(sealed.Cookie{7})
	sent, got := 0, 0
	for i := range 100_000 {
		src := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), uint16(i))
		packet := bytes.Clone(h)
		sent += len(packet)
		tl.table.packet(tl.now, from{addr: src}, packet)
		if i%1000 == 0 {
			for _, d := range tl.packets()[0] {
				got += len(d.Data)
			}
		}
	}
	if got > sent || len(tl.table.ring.sessions) > 0 || len(tl.table.sessions) > 0 || len(tl.table.tasks) > 0 {
		t.Errorf("%d bytes answered %d; %d connections, %d sessions, %d tasks are left", got, sent, len(tl.table.ring.sessions), len(tl.table.sessions), len(tl.table.tasks))
	}
	tl.guest("192.0.2.1:1000").enter("alice/phone")
}

func TestHalfOpenConnectionsAreBounded(t *testing.T) {
	tl := newSealedTale(t)
	for i := range 1000 {
		g := tl.guest(fmt.Sprintf("192.0.2.%d:1000", i%250+1))
		tl.now = tl.now.Add(time.Millisecond)
		g.put(g.begun.Hello(tl.table.cfg.Secret.Cookie(g.at.Addr(), tl.now)))
		g.want("a connection", "welcome")
	}
	if n := len(tl.table.ring.sessions); n != 64 || len(tl.table.ring.hellos) != n {
		t.Errorf("%d half-open connections, %d HELLOs are kept, want 64", n, len(tl.table.ring.hellos))
	}
}

func TestFloodInTheNameOfASourceDoesNotKeepItOut(t *testing.T) {
	tl := newSealedTale(t)
	tl.table.cfg.SourceRate = 10
	honest := tl.guest("192.0.2.1:1000")
	honest.put(honest.begun.Hello(sealed.Cookie{}))
	honest.want("before the flood", "retry 0")
	hello := honest.begun.Hello(sealed.Cookie{7})
	for range 1000 {
		tl.table.packet(tl.now, from{addr: netip.MustParseAddrPort("192.0.2.1:666")}, bytes.Clone(hello))
	}
	honest.put(honest.begun.Hello(honest.cookie))
	honest.say(&wire.Login{Version: 1, Attempt: events.MessageID{1}, Token: "alice/phone"})
	honest.want("in the flood", "welcome, accepted head 0")
	if n := tl.counted("packets_over_source_rate"); n < 900 {
		t.Errorf("%d HELLOs were too many, want nearly all", n)
	}
}

func TestClientThatMovesBeforeItsLoginIsAnsweredWhereItWas(t *testing.T) {
	tl := newSealedTale(t)
	bob := tl.guest("192.0.2.1:1000")
	home := bob.at
	bob.put(bob.begun.Hello(tl.table.cfg.Secret.Cookie(bob.at.Addr(), tl.now)))
	bob.at = netip.MustParseAddrPort("198.51.100.9:2000")
	bob.say(&wire.Login{Version: 1, Attempt: events.MessageID{1}, Token: "bob/phone"})
	bob.want("only its home is proved", "welcome")
	s := tl.table.sessions[bob.channel.Session()]
	if s == nil || s.src.addr != home {
		t.Fatalf("the session is %+v, want one at %v", s, home)
	}
	bob.say(&wire.Login{Version: 1, Attempt: events.MessageID{1}, Token: "bob/phone"})
	if got := strings.Join(bob.heard, ", "); !strings.HasPrefix(got, "*wire.Challenge, pong 0") || s.src.addr != bob.at {
		t.Errorf("it is challenged, and moves: %q, at %v", got, s.src.addr)
	}
}

func TestHalfOpenConnectionMaySayOnlySoMuch(t *testing.T) {
	tl := newSealedTale(t)
	g := tl.guest("192.0.2.1:1000")
	g.put(g.begun.Hello(tl.table.cfg.Secret.Cookie(g.at.Addr(), tl.now)))
	for i := range 2 * maxHalfPackets {
		g.say(&wire.Login{Version: 1, Attempt: events.MessageID{byte(i)}, Token: "nonsense"})
	}
	if n := tl.counted("logins_denied"); n != maxHalfPackets {
		t.Errorf("%d logins were looked at, want %d", n, maxHalfPackets)
	}
}

// A RESET shows the token by which a client gives its session up: it must not be
// heard by others of a session that is yet to open.
func TestConnectionPushedOutWhileItLogsInNeverOpens(t *testing.T) {
	tl := newSealedTale(t)
	alice := tl.guest("192.0.2.1:1000")
	alice.put(alice.begun.Hello(tl.table.cfg.Secret.Cookie(alice.at.Addr(), tl.now)))
	login := alice.seal(&wire.Login{Version: 1, Attempt: events.MessageID{1}, Token: "alice/phone"})
	tl.hold = true
	alice.put(bytes.Clone(login))
	checks := tl.table.takeTasks()
	tl.hold = false
	for i := range tl.table.cfg.HalfOpen {
		g := tl.guest(fmt.Sprintf("198.51.100.%d:1000", i+1))
		g.put(g.begun.Hello(tl.table.cfg.Secret.Cookie(g.at.Addr(), tl.now)))
	}
	thief := from{addr: netip.MustParseAddrPort("203.0.113.5:666")}
	tl.table.packet(tl.now, thief, bytes.Clone(login))
	if n := len(tl.packets()[0]); n != 1 {
		t.Errorf("%d answers to who repeats the LOGIN, want a RESET", n)
	}
	for _, check := range checks {
		check.do(t.Context())(tl.now)
	}
	if n := len(tl.table.sessions); n > 0 {
		t.Error("the session opens, and somebody else can make its client give it up")
	}
	alice.put(alice.seal(&wire.Ping{ID: 1}))
	alice.want("alice begins anew", "welcome, reset")
}

func TestSessionMovesWithItsClientOnlyOnceItEchoes(t *testing.T) {
	tl := newSealedTale(t)
	bob := tl.guest("192.0.2.1:1000")
	bob.enter("bob/phone")
	home := bob.at
	bob.at = netip.MustParseAddrPort("198.51.100.9:2000")
	bob.sent, bob.got = 0, 0
	bob.say(&wire.Ping{ID: 1, Padding: make([]byte, 24)})
	bob.want("its new address is asked, the answer went to the old one", "*wire.Challenge, pong 0 head 0")
	if bob.got > bob.sent {
		t.Errorf("%d bytes to an address that sent %d", bob.got, bob.sent)
	}
	tl.pushed(tl.entry("bob", events.SessionID{}, "news"))
	bob.listen()
	if s := tl.table.sessions[bob.channel.Session()]; s.src.addr != bob.at || tl.table.counts.moves.Load() != 1 {
		t.Errorf("the session is at %v, want %v (home was %v)", s.src.addr, bob.at, home)
	}
}

func TestRepeatedPacketsOpenAndMoveNothing(t *testing.T) {
	tl := newSealedTale(t)
	alice := tl.guest("192.0.2.1:1000")
	var record [][]byte
	keep := func(packet []byte) []byte {
		record = append(record, bytes.Clone(packet))
		return packet
	}
	alice.put(keep(alice.begun.Hello(sealed.Cookie{})))
	alice.put(keep(alice.begun.Hello(alice.cookie)))
	alice.put(keep(alice.seal(&wire.Login{Version: 1, Attempt: events.MessageID{1}, Token: "alice/phone"})))
	for i := range 20 {
		alice.put(keep(alice.seal(message(events.Number(i+1), "bob", "hi"))))
	}
	tl.appended()
	alice.listen()
	s := tl.table.sessions[alice.channel.Session()]
	src, submitted, logins := s.src, len(tl.writer.submitted), tl.table.counts.logins.Load()
	thief := tl.guest("203.0.113.5:666")
	for _, at := range []netip.AddrPort{alice.at, thief.at} {
		for round := range 3 {
			for i := range record {
				packet := bytes.Clone(record[(i*(round*2+1))%len(record)])
				tl.table.packet(tl.now, from{addr: at}, packet)
			}
			thief.sent, thief.got = 0, 0
			tl.settleSealed()
		}
	}
	if s.src != src || len(tl.writer.submitted) != submitted || tl.table.counts.logins.Load() != logins || tl.table.counts.challenges.Load() > 0 {
		t.Errorf("the session is at %v (was %v), %d events (were %d), %d logins (were %d)", s.src, src, len(tl.writer.submitted), submitted, tl.table.counts.logins.Load(), logins)
	}
	if tl.table.counts.replayed.Load() == 0 {
		t.Error("nothing was taken for a repeat")
	}
}

// settleSealed does what the table wants done, and looks at nothing.
func (tl *tale) settleSealed() {
	for len(tl.table.tasks) > 0 {
		for _, task := range tl.table.takeTasks() {
			task.do(tl.t.Context())(tl.now)
		}
	}
	tl.packets()
}

func TestDeadSessionIsResetOnceByItsEdgeOnly(t *testing.T) {
	tl := newSealedTale(t)
	alice := tl.guest("192.0.2.1:1000")
	alice.enter("alice/phone")
	delete(tl.table.sessions, alice.channel.Session()) // as after a restart
	alice.say(&wire.Ping{ID: 1})
	alice.want("dead", "reset")
	foreign := alice.seal(&wire.Ping{ID: 2})
	foreign[1] ^= 1 // another edge's tag
	alice.put(foreign)
	alice.want("of another edge", "")
}

func TestTokenIsRenewedInItsSession(t *testing.T) {
	tl := newSealedTale(t)
	alice := tl.guest("192.0.2.1:1000")
	alice.enter("alice/phone")
	alice.say(&wire.Login{Version: 1, Attempt: events.MessageID{1}, Token: "alice/phone"})
	alice.want("a repeat", "accepted head 0")
	alice.say(&wire.Login{Version: 1, Attempt: events.MessageID{2}, Token: "alice/phone"})
	alice.want("another token", "accepted head 0")
	alice.say(&wire.Login{Version: 1, Attempt: events.MessageID{3}, Token: "bob/phone"})
	alice.want("somebody else's", "denied not_allowed")
	alice.say(&wire.Login{Version: 1, Attempt: events.MessageID{4}, Token: "old"})
	alice.want("one that is over", "denied expired")
	alice.say(&wire.Ping{ID: 1})
	alice.want("the session lives", "pong 1 head 0")
	if n := len(tl.table.sessions); n != 1 {
		t.Errorf("%d sessions, want 1", n)
	}
}

func TestPlainLoginOnASealedSocketIsToldWhy(t *testing.T) {
	tl := newSealedTale(t)
	p := wire.Packet{Codec: wire.JSON, Frames: []wire.Frame{&wire.Login{Version: 1, Attempt: events.MessageID{1}, Token: strings.Repeat("x", 100)}}}
	tl.table.packet(tl.now, from{addr: address(1)}, p.Encode())
	out := tl.packets()[0]
	if len(out) != 1 {
		t.Fatalf("%d answers, want one", len(out))
	}
	answer, err := wire.Decode(out[0].Data)
	if err != nil || say(answer.Frames[0]) != "denied not_allowed" {
		t.Errorf("answered %+v, %v, want a denial", answer, err)
	}
}

func TestSessionThatSaysTooMuchIsToldToWait(t *testing.T) {
	tl := newSealedTale(t)
	tl.table.cfg.SessionRate = 10
	alice := tl.guest("192.0.2.1:1000")
	alice.enter("alice/phone")
	for i := range 12 {
		alice.say(message(events.Number(i+1), "bob", "hi"))
	}
	if got := strings.Join(alice.heard, ", "); !strings.HasPrefix(got, "busy from 12") {
		t.Errorf("12 packets where 10 a second are allowed: %q", got)
	}
}

// A process that was killed may leave a LOGIN on its way, which then comes after
// that of the next process.
func TestLateLoginOfAnEarlierConnectionReplacesNobody(t *testing.T) {
	tl := newSealedTale(t)
	before := tl.guest("192.0.2.1:1000")
	before.put(before.begun.Hello(tl.table.cfg.Secret.Cookie(before.at.Addr(), tl.now)))
	late := before.seal(&wire.Login{Version: 1, Attempt: events.MessageID{1}, Token: "alice/phone"})
	after := tl.guest("192.0.2.1:1001")
	after.enter("alice/phone")
	before.put(late)
	before.want("the device has a later connection", "welcome, denied replaced")
	after.listen()
	after.say(&wire.Ping{ID: 1})
	after.want("the later one stays", "pong 1 head 0")
}

// A repeat of a LOGIN may be on its way for longer than its token's session.
func TestLateLoginDoesNotShortenARenewedSession(t *testing.T) {
	tl := newSealedTale(t)
	ends := map[string]time.Time{"first": tl.now.Add(time.Hour), "second": tl.now.Add(2 * time.Hour)}
	tl.table.cfg.Verify = func(token string, now time.Time) (auth.Identity, error) {
		if !now.Before(ends[token]) {
			return auth.Identity{}, auth.ErrExpired
		}
		return auth.Identity{User: "alice", Device: "phone", Expires: ends[token], ID: token}, nil
	}
	alice := tl.guest("192.0.2.1:1000")
	alice.enter("first")
	late := alice.seal(&wire.Login{Version: 1, Attempt: events.MessageID{1}, Token: "first"})
	alice.say(&wire.Ping{ID: 1, Next: 120_000})
	for range 55 {
		tl.advance(time.Minute)
		alice.say(&wire.Ping{ID: 1, Next: 120_000})
	}
	alice.heard = nil
	alice.say(&wire.Login{Version: 1, Attempt: events.MessageID{2}, Token: "second"})
	alice.want("a fresh token", "accepted head 0")
	alice.put(late)
	alice.want("the old one is good, too", "accepted head 0")
	for range 10 {
		tl.advance(time.Minute)
		alice.listen()
		alice.say(&wire.Ping{ID: 2, Next: 120_000})
	}
	alice.want("the fresh token counts", "pong 2 head 0, pong 2 head 0, pong 2 head 0, pong 2 head 0, pong 2 head 0, "+
		"pong 2 head 0, pong 2 head 0, pong 2 head 0, pong 2 head 0, pong 2 head 0")
}
