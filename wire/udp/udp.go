// Package udp is the real socket behind wire.PacketConn. On Linux one system call
// moves a batch of datagrams, and several sockets can share a port; elsewhere it
// is one datagram a call, and one socket.
//
// # Concurrency
//
// One goroutine may read while others write and one asks for the Backlog; Close may be
// called from any.
package udp

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"timberline/wire"
)

// socketBuffer is what is asked of the system for each direction, in bytes: a
// burst of some thousand datagrams. The system may give less.
const socketBuffer = 4 << 20

// A Conn is a UDP socket.
type Conn struct {
	udp *net.UDPConn
	via transfer
}

// A transfer moves datagrams between a socket and memory.
type transfer interface {
	// read waits for at least one datagram and fills ds with as many as it can.
	read(ds []wire.Datagram) (int, error)
	// write sends the first of ds, or more, and returns how many. If it sends none
	// it returns why; unless the socket is closed that is about ds[0] alone.
	write(ds []wire.Datagram) (int, error)
	// backlog is what Backlog returns.
	backlog() (full float64, lost uint32)
}

// Listen opens a socket on an address such as "127.0.0.1:4747" or "[::1]:0".
func Listen(address string) (*Conn, error) {
	addr, err := net.ResolveUDPAddr("udp", address)
	if err != nil {
		return nil, fmt.Errorf("listen address %q: %w", address, err)
	}
	conn, err := net.ListenUDP("udp", addr)
	if err != nil {
		return nil, listenError(address, err)
	}
	return newConn(conn, newTransfer)
}

// ListenGroup opens n sockets that share one address and port, which may be 0 as
// for Listen; on systems other than Linux, one socket. The system spreads peers
// over them by their addresses, and keeps each peer at its socket.
//
// A port that anybody else has is in use, even if it is shared there. Once it is
// open, a program of the same user can join only by asking for SO_REUSEPORT at
// once: Listen and ListenGroup never do.
func ListenGroup(address string, n int) ([]*Conn, error) {
	first, err := Listen(address)
	if err != nil {
		return nil, err
	}
	others, err := first.share(n - 1)
	if err != nil {
		return nil, errors.Join(err, first.Close())
	}
	return append([]*Conn{first}, others...), nil
}

// listenError says what to do about a socket that cannot be opened.
func listenError(address string, err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("listen on %s: the port is in use: stop whoever has it, or choose another port (%w)", address, err)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("listen on %s: this machine does not have that address (%w)", address, err)
	}
	return fmt.Errorf("listen on %s: %w", address, err)
}

func newConn(conn *net.UDPConn, via func(*net.UDPConn) (transfer, error)) (*Conn, error) {
	conn.SetReadBuffer(socketBuffer)  // as much as the system allows
	conn.SetWriteBuffer(socketBuffer) // likewise
	t, err := via(conn)
	if err != nil {
		return nil, errors.Join(listenError(conn.LocalAddr().String(), err), conn.Close())
	}
	return &Conn{udp: conn, via: t}, nil
}

// ReadBatch implements wire.PacketConn.
func (c *Conn) ReadBatch(ds []wire.Datagram) (int, error) {
	for {
		n, err := c.via.read(ds)
		switch {
		case err == nil:
			return n, nil
		case errors.Is(err, net.ErrClosed):
			return 0, net.ErrClosed
		case !aboutOne(err):
			return 0, fmt.Errorf("read from %s: %w", c.LocalAddr(), err)
		}
	}
}

// aboutOne reports whether the error of a read is about a datagram sent or
// received, not about the socket.
func aboutOne(err error) bool {
	return slices.ContainsFunc([]error{
		syscall.ECONNREFUSED, syscall.ECONNRESET, syscall.EHOSTUNREACH, syscall.ENETUNREACH, syscall.EMSGSIZE,
	}, func(one error) bool { return errors.Is(err, one) })
}

// WriteBatch implements wire.PacketConn.
func (c *Conn) WriteBatch(ds []wire.Datagram) error {
	for len(ds) > 0 {
		n, err := c.via.write(ds)
		switch {
		case errors.Is(err, net.ErrClosed):
			return net.ErrClosed
		case err != nil:
			n = 1 // lost
		}
		ds = ds[n:]
	}
	return nil
}

// Backlog returns how much of the room for what comes in is taken, 0 to 1, and how
// many datagrams have found no room since the socket was opened. Linux alone tells:
// elsewhere both are 0.
func (c *Conn) Backlog() (full float64, lost uint32) { return c.via.backlog() }

// LocalAddr implements wire.PacketConn.
func (c *Conn) LocalAddr() netip.AddrPort {
	return c.udp.LocalAddr().(*net.UDPAddr).AddrPort()
}

// Close implements wire.PacketConn.
func (c *Conn) Close() error { return c.udp.Close() }

// SetReadDeadline sets when a ReadBatch that waits ends with os.ErrDeadlineExceeded;
// zero: never.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.udp.SetReadDeadline(t) }
