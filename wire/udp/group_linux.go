package udp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// share opens n more sockets on the address and port of this one. It was bound
// without SO_REUSEPORT, so that nobody else had the port, and gets it only now.
func (c *Conn) share(n int) (others []*Conn, err error) {
	if n < 1 {
		return nil, nil
	}
	if err := c.reusePort(); err != nil {
		return nil, fmt.Errorf("share the port of %s: %w", c.LocalAddr(), err)
	}
	for range n {
		other, err := join(c.LocalAddr().String())
		if err != nil {
			for _, o := range others {
				o.Close()
			}
			return nil, err
		}
		others = append(others, other)
	}
	return others, nil
}

// join opens another socket on a port that is shared.
func join(address string) (*Conn, error) {
	control := func(_, _ string, raw syscall.RawConn) error { return setReusePort(raw) }
	conn, err := (&net.ListenConfig{Control: control}).ListenPacket(context.Background(), "udp", address)
	if err != nil {
		return nil, listenError(address, err)
	}
	return newConn(conn.(*net.UDPConn), newTransfer)
}

func (c *Conn) reusePort() error {
	raw, err := c.udp.SyscallConn()
	if err != nil {
		return err
	}
	return setReusePort(raw)
}

func setReusePort(raw syscall.RawConn) error {
	var failed error
	err := raw.Control(func(fd uintptr) { failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) })
	return errors.Join(err, failed)
}
