package sim

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"timberline/cmd/node"
	"timberline/edge"
	"timberline/edge/auth"
	"timberline/sim/network"
	"timberline/store/pebble"
	"timberline/wire"
	"timberline/wire/sealed"
)

// shards of the store.
const shards = 3

// A process is one life of the server: a node on a store on a disk.
type process struct {
	w      *world
	server *server
	name   string
	disk   *disk
	store  *pebble.Store
	conns  []*network.Conn // one sealed, one plain
	left   *vfs.MemFS      // what a crash has left of the disk; nil: there was none

	mu    sync.Mutex
	over  bool           // nothing begins any more
	tasks sync.WaitGroup // what was begun by later
}

// newProcess opens the store and the sockets.
func newProcess(s *server, n int) (*process, error) {
	p := &process{w: s.w, server: s, name: fmt.Sprintf("server %d", n)}
	p.disk = &disk{FS: through[vfs.FS](s.w.seams.Disk, s.left), mem: s.left, draws: s.w.draws, most: s.w.plan.sync}
	var err error
	p.store, err = pebble.Open(dataFolder, pebble.Options{
		FS: p.disk, Shards: shards, Random: network.Random(s.w.seed, p.name+" store"),
		OnFatal: func(err error) { s.w.fail(fmt.Errorf("%s ends: %w", p.name, err)) },
	})
	if err != nil {
		return nil, err
	}
	for _, at := range []netip.AddrPort{sealedAddr, plainAddr} {
		conn, err := s.w.net.Listen(at)
		if err != nil {
			p.hangUp()
			return nil, errors.Join(err, p.store.Close())
		}
		p.conns = append(p.conns, conn)
	}
	return p, nil
}

// hangUp closes the sockets.
func (p *process) hangUp() {
	for _, c := range p.conns {
		c.Close()
	}
}

// sockets returns what the edge listens on.
func (p *process) sockets() []edge.Socket {
	sees := newWitness(p.w, p.name)
	var list []edge.Socket
	for i, c := range p.conns {
		conn := through[wire.PacketConn](p.w.seams.Conn, witnessed{c, sees})
		list = append(list, edge.Socket{PacketConn: conn, Plain: i > 0})
	}
	return list
}

// run runs the node until ctx ends.
func (p *process) run(ctx context.Context) error {
	p.disk.slow.Store(true)
	err := node.Run(ctx, node.Config{
		Engine: through[node.Engine](p.w.seams.Engine, &engine{Engine: p.store, draws: p.w.draws, plan: p.w.plan, later: p.later}),
		Meta:   p.store.Meta(), Sole: true,
		Bus: &lossyBus{draws: p.w.draws, plan: p.w.plan, later: p.later},
		Edge: edge.Config{
			Sockets: p.sockets(), Tag: p.store.Tag(), Verify: p.verify, MaxBody: maxBody,
			Keys:   func() []sealed.ServerKey { return []sealed.ServerKey{p.w.serverKey} },
			Secret: p.w.secret, HalfOpen: p.w.plan.halfOpen,
		},
		Now: p.server.now, Random: p.w.seams.random(p.w.seed, p.name), Logger: slog.New(slog.DiscardHandler),
	})
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		err = nil // it was ended while it started
	}
	p.finish()
	p.disk.slow.Store(false)
	return errors.Join(err, p.store.Close())
}

// verify gives every check of a token a moment of its own: when a server starts,
// several LOGINs wait.
func (p *process) verify(token string, now time.Time) (auth.Identity, error) {
	time.Sleep(between(p.w.draws.next("verify "+token), time.Microsecond, time.Millisecond))
	return p.w.verifier.Verify(token, now)
}

// later calls do after a while in a goroutine of its own, if the process still
// lives then.
func (p *process) later(after time.Duration, do func()) {
	p.w.net.At(after, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if !p.over {
			p.tasks.Go(do)
		}
	})
}

// finish waits for what was begun by later.
func (p *process) finish() {
	p.mu.Lock()
	p.over = true
	p.mu.Unlock()
	p.tasks.Wait()
}
