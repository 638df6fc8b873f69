package client

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"timberline/wire"
)

// longest is a jitter that always draws the most.
func longest(d time.Duration) time.Duration { return d }

func TestPausesGrowFromTryToTry(t *testing.T) {
	now := time.Unix(1, 0)
	var l link
	want := firstPause
	for range 20 {
		l.rest(now, 0, longest)
		if got := l.retry.Sub(now); got != want {
			t.Fatalf("pause of at most %v, want %v", got, want)
		}
		want = min(2*want, maxPause)
	}
	l.rest(now, time.Minute, longest)
	if got := l.retry.Sub(now); got != time.Minute+maxPause {
		t.Errorf("pause of at most %v, want the minute that the server asks for and %v", got, maxPause)
	}
}

func TestPausesGrowUntilASessionHasLasted(t *testing.T) {
	for _, c := range []struct {
		lasted time.Duration
		want   time.Duration
	}{
		{calm / 2, firstPause << 3}, // a server that accepts and fails must not be hammered
		{2 * calm, firstPause},
	} {
		now := time.Unix(1, 0)
		l := link{failures: 3, login: &wire.Login{}}
		l.accepted(now, &wire.Accepted{}, longest)
		now = now.Add(c.lasted)
		l.rest(now, 0, longest)
		if got := l.retry.Sub(now); got != c.want {
			t.Errorf("after a session of %v: pause of at most %v, want %v", c.lasted, got, c.want)
		}
	}
}

// A million devices whose server died must not come back at one instant.
func TestDevicesComeBackAtTimesOfTheirOwn(t *testing.T) {
	early := 0
	seen := map[time.Duration]bool{}
	for seed := range byte(100) {
		tell(t, Options{Random: bytes.NewReader(bytes.Repeat([]byte{seed}, 32))}, func(s *story) {
			s.welcome(1, 0)
			s.say(&wire.Closed{})
			took[wire.Login](s)
			begin := time.Now()
			for len(took[wire.Login](s)) == 0 {
				s.advance(100 * time.Microsecond)
			}
			pause := time.Since(begin)
			if pause > firstPause+2*grain {
				s.t.Errorf("seed %d: pause of %v, want at most %v", seed, pause, firstPause)
			}
			seen[pause] = true
			if pause < firstPause/2 {
				early++
			}
		})
	}
	if len(seen) < 80 || early < 30 || early > 70 {
		t.Errorf("100 devices came back at %d different times, %d of them in the first half", len(seen), early)
	}
}

// resolveFrom makes the resolver answer every question with some addresses,
// until the test ends.
func resolveFrom(t *testing.T, ips ...string) {
	old := net.DefaultResolver
	t.Cleanup(func() { net.DefaultResolver = old })
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		here, there := net.Pipe()
		go answerName(there, ips)
		return here, nil
	}}
}

// answerName answers one question on a connection that is like one of TCP.
func answerName(c net.Conn, ips []string) {
	defer c.Close()
	question := make([]byte, 1024)
	n, err := c.Read(question)
	if err != nil {
		return
	}
	var m dnsmessage.Message
	if m.Unpack(question[2:n]) != nil {
		return
	}
	m.Response, m.Additionals = true, nil
	for _, text := range ips {
		ip := netip.MustParseAddr(text)
		h := dnsmessage.ResourceHeader{Name: m.Questions[0].Name, Class: dnsmessage.ClassINET}
		switch {
		case ip.Is4() && m.Questions[0].Type == dnsmessage.TypeA:
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: h, Body: &dnsmessage.AResource{A: ip.As4()}})
		case ip.Is6() && m.Questions[0].Type == dnsmessage.TypeAAAA:
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: h, Body: &dnsmessage.AAAAResource{AAAA: ip.As16()}})
		}
	}
	answer, err := m.Pack()
	if err != nil {
		return
	}
	c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(answer))), answer...))
}

func TestEachTryTakesTheNextAddressOfAName(t *testing.T) {
	resolveFrom(t, "127.0.0.2", "127.0.0.3", "::1")
	seen := map[netip.AddrPort]bool{}
	var order []netip.AddrPort
	for try := range 6 {
		a, err := resolve(t.Context(), "edge.timberline.example:4747", try)
		if err != nil {
			t.Fatal(err)
		}
		seen[a] = true
		order = append(order, a)
	}
	if len(seen) != 3 || fmt.Sprint(order[:3]) != fmt.Sprint(order[3:]) {
		t.Errorf("tries went to %v, want the three addresses in turn", order)
	}
}

// The address that worked is the one to come back to: trying the others first
// would cost their time-outs at every restart of the server.
func TestDeviceComesBackToTheAddressThatWorked(t *testing.T) {
	now := time.Unix(1, 0)
	var l link
	l.rest(now, 0, longest) // the first address does not answer
	worked := l.vain
	l.login = &wire.Login{}
	for range 3 {
		l.accepted(now, &wire.Accepted{}, longest)
		now = now.Add(time.Minute)
		l.rest(now, 0, longest)
		if l.vain != worked {
			t.Fatalf("after a session the next try takes address %d, want %d again", l.vain, worked)
		}
	}
	l.rest(now, 0, longest)
	if l.vain == worked {
		t.Error("a try in vain is followed by one at the same address")
	}
}

func TestAddressesThatCannotBeUsedAreErrors(t *testing.T) {
	resolveFrom(t)
	for _, address := range []string{"nobody.timberline.example:4747", "localhost:http", "localhost", "localhost:70000"} {
		if a, err := resolve(t.Context(), address, 0); err == nil {
			t.Errorf("%q is %v, want an error", address, a)
		}
	}
	for _, address := range []string{"localhost", "", "::1"} {
		if _, err := Dial(address, Options{Plain: true, Token: func(context.Context) (string, error) { return "", nil }}); err == nil {
			t.Errorf("dialed %q, want an error", address)
		}
	}
}

func TestOptionsThatCannotWorkAreErrors(t *testing.T) {
	token := func(context.Context) (string, error) { return "", nil }
	for _, o := range []Options{
		{Plain: true}, {Token: token}, {Token: token, Plain: true, ServerKey: "x"}, {Token: token, ServerKey: "x"},
		{Token: token, Plain: true, OutboxLimit: -1}, {Token: token, Plain: true, Random: bytes.NewReader(nil)},
	} {
		if _, err := Dial("127.0.0.1:1", o); err == nil {
			t.Errorf("dialed with %+v, want an error", o)
		}
	}
}
