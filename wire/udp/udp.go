// Package udp is the real socket behind wire.PacketConn.
//
// # Concurrency
//
// One goroutine may read while others write; Close may be called from any.
package udp

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"timberline/wire"
)

// socketBuffer is what is asked of the system for each direction, in bytes: a
// burst of some thousand datagrams. The system may give less.
const socketBuffer = 4 << 20

// A Conn is a UDP socket.
type Conn struct{ udp *net.UDPConn }

// Listen opens a socket on an address such as "127.0.0.1:4747" or "[::1]:0".
func Listen(address string) (*Conn, error) {
	addr, err := net.ResolveUDPAddr("udp", address)
	if err != nil {
		return nil, fmt.Errorf("listen address %q: %w", address, err)
	}
	conn, err := net.ListenUDP("udp", addr)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("listen on %s: the port is in use: stop whoever has it, or choose another port (%w)", address, err)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return nil, fmt.Errorf("listen on %s: this machine does not have that address (%w)", address, err)
	case err != nil:
		return nil, fmt.Errorf("listen on %s: %w", address, err)
	}
	conn.SetReadBuffer(socketBuffer)  // as much as the system allows
	conn.SetWriteBuffer(socketBuffer) // likewise
	return &Conn{udp: conn}, nil
}

// ReadBatch implements wire.PacketConn.
func (c *Conn) ReadBatch(ds []wire.Datagram) (int, error) {
	for {
		n, addr, err := c.udp.ReadFromUDPAddrPort(ds[0].Data)
		switch {
		case err == nil:
			ds[0].Data = ds[0].Data[:n]
			ds[0].Addr = netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port())
			return 1, nil
		case errors.Is(err, net.ErrClosed):
			return 0, net.ErrClosed
		case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.EMSGSIZE):
			// Something about a datagram sent or received: not about the socket.
		default:
			return 0, fmt.Errorf("read from %s: %w", c.LocalAddr(), err)
		}
	}
}

// WriteBatch implements wire.PacketConn.
func (c *Conn) WriteBatch(ds []wire.Datagram) error {
	for _, d := range ds {
		if _, err := c.udp.WriteToUDPAddrPort(d.Data, d.Addr); errors.Is(err, net.ErrClosed) {
			return net.ErrClosed
		}
	}
	return nil
}

// LocalAddr implements wire.PacketConn.
func (c *Conn) LocalAddr() netip.AddrPort {
	return c.udp.LocalAddr().(*net.UDPAddr).AddrPort()
}

// Close implements wire.PacketConn.
func (c *Conn) Close() error { return c.udp.Close() }
