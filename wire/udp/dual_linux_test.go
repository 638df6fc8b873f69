package udp

import (
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"

	"timberline/wire"
)

// listenDual returns a socket of both families, as "[::]:4747" gives one, but on
// the loopback address of IPv4 alone.
func (s system) listenDual(t *testing.T) *Conn {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET6, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	file := os.NewFile(uintptr(fd), "socket")
	defer file.Close()
	if err := syscall.SetsockoptInt(fd, syscall.IPPROTO_IPV6, syscall.IPV6_V6ONLY, 0); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Bind(fd, &syscall.SockaddrInet6{Addr: [16]byte(net.IPv4(127, 0, 0, 1).To16())}); err != nil {
		t.Fatal(err)
	}
	conn, err := net.FilePacketConn(file) // has a descriptor of its own
	if err != nil {
		t.Fatal(err)
	}
	c, err := newConn(conn.(*net.UDPConn), s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// A session is known by its peer's address: the same peer must not have two.
func TestPeerOfIPv4HasItsOwnAddressAtASocketOfBothFamilies(t *testing.T) {
	each(t, func(t *testing.T, on system) {
		dual, peer := on.listenDual(t), on.listen(t, "127.0.0.1:0")
		address := netip.AddrPortFrom(dual.LocalAddr().Addr().Unmap(), dual.LocalAddr().Port())
		write(t, peer, wire.Datagram{Addr: address, Data: []byte("hello")})
		got := read(t, dual)
		if got.Addr != peer.LocalAddr() {
			t.Errorf("the peer is %v, want %v", got.Addr, peer.LocalAddr())
		}
		write(t, dual, wire.Datagram{Addr: got.Addr, Data: []byte("answer")})
		if answer := read(t, peer); string(answer.Data) != "answer" {
			t.Errorf("%q arrived, want the answer", answer.Data)
		}
	})
}
