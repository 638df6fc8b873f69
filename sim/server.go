package sim

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Where every process of the server listens.
var (
	serverHost = netip.MustParseAddr("10.0.0.1")
	sealedAddr = netip.AddrPortFrom(serverHost, 4747)
	plainAddr  = netip.AddrPortFrom(serverHost, 4748)
)

// A server is one process after the other, each on what the one before has left
// on the disk.
type server struct {
	w    *world
	left *vfs.MemFS
	last chan struct{} // closed when the last process starts

	mu    sync.Mutex
	clock time.Duration // how far off it is
}

// now is the server's wall clock.
func (s *server) now() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Now().Add(s.clock)
}

func (s *server) setClock(off time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clock = off
}

// run stops and starts processes as planned, and leaves the last one running
// until ctx ends.
func (s *server) run(ctx context.Context) error {
	for n, stop := range s.w.plan.stops {
		if err := s.process(ctx, n, &stop); err != nil || ctx.Err() != nil {
			return err
		}
		s.w.note("the server is down for %v", stop.down)
		time.Sleep(stop.down)
		s.setClock(stop.clock)
	}
	close(s.last)
	return s.process(ctx, len(s.w.plan.stops), nil)
}

// process runs the n-th process until it is stopped, or ctx ends.
func (s *server) process(ctx context.Context, n int, end *stop) error {
	p, err := newProcess(s, n)
	if err != nil {
		return fmt.Errorf("server, process %d: %w", n, err)
	}
	s.w.note("the server starts, its clock is off by %v", time.Until(s.now()))
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if end != nil {
		s.w.net.At(max(end.at-s.w.time(), 0), func() { s.stop(p, end, cancel) })
	}
	if err := p.run(ctx); err != nil {
		return fmt.Errorf("server, process %d: %w", n, err)
	}
	if p.left == nil {
		p.left = p.disk.mem // a clean stop
	}
	s.left = p.left
	return nil
}

// syncWithin is how long a crash waits for a sync to hit.
const syncWithin = time.Second

// stop ends a process: in the middle of a sync, at any moment, or cleanly. It is
// called with the bubble at rest.
func (s *server) stop(p *process, end *stop, cancel func()) {
	switch {
	case end.crash && end.inSync:
		begins := func(takes time.Duration) {
			s.w.net.At(between(s.w.draws.next("crash in sync"), 0, takes), func() { s.crash(p, cancel) })
		}
		p.disk.atSync.Store(&begins)
		s.w.net.At(syncWithin, func() { s.crash(p, cancel) })
	case end.crash:
		s.crash(p, cancel)
	default:
		s.w.note("the server is stopped")
		cancel()
	}
}

// crash takes what a crash leaves of the disk. What the process does afterwards
// nobody sees: its socket is gone, and its disk is not the one that counts.
func (s *server) crash(p *process, cancel func()) {
	if p.left != nil {
		return // it has crashed before
	}
	left, t, err := p.disk.crash()
	if err != nil {
		s.w.fail(fmt.Errorf("crash: %w", err))
		return
	}
	s.w.note("the server crashes: %d bytes were not synced, %d of them are lost", t.unsynced, t.lost)
	p.left = left
	s.w.crashed(t.lost)
	p.hangUp()
	cancel()
}
