package sim

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/sync/errgroup"

	"timberline/events"
	"timberline/ingest"
	"timberline/projections/lease/leasetest"
	"timberline/sim/network"
	"timberline/store/pebble"
)

// shards of the store.
const shards = 3

// A boot is one life of the machine: a store on a disk, and the nodes that share
// it.
type boot struct {
	w      *world
	server *server
	name   string
	disk   *disk
	store  *pebble.Store
	ctx    context.Context
	cancel context.CancelFunc // stops the nodes cleanly
	leases leasetest.Memory   // of the nodes
	stream *stream            // of the timelines
	left   *vfs.MemFS         // what the boot has left of the disk; nil: all
	fate   atomic.Uint32      // one of those below

	mu    sync.Mutex
	nodes []*process     // that run, in the order of their hosts
	over  bool           // nothing begins any more
	tasks sync.WaitGroup // what was begun by later
}

// What becomes of a boot.
const (
	running uint32 = iota // or it is stopped cleanly
	crashed               // the machine
	gaveUp                // the store can go on no more
)

// newBoot opens the store. There is room for that: in a process that does not end when it is
// told to Pebble tries without end to write down what it found, and if it gives up it leaves
// goroutines behind.
func newBoot(ctx context.Context, s *server, n int, restored bool) (*boot, error) {
	b := &boot{w: s.w, server: s, name: fmt.Sprintf("boot %d", n), stream: newStream()}
	b.ctx, b.cancel = context.WithCancel(ctx)
	b.disk = &disk{full: b.full, FS: through[vfs.FS](s.w.seams.Disk, s.left), mem: s.left, draws: s.w.draws, name: b.name, most: s.w.plan.sync}
	var err error
	b.store, err = pebble.Open(dataFolder, pebble.Options{
		FS: b.disk, Shards: shards, Random: network.Random(s.w.seed, b.name+" store"),
		OnFatal: b.giveUp, Restored: restored, TableBytes: s.w.plan.tables,
	})
	b.disk.opened.Store(true)
	return b, err
}

// full reports whether the disk is.
func (b *boot) full() bool {
	full, now := b.w.plan.full, b.w.time()
	return full.at <= now && now < full.at+full.lasts && b.fate.Load() == running
}

// giveUp is the store's OnFatal, and what follows when a node ends because the store
// takes nothing more: all nodes are one process then, and end. What was written is
// there, synced or not. What the store does afterwards it does to a disk that does not
// count; that one is not full, for it would try without end.
func (b *boot) giveUp(err error) {
	switch {
	case !b.fate.CompareAndSwap(running, gaveUp):
		return
	case !b.disk.turned.Load():
		b.w.fail(fmt.Errorf("%s: %w", b.name, err))
	}
	b.left = b.disk.written()
	b.w.net.At(0, func() {
		b.w.note("the disk is full: the server ends")
		b.w.count(&b.w.outcome.Full)
		b.end()
	})
}

// gaveUp reports whether the store can go on no more.
func (b *boot) gaveUp() bool { return b.fate.Load() == gaveUp }

// end kills all nodes.
func (b *boot) end() {
	for _, p := range b.running() {
		p.kill()
	}
	b.cancel()
}

// run runs the nodes until ctx ends. The first one to start ends the journals of
// dead processes; only then are there others.
func (b *boot) run(ctx context.Context) error {
	b.disk.slow.Store(true)
	if b.w.plan.many {
		b.roll()
	}
	var g errgroup.Group
	alone := make(chan struct{})
	started := sync.OnceFunc(func() { close(alone) })
	for i, h := range b.server.hosts {
		g.Go(func() error {
			if i > 0 {
				select {
				case <-alone:
				case <-ctx.Done():
					return nil
				}
			}
			err := b.lives(ctx, h, i == 0, started)
			if err != nil {
				b.cancel()
			}
			return err
		})
	}
	err := g.Wait()
	b.finish()
	b.disk.slow.Store(false)
	if b.fate.Load() != running {
		return b.close()
	}
	if err == nil {
		err = b.w.rebuild(b)
	}
	if b.gaveUp() { // a projection of one's own, which was run for that, found the disk full
		err = nil
	}
	return errors.Join(err, b.close())
}

// close closes the store, as well as it can if the boot is over. What counts was synced
// before, so an end that finds no room loses nothing.
func (b *boot) close() error {
	err := b.store.Close()
	switch {
	case b.fate.Load() != running:
		return nil
	case errors.Is(err, syscall.ENOSPC):
		b.w.note("the disk is full: the store ends as it is")
		return nil
	}
	return err
}

// lives runs one process of a host after the other, until ctx ends.
func (b *boot) lives(ctx context.Context, h *host, sole bool, started func()) error {
	for {
		pause := between(b.w.draws.next(h.name+" starts"), time.Microsecond, time.Millisecond)
		if sleep(ctx, pause) != nil {
			return nil
		}
		p, err := newProcess(b, h)
		if err != nil {
			return err
		}
		err = p.run(ctx, sole, func() {
			sole = false
			started()
		})
		if errors.Is(err, events.ErrFatal) {
			b.giveUp(err)
		}
		switch {
		case b.gaveUp():
			<-ctx.Done()
			return nil
		case err != nil, ctx.Err() != nil:
			return err
		case sleep(ctx, p.down) != nil:
			return nil
		}
	}
}

// running returns the processes that run, in the order of their hosts.
func (b *boot) running() []*process {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.nodes)
}

func (b *boot) add(p *process) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.nodes = append(b.nodes, p)
	slices.SortFunc(b.nodes, func(x, y *process) int { return x.host.number - y.host.number })
}

func (b *boot) remove(p *process) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.nodes = slices.DeleteFunc(b.nodes, func(x *process) bool { return x == p })
}

// syncWithin is how long a crash waits for a sync to hit.
const syncWithin = time.Second

// stop ends the boot: in the middle of a sync, at any moment, or cleanly. It is
// called with the bubble at rest.
func (b *boot) stop(end *stop) {
	switch {
	case b.gaveUp():
		// it is over, the next one will be stopped
	case end.crash && end.inSync:
		begins := func(takes time.Duration) {
			b.w.net.At(between(b.w.draws.next("crash in sync"), 0, takes), b.crash)
		}
		b.disk.atSync.Store(&begins)
		b.w.net.At(syncWithin, b.crash)
	case end.crash:
		b.crash()
	default:
		b.w.note("the server is stopped")
		for _, p := range b.running() {
			p.engine.stall(parts, 0) // it would not end in time
		}
		b.cancel()
	}
}

// crash takes what a crash leaves of the disk, and kills all nodes.
func (b *boot) crash() {
	if t, is := b.lose(); is {
		b.w.note("the server crashes: %d bytes were not synced, %d of them are lost", t.unsynced, t.lost)
		b.w.crashed(t.lost)
	}
}

// lose has the machine die, unless it is over already.
func (b *boot) lose() (t torn, is bool) {
	if b.ctx.Err() != nil || !b.fate.CompareAndSwap(running, crashed) {
		return t, false
	}
	left, t, err := b.disk.crash()
	if err != nil {
		b.w.fail(fmt.Errorf("crash: %w", err))
		return t, false
	}
	b.left = left
	b.end()
	return t, true
}

// mistake has somebody take all nodes for dead that run, and end their journals (R1).
func (b *boot) mistake(i int) {
	name := fmt.Sprintf("mistake %d", i+1)
	p := b.outsider(name)
	b.w.note("somebody takes all nodes for dead: %s", name)
	b.later(time.Microsecond, func() {
		clock, err := events.NewClock(b.server.hosts[0].now, network.Random(b.w.seed, name))
		if err != nil {
			b.w.fail(err)
			return
		}
		ingest.EndJournals(b.ctx, p.engine, p.engine, clock, slog.New(slog.DiscardHandler)) // as far as it comes
	})
}

// outsider returns a process that works on the store, and is no node.
func (b *boot) outsider(name string) *process {
	p := &process{w: b.w, boot: b, host: &host{name: name}, name: name, dead: make(chan struct{})}
	p.die = sync.OnceFunc(func() { close(p.dead) })
	p.engine, p.bus = newEngine(p), &busEnd{from: p}
	return p
}

// remains returns what is on the disk after the boot.
func (b *boot) remains() *vfs.MemFS {
	if b.left == nil {
		return b.disk.mem // a clean stop
	}
	return b.left
}

// later calls do after a while in a goroutine of its own, if the machine still
// runs then.
func (b *boot) later(after time.Duration, do func()) {
	b.w.net.At(after, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if !b.over {
			b.tasks.Go(do)
		}
	})
}

// finish waits for what was begun by later.
func (b *boot) finish() {
	b.mu.Lock()
	b.over = true
	b.mu.Unlock()
	b.tasks.Wait()
}
