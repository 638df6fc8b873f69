package rabbit

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"timberline/bus"
	"timberline/sim/servers"
)

// sealed stands before a broker and speaks TLS, with a certificate of a CA whose file it
// returns.
func sealed(t *testing.T, broker string) (addr, ca string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	own := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, own, own, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	ca = filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}})
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	t.Cleanup(func() { l.Close(); all.Wait() })
	all.Go(func() {
		for {
			from, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer from.Close()
				to, err := net.Dial("tcp", broker)
				if err != nil {
					return
				}
				all.Go(func() { defer to.Close(); io.Copy(to, from) })
				io.Copy(from, to)
			})
		}
	})
	return l.Addr().String(), ca
}

// A said is what a bus logs.
type said struct {
	mu sync.Mutex
	bytes.Buffer
}

func (s *said) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.Buffer.Write(b)
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.Buffer.String()
}

func TestBusSpeaksTLSAndTellsWhyABrokerIsNotServed(t *testing.T) {
	broker, err := url.Parse(servers.RabbitMQ(t).URL())
	if err != nil {
		t.Fatal(err)
	}
	addr, ca := sealed(t, broker.Host)
	strange := *broker
	strange.Scheme, strange.Host = "amqps", addr
	trusting := strange
	trusting.RawQuery = url.Values{"cacertfile": {ca}}.Encode()
	but := func(change func(*url.URL)) string {
		u := *broker
		change(&u)
		return u.String()
	}

	c := config(servers.RabbitMQ(t))
	c.URL = trusting.String()
	listens := listen(t, c, "bob")
	listens.PublishPushes([]bus.Push{onePush("bob", 1)})
	within(t, "a push comes by TLS", func() bool {
		listens.mu.Lock()
		defer listens.mu.Unlock()
		return len(listens.seqs["bob"]) > 0
	})

	for what, tt := range map[string]struct{ url, says string }{
		"a CA that nobody knows":     {strange.String(), "certificate"},
		"TLS where there is none":    {but(func(u *url.URL) { u.Scheme = "amqps" }), "connect"},
		"a user that there is not":   {but(func(u *url.URL) { u.User = url.UserPassword("nobody", "hunter2") }), "403"},
		"a virtual host likewise":    {but(func(u *url.URL) { u.Path = "/nowhere" }), "nowhere"},
		"a CA file that there isn't": {trusting.String() + "x", "ca.pemx"},
	} {
		log := new(said)
		c := config(servers.RabbitMQ(t))
		c.URL, c.Logger = tt.url, slog.New(slog.NewTextHandler(log, nil))
		b, stop := run(t, c)
		within(t, what+" is told of", func() bool { return strings.Contains(log.String(), "the bus is away") })
		stop()
		if said := log.String(); !strings.Contains(said, tt.says) || strings.Contains(said, "hunter2") || b.Connected() {
			t.Errorf("%s: says %s, want %q", what, said, tt.says)
		}
	}
}
