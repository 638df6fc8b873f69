package client

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"time"

	"timberline/events"
	"timberline/wire"
	"timberline/wire/udp"
)

// prepare is the task that gets a token and a socket. It is told how many tries
// were in vain, and where a server that has stopped wants the client to go.
func (l *loop) prepare(try int, handover string) {
	p, err := l.c.prepare(try, handover)
	install := func(now time.Time) {
		if err != nil {
			l.inTrouble(err)
			l.d.rest(now, 0)
			return
		}
		l.conn = p.conn
		l.tasks.Go(func() { l.read(p.conn) })
		l.d.prepared(now, p.server, p.token)
	}
	if l.c.do(l.c.ctx, install) != nil && p.conn != nil {
		p.conn.Close()
	}
}

// rebind is the task that opens another socket for a session that goes on. If that
// is over by then nothing comes of it.
func (l *loop) rebind(session events.SessionID) {
	var server netip.AddrPort
	if l.c.do(l.c.ctx, func(time.Time) { server = l.d.link.server }) != nil {
		return
	}
	conn, err := l.c.listen(server)
	install := func(now time.Time) {
		l.rebinding = false
		over := l.d.link.phase != joined || l.d.link.session != session
		switch {
		case err != nil:
			l.c.o.Logger.Warn("no other socket", "err", err)
			if l.conn == nil && !over && !l.d.rebind {
				l.d.rest(now, 0)
			}
		case over:
			conn.Close()
		default:
			l.closeConn()
			l.conn = conn
			l.tasks.Go(func() { l.read(conn) })
			l.d.rebound(now)
		}
	}
	if l.c.do(l.c.ctx, install) != nil && err == nil {
		conn.Close()
	}
}

// refresh is the task that gets a token for a session that goes on.
func (l *loop) refresh() {
	token, err := l.c.token(l.c.ctx)
	l.c.do(l.c.ctx, func(now time.Time) {
		if err != nil {
			l.c.o.Logger.Warn("the token is not renewed", "err", err)
		}
		l.d.gotToken(now, token, err)
	})
}

// token asks the app for a token.
func (c *Client) token(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, tokenPatience)
	defer cancel()
	if err := ctx.Err(); err != nil {
		return "", err // whatever else would be chosen: two runs of a simulation must not differ
	}
	select {
	case c.asking <- struct{}{}:
		defer func() { <-c.asking }()
	case <-ctx.Done():
		return "", ctx.Err()
	}
	token, err := c.o.Token(ctx)
	if err != nil {
		return "", fmt.Errorf("get a token: %w", err)
	}
	return token, nil
}

// readBatch is how many datagrams are read at a time.
const readBatch = 8

// read is the task that passes on what comes in on a socket.
func (l *loop) read(conn wire.PacketConn) {
	buffers := make([]byte, readBatch*(wire.MaxPacket+1))
	ds := make([]wire.Datagram, readBatch)
	for {
		for i := range ds {
			ds[i].Data = buffers[i*(wire.MaxPacket+1) : (i+1)*(wire.MaxPacket+1)]
		}
		n, err := conn.ReadBatch(ds)
		in := incoming{conn: conn, err: err, datagrams: make([]wire.Datagram, n)}
		for i, d := range ds[:n] {
			in.datagrams[i] = wire.Datagram{Addr: d.Addr, Data: bytes.Clone(d.Data)}
		}
		select {
		case l.incoming <- in:
		case <-l.c.ctx.Done():
			return
		}
		if err != nil {
			return
		}
	}
}

// tokenPatience bounds how long Options.Token may take.
const tokenPatience = 30 * time.Second

// A preparation is what a login needs.
type preparation struct {
	conn   wire.PacketConn
	server netip.AddrPort
	token  string
}

func (c *Client) prepare(try int, handover string) (p preparation, err error) {
	ctx, cancel := context.WithTimeout(c.ctx, tokenPatience)
	defer cancel()
	if p.server, err = c.where(ctx, try, handover); err != nil {
		return p, err
	}
	if p.token, err = c.token(ctx); err != nil {
		return p, err
	}
	if p.conn, err = c.listen(p.server); err != nil {
		return p, fmt.Errorf("open a socket: %w", err)
	}
	return p, nil
}

// where returns the address of the server to try next.
func (c *Client) where(ctx context.Context, try int, handover string) (netip.AddrPort, error) {
	if handover != "" {
		if a, err := resolve(ctx, handover, 0); err == nil {
			return a, nil
		}
	}
	return c.o.Resolve(ctx, try)
}

// resolve returns an address for "host:port". Of several, each try takes the
// next: the server may listen on one of them only.
func resolve(ctx context.Context, address string, try int) (netip.AddrPort, error) {
	if a, err := netip.ParseAddrPort(address); err == nil {
		return a, nil
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("server address %q: %w", address, err)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("server address %q: port %q is not a number", address, port)
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("server address %q: %w", address, err)
	}
	return netip.AddrPortFrom(ips[try%len(ips)].Unmap(), uint16(n)), nil
}

// listen opens a socket for talking to a server: the app's, or an ephemeral port
// of the right family, on the loopback if that is where the server is.
func (c *Client) listen(server netip.AddrPort) (wire.PacketConn, error) {
	if c.o.Listen != nil {
		return c.o.Listen()
	}
	ip := netip.IPv6Unspecified()
	switch a := server.Addr(); {
	case a.Is4() && a.IsLoopback():
		ip = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	case a.Is4():
		ip = netip.IPv4Unspecified()
	case a.IsLoopback():
		ip = netip.IPv6Loopback()
	}
	conn, err := udp.Listen(netip.AddrPortFrom(ip, 0).String())
	if err != nil {
		return nil, err
	}
	return conn, nil
}
