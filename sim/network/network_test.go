package network

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"timberline/events"
	"timberline/wire"
	"timberline/wire/sealed"
)

var (
	serverAddr = netip.MustParseAddrPort("10.0.0.1:4747")
	phone      = netip.MustParseAddr("10.0.0.2")
)

// A world is a network with a server that keeps what it receives and a phone.
type world struct {
	t             *testing.T
	net           *Network
	server, phone *Conn

	mu  sync.Mutex
	got []string // "data from address"
}

// inWorld runs a story in a bubble and returns its trace.
func inWorld(t *testing.T, seed uint64, f Faults, story func(*world)) (trace Trace) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, net: New(seed, f)}
		w.server = w.listen(serverAddr)
		w.phone = w.listen(netip.AddrPortFrom(phone, 0))
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { w.net.Run(ctx) })
		wg.Go(func() { w.receive(w.server) })
		story(w)
		trace = w.net.Trace()
		w.server.Close()
		w.phone.Close()
		cancel()
		wg.Wait()
	})
	return trace
}

func (w *world) listen(at netip.AddrPort) *Conn {
	w.t.Helper()
	c, err := w.net.Listen(at)
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

// receive keeps what comes until the socket is closed.
func (w *world) receive(c *Conn) {
	for {
		ds := []wire.Datagram{{Data: make([]byte, wire.MaxPacket+1)}}
		if _, err := c.ReadBatch(ds); errors.Is(err, net.ErrClosed) {
			return
		}
		w.mu.Lock()
		w.got = append(w.got, fmt.Sprintf("%s from %v", ds[0].Data, ds[0].Addr))
		w.mu.Unlock()
	}
}

func (w *world) send(texts ...string) {
	w.t.Helper()
	for _, text := range texts {
		if err := w.phone.WriteBatch([]wire.Datagram{{Addr: serverAddr, Data: []byte(text)}}); err != nil {
			w.t.Fatal(err)
		}
	}
}

func (w *world) received() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]string(nil), w.got...)
}

func (w *world) want(why string, want ...string) {
	w.t.Helper()
	if diff := cmp.Diff(want, w.received()); diff != "" {
		w.t.Errorf("%s: received (-want +got):\n%s", why, diff)
	}
}

func TestDatagramsArriveAfterTheirWay(t *testing.T) {
	inWorld(t, 1, Faults{Delay: 10 * time.Millisecond}, func(w *world) {
		w.send("hello")
		time.Sleep(9 * time.Millisecond)
		w.want("it is still on its way")
		time.Sleep(2 * time.Millisecond)
		w.want("its way was 10 ms", "hello from 10.0.0.2:1")
	})
}

func TestDatagramIsCopiedWhenSent(t *testing.T) {
	inWorld(t, 1, Faults{}, func(w *world) {
		data := []byte("hello")
		w.phone.WriteBatch([]wire.Datagram{{Addr: serverAddr, Data: data}})
		copy(data, "HELLO")
		time.Sleep(time.Second)
		w.want("the sender may use its buffer again", "hello from 10.0.0.2:1")
	})
}

func TestFaultsComeAsOftenAsAsked(t *testing.T) {
	const sent = 2000
	faults := Faults{Loss: 0.2, Duplicate: 0.1, Reorder: 0.2, Delay: 10 * time.Millisecond}
	inWorld(t, 7, faults, func(w *world) {
		for i := range sent {
			w.send(fmt.Sprintf("%06d", i))
			time.Sleep(20 * time.Millisecond)
		}
		time.Sleep(time.Second)
		seen := make(map[string]int)
		late := 0
		newest := ""
		for _, g := range w.received() {
			if seen[g]++; seen[g] == 1 && g < newest {
				late++
			}
			newest = max(newest, g)
		}
		twice := 0
		for _, n := range seen {
			if n == 2 {
				twice++
			}
		}
		between(t, "lost", sent-len(seen), sent*0.17, sent*0.23)
		between(t, "arrived twice", twice, sent*0.8*0.07, sent*0.8*0.13)
		// A fifth is held back by 0 to 100 ms; beyond 20 ms the next one passes.
		between(t, "overtaken", late, sent*0.8*0.2*0.6, sent*0.8*0.2)
	})
}

func between(t *testing.T, what string, got int, low, high float64) {
	t.Helper()
	if float64(got) < low || float64(got) > high {
		t.Errorf("%s: %d, want %.0f to %.0f", what, got, low, high)
	}
}

func TestCutHostsDoNotReachEachOtherUntilHealed(t *testing.T) {
	inWorld(t, 1, Faults{Delay: 10 * time.Millisecond}, func(w *world) {
		w.send("on the way")
		w.net.Cut(phone, serverAddr.Addr())
		w.send("while cut")
		time.Sleep(time.Second)
		w.want("what was on its way is lost, too")
		w.net.Heal(serverAddr.Addr(), phone)
		w.send("healed")
		time.Sleep(time.Second)
		w.want("healed in either order of the hosts", "healed from 10.0.0.2:1")
	})
}

func TestSpoofedDatagramClaimsItsSource(t *testing.T) {
	inWorld(t, 1, Faults{}, func(w *world) {
		w.net.Spoof(netip.MustParseAddrPort("6.6.6.6:6"), serverAddr, []byte("evil"))
		time.Sleep(time.Second)
		w.want("the server sees the source claimed", "evil from 6.6.6.6:6")
	})
}

func TestMovedSocketSendsAndReceivesAtItsNewAddress(t *testing.T) {
	inWorld(t, 1, Faults{}, func(w *world) {
		old := w.phone.LocalAddr()
		w.phone.Move(netip.MustParseAddrPort("10.9.9.9:0"))
		w.send("moved")
		w.server.WriteBatch([]wire.Datagram{
			{Addr: old, Data: []byte("to the old address")},
			{Addr: netip.MustParseAddrPort("10.9.9.9:1"), Data: []byte("to the new one")},
		})
		time.Sleep(time.Second)
		w.want("the source is the new address", "moved from 10.9.9.9:1")
		ds := []wire.Datagram{{Data: make([]byte, 100)}, {Data: make([]byte, 100)}}
		n, err := w.phone.ReadBatch(ds)
		if n != 1 || err != nil || string(ds[0].Data) != "to the new one" {
			t.Errorf("read %d datagrams, %q, %v; want only what was sent to the new address", n, ds[0].Data, err)
		}
	})
}

func TestClosedSocketReturnsErrClosedAndFreesItsAddress(t *testing.T) {
	inWorld(t, 1, Faults{}, func(w *world) {
		w.send("unread")
		w.server.Close()
		if _, err := w.server.ReadBatch(make([]wire.Datagram, 1)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("read after close: %v, want net.ErrClosed", err)
		}
		if err := w.server.WriteBatch(nil); !errors.Is(err, net.ErrClosed) {
			t.Errorf("write after close: %v, want net.ErrClosed", err)
		}
		w.listen(serverAddr).Close()
		w.listen(serverAddr)
		if _, err := w.net.Listen(serverAddr); err == nil {
			t.Error("two sockets listen on one address, want an error")
		}
	})
}

func TestFullSocketDropsWhatComes(t *testing.T) {
	inWorld(t, 1, Faults{}, func(w *world) {
		quiet := w.listen(netip.MustParseAddrPort("10.0.0.3:1"))
		for range unread + 10 {
			w.phone.WriteBatch([]wire.Datagram{{Addr: quiet.LocalAddr(), Data: []byte("x")}})
		}
		time.Sleep(time.Second)
		full := w.net.Trace()
		dropped := strings.Count(strings.Join(full.Lines(2*unread), "\n"), "(no room)")
		if dropped != 10 {
			t.Errorf("%d datagrams found no room, want 10", dropped)
		}
	})
}

// chatter sends from many sockets at once, in whatever order the scheduler has.
func chatter(w *world) {
	var wg sync.WaitGroup
	for i := range 20 {
		c := w.listen(netip.MustParseAddrPort(fmt.Sprintf("10.1.0.%d:9", i+1)))
		wg.Go(func() {
			defer c.Close()
			for k := range 20 {
				c.WriteBatch([]wire.Datagram{{Addr: serverAddr, Data: fmt.Appendf(nil, "%d", k)}})
				time.Sleep(time.Millisecond)
			}
		})
	}
	wg.Wait()
	time.Sleep(time.Second)
}

func TestSameSeedSameTraceWhoeverSendsFirst(t *testing.T) {
	faults := Faults{Loss: 0.1, Duplicate: 0.1, Reorder: 0.1, Delay: 5 * time.Millisecond, Jitter: 20 * time.Millisecond}
	first := inWorld(t, 3, faults, chatter)
	for range 5 {
		again := inWorld(t, 3, faults, chatter)
		if mine, theirs := first.Diff(&again); mine != theirs {
			t.Fatalf("the same seed gave another run:\n%s\n%s", mine, theirs)
		}
	}
	other := inWorld(t, 4, faults, chatter)
	if first.Sum() == other.Sum() {
		t.Error("another seed gave the same run")
	}
}

func TestTraceSaysWhatHappenedInWords(t *testing.T) {
	trace := inWorld(t, 1, Faults{}, func(w *world) {
		p := wire.Packet{Frames: []wire.Frame{&wire.Send{Number: 3, To: "u0002", Body: []byte("hi")}, &wire.Ping{ID: 1, Cursor: 7}}}
		w.send(string(p.Encode()))
		time.Sleep(time.Second)
		w.net.Note("server crashes")
	})
	lines := strings.Join(trace.Lines(10), "\n")
	for _, want := range []string{"10.0.0.2:1 > 10.0.0.1:4747 #1", "send 3 to u0002, 2B; ping 1, cursor 7", "server crashes"} {
		if !strings.Contains(lines, want) {
			t.Errorf("the trace does not say %q:\n%s", want, lines)
		}
	}
}

func TestTraceSaysWhatSealedPacketsAre(t *testing.T) {
	private, err := ecdh.X25519().NewPrivateKey(bytes.Repeat([]byte{1}, 32))
	if err != nil {
		t.Fatal(err)
	}
	key := sealed.NewServerKey(private)
	client, err := sealed.NewInitiator(key.Public, Random(1, "client"))
	if err != nil {
		t.Fatal(err)
	}
	h, err := sealed.ParseHello(client.Hello(sealed.Cookie{1}))
	if err != nil {
		t.Fatal(err)
	}
	welcome, channel, err := h.Respond(key, sealed.Welcome{Session: events.SessionID{1}}, Random(1, "server"))
	if err != nil {
		t.Fatal(err)
	}
	packer := wire.NewSealedPacker(wire.Proto)
	packer.Add(&wire.Ping{ID: 1})
	data, err := channel.Seal(packer.Packets()[0])
	if err != nil {
		t.Fatal(err)
	}
	echo := fmt.Sprintf("%x", h.Echo())[:8]
	for _, c := range []struct {
		packet []byte
		want   string
	}{
		{client.Hello(sealed.Cookie{}), "hello " + echo},
		{client.Hello(sealed.Cookie{1}), "hello " + echo + " with a cookie"},
		{h.AppendRetry(nil, sealed.Retry{Cause: sealed.CauseKey}), "retry " + echo + ", cause 2"},
		{welcome, "welcome " + echo},
		{data, fmt.Sprintf("data 0 of %v, %dB of frames", events.SessionID{1}, len(data)-sealed.DataSize)},
		{sealed.AppendReset(nil, events.SessionID{1}, sealed.Token{}), fmt.Sprintf("reset of %v", events.SessionID{1})},
		{welcome[:20], "no packet"},
		{nil, "no packet"},
	} {
		if got := words(c.packet); got != c.want {
			t.Errorf("%x is %q, want %q", c.packet, got, c.want)
		}
	}
}

func TestWhoListensInHearsEachDatagramOnceAndMayBeFaster(t *testing.T) {
	inWorld(t, 1, Faults{}, func(w *world) {
		var heard []string
		w.net.Overhear(func(from, to netip.AddrPort, data []byte) time.Duration {
			w.mu.Lock()
			heard = append(heard, string(data))
			w.mu.Unlock()
			w.net.Spoof(netip.MustParseAddrPort("6.6.6.6:6"), to, data)
			return time.Second
		})
		w.send("secret")
		time.Sleep(time.Minute)
		w.want("the copy is faster", "secret from 6.6.6.6:6", "secret from 10.0.0.2:1")
		w.net.SetFaults(Faults{Loss: 1})
		w.send("lost")
		time.Sleep(time.Minute)
		w.mu.Lock()
		defer w.mu.Unlock()
		if diff := cmp.Diff([]string{"secret", "lost"}, heard); diff != "" {
			t.Errorf("heard (-want +got):\n%s", diff)
		}
	})
}

func TestDiffNamesTheFirstDifference(t *testing.T) {
	story := func(text string) func(*world) {
		return func(w *world) {
			w.send("same")
			time.Sleep(time.Second)
			w.send(text)
			time.Sleep(time.Second)
		}
	}
	a, b, c := inWorld(t, 1, Faults{}, story("a")), inWorld(t, 1, Faults{}, story("b")), inWorld(t, 1, Faults{}, story("a"))
	if mine, theirs := a.Diff(&b); !strings.HasPrefix(mine, "step 1") || mine == theirs {
		t.Errorf("traces differ in step 1, Diff says %q and %q", mine, theirs)
	}
	if mine, theirs := a.Diff(&c); mine != "" || theirs != "" {
		t.Errorf("traces are equal, Diff says %q and %q", mine, theirs)
	}
}

func TestAtCallsInTimeWithTheBubbleAtRest(t *testing.T) {
	inWorld(t, 1, Faults{}, func(w *world) {
		called := make(chan time.Duration, 3)
		for _, d := range []time.Duration{3 * time.Second, time.Second, time.Second} {
			w.net.At(d, func() { called <- w.net.now() })
		}
		at := []time.Duration{<-called, <-called, <-called}
		want := []time.Duration{time.Second, time.Second + 1, 3 * time.Second}
		if diff := cmp.Diff(want, at); diff != "" {
			t.Errorf("called at (-want +got):\n%s", diff)
		}
	})
}

func TestRandomDependsOnSeedAndNameAlone(t *testing.T) {
	read := func(seed uint64, name string) []byte {
		b := make([]byte, 32)
		io.ReadFull(Random(seed, name), b)
		return b
	}
	if !bytes.Equal(read(1, "edge"), read(1, "edge")) {
		t.Error("the same seed and name gave other bytes")
	}
	if bytes.Equal(read(1, "edge"), read(2, "edge")) || bytes.Equal(read(1, "edge"), read(1, "client")) {
		t.Error("another seed or name gave the same bytes")
	}
}
