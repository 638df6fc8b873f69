package node_test

import (
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"timberline/bus/local"
	"timberline/cmd/node"
	"timberline/edge"
	"timberline/edge/auth"
	"timberline/events"
	"timberline/projections"
	"timberline/store/pebble"
	"timberline/wire"
	"timberline/wire/sealed"
	"timberline/wire/udp"
)

// verify takes "user/device" for a token: what tokens are is not tested here.
func verify(token string, now time.Time) (auth.Identity, error) {
	user, dev, ok := strings.Cut(token, "/")
	if !ok {
		return auth.Identity{}, auth.ErrBadToken
	}
	return auth.Identity{User: events.User(user), Device: events.Device(dev), Expires: now.Add(time.Hour)}, nil
}

// serve runs a node on a file system, in plain mode, until stop is called.
func serve(t *testing.T, fs vfs.FS) (addr netip.AddrPort, stop func()) {
	t.Helper()
	return serveEdge(t, fs, plainEdge)
}

// storeAndSocket opens what an edge needs.
func storeAndSocket(t *testing.T, fs vfs.FS) (*pebble.Store, *udp.Conn) {
	t.Helper()
	store, err := pebble.Open("data", pebble.Options{FS: fs})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := udp.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return store, conn
}

// serveEdge is serve with an edge of any kind.
func serveEdge(t *testing.T, fs vfs.FS, newEdge func(wire.PacketConn, events.EdgeTag) edge.Config) (addr netip.AddrPort, stop func()) {
	t.Helper()
	store, conn := storeAndSocket(t, fs)
	ec := newEdge(conn, store.Tag())
	return conn.LocalAddr(), run(t, store, node.Config{Edge: &ec})
}

// run runs a node on a store, with an edge and what else it is given, until stop is called.
func run(t *testing.T, store *pebble.Store, c node.Config) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	b := new(local.Bus)
	c.Engine, c.Meta, c.Sole, c.Bus, c.Projector, c.Publish = store, store.Meta(), true, b, true, b.PublishPushes
	c.Now, c.Random, c.Logger = time.Now, rand.Reader, slog.New(slog.DiscardHandler)
	go func() { done <- node.Run(ctx, c) }()
	return func() {
		t.Helper()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("stop: %v", err)
		}
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	}
}

// A hand talks to a node in JSON, line by line, as one does with nc.
type hand struct {
	t       *testing.T
	conn    net.Conn
	session string
}

func newHand(t *testing.T, addr netip.AddrPort) *hand {
	t.Helper()
	conn, err := net.Dial("udp", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &hand{t: t, conn: conn}
}

func (h *hand) say(format string, args ...any) {
	h.t.Helper()
	if _, err := fmt.Fprintf(h.conn, format+"\n", args...); err != nil {
		h.t.Fatal(err)
	}
}

// hear returns the first frame of a type that comes.
func hear[T wire.Frame](h *hand) T {
	h.t.Helper()
	h.conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	for {
		buf := make([]byte, 2000)
		n, err := h.conn.Read(buf)
		if err != nil {
			h.t.Fatalf("waiting for %T: %v", *new(T), err)
		}
		p, err := wire.Decode(buf[:n])
		if err != nil {
			h.t.Fatal(err)
		}
		for _, f := range p.Frames {
			if f, ok := f.(T); ok {
				return f
			}
		}
	}
}

func (h *hand) login(token string) *wire.Accepted {
	h.t.Helper()
	h.say(`{"login":{"version":1,"token":%q}}`, token)
	a := hear[*wire.Accepted](h)
	h.session = a.Session.String()
	return a
}

func body(t *testing.T, raw []byte) string {
	t.Helper()
	e, err := events.Raw(raw).Decode()
	if err != nil {
		t.Fatal(err)
	}
	return string(e.Body)
}

func TestAMessageGoesAllTheWayAndSurvivesARestart(t *testing.T) {
	fs := vfs.NewMem()
	addr, stop := serve(t, fs)
	alice, bob := newHand(t, addr), newHand(t, addr)
	alice.login("alice/laptop")
	bob.login("bob/phone")

	alice.say(`{"session":%q,"send":{"n":1,"to":"bob","text":"hi bob"}}`, alice.session)
	if ack := hear[*wire.Ack](alice); ack.Through != 1 {
		t.Errorf("ack %+v, want through 1", ack)
	}
	push := hear[*wire.Push](bob)
	if push.From != 1 || len(push.Events) != 1 || body(t, push.Events[0]) != "hi bob" {
		t.Errorf("push %+v, want the message at seq 1", push)
	}
	stop()
	if c := hear[*wire.Closed](bob); c.Reason != wire.ReasonShutdown {
		t.Errorf("closed %v, want shutdown", c.Reason)
	}

	addr, stop = serve(t, fs)
	defer stop()
	again := newHand(t, addr)
	if a := again.login("bob/tablet"); a.Head != 1 || a.Journal != "j:2" {
		t.Errorf("after a restart: head %d in journal %s, want 1 in j:2", a.Head, a.Journal)
	}
	again.say(`{"session":%q,"sync":{"id":1,"ranges":[{"after":0}]}}`, again.session)
	if page := hear[*wire.Page](again); page.From != 1 || body(t, page.Events[0]) != "hi bob" {
		t.Errorf("page %+v, want the message at seq 1", page)
	}
}

// A crowded engine reads no end of a timeline before so many are wanted at a time.
type crowded struct {
	*pebble.Store
	wanted atomic.Int32
	all    chan struct{}
}

const crowd = 16

func (c *crowded) NewestItem(ctx context.Context, t projections.Timeline, level events.Consistency) (projections.Stored, error) {
	if c.wanted.Add(1) == crowd {
		close(c.all)
	}
	select {
	case <-c.all:
		return c.Store.NewestItem(ctx, t, level)
	case <-ctx.Done():
		return projections.Stored{}, ctx.Err()
	}
}

func TestEdgeAsksAStoreThatIsFarAwayManyThingsAtATime(t *testing.T) {
	store, conn := storeAndSocket(t, vfs.NewMem())
	defer store.Close()
	ctx, cancel := context.WithCancel(t.Context())
	ec := plainEdge(conn, store.Tag())
	done := make(chan error, 1)
	go func() {
		done <- node.Run(ctx, node.Config{
			Engine: &crowded{Store: store, all: make(chan struct{})}, Meta: store.Meta(), Shared: true, Bus: new(local.Bus),
			Edge: &ec,
			Now:  time.Now, Random: rand.Reader, Logger: slog.New(slog.DiscardHandler),
		})
	}()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	var hands []*hand
	for n := range crowd {
		h := newHand(t, conn.LocalAddr())
		h.say(`{"login":{"version":1,"token":"user%d/phone"}}`, n)
		hands = append(hands, h)
	}
	for _, h := range hands {
		hear[*wire.Accepted](h)
	}
}

// A cancelling engine has the process stopped while it starts.
type cancelling struct {
	*pebble.Store
	stop context.CancelFunc
}

func (c cancelling) ListJournals(ctx context.Context, after uint64, level events.Consistency) ([]events.Row, error) {
	c.stop()
	return nil, ctx.Err()
}

func TestStopWhileStartingIsClean(t *testing.T) {
	store, conn := storeAndSocket(t, vfs.NewMem())
	defer store.Close()
	ctx, cancel := context.WithCancel(t.Context())
	ec := plainEdge(conn, store.Tag())
	err := node.Run(ctx, node.Config{
		Engine: cancelling{store, cancel}, Meta: store.Meta(), Sole: true, Bus: new(local.Bus),
		Edge: &ec,
		Now:  time.Now, Random: rand.Reader, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Errorf("stopped while starting: %v, want a clean end", err)
	}
	if err := conn.Close(); err == nil {
		t.Error("the socket was left open")
	}
}

// plainEdge is how an edge serves in plain mode.
func plainEdge(conn wire.PacketConn, tag events.EdgeTag) edge.Config {
	return edge.Config{Sockets: []edge.Socket{{PacketConn: conn, Plain: true}}, Tag: tag, Verify: verify}
}

// serveSealed is serve in sealed mode. It returns the server's key, too, in text.
func serveSealed(t *testing.T, fs vfs.FS) (addr netip.AddrPort, serverKey string, stop func()) {
	t.Helper()
	private, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key := sealed.NewServerKey(private)
	addr, stop = serveEdge(t, fs, func(conn wire.PacketConn, tag events.EdgeTag) edge.Config {
		return edge.Config{
			Sockets: []edge.Socket{{PacketConn: conn}}, Tag: tag, Verify: verify,
			Keys: func() []sealed.ServerKey { return []sealed.ServerKey{key} }, Secret: sealed.Secret{1},
		}
	})
	return addr, key.Public.String(), stop
}
