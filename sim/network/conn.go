package network

import (
	"net"
	"net/netip"
	"sync"

	"timberline/wire"
)

// unread is how many datagrams a socket keeps that nobody has read.
const unread = 1024

// A Conn is a socket on a Network: a wire.PacketConn.
type Conn struct {
	net    *Network
	inbox  chan wire.Datagram
	closed chan struct{}
	close  sync.Once

	addr netip.AddrPort // guarded by net.mu
}

func newConn(n *Network, at netip.AddrPort) *Conn {
	return &Conn{net: n, addr: at, inbox: make(chan wire.Datagram, unread), closed: make(chan struct{})}
}

// ReadBatch implements wire.PacketConn.
func (c *Conn) ReadBatch(ds []wire.Datagram) (int, error) {
	select {
	case <-c.closed:
		return 0, net.ErrClosed
	default:
	}
	select {
	case d := <-c.inbox:
		fill(&ds[0], d)
	case <-c.closed:
		return 0, net.ErrClosed
	}
	n := 1
	for n < len(ds) {
		select {
		case d := <-c.inbox:
			fill(&ds[n], d)
			n++
		default:
			return n, nil
		}
	}
	return n, nil
}

// fill copies a datagram, cut to the room that there is.
func fill(to *wire.Datagram, d wire.Datagram) {
	to.Addr = d.Addr
	to.Data = to.Data[:copy(to.Data, d.Data)]
}

// WriteBatch implements wire.PacketConn.
func (c *Conn) WriteBatch(ds []wire.Datagram) error {
	select {
	case <-c.closed:
		return net.ErrClosed
	default:
	}
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	for _, d := range ds {
		c.net.send(packet{link: link{c.addr, d.Addr}, data: d.Data})
	}
	return nil
}

// LocalAddr implements wire.PacketConn.
func (c *Conn) LocalAddr() netip.AddrPort {
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	return c.addr
}

// Move gives the socket another address, as a phone gets one that changes
// network: what is sent to the old one is lost from now on. Port 0 is the host's
// next port. It panics if the address is in use, because a test says so only by
// mistake.
func (c *Conn) Move(to netip.AddrPort) {
	n := c.net
	n.mu.Lock()
	defer n.mu.Unlock()
	if to.Port() == 0 {
		n.ports[to.Addr()]++
		to = netip.AddrPortFrom(to.Addr(), n.ports[to.Addr()])
	}
	if n.conns[to] != nil {
		panic("the address " + to.String() + " is in use")
	}
	if n.conns[c.addr] == c {
		delete(n.conns, c.addr)
		n.conns[to] = c
	}
	c.addr = to
}

// Close implements wire.PacketConn. What was not read is lost, what was sent
// before is still on its way.
func (c *Conn) Close() error {
	c.close.Do(func() {
		close(c.closed)
		c.net.mu.Lock()
		defer c.net.mu.Unlock()
		if c.net.conns[c.addr] == c {
			delete(c.net.conns, c.addr)
		}
	})
	return nil
}

// put hands over a datagram; it reports whether there was room.
func (c *Conn) put(d wire.Datagram) bool {
	select {
	case c.inbox <- d:
		return true
	default:
		return false
	}
}
