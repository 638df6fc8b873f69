//go:build !linux

package udp

import "net"

// newTransfer returns the system's own.
func newTransfer(conn *net.UDPConn) (transfer, error) { return newSingle(conn) }

// share opens no sockets: not every system would spread peers over them.
func (c *Conn) share(int) ([]*Conn, error) { return nil, nil }
