package client_test

import (
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"timberline/bus/local"
	"timberline/client"
	"timberline/cmd/node"
	"timberline/edge"
	"timberline/edge/auth"
	"timberline/events"
	"timberline/store/pebble"
	"timberline/wire"
	"timberline/wire/sealed"
	"timberline/wire/udp"
)

// verify takes "user/device" for a token.
func verify(token string, _ time.Time) (auth.Identity, error) {
	user, dev, ok := strings.Cut(token, "/")
	if !ok {
		return auth.Identity{}, auth.ErrBadToken
	}
	return auth.Identity{User: events.User(user), Device: events.Device(dev)}, nil
}

// staticKey is the key of the servers here, serverKey what clients know of it.
var (
	staticKey = newStaticKey()
	serverKey = staticKey.Public.String()
)

func newStaticKey() sealed.ServerKey {
	private, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		panic(err)
	}
	return sealed.NewServerKey(private)
}

// A server is a whole one in the process.
type server struct {
	store *pebble.Store
	addr  netip.AddrPort
	stop  func()
}

// serve runs a server on a file system, at an address of the loopback.
func serve(fs vfs.FS, at string) *server {
	store, err := pebble.Open("data", pebble.Options{FS: fs})
	if err != nil {
		panic(err)
	}
	conn, err := udp.Listen(at)
	if err != nil {
		panic(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	b := new(local.Bus)
	go func() {
		done <- node.Run(ctx, node.Config{
			Engine: store, Meta: store.Meta(), Sole: true, Bus: b, Projector: true, Publish: b.PublishPushes,
			Edge: &edge.Config{
				Sockets: []edge.Socket{{PacketConn: conn}}, Tag: store.Tag(), Verify: verify,
				Keys: func() []sealed.ServerKey { return []sealed.ServerKey{staticKey} }, Secret: sealed.Secret{1},
			},
			Now: time.Now, Random: rand.Reader, Logger: slog.New(slog.DiscardHandler),
		})
	}()
	return &server{store, conn.LocalAddr(), func() {
		cancel()
		<-done
		store.Close()
	}}
}

// startServer runs a server on a store in memory. It returns its address and
// what stops it.
func startServer() (address string, stop func()) {
	s := serve(vfs.NewMem(), "127.0.0.1:0")
	return s.addr.String(), s.stop
}

// token returns what startServer takes for one.
func token(user, device string) func(context.Context) (string, error) {
	return func(context.Context) (string, error) { return user + "/" + device, nil }
}

func TestMessagesGoThroughARealServer(t *testing.T) {
	for _, codec := range []wire.Codec{wire.Proto, wire.JSON} {
		t.Run(codec.String(), func(t *testing.T) { testRealServer(t, codec) })
	}
}

func testRealServer(t *testing.T, codec wire.Codec) {
	address, stop := startServer()
	defer stop()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute) // it takes one second, on a machine that does nothing else
	defer cancel()
	alice, err := client.Dial(address, client.Options{ServerKey: serverKey, Token: token("alice", "laptop"), Codec: codec})
	if err != nil {
		t.Fatal(err)
	}
	defer alice.Close()
	bodies := []string{"hi bob", strings.Repeat("a long tale, ", 1000), "", "\xff\xfe not text"}
	const rounds = 100
	for range rounds {
		for _, b := range bodies {
			if _, err := alice.Send(ctx, "bob", []byte(b)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := alice.Flush(ctx); err != nil {
		t.Fatalf("flush: %v", err)
	}
	var got []client.Message
	all := make(chan struct{})
	bob, err := client.Dial(address, client.Options{
		ServerKey: serverKey, Token: token("bob", "phone"), Codec: codec,
		OnMessage: func(m client.Message) error {
			if got = append(got, m); len(got) == rounds*len(bodies) {
				close(all)
			}
			return nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-all:
	case <-ctx.Done():
	}
	if err := bob.Close(); err != nil {
		t.Fatal(err)
	}
	if len(got) != rounds*len(bodies) {
		t.Fatalf("bob has %d messages, want %d", len(got), rounds*len(bodies))
	}
	for i, m := range got {
		if want := bodies[i%len(bodies)]; m.Seq != events.Seq(i+1) || string(m.Event.Body) != want {
			t.Fatalf("message %d: seq %d, body of %d bytes, want seq %d and %d bytes", i, m.Seq, len(m.Event.Body), i+1, len(want))
		}
	}
}
