package udp

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"timberline/wire"
)

// patience is how long a test waits for what must come.
const patience = 10 * time.Second

var families = map[string]string{"IPv4": "127.0.0.1:0", "IPv6": "[::1]:0"}

// A system makes the transfers of one kind of system.
type system func(*net.UDPConn) (transfer, error)

// systems are this one, and any.
var systems = map[string]system{"this system": newTransfer, "any system": newSingle}

// each runs a test on each kind of system.
func each(t *testing.T, test func(t *testing.T, on system)) {
	for name, on := range systems {
		t.Run(name, func(t *testing.T) { test(t, on) })
	}
}

func (s system) listen(t testing.TB, address string) *Conn {
	t.Helper()
	c, err := Listen(address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if c.via, err = s(c.udp); err != nil {
		t.Fatal(err)
	}
	return c
}

// room returns datagrams to be read into.
func room(n int) []wire.Datagram {
	ds := make([]wire.Datagram, n)
	for i := range ds {
		ds[i].Data = make([]byte, wire.MaxPacket+1)
	}
	return ds
}

// readUpTo returns what one call reads; after a time of patience it fails.
func readUpTo(t testing.TB, c *Conn, most int) []wire.Datagram {
	t.Helper()
	if err := c.udp.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	ds := room(most)
	n, err := c.ReadBatch(ds)
	if err != nil || n < 1 {
		t.Fatalf("%d datagrams were read: %v", n, err)
	}
	for _, d := range ds[n:] {
		if d.Addr.IsValid() || len(d.Data) != wire.MaxPacket+1 {
			t.Errorf("behind the %d datagrams that came stands %d bytes from %v", n, len(d.Data), d.Addr)
		}
	}
	return ds[:n]
}

// read returns the next datagram.
func read(t testing.TB, c *Conn) wire.Datagram {
	t.Helper()
	return readUpTo(t, c, 1)[0]
}

func write(t testing.TB, c *Conn, ds ...wire.Datagram) {
	t.Helper()
	if err := c.WriteBatch(ds); err != nil {
		t.Error(err)
	}
}

func TestDatagramsArriveAndCanBeAnswered(t *testing.T) {
	each(t, func(t *testing.T, on system) {
		for family, address := range families {
			t.Run(family, func(t *testing.T) {
				a, b := on.listen(t, address), on.listen(t, address)
				full := bytes.Repeat([]byte("x"), wire.MaxPacket)
				write(t, a, wire.Datagram{Addr: b.LocalAddr(), Data: []byte("hello")}, wire.Datagram{Addr: b.LocalAddr(), Data: full})
				first, second := read(t, b), read(t, b)
				if string(first.Data) != "hello" || !bytes.Equal(second.Data, full) {
					t.Errorf("arrived: %q and %d bytes, want hello and %d", first.Data, len(second.Data), len(full))
				}
				if first.Addr != a.LocalAddr() {
					t.Errorf("came from %v, want %v", first.Addr, a.LocalAddr())
				}
				write(t, a, wire.Datagram{Addr: b.LocalAddr()})
				if empty := read(t, b); len(empty.Data) != 0 || empty.Addr != a.LocalAddr() {
					t.Errorf("an empty datagram came with %q from %v", empty.Data, empty.Addr)
				}
				write(t, b, wire.Datagram{Addr: first.Addr, Data: []byte("answer")})
				if answer := read(t, a); string(answer.Data) != "answer" || answer.Addr != b.LocalAddr() {
					t.Errorf("%q came from %v, want an answer from %v", answer.Data, answer.Addr, b.LocalAddr())
				}
			})
		}
	})
}

func TestLocalAddressIsTheOneToSendTo(t *testing.T) {
	each(t, func(t *testing.T, on system) {
		for family, address := range families {
			want := netip.MustParseAddrPort(address).Addr()
			if got := on.listen(t, address).LocalAddr(); got.Addr() != want || got.Port() == 0 {
				t.Errorf("%s: address is %v, want %v and a port", family, got, want)
			}
		}
		if got := on.listen(t, "localhost:0").LocalAddr(); !got.Addr().IsLoopback() {
			t.Errorf("localhost is %v, want a loopback address", got)
		}
	})
}

func TestDatagramTooLargeIsSeenToBe(t *testing.T) {
	each(t, func(t *testing.T, on system) {
		a, b := on.listen(t, "127.0.0.1:0"), on.listen(t, "127.0.0.1:0")
		write(t, a, wire.Datagram{Addr: b.LocalAddr(), Data: bytes.Repeat([]byte("x"), wire.MaxPacket+500)})
		if got := read(t, b); len(got.Data) != wire.MaxPacket+1 {
			t.Errorf("%d bytes were read, want one more than a packet has", len(got.Data))
		}
	})
}

func TestWhatCannotBeSentIsLostAlone(t *testing.T) {
	each(t, func(t *testing.T, on system) {
		a, b := on.listen(t, "127.0.0.1:0"), on.listen(t, "127.0.0.1:0")
		gone := on.listen(t, "127.0.0.1:0")
		gone.Close()
		for range 3 { // the system may tell of a closed port at a later write or read
			write(t, a,
				wire.Datagram{Addr: gone.LocalAddr(), Data: []byte("nobody is there")},
				wire.Datagram{Addr: netip.MustParseAddrPort("[::1]:9"), Data: []byte("wrong family")},
				wire.Datagram{Addr: b.LocalAddr(), Data: make([]byte, 1<<17)},
				wire.Datagram{Data: []byte("no address")},
				wire.Datagram{Addr: b.LocalAddr(), Data: []byte("good")},
			)
			if got := read(t, b); string(got.Data) != "good" {
				t.Errorf("%q arrived, want what stands behind the others", got.Data)
			}
		}
		write(t, b, wire.Datagram{Addr: a.LocalAddr(), Data: []byte("back")})
		if got := read(t, a); string(got.Data) != "back" {
			t.Errorf("%q arrived, want back", got.Data)
		}
	})
}

func TestCloseEndsAReadThatWaits(t *testing.T) {
	each(t, func(t *testing.T, on system) {
		c := on.listen(t, "127.0.0.1:0")
		done := make(chan error, 1)
		go func() {
			_, err := c.ReadBatch([]wire.Datagram{{Data: make([]byte, wire.MaxPacket+1)}})
			done <- err
		}()
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		select {
		case err := <-done:
			if err != net.ErrClosed {
				t.Errorf("the read ended with %v, want net.ErrClosed", err)
			}
		case <-time.After(patience):
			t.Fatal("the read still waits")
		}
		if err := c.WriteBatch([]wire.Datagram{{Addr: c.LocalAddr(), Data: []byte("x")}}); err != net.ErrClosed {
			t.Errorf("a write after Close: %v, want net.ErrClosed", err)
		}
		if _, err := c.ReadBatch([]wire.Datagram{{Data: make([]byte, 1)}}); err != net.ErrClosed {
			t.Errorf("a read after Close: %v, want net.ErrClosed", err)
		}
	})
}

func TestPortOfAClosedSocketIsFree(t *testing.T) {
	each(t, func(t *testing.T, on system) {
		c := on.listen(t, "127.0.0.1:0")
		address := c.LocalAddr().String()
		if _, err := Listen(address); err == nil || !strings.Contains(err.Error(), "the port is in use") {
			t.Errorf("second socket on %s: %v, want an error that says the port is in use", address, err)
		}
		c.Close()
		on.listen(t, address)
	})
}

func TestBadAddressIsToldWithWhatIsWrong(t *testing.T) {
	for address, want := range map[string]string{
		"127.0.0.1":        "missing port",
		"127.0.0.1:70000":  "invalid port",
		"nonsense":         "missing port",
		"203.0.113.1:4747": "this machine does not have that address",
	} {
		c, err := Listen(address)
		if err == nil {
			c.Close()
			t.Errorf("%s: no error, want %q", address, want)
			continue
		}
		if !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), address) {
			t.Errorf("%s: %v, want the address and %q", address, err, want)
		}
	}
}

func TestFailedReadIsToldWithTheAddress(t *testing.T) {
	each(t, func(t *testing.T, on system) {
		c := on.listen(t, "127.0.0.1:0")
		if err := c.udp.SetReadDeadline(time.Now().Add(-time.Second)); err != nil {
			t.Fatal(err)
		}
		_, err := c.ReadBatch([]wire.Datagram{{Data: make([]byte, 1)}})
		var timeout net.Error
		if !errors.As(err, &timeout) || !timeout.Timeout() || !strings.Contains(err.Error(), c.LocalAddr().String()) {
			t.Errorf("read after the deadline: %v, want a time-out that names the address", err)
		}
	})
}
