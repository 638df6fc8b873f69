//go:build !linux

package udp

import "net"

// newTransfer returns the system's own.
func newTransfer(conn *net.UDPConn) (transfer, error) { return newSingle(conn) }
