package client_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"timberline/client"
	"timberline/wire"
	"timberline/wire/sealed"
	"timberline/wire/udp"
)

// A roamer is a client's socket that moves: to another address of the loopback,
// beneath the client, as behind a NAT that forgets a mapping. It keeps what passes.
type roamer struct {
	mu     sync.Mutex
	conn   wire.PacketConn
	sent   [][]byte // datagrams of the client
	got    [][]byte // datagrams for it
	closed bool
}

func newRoamer(host string) (*roamer, error) {
	conn, err := udp.Listen(host + ":0")
	return &roamer{conn: conn}, err
}

func (r *roamer) socket() wire.PacketConn {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.conn
}

// move goes on from another host.
func (r *roamer) move(host string) error {
	conn, err := udp.Listen(host + ":0")
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	old := r.conn
	r.conn = conn
	return old.Close()
}

func (r *roamer) ReadBatch(ds []wire.Datagram) (int, error) {
	for {
		conn := r.socket()
		n, err := conn.ReadBatch(ds)
		r.mu.Lock()
		moved, closed := r.conn != conn, r.closed
		for _, d := range ds[:n] {
			r.got = append(r.got, bytes.Clone(d.Data))
		}
		r.mu.Unlock()
		if err == nil || !moved || closed {
			return n, err
		}
	}
}

func (r *roamer) WriteBatch(ds []wire.Datagram) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, d := range ds {
		r.sent = append(r.sent, bytes.Clone(d.Data))
	}
	return r.conn.WriteBatch(ds)
}

func (r *roamer) LocalAddr() netip.AddrPort { return r.socket().LocalAddr() }

func (r *roamer) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	return r.conn.Close()
}

// A traveller is a device that sends to bob and notes how often it had to log in.
type traveller struct {
	c      *client.Client
	mu     sync.Mutex
	logins int
	socket []*roamer
	host   byte // the last one used
}

func (tr *traveller) nextHost() string {
	tr.host++
	return fmt.Sprintf("127.0.%d.%d", 10+tr.host/200, 1+tr.host%200)
}

// travel dials for alice, from sockets that can move.
func travel(t *testing.T, address string, codec wire.Codec) *traveller {
	t.Helper()
	tr := &traveller{}
	var err error
	tr.c, err = client.Dial(address, client.Options{
		ServerKey: serverKey, Codec: codec,
		Token: func(context.Context) (string, error) {
			tr.mu.Lock()
			defer tr.mu.Unlock()
			tr.logins++
			return "alice/phone", nil
		},
		Listen: func() (wire.PacketConn, error) {
			tr.mu.Lock()
			defer tr.mu.Unlock()
			r, err := newRoamer(tr.nextHost())
			tr.socket = append(tr.socket, r)
			return r, err
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tr.c.Close() })
	return tr
}

// move changes the device's address, beneath the client or with its knowledge.
func (tr *traveller) move(t *testing.T, told bool) {
	t.Helper()
	if told {
		tr.c.NetworkChanged()
		return
	}
	tr.mu.Lock()
	defer tr.mu.Unlock()
	if err := tr.socket[len(tr.socket)-1].move(tr.nextHost()); err != nil {
		t.Fatal(err)
	}
}

// A client that gets another address and port in the middle of its sends keeps its
// session, whether it knows of it or not.
func TestSessionOutlivesChangesOfAddress(t *testing.T) {
	for _, codec := range []wire.Codec{wire.Proto, wire.JSON} {
		t.Run(codec.String(), func(t *testing.T) {
			address, stop := startServer()
			defer stop()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			const messages, moves = 600, 12
			bob := show(t, address, "phone", messages, client.Options{})
			alice := travel(t, address, codec)
			for i := range messages {
				if leg := messages / moves; i%leg == leg/2 {
					alice.move(t, i/leg%2 == 0)
				}
				if _, err := alice.c.Send(ctx, "bob", fmt.Appendf(nil, "message %d", i)); err != nil {
					t.Fatal(err)
				}
				if i%10 == 0 {
					if err := alice.c.Flush(ctx); err != nil { // so that every move meets sends under way
						t.Fatal(err)
					}
				}
			}
			if err := alice.c.Flush(ctx); err != nil {
				t.Fatal(err)
			}
			select {
			case <-bob.all:
			case <-ctx.Done():
				t.Fatal("bob does not get everything")
			}
			bob.c.Close()
			sessions := make(map[string]bool)
			for i, m := range bob.list {
				sessions[m.Event.Session.String()] = true
				if want := fmt.Sprintf("message %d", i); string(m.Event.Body) != want {
					t.Fatalf("entry %d is %q, want %q", m.Seq, m.Event.Body, want)
				}
			}
			alice.mu.Lock()
			defer alice.mu.Unlock()
			if alice.logins != 1 || len(sessions) != 1 {
				t.Errorf("%d logins, %d sessions for %d moves, want one", alice.logins, len(sessions), moves)
			}
		})
	}
}

// A thief repeats packets from a socket of its own.
type thief struct {
	conn net.PacketConn
	sent int
	got  []byte // the first byte of each answer
	size int    // of all answers
}

// repeat sends packets to the server, and takes in what it answers.
func (th *thief) repeat(t *testing.T, server net.Addr, packets [][]byte) {
	t.Helper()
	buf := make([]byte, 2000)
	for _, p := range packets {
		th.sent += len(p)
		if _, err := th.conn.WriteTo(p, server); err != nil {
			t.Fatal(err)
		}
		for {
			th.conn.SetReadDeadline(time.Now().Add(time.Millisecond))
			n, _, err := th.conn.ReadFrom(buf)
			if err != nil {
				break
			}
			th.got, th.size = append(th.got, buf[0]), th.size+n
		}
	}
}

// Whatever is repeated of a recorded exchange, by whom and in whatever order:
// nothing is opened, moved or delivered twice.
func TestRecordedExchangeIsOfNoUseToAThief(t *testing.T) {
	address, stop := startServer()
	defer stop()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	const messages = 40
	bob := show(t, address, "phone", 2*messages, client.Options{})
	alice := travel(t, address, wire.Proto)
	send := func() {
		t.Helper()
		for i := range messages {
			if _, err := alice.c.Send(ctx, "bob", fmt.Appendf(nil, "message %d", i)); err != nil {
				t.Fatal(err)
			}
		}
		if err := alice.c.Flush(ctx); err != nil {
			t.Fatal(err)
		}
	}
	send()
	server, err := net.ResolveUDPAddr("udp", address)
	if err != nil {
		t.Fatal(err)
	}
	own := alice.socket[0]
	own.mu.Lock()
	whole := append([][]byte(nil), own.sent...)
	both := append(append([][]byte(nil), own.sent...), own.got...)
	own.mu.Unlock()

	far, err := net.ListenPacket("udp", "127.0.99.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	th := &thief{conn: far}
	th.repeat(t, server, whole)
	th.repeat(t, server, whole[len(whole)/2:])
	r := rand.New(rand.NewPCG(1, 2))
	r.Shuffle(len(both), func(i, j int) { both[i], both[j] = both[j], both[i] })
	th.repeat(t, server, both)
	for i, kind := range th.got {
		if kind == sealed.TypeData {
			t.Errorf("answer %d to the thief is of a session", i)
		}
	}
	if th.size > th.sent {
		t.Errorf("the thief sent %d bytes and got %d", th.sent, th.size)
	}
	for _, p := range both { // from the client's own address
		if err := own.socket().WriteBatch([]wire.Datagram{{Addr: server.AddrPort(), Data: p}}); err != nil {
			t.Fatal(err)
		}
	}

	send() // the session lives, where it was
	select {
	case <-bob.all:
	case <-ctx.Done():
		t.Fatal("bob does not get everything")
	}
	if err := bob.c.Sync(ctx); err != nil {
		t.Error(err)
	}
	bob.c.Close()
	if len(bob.list) != 2*messages {
		t.Errorf("bob has %d messages, want %d", len(bob.list), 2*messages)
	}
	for i, m := range bob.list {
		if want := fmt.Sprintf("message %d", i%messages); string(m.Event.Body) != want {
			t.Fatalf("entry %d is %q, want %q", m.Seq, m.Event.Body, want)
		}
	}
	if alice.logins != 1 {
		t.Errorf("%d logins, want 1", alice.logins)
	}
}
