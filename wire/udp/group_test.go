package udp

import (
	"fmt"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"timberline/wire"
)

func listenGroup(t *testing.T, address string, n int) []*Conn {
	t.Helper()
	group, err := ListenGroup(address, n)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeGroup(group) })
	want := 1
	if runtime.GOOS == "linux" {
		want = n
	}
	if len(group) != want {
		t.Fatalf("%d sockets were opened on %s, want %d", len(group), address, want)
	}
	return group
}

func closeGroup(group []*Conn) {
	for _, c := range group {
		c.Close()
	}
}

func TestGroupSharesOnePort(t *testing.T) {
	for family, address := range families {
		group := listenGroup(t, address, 3)
		for _, c := range group {
			if at := c.LocalAddr(); at != group[0].LocalAddr() || at.Port() == 0 {
				t.Errorf("%s: a socket is at %v, the first one at %v", family, at, group[0].LocalAddr())
			}
		}
	}
	listenGroup(t, "localhost:0", 2)
	listenGroup(t, "127.0.0.1:0", 1)
}

// Each of many peers sends several packets.
func TestPeersAreSpreadOverAGroupAndStayWhereTheyAre(t *testing.T) {
	const peers, packets = 64, 3
	for family, address := range families {
		group := listenGroup(t, address, 4)
		for range peers {
			peer := listenGroup(t, address, 1)[0]
			for range packets {
				write(t, peer, wire.Datagram{Addr: group[0].LocalAddr(), Data: []byte("x")})
			}
		}
		at := make(map[string]int) // which socket has a peer
		for i, c := range group {
			var mine int
			for d := range arrived(t, c) {
				if before, known := at[d.Addr.String()]; known && before != i {
					t.Errorf("%s: %v came to the sockets %d and %d", family, d.Addr, before, i)
				}
				at[d.Addr.String()] = i
				mine++
			}
			if mine == 0 {
				t.Errorf("%s: no packet of %d peers came to socket %d", family, peers, i)
			}
		}
		if len(at) != peers {
			t.Errorf("%s: %d peers were heard, want %d", family, len(at), peers)
		}
	}
}

// arrived yields what is there.
func arrived(t *testing.T, c *Conn) func(func(wire.Datagram) bool) {
	return func(yield func(wire.Datagram) bool) {
		if err := c.udp.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		for ds := room(8); ; {
			n, err := c.ReadBatch(reset(ds))
			if err != nil {
				return
			}
			for _, d := range ds[:n] {
				if !yield(d) {
					return
				}
			}
		}
	}
}

// A second server would share the port in silence, and get some of the packets.
func TestPortOfAnotherIsInUseForAGroup(t *testing.T) {
	open := map[string]func(address string) ([]*Conn, error){
		"one": func(address string) ([]*Conn, error) {
			c, err := Listen(address)
			return []*Conn{c}, err
		},
		"a group of one":   func(address string) ([]*Conn, error) { return ListenGroup(address, 1) },
		"a group of three": func(address string) ([]*Conn, error) { return ListenGroup(address, 3) },
	}
	for has, first := range open {
		for comes, second := range open {
			group, err := first("127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			for _, host := range []string{"127.0.0.1", "0.0.0.0"} {
				address := net.JoinHostPort(host, fmt.Sprint(group[0].LocalAddr().Port()))
				other, err := second(address)
				if err == nil {
					closeGroup(other)
				}
				if err == nil || !strings.Contains(err.Error(), "the port is in use") {
					t.Errorf("%s has the port, %s comes on %s: %v, want an error that says the port is in use", has, comes, address, err)
				}
			}
			closeGroup(group)
			group, err = second(group[0].LocalAddr().String())
			if err != nil {
				t.Errorf("%s has closed its sockets, %s comes: %v", has, comes, err)
				continue
			}
			closeGroup(group)
		}
	}
}

func TestGroupWithABadAddressIsRefused(t *testing.T) {
	if group, err := ListenGroup("203.0.113.1:4747", 2); err == nil || !strings.Contains(err.Error(), "this machine does not have that address") {
		closeGroup(group)
		t.Errorf("%v, want that the machine does not have the address", err)
	}
}
