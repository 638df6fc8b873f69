package sealed

import (
	"bytes"
	"crypto/ecdh"
	"errors"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	"timberline/events"
	"timberline/wire"
)

// source returns good randomness that is the same in each run.
func source(seed byte) *rand.ChaCha8 { return rand.NewChaCha8([32]byte{seed}) }

func serverKey(t testing.TB, seed byte) ServerKey {
	t.Helper()
	private, err := ecdh.X25519().NewPrivateKey(bytes.Repeat([]byte{seed}, 32))
	if err != nil {
		t.Fatal(err)
	}
	return NewServerKey(private)
}

var welcome = Welcome{Session: events.SessionID{1, 2, 3}, Reset: Token{4, 5, 6}}

// connect makes both ends of a connection.
func connect(t testing.TB) (client, server *Channel) {
	t.Helper()
	key := serverKey(t, 1)
	i, err := NewInitiator(key.Public, source(1))
	if err != nil {
		t.Fatal(err)
	}
	h, err := ParseHello(i.Hello(Cookie{}))
	if err != nil {
		t.Fatal(err)
	}
	answer, server, err := h.Respond(key, welcome, source(2))
	if err != nil {
		t.Fatal(err)
	}
	client, w, err := i.Finish(answer)
	if err != nil || w != welcome {
		t.Fatalf("WELCOME says %+v, %v, want %+v", w, err, welcome)
	}
	return client, server
}

// seal returns a packet with frames.
func seal(t testing.TB, c *Channel, frames string) []byte {
	t.Helper()
	packet, err := c.Seal(append(make([]byte, wire.SealedHeader), frames...))
	if err != nil {
		t.Fatal(err)
	}
	return packet
}

// open opens a copy of a packet.
func open(c *Channel, packet []byte) (string, bool, error) {
	frames, newest, err := c.Open(bytes.Clone(packet))
	return string(frames), newest, err
}

func TestBothEndsOpenWhatTheOtherSeals(t *testing.T) {
	client, server := connect(t)
	for _, way := range []struct{ from, to *Channel }{{client, server}, {server, client}} {
		for _, frames := range []string{"hello", "", "again"} {
			packet := seal(t, way.from, frames)
			if s, ok := PeekData(packet); !ok || s != welcome.Session {
				t.Errorf("the packet names session %v, %v", s, ok)
			}
			if len(packet) != DataSize+len(frames) {
				t.Errorf("%d bytes of frames make %d, want %d more", len(frames), len(packet), DataSize)
			}
			if got, newest, err := open(way.to, packet); got != frames || !newest || err != nil {
				t.Errorf("opened %q, %v, %v, want %q", got, newest, err, frames)
			}
			if _, _, err := open(way.from, packet); err == nil {
				t.Error("a packet sent back to its sender was opened")
			}
		}
	}
}

func TestHelloIsNoSmallerThanItsAnswers(t *testing.T) {
	if HelloSize < WelcomeSize || HelloSize < RetrySize {
		t.Errorf("HELLO has %d bytes, WELCOME %d, RETRY %d", HelloSize, WelcomeSize, RetrySize)
	}
	if ResetSize >= DataSize {
		t.Errorf("RESET has %d bytes, the least DATA %d: resets would answer each other for ever", ResetSize, DataSize)
	}
}

func TestRetryIsForOneHelloOnly(t *testing.T) {
	key := serverKey(t, 1)
	one, _ := NewInitiator(key.Public, source(1))
	other, _ := NewInitiator(key.Public, source(2))
	h, err := ParseHello(one.Hello(Cookie{}))
	if err != nil {
		t.Fatal(err)
	}
	want := Retry{Version: 1, Cause: CauseCookie, Cookie: Cookie{7}}
	packet := h.AppendRetry(nil, want)
	if got, err := one.Retry(packet); err != nil || got != want || len(packet) != RetrySize {
		t.Errorf("RETRY of %d bytes says %+v, %v, want %+v", len(packet), got, err, want)
	}
	if _, err := other.Retry(packet); !errors.Is(err, ErrMalformed) {
		t.Errorf("the RETRY for another HELLO: %v, want ErrMalformed", err)
	}
	again, err := ParseHello(one.Hello(want.Cookie))
	if err != nil || again.Cookie != want.Cookie || again.Echo() != h.Echo() {
		t.Errorf("the HELLO with the cookie is another one: %v", err)
	}
}

func TestHandshakeFailsWithAnythingChanged(t *testing.T) {
	key := serverKey(t, 1)
	i, _ := NewInitiator(key.Public, source(1))
	hello := i.Hello(Cookie{9})
	for at := range helloCookie {
		changed := bytes.Clone(hello)
		changed[at] ^= 0x40
		h, err := ParseHello(changed)
		if err != nil {
			continue // no HELLO any more
		}
		if _, _, err := h.Respond(key, welcome, source(2)); !errors.Is(err, ErrHandshake) {
			t.Errorf("byte %d of HELLO changed: %v, want ErrHandshake", at, err)
		}
	}
	h, _ := ParseHello(hello)
	if _, _, err := h.Respond(serverKey(t, 2), welcome, source(2)); !errors.Is(err, ErrHandshake) {
		t.Errorf("another server's key: %v, want ErrHandshake", err)
	}
	answer, _, err := h.Respond(key, welcome, source(2))
	if err != nil {
		t.Fatal(err)
	}
	for at := range answer {
		changed := bytes.Clone(answer)
		changed[at] ^= 0x40
		if _, _, err := i.Finish(changed); !errors.Is(err, ErrHandshake) && !errors.Is(err, ErrMalformed) {
			t.Errorf("byte %d of WELCOME changed: %v, want an error", at, err)
		}
	}
	if _, _, err := i.Finish(answer); err != nil {
		t.Errorf("the true WELCOME after forged ones: %v", err)
	}
}

func TestForgedPacketsAreNotOpened(t *testing.T) {
	client, server := connect(t)
	packet := seal(t, client, "hello")
	for at := 1; at < len(packet); at++ { // the first byte is the type, which PeekData looks at
		changed := bytes.Clone(packet)
		changed[at] ^= 0x10
		if got, _, err := open(server, changed); err == nil {
			t.Errorf("byte %d changed: opened as %q", at, got)
		}
	}
	if got, _, err := open(server, packet); got != "hello" || err != nil {
		t.Errorf("the true packet after forged ones: %q, %v", got, err)
	}
}

func TestPacketIsOpenedOnceInWhateverOrder(t *testing.T) {
	client, server := connect(t)
	packets := make([][]byte, 2000)
	for i := range packets {
		packets[i] = seal(t, client, "x")
	}
	r := rand.New(source(3))
	opened := make([]int, len(packets))
	for from := 0; from < len(packets); from += 100 { // overtaken by less than the window
		for _, i := range append(r.Perm(200), r.Perm(200)...) {
			if from+i >= len(packets) {
				continue
			}
			_, _, err := open(server, packets[from+i])
			switch {
			case err == nil:
				opened[from+i]++
			case !errors.Is(err, ErrReplayed):
				t.Fatalf("packet %d: %v", from+i, err)
			}
		}
	}
	for i, n := range opened {
		if n != 1 {
			t.Errorf("packet %d was opened %d times", i, n)
		}
	}
}

func TestPacketBehindTheWindowIsTakenForARepeat(t *testing.T) {
	client, server := connect(t)
	early := seal(t, client, "early")
	var late []byte
	for range windowSize {
		late = seal(t, client, "late")
	}
	if _, newest, err := open(server, late); !newest || err != nil {
		t.Fatalf("the last packet: %v, %v", newest, err)
	}
	if _, _, err := open(server, early); !errors.Is(err, ErrReplayed) {
		t.Errorf("a packet that %d overtook: %v, want ErrReplayed", windowSize, err)
	}
}

func TestWindowAgreesWithAPlainSet(t *testing.T) {
	r := rand.New(source(4))
	for range 200 {
		var w window
		seen := make(map[uint64]bool)
		top := uint64(0)
		for range 400 {
			counter := top - min(top, uint64(r.IntN(700)))
			if r.IntN(2) == 0 {
				counter = top + uint64(r.IntN(1<<r.IntN(12)))
			}
			want := seen[counter] || len(seen) > 0 && counter+windowSize < top+1
			if got := w.seen(counter); got != want {
				t.Fatalf("counter %d with %d the highest: seen %v, want %v", counter, top, got, want)
			}
			if want {
				continue
			}
			if newest := w.add(counter); newest != (len(seen) == 0 || counter > top) {
				t.Fatalf("counter %d with %d the highest: newest %v", counter, top, newest)
			}
			seen[counter], top = true, max(top, counter)
		}
	}
}

func TestChannelEndsBeforeItsKeysWearOut(t *testing.T) {
	client, server := connect(t)
	client.sent = MaxPackets - 1
	if !client.Worn() {
		t.Error("a channel with one packet left says it is not worn")
	}
	last := seal(t, client, "last")
	if _, err := client.Seal(make([]byte, wire.SealedHeader)); !errors.Is(err, ErrWornOut) {
		t.Errorf("one more packet: %v, want ErrWornOut", err)
	}
	if got, _, err := open(server, last); got != "last" || err != nil || !server.Worn() {
		t.Errorf("the last packet: %q, %v; worn: %v", got, err, server.Worn())
	}
}

func TestCookieProvesItsAddressForAWhile(t *testing.T) {
	secret, other := &Secret{1}, &Secret{2}
	now := time.Unix(1_800_000_000, 0)
	home, away := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	link := netip.MustParseAddr("fe80::1")
	c := secret.Cookie(home, now)
	for _, test := range []struct {
		what   string
		secret *Secret
		cookie Cookie
		addr   netip.Addr
		now    time.Time
		fresh  bool
	}{
		{"at once", secret, c, home, now, true},
		{"in its last second", secret, c, home, now.Add(CookieLife - time.Second), true},
		{"the same address in IPv6", secret, c, netip.AddrFrom16(home.As16()), now, true},
		{"too late", secret, c, home, now.Add(CookieLife), false},
		{"before it was made", secret, c, home, now.Add(-time.Second), false},
		{"from elsewhere", secret, c, away, now, false},
		{"another edge's", other, c, home, now, false},
		{"none", secret, Cookie{}, home, now, false},
		{"after the clock was set back", secret, c, home, now.Add(-24 * time.Hour), false},
		{"after the clock was set far ahead", secret, c, home, now.Add(100 * 365 * 24 * time.Hour), false},
		{"of a clock before 1970", secret, secret.Cookie(home, time.Unix(-10, 0)), home, time.Unix(-9, 0), true},
		{"of no time, by a clock that begins anew", secret, Cookie{}, home, time.Unix(1, 0), false},
		{"of the last second there is", secret, Cookie(bytes.Repeat([]byte{0xff}, CookieSize)), home, time.Unix(0, 0), false},
		{"on another link", secret, secret.Cookie(link.WithZone("eth0"), now), link.WithZone("eth1"), now, false},
		{"on the same link", secret, secret.Cookie(link.WithZone("eth0"), now), link.WithZone("eth0"), now, true},
		{"from the IPv6 address of the same digits", secret, c, netip.AddrFrom16([16]byte{12: 192, 13: 0, 14: 2, 15: 1}), now, false},
		{"a later one made of it", secret, Cookie(append([]byte{c[0], c[1], c[2], c[3], c[4], c[5], c[6], c[7] + 1}, c[8:]...)), home, now.Add(time.Minute), false},
	} {
		if got := test.secret.Fresh(test.cookie, test.addr, test.now); got != test.fresh {
			t.Errorf("%s: fresh is %v, want %v", test.what, got, test.fresh)
		}
	}
}

func TestResetIsKnownByItsToken(t *testing.T) {
	secret := &Secret{1}
	s := events.SessionID{1}
	token := secret.ResetToken(s)
	packet := AppendReset(nil, s, token)
	if !IsReset(packet, s, token) || len(packet) != ResetSize {
		t.Errorf("a RESET of %d bytes is not known", len(packet))
	}
	for what, is := range map[string]bool{
		"another session": IsReset(packet, events.SessionID{2}, token),
		"another token":   IsReset(packet, s, secret.ResetToken(events.SessionID{2})),
		"a longer packet": IsReset(append(bytes.Clone(packet), 0), s, token),
		"no token":        IsReset(packet[:17], s, token),
		"another edge":    IsReset(packet, s, (&Secret{2}).ResetToken(s)),
	} {
		if is {
			t.Errorf("%s: taken for the session's RESET", what)
		}
	}
}

func TestKeyIsReadAsItIsWritten(t *testing.T) {
	key := serverKey(t, 3).Public
	if got, err := ParseKey(key.String()); err != nil || got != key {
		t.Errorf("%v reads as %v, %v", key, got, err)
	}
	for _, text := range []string{"", "abc", key.String() + "=", key.String()[1:], key.String()[:42] + "!"} {
		if _, err := ParseKey(text); err == nil {
			t.Errorf("%q was taken for a key", text)
		}
	}
}

func TestChannelThatHasRestedGoesOn(t *testing.T) {
	client, server := connect(t)
	for range 3 {
		packet := seal(t, client, "hello")
		if got, newest, err := open(server, packet); got != "hello" || !newest || err != nil {
			t.Errorf("opened %q, %v, %v", got, newest, err)
		}
		if _, _, err := open(server, packet); !errors.Is(err, ErrReplayed) {
			t.Errorf("a repeat: %v, want ErrReplayed", err)
		}
		client.Rest()
		server.Rest()
	}
}

func TestSealingAndOpeningAllocateNothing(t *testing.T) {
	client, server := connect(t)
	buf := make([]byte, 0, wire.MaxPacket)
	frames := bytes.Repeat([]byte("x"), 150)
	if n := testing.AllocsPerRun(1000, func() {
		packet, err := client.Seal(append(buf[:wire.SealedHeader], frames...))
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := server.Open(packet); err != nil {
			t.Fatal(err)
		}
	}); n != 0 && !raceEnabled {
		t.Errorf("%v allocations a packet, want none", n)
	}
}

func FuzzHello(f *testing.F) {
	key := serverKey(f, 1)
	i, _ := NewInitiator(key.Public, source(1))
	good := i.Hello(Cookie{1})
	f.Add(good)
	f.Fuzz(func(t *testing.T, data []byte) {
		h, err := ParseHello(data)
		if err != nil {
			return
		}
		if again, err := ParseHello(h.encode()); err != nil || again != h {
			t.Errorf("written and read again: %+v, %v, want %+v", again, err, h)
		}
		_, _, err = h.Respond(key, welcome, source(2))
		if err == nil && !bytes.Equal(data[:helloCookie], good[:helloCookie]) {
			t.Errorf("a HELLO that no client made was taken: %x", data)
		}
	})
}

func FuzzAnswers(f *testing.F) {
	key := serverKey(f, 1)
	i, _ := NewInitiator(key.Public, source(1))
	h, _ := ParseHello(i.Hello(Cookie{}))
	answer, _, _ := h.Respond(key, welcome, source(2))
	f.Add(answer)
	f.Add(h.AppendRetry(nil, Retry{Version: 1}))
	f.Add(AppendReset(nil, welcome.Session, welcome.Reset))
	client, server := connect(f)
	f.Add(seal(f, server, "hello"))
	f.Add(append(bytes.Clone(answer[:1+echoSize]), make([]byte, WelcomeSize)...))
	f.Fuzz(func(t *testing.T, data []byte) {
		i, err := NewInitiator(key.Public, source(1))
		if err != nil {
			t.Fatal(err)
		}
		_, _, err = i.Finish(data)
		if err == nil && !bytes.Equal(data, answer) {
			t.Errorf("a WELCOME that no server made was taken: %x", data)
		}
		if _, w, err2 := i.Finish(answer); err != nil && (err2 != nil || w != welcome) {
			t.Errorf("the true WELCOME after %x: %v", data, err2)
		}
		i.Retry(data)
		IsReset(data, welcome.Session, welcome.Reset)
		if _, ok := PeekData(data); ok {
			client.Open(bytes.Clone(data))
		}
	})
}

// Of whatever comes, a channel opens what the other end has sealed, and nothing else;
// and that once.
func FuzzData(f *testing.F) {
	client, server := connect(f)
	made := make(map[string]bool)
	for _, frames := range []string{"", "hello", "again"} {
		packet := seal(f, server, frames)
		made[string(packet)] = true
		f.Add(packet, packet)
	}
	own := seal(f, client, "mine")
	f.Add(own, own[:DataSize-1])
	keys := *client
	f.Fuzz(func(t *testing.T, first, second []byte) {
		client := keys
		client.Rest()
		opened := make(map[string]bool)
		for _, packet := range [][]byte{first, second} {
			if _, ok := PeekData(packet); !ok {
				continue
			}
			frames, _, err := client.Open(bytes.Clone(packet))
			switch {
			case err == nil && (!made[string(packet)] || opened[string(packet)]):
				t.Fatalf("%x is opened as %q; before: %v", packet, frames, opened[string(packet)])
			case err != nil && !errors.Is(err, ErrForged) && !errors.Is(err, ErrReplayed):
				t.Fatal(err)
			}
			opened[string(packet)] = err == nil
		}
	})
}

// Whatever is shown as a cookie proves an address only if it was given to that.
func FuzzCookie(f *testing.F) {
	secret, now := &Secret{1}, time.Unix(1_800_000_000, 0)
	home := netip.MustParseAddr("192.0.2.1")
	good := secret.Cookie(home, now)
	f.Add(good[:], home.AsSlice())
	f.Add(good[:], netip.MustParseAddr("2001:db8::1").AsSlice())
	f.Fuzz(func(t *testing.T, data, address []byte) {
		at, ok := netip.AddrFromSlice(address)
		if len(data) != CookieSize || !ok {
			return
		}
		c := Cookie(data)
		if fresh := secret.Fresh(c, at, now); fresh != (c == good && at.Unmap() == home) {
			t.Errorf("cookie %x of %v is fresh: %v", c, at, fresh)
		}
	})
}

// A key that is read is written in the same way.
func FuzzKey(f *testing.F) {
	f.Add(serverKey(f, 1).Public.String())
	f.Add(PublicKey{}.String())
	f.Add("no key")
	f.Fuzz(func(t *testing.T, text string) {
		key, err := ParseKey(text)
		if err != nil {
			if !strings.Contains(err.Error(), "server key") {
				t.Errorf("%v does not say what it is about", err)
			}
			return
		}
		if again, err := ParseKey(key.String()); err != nil || again != key {
			t.Errorf("%q is read as %v, and that as %v, %v", text, key, again, err)
		}
	})
}

func BenchmarkSeal(b *testing.B) {
	client, _ := connect(b)
	buf := append(make([]byte, wire.SealedHeader, wire.MaxPacket), bytes.Repeat([]byte("x"), 150)...)
	b.ReportAllocs()
	for b.Loop() {
		client.Seal(buf)
	}
}

func BenchmarkOpen(b *testing.B) {
	client, server := connect(b)
	packet := seal(b, client, "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789")
	buf := make([]byte, len(packet))
	b.ReportAllocs()
	for b.Loop() {
		server.window = window{}
		copy(buf, packet)
		if _, _, err := server.Open(buf); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkHandshakeOfServer(b *testing.B) {
	key := serverKey(b, 1)
	i, _ := NewInitiator(key.Public, source(1))
	h, _ := ParseHello(i.Hello(Cookie{}))
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := h.Respond(key, welcome, source(2)); err != nil {
			b.Fatal(err)
		}
	}
}
