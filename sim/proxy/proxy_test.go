package proxy

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// start runs a proxy before a server that answers each datagram with itself and
// the address that it came from.
func start(t *testing.T, c Config) (p *Proxy, server *net.UDPConn) {
	t.Helper()
	server = listen(t, "127.0.0.1:0")
	var wg sync.WaitGroup
	wg.Go(func() { echo(server) })
	c.Server = server.LocalAddr().(*net.UDPAddr).AddrPort()
	p, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	wg.Go(func() { p.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		server.Close()
		wg.Wait()
	})
	return p, server
}

func listen(t *testing.T, at string) *net.UDPConn {
	t.Helper()
	c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(at)))
	if err != nil {
		t.Fatal(err)
	}
	c.SetReadBuffer(4 << 20)
	return c
}

func echo(c *net.UDPConn) {
	buffer := make([]byte, 2000)
	for {
		n, from, err := c.ReadFromUDPAddrPort(buffer)
		if err != nil {
			return
		}
		c.WriteToUDPAddrPort(fmt.Appendf(nil, "%s %v", buffer[:n], from), from)
	}
}

// dial returns a client's socket.
func dial(t *testing.T, p *Proxy) *net.UDPConn {
	t.Helper()
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(p.Addr()))
	if err != nil {
		t.Fatal(err)
	}
	c.SetReadBuffer(4 << 20)
	t.Cleanup(func() { c.Close() })
	return c
}

// ask sends a text and returns the answer, "" if none comes.
func ask(t *testing.T, c *net.UDPConn, text string, wait time.Duration) string {
	t.Helper()
	if _, err := c.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	return hear(c, wait)
}

func hear(c *net.UDPConn, wait time.Duration) string {
	buffer := make([]byte, 2000)
	c.SetReadDeadline(time.Now().Add(wait))
	n, err := c.Read(buffer)
	if err != nil {
		return ""
	}
	return string(buffer[:n])
}

func TestAnswersComeBackToTheClientThatAsked(t *testing.T) {
	p, _ := start(t, Config{})
	a, b := dial(t, p), dial(t, p)
	fromA, fromB := ask(t, a, "a", time.Second), ask(t, b, "b", time.Second)
	if !strings.HasPrefix(fromA, "a 127.0.0.1:") || !strings.HasPrefix(fromB, "b 127.0.0.1:") {
		t.Fatalf("answers %q and %q, want each client's own", fromA, fromB)
	}
	if fromA[2:] == fromB[2:] {
		t.Errorf("the server saw one address for two clients: %s", fromA[2:])
	}
	if again := ask(t, a, "a", time.Second); again != fromA {
		t.Errorf("the server saw a client at another address: %q, then %q", fromA, again)
	}
}

// exchange sends n datagrams, one after the other's time, and returns the
// answers in the order in which they came.
func exchange(t *testing.T, p *Proxy, n int) []string {
	t.Helper()
	c := dial(t, p)
	var answers []string
	done := make(chan struct{})
	go func() { // ends with the socket's deadline
		defer close(done)
		for {
			text := hear(c, 500*time.Millisecond)
			if text == "" {
				return
			}
			answers = append(answers, strings.Fields(text)[0])
		}
	}()
	for i := range n {
		fmt.Fprintf(c, "%06d", i)
		if i%10 == 9 {
			time.Sleep(time.Millisecond) // let the sockets' buffers drain: only our own losses count
		}
	}
	<-done
	return answers
}

func TestLossesAreOfTheDirectionAskedFor(t *testing.T) {
	const sent = 2000
	p, _ := start(t, Config{Up: Faults{Loss: 0.2}, Down: Faults{Loss: 0.5}, Seed: 1})
	answers := exchange(t, p, sent)
	up, down := p.Counts()
	between(t, "lost on the way up", up.Lost, 0.17*sent, 0.23*sent)
	between(t, "lost on the way down", down.Lost, 0.45*float64(down.Came), 0.55*float64(down.Came))
	if uint64(len(answers)) != down.Came-down.Lost {
		t.Errorf("%d answers came, want the %d that were not lost", len(answers), down.Came-down.Lost)
	}
}

func TestDuplicatesArriveTwice(t *testing.T) {
	const sent = 2000
	p, _ := start(t, Config{Up: Faults{Duplicate: 0.2}, Seed: 1})
	times := make(map[string]int)
	for _, a := range exchange(t, p, sent) {
		times[a]++
	}
	twice := uint64(0)
	for _, n := range times {
		if n == 2 {
			twice++
		}
	}
	between(t, "arrived twice", twice, 0.17*sent, 0.23*sent)
	if up, _ := p.Counts(); up.Duplicated != twice || len(times) != sent {
		t.Errorf("%d of %d arrived, %d twice; the proxy counts %d", len(times), sent, twice, up.Duplicated)
	}
}

func TestReorderedDatagramsAreOvertakenAndNotLost(t *testing.T) {
	const sent = 2000
	p, _ := start(t, Config{Down: Faults{Reorder: 0.2}, Seed: 1})
	answers := exchange(t, p, sent)
	late, newest := uint64(0), ""
	for _, a := range answers {
		if a < newest {
			late++
		}
		newest = max(newest, a)
	}
	between(t, "overtaken", late, 0.1*sent, 0.23*sent)
	if len(answers) != sent {
		t.Errorf("%d of %d arrived", len(answers), sent)
	}
}

func TestDelayIsOfTheDirectionAskedForAndKeepsTheOrder(t *testing.T) {
	const delay = 30 * time.Millisecond
	p, _ := start(t, Config{Up: Faults{Delay: delay}})
	c := dial(t, p)
	begun := time.Now()
	if got := ask(t, c, "x", 5*time.Second); got == "" {
		t.Fatal("no answer")
	}
	if took := time.Since(begun); took < delay {
		t.Errorf("the answer came after %v, want %v at least", took, delay)
	}
	const sent = 200
	answers := exchange(t, p, sent)
	if len(answers) != sent || !slices.IsSorted(answers) {
		t.Errorf("%d of %d arrived, in order: %v", len(answers), sent, slices.IsSorted(answers))
	}
}

func between(t *testing.T, what string, got uint64, low, high float64) {
	t.Helper()
	if float64(got) < low || float64(got) > high {
		t.Errorf("%s: %d, want %.0f to %.0f", what, got, low, high)
	}
}

func TestServerMayGoAndComeBack(t *testing.T) {
	p, server := start(t, Config{})
	c := dial(t, p)
	before := ask(t, c, "x", time.Second)
	at := server.LocalAddr().String()
	server.Close()
	for range 3 { // the second write and read are told that nobody is there
		if got := ask(t, c, "x", 50*time.Millisecond); got != "" {
			t.Fatalf("an answer without a server: %q", got)
		}
	}
	server = listen(t, at)
	done := make(chan struct{})
	go func() { // ends with the socket
		defer close(done)
		echo(server)
	}()
	if after := ask(t, c, "x", 5*time.Second); after != before {
		t.Errorf("answer %q after the server came back, want %q as before", after, before)
	}
	server.Close()
	<-done
}

func TestSilentClientIsForgotten(t *testing.T) {
	p, _ := start(t, Config{Idle: 30 * time.Millisecond})
	c := dial(t, p)
	ask(t, c, "x", time.Second)
	deadline := time.Now().Add(10 * time.Second)
	for p.Clients() > 0 {
		if time.Now().After(deadline) {
			t.Fatal("a client that says nothing is still there")
		}
		time.Sleep(time.Millisecond) // real sockets: no virtual time
	}
	if got := ask(t, c, "x", time.Second); got == "" {
		t.Error("a client that was forgotten gets no answer when it speaks again")
	}
}

func TestTooManyClientsPushOutTheMostSilent(t *testing.T) {
	p, _ := start(t, Config{MaxClients: 2})
	a, b, c := dial(t, p), dial(t, p), dial(t, p)
	firstA, firstB := ask(t, a, "a", time.Second), ask(t, b, "b", time.Second)
	if again := ask(t, a, "a", time.Second); again != firstA {
		t.Errorf("answer %q, want %q: there is room for two", again, firstA)
	}
	ask(t, c, "c", time.Second)
	if n := p.Clients(); n != 2 {
		t.Errorf("%d clients, want 2", n)
	}
	if again := ask(t, a, "a", time.Second); again != firstA {
		t.Errorf("answer %q, want %q: b was silent for longer", again, firstA)
	}
	if again := ask(t, b, "b", time.Second); again == firstB || again == "" {
		t.Errorf("answer %q, want one from a new address", again)
	}
}

func TestConfigErrorsNameTheField(t *testing.T) {
	server := netip.MustParseAddrPort("127.0.0.1:1")
	for _, test := range []struct {
		want string
		cfg  Config
	}{
		{"Server", Config{}},
		{"Loss", Config{Server: server, Up: Faults{Loss: 1.5}}},
		{"Reorder", Config{Server: server, Down: Faults{Reorder: -1}}},
		{"Delay", Config{Server: server, Down: Faults{Delay: -1}}},
		{"Delay", Config{Server: server, Up: Faults{Delay: time.Minute}}},
	} {
		if _, err := New(test.cfg); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("error %v, want one that names %s", err, test.want)
		}
	}
}
