package proxy

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"time"
)

// Faults are what happens to datagrams of one direction: parts of all, from 0 to
// 1.
type Faults struct {
	Loss      float64       // never arrives
	Duplicate float64       // arrives twice
	Reorder   float64       // is held back for 1 to 50 ms, so that later ones overtake it
	Delay     time.Duration // the way of all that arrives; at most MaxDelay
}

// MaxDelay bounds Faults.Delay.
const MaxDelay = 10 * time.Second

func (f Faults) validate() error {
	for _, part := range []struct {
		name  string
		value float64
	}{{"Loss", f.Loss}, {"Duplicate", f.Duplicate}, {"Reorder", f.Reorder}} {
		if !(part.value >= 0 && part.value <= 1) {
			return fmt.Errorf("%s is %v, want 0 to 1", part.name, part.value)
		}
	}
	if f.Delay < 0 || f.Delay > MaxDelay {
		return fmt.Errorf("field Delay is %v, want 0 to %v", f.Delay, MaxDelay)
	}
	return nil
}

// Config says what a proxy does. Zero fields have the defaults named.
type Config struct {
	Server     netip.AddrPort // required
	Listen     netip.AddrPort // default: 127.0.0.1, any port
	Up, Down   Faults         // to the server, and back
	Seed       uint64
	MaxClients int           // default: 4,096
	Idle       time.Duration // a client silent for this long is forgotten; default: 2 min
}

// The bounds of a proxy.
const (
	maxDatagram = 64 << 10
	maxHeld     = 4096 // datagrams held back; further ones pass in order
	maxHold     = 50 * time.Millisecond
	sockBuffer  = 4 << 20
)

// A Proxy passes datagrams on.
type Proxy struct {
	cfg    Config
	conn   *net.UDPConn
	held   chan held
	counts counts

	mu      sync.Mutex
	clients map[netip.AddrPort]*client
	serial  uint64 // of the last client
	stopped bool
}

// A client is one address that has sent something.
type client struct {
	addr     netip.AddrPort
	server   *net.UDPConn
	up, down *rand.Rand // of the goroutine that reads that direction
	heard    time.Time  // guarded by Proxy.mu
}

// New opens the proxy's socket. Run makes it work.
func New(c Config) (*Proxy, error) {
	if !c.Server.IsValid() {
		return nil, errors.New("proxy: Server is missing, want the address of the server")
	}
	if err := errors.Join(c.Up.validate(), c.Down.validate()); err != nil {
		return nil, fmt.Errorf("proxy: %w", err)
	}
	if !c.Listen.IsValid() {
		c.Listen = netip.MustParseAddrPort("127.0.0.1:0")
	}
	if c.MaxClients == 0 {
		c.MaxClients = 4096
	}
	if c.Idle == 0 {
		c.Idle = 2 * time.Minute
	}
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(c.Listen))
	if err != nil {
		return nil, fmt.Errorf("proxy: %w", err)
	}
	conn.SetReadBuffer(sockBuffer) // as much as the system allows: no error worth stopping for
	return &Proxy{cfg: c, conn: conn, held: make(chan held, maxHeld), clients: make(map[netip.AddrPort]*client)}, nil
}

// Addr returns the address that clients send to.
func (p *Proxy) Addr() netip.AddrPort {
	return p.conn.LocalAddr().(*net.UDPAddr).AddrPort()
}

// Close frees the socket of a proxy whose Run was not called.
func (p *Proxy) Close() error { return p.conn.Close() }

// Run passes datagrams on until ctx ends.
func (p *Proxy) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { p.release(ctx) })
	wg.Go(func() {
		<-ctx.Done()
		p.stop()
	})
	err := p.readClients(&wg)
	cancel()
	wg.Wait()
	return err
}

// stop closes all sockets, which ends the goroutines that read them.
func (p *Proxy) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopped = true
	p.conn.Close()
	for _, c := range p.clients {
		c.server.Close()
	}
}

// readClients passes on what clients send, until the socket is closed.
func (p *Proxy) readClients(wg *sync.WaitGroup) error {
	buffer := make([]byte, maxDatagram)
	for {
		n, from, err := p.conn.ReadFromUDPAddrPort(buffer)
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			continue // an answer to a client that is gone came back refused
		}
		c, err := p.client(from, wg)
		if err != nil {
			p.counts.up.refused.Add(1)
			continue
		}
		p.pass(c.up, p.cfg.Up, &p.counts.up, buffer[:n], func(data []byte) { c.server.Write(data) })
	}
}

// client returns the client with that address; it makes one if there is none.
func (p *Proxy) client(from netip.AddrPort, wg *sync.WaitGroup) (*client, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c := p.clients[from]; c != nil {
		c.heard = time.Now()
		return c, nil
	}
	if p.stopped {
		return nil, net.ErrClosed
	}
	if len(p.clients) >= p.cfg.MaxClients {
		p.forgetOldest()
	}
	server, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(p.cfg.Server))
	if err != nil {
		return nil, err
	}
	p.serial++
	c := &client{
		addr: from, server: server, heard: time.Now(),
		up:   rand.New(rand.NewPCG(p.cfg.Seed, 2*p.serial)),
		down: rand.New(rand.NewPCG(p.cfg.Seed, 2*p.serial+1)),
	}
	p.clients[from] = c
	wg.Go(func() { p.readServer(c) })
	return c, nil
}

// forgetOldest makes room for a client. The caller holds mu.
func (p *Proxy) forgetOldest() {
	var oldest *client
	for _, c := range p.clients {
		if oldest == nil || c.heard.Before(oldest.heard) {
			oldest = c
		}
	}
	delete(p.clients, oldest.addr)
	oldest.server.Close()
}

// readServer passes on what the server answers to one client, until the client
// is forgotten.
func (p *Proxy) readServer(c *client) {
	buffer := make([]byte, maxDatagram)
	for {
		c.server.SetReadDeadline(time.Now().Add(p.cfg.Idle))
		n, err := c.server.Read(buffer)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if p.forgetIdle(c) {
			return
		}
		if err != nil {
			continue // refused: the server is down, and may come back
		}
		p.pass(c.down, p.cfg.Down, &p.counts.down, buffer[:n], func(data []byte) { p.conn.WriteToUDPAddrPort(data, c.addr) })
	}
}

// forgetIdle forgets the client if it was silent for too long.
func (p *Proxy) forgetIdle(c *client) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if time.Since(c.heard) < p.cfg.Idle {
		return false
	}
	if p.clients[c.addr] == c {
		delete(p.clients, c.addr)
	}
	c.server.Close()
	return true
}

// Clients returns how many clients the proxy remembers.
func (p *Proxy) Clients() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.clients)
}
