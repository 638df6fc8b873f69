package sim

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// A server is a machine that boots again and again, each time on what the time
// before has left on its disk.
type server struct {
	w     *world
	hosts []*host // one for each node
	left  *vfs.MemFS
	last  chan struct{} // closed when it is stopped no more
	boots int
	boot  atomic.Pointer[boot] // the newest

	backups int
	copied  *copied // the newest; nil: none
}

func newServer(w *world) *server {
	s := &server{w: w, left: vfs.NewCrashableMem(), last: make(chan struct{})}
	for n := range max(w.plan.nodes, 1) {
		s.hosts = append(s.hosts, newHost(w, n))
	}
	return s
}

// run boots and stops as planned, and leaves the machine running the last time
// until ctx ends.
func (s *server) run(ctx context.Context) error {
	s.mishaps()
	for _, stop := range s.w.plan.stops {
		if err := s.until(ctx, &stop); err != nil || ctx.Err() != nil {
			return err
		}
		s.w.note("the server is down for %v", stop.down)
		if err := sleep(ctx, stop.down); err != nil {
			return nil
		}
		if stop.loses {
			if err := s.restore(ctx); err != nil || ctx.Err() != nil {
				return err
			}
		}
		for i, h := range s.hosts {
			h.setClock(stop.clocks[i])
		}
	}
	close(s.last)
	return s.until(ctx, nil)
}

// until boots, again and again while the disk is full, until the machine is stopped
// or ctx ends.
func (s *server) until(ctx context.Context, end *stop) error {
	for ctx.Err() == nil {
		ended, err := s.life(ctx, end)
		if ended || err != nil {
			return err
		}
		if sleep(ctx, between(s.w.draws.next("disk is full"), time.Millisecond, time.Second)) != nil {
			return nil
		}
	}
	return nil
}

// life boots and runs until the machine is stopped, or ctx ends. It reports false if
// it ended before, because the disk was full.
func (s *server) life(ctx context.Context, end *stop) (ended bool, err error) {
	s.boots++
	b, err := newBoot(ctx, s, s.boots, false)
	defer b.cancel()
	if err != nil {
		return false, fmt.Errorf("server, boot %d: %w", s.boots, err)
	}
	if end != nil {
		s.w.net.At(max(end.at-s.w.time(), 0), func() { b.stop(end) })
	}
	s.boot.Store(b)
	if err := b.run(b.ctx); err != nil {
		return false, fmt.Errorf("server, boot %d: %w", s.boots, err)
	}
	s.left = b.remains()
	return !b.gaveUp(), nil
}

// mishaps plans what happens to single nodes.
func (s *server) mishaps() {
	for _, k := range s.w.plan.kills {
		s.w.net.At(k.at, func() {
			if p := s.running(k.host); p != nil {
				s.w.note("%s is killed, for %v", p, k.down)
				s.w.count(&s.w.outcome.Kills)
				p.down = k.down
				p.kill()
			}
		})
	}
	for _, c := range s.w.plan.clockSets {
		s.w.net.At(c.at, func() {
			h := s.hosts[c.host]
			h.setClock(c.to)
			s.w.note("the clock of %s is set, to be off by %v", h.name, c.to)
		})
	}
	for i, m := range s.w.plan.mistakes {
		s.w.net.At(m.at, func() {
			if b := s.boot.Load(); b != nil && b.ctx.Err() == nil {
				b.mistake(i)
			}
		})
	}
	for _, t := range s.w.plan.stalls {
		s.w.net.At(t.at, func() {
			if p := s.running(t.host); p != nil && p.boot.ctx.Err() == nil {
				s.w.note("%s stalls for %v: its %s", p, t.lasts, t.what)
				p.engine.stall(t.what, t.lasts)
			}
		})
	}
}

// highest returns the highest time that any host's clock has shown.
func (s *server) highest() (t time.Time) {
	for _, h := range s.hosts {
		if shown := h.highest(); shown.After(t) {
			t = shown
		}
	}
	return t
}

// running returns the process of a host; nil if there is none.
func (s *server) running(host int) *process {
	b := s.boot.Load()
	if b == nil || host >= len(s.hosts) {
		return nil
	}
	for _, p := range b.running() {
		if p.host == s.hosts[host] {
			return p
		}
	}
	return nil
}
