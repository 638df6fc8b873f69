package servers

import (
	"errors"
	"io"
	"net"
	"sync"
)

// A forwarder passes connections on to a server that comes and goes, and can keep it
// from its clients.
type forwarder struct {
	listener net.Listener
	all      sync.WaitGroup // its goroutines

	mu    sync.Mutex
	moved *sync.Cond // mode has changed
	mode  mode
	dial  func() (net.Conn, error) // nil: there is no server
	conns map[net.Conn]bool        // of both sides
}

// A mode is what becomes of connections.
type mode int

const (
	passing  mode = iota
	hanging       // they stand, nothing passes
	refusing      // they are cut as soon as they come
	closed
)

// newForwarder listens on a free port of the loopback.
func newForwarder() (*forwarder, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	f := &forwarder{listener: listener, conns: make(map[net.Conn]bool)}
	f.moved = sync.NewCond(&f.mu)
	f.all.Go(f.accept)
	return f, nil
}

func (f *forwarder) addr() string { return f.listener.Addr().String() }

// to names the server to pass on to from now on; nil: none.
func (f *forwarder) to(dial func() (net.Conn, error)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dial = dial
}

// set changes what becomes of connections. Those that stand are cut if they may not.
func (f *forwarder) set(m mode) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.mode == closed {
		return
	}
	f.mode = m
	f.moved.Broadcast()
	if m == refusing || m == closed {
		f.cut()
	}
}

// cut ends all connections. The caller holds mu.
func (f *forwarder) cut() {
	for conn := range f.conns {
		reset(conn)
	}
}

// reset closes a connection so that the other side sees an error, not an end.
func reset(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		tcp.SetLinger(0)
	}
	conn.Close()
}

// close ends the forwarder and all that it has started.
func (f *forwarder) close() {
	f.set(closed)
	f.listener.Close()
	f.all.Wait()
}

func (f *forwarder) accept() {
	for {
		client, err := f.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		f.all.Go(func() { f.serve(client) })
	}
}

// serve passes one connection on until either side ends it.
func (f *forwarder) serve(client net.Conn) {
	if !f.add(client) {
		reset(client)
		return
	}
	defer f.remove(client)
	if !f.pass() {
		return
	}
	f.mu.Lock()
	dial := f.dial
	f.mu.Unlock()
	if dial == nil {
		reset(client)
		return
	}
	server, err := dial()
	if err != nil {
		reset(client)
		return
	}
	if !f.add(server) {
		reset(server)
		return
	}
	defer f.remove(server)
	var back sync.WaitGroup
	back.Go(func() { f.copy(client, server) })
	f.copy(server, client)
	back.Wait()
}

// add notes a connection, unless it may not stand.
func (f *forwarder) add(conn net.Conn) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.mode == refusing || f.mode == closed {
		return false
	}
	f.conns[conn] = true
	return true
}

func (f *forwarder) remove(conn net.Conn) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.conns, conn)
	conn.Close() // in order: what was sent may still be on its way
}

// pass waits while nothing passes. It reports whether the connection may go on.
func (f *forwarder) pass() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for f.mode == hanging {
		f.moved.Wait()
	}
	return f.mode == passing
}

// copy passes on what one side sends. When that ends in order the other side is told
// so and may still answer; otherwise both end.
func (f *forwarder) copy(to, from net.Conn) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if !f.pass() {
			break
		}
		if _, failed := to.Write(buffer[:n]); failed != nil {
			break
		}
		if err == io.EOF {
			to.(*net.TCPConn).CloseWrite()
			return
		}
		if err != nil {
			break
		}
	}
	reset(to)
	reset(from)
}
