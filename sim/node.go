package sim

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"timberline/cmd/node"
	"timberline/edge"
	"timberline/edge/auth"
	"timberline/events"
	"timberline/projections/relay"
	"timberline/sim/network"
	"timberline/wire"
	"timberline/wire/sealed"
)

// A process is one node while it runs: an edge on sockets of its own, a journal of
// its own, and a projector of its shards.
type process struct {
	w      *world
	boot   *boot
	host   *host
	name   string
	conns  []*network.Conn // one sealed, one plain
	engine *engine
	bus    *busEnd
	tells  *metrics
	dead   chan struct{} // closed by kill
	die    func()
	cancel context.CancelFunc
	down   time.Duration // after it was killed
}

// newProcess opens the sockets.
func newProcess(b *boot, h *host) (*process, error) {
	h.lives++
	p := &process{w: b.w, boot: b, host: h, name: fmt.Sprintf("%s, life %d", h.name, h.lives), dead: make(chan struct{}), tells: newMetrics()}
	p.die = sync.OnceFunc(func() { close(p.dead) })
	p.engine = newEngine(p)
	p.bus = &busEnd{from: p}
	for _, at := range []netip.AddrPort{h.sealedAddr(), h.plainAddr()} {
		conn, err := b.w.net.Listen(at)
		if err != nil {
			p.hangUp()
			return nil, err
		}
		p.conns = append(p.conns, conn)
	}
	return p, nil
}

// String names the process.
func (p *process) String() string { return p.host.name }

// hangUp closes the sockets.
func (p *process) hangUp() {
	for _, c := range p.conns {
		c.Close()
	}
}

// kill ends the process where it stands: nothing that it does afterwards reaches
// the network, the bus or the store. It is called with the bubble at rest.
func (p *process) kill() {
	p.die()
	p.hangUp()
	p.cancel()
}

func (p *process) isDead() bool {
	select {
	case <-p.dead:
		return true
	default:
		return false
	}
}

// errDead has a killed node stop at once.
var errDead = fmt.Errorf("%w: %w", events.ErrFatal, errKilled)

// sockets returns what the edge listens on.
func (p *process) sockets() []edge.Socket {
	sees := newWitness(p.w, p.name)
	var list []edge.Socket
	for i, c := range p.conns {
		conn := through[wire.PacketConn](p.w.seams.Conn, witnessed{c, sees})
		s := edge.Socket{PacketConn: conn, Plain: i > 0}
		if p.w.plan.limits.sessions > 0 {
			s.Backlog = p.backlog
		}
		list = append(list, s)
	}
	return list
}

// run runs the node until it is killed or ctx ends. sole says that no other runs.
func (p *process) run(ctx context.Context, sole bool, started func()) error {
	ctx, p.cancel = context.WithCancel(ctx)
	defer p.cancel()
	p.boot.add(p)
	defer p.boot.remove(p)
	l := &p.w.plan.limits
	p.w.note("%s starts, its clock is off by %v", p, time.Until(p.host.now()))
	c := node.Config{
		Engine: through[node.Engine](p.w.seams.Engine, p.engine),
		Meta:   p.boot.store.Meta(), Sole: sole, Shared: len(p.w.server.hosts) > 1, Bus: p.bus, Metrics: p.tells,
		Edge: &edge.Config{
			Sockets: p.sockets(), Tag: p.host.tag, Verify: p.verify, MaxBody: maxBody,
			Keys:   func() []sealed.ServerKey { return []sealed.ServerKey{p.w.serverKey} },
			Secret: p.host.secret, HalfOpen: l.halfOpen, MaxSessions: l.sessions, SessionRate: l.rate,
			Policy: bars{}, SyncBytes: l.syncBytes, MaxTasks: l.tasks, Workers: l.workers,
		},
		MaxPending: l.pending,
		Started: func(*node.Process) {
			p.engine.serves.Store(true)
			started()
		},
		Now: p.host.now, Random: p.w.seams.random(p.w.seed, p.name), Logger: slog.New(slog.DiscardHandler),
	}
	if p.w.plan.handover {
		c.Edge.Handover = p.w.server.hosts[1-p.host.number].sealedAddr().String()
	}
	p.take(&c)
	err := node.Run(ctx, c)
	p.w.tell(p)
	switch {
	case p.isDead():
		return nil
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		return nil // it was ended while it started
	case err != nil:
		return fmt.Errorf("%s: %w", p.name, err)
	}
	return nil
}

// bars is a Policy.
type bars struct{}

// MayWrite implements edge.Policy.
func (bars) MayWrite(_, to events.User) bool { return to != barred }

// verify gives every check of a token a moment of its own: when a node starts,
// several LOGINs wait.
func (p *process) verify(token string, now time.Time) (auth.Identity, error) {
	time.Sleep(between(p.w.draws.next(p.name+" verifies "+token), time.Microsecond, time.Millisecond))
	return p.w.verifier.Verify(token, now)
}

// take gives the process its roles, besides that of an edge.
func (p *process) take(c *node.Config) {
	lacks := p.w.plan.lacks[p.host.number]
	c.Projector = !lacks.projector
	if !p.w.plan.many {
		c.Publish = p.bus.PublishPushes
		return
	}
	c.Leases, c.Owner = p.engine, p.name
	if !lacks.relay {
		c.Relay = &relay.Config{Stream: p.engine, Publisher: p.bus}
	}
}
