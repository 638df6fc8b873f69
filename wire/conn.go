package wire

import "net/netip"

// A Datagram is the payload of one UDP packet, and where it came from or goes.
type Datagram struct {
	Addr netip.AddrPort
	Data []byte
}

// A PacketConn is a UDP socket that works in batches. Package udp below wire
// holds the real one, package sim another.
type PacketConn interface {
	// ReadBatch waits for at least one datagram and fills ds with as many as
	// there are. Data of each must have room for MaxPacket+1 bytes; it is cut to
	// what came. The error is net.ErrClosed after Close.
	ReadBatch(ds []Datagram) (int, error)
	// WriteBatch sends the datagrams. What cannot be sent is lost, as on any
	// network; the error is net.ErrClosed after Close and nil otherwise.
	WriteBatch(ds []Datagram) error
	LocalAddr() netip.AddrPort
	Close() error
}
