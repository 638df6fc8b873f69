package bench

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"timberline/events"
	"timberline/sim/proxy"
	"timberline/wire/udp"
)

// A fleet is all simulated clients.
type fleet struct {
	cfg   Config
	loops []*loop
	proxy *proxy.Proxy // nil: there is none
	began time.Time
	ended context.CancelFunc
	group *errgroup.Group
	ctx   context.Context // ends when a loop fails
}

// newFleet opens the sockets. Close it.
func newFleet(cfg Config) (*fleet, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	f := &fleet{cfg: cfg, began: time.Now()}
	server, err := f.through()
	if err != nil {
		return nil, err
	}
	for range cfg.Sockets {
		c, err := udp.Listen(netip.AddrPortFrom(server.Addr(), 0).String())
		if err != nil {
			return nil, errors.Join(err, f.close())
		}
		f.loops = append(f.loops, newLoop(&f.cfg, c, server, rand.Reader, f.began))
	}
	return f, nil
}

// newSenders returns a fleet of those who send.
func newSenders(cfg Config) (*fleet, error) {
	f, err := newFleet(cfg)
	if err != nil {
		return nil, err
	}
	for i := range cfg.Sessions {
		user, to := cfg.sender(i)
		f.loops[i%len(f.loops)].add(i, user, to, cfg.Token(user, "bench"))
	}
	return f, nil
}

// through opens the proxy, if the network is to have faults, and returns where the
// clients send to.
func (f *fleet) through() (netip.AddrPort, error) {
	if f.cfg.Faults == (proxy.Faults{}) {
		return f.cfg.Server, nil
	}
	var err error
	f.proxy, err = proxy.New(proxy.Config{Server: f.cfg.Server, Up: f.cfg.Faults, Down: f.cfg.Faults, Seed: 1, Idle: time.Hour})
	if err != nil {
		return netip.AddrPort{}, err
	}
	return f.proxy.Addr(), nil
}

func (f *fleet) close() error {
	var errs []error
	for _, l := range f.loops {
		errs = append(errs, l.conn.Close())
	}
	if f.proxy != nil && f.group == nil {
		errs = append(errs, f.proxy.Close())
	}
	return errors.Join(errs...)
}

// start runs the loops: from now on their sessions connect.
func (f *fleet) start(ctx context.Context) {
	ctx, f.ended = context.WithCancel(ctx)
	f.group, f.ctx = errgroup.WithContext(ctx)
	if f.proxy != nil {
		f.group.Go(func() error { return f.proxy.Run(f.ctx) })
	}
	for _, l := range f.loops {
		f.group.Go(func() error { return l.run(f.ctx) })
	}
}

// stop ends the loops. The error is that of a loop that failed.
func (f *fleet) stop() error {
	f.order(stop)
	if f.proxy != nil {
		time.Sleep(2 * tickEvery) // the loops end by themselves
		f.ended()
	}
	err := f.group.Wait()
	f.ended()
	if errors.Is(err, context.Canceled) && f.proxy != nil {
		err = nil
	}
	return errors.Join(err, f.close())
}

func (f *fleet) order(p phase) {
	for _, l := range f.loops {
		l.orders.Store(int32(p))
	}
}

// progressEvery is how often somebody is told what is going on.
const progressEvery = time.Second

// until waits until what counts has reached a number, and tells of it meanwhile.
func (f *fleet) until(what string, counts func(*loop) *atomic.Int64, goal int, patience time.Duration) error {
	late := time.NewTimer(patience)
	defer late.Stop()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	last := time.Now()
	for {
		n := 0
		for _, l := range f.loops {
			n += int(counts(l).Load())
		}
		if n >= goal {
			return nil
		}
		if time.Since(last) > progressEvery {
			last = time.Now()
			f.tell("%s: %d of %d", what, n, goal)
		}
		select {
		case <-tick.C:
		case <-late.C:
			return fmt.Errorf("bench: %s: %d of %d after %v", what, n, goal, patience)
		case <-f.ctx.Done():
			return fmt.Errorf("bench: %s: stopped at %d of %d: %w", what, n, goal, context.Cause(f.ctx))
		}
	}
}

func (f *fleet) tell(format string, args ...any) {
	if f.cfg.Progress != nil {
		f.cfg.Progress(fmt.Sprintf(format, args...))
	}
}

// connect waits until all sessions are open.
func (f *fleet) connect() error {
	return f.until("logins", func(l *loop) *atomic.Int64 { return &l.ready }, f.sessions(), loginPatience(f.sessions()))
}

// loginPatience is how long so many logins may take.
func loginPatience(n int) time.Duration { return 30*time.Second + time.Duration(n)*5*time.Millisecond }

func (f *fleet) sessions() (n int) {
	for _, l := range f.loops {
		n += len(l.sessions)
	}
	return n
}

// load has the sessions send, and waits until all is answered. When what is measured
// begins it calls measuring, and what that returns when it ends.
func (f *fleet) load(measuring func() (end func())) error {
	from := time.Since(f.began) + f.cfg.aside()
	for _, l := range f.loops {
		l.from.Store(int64(from))
		l.to.Store(int64(from + f.cfg.Duration))
	}
	f.order(load)
	if err := f.wait(from); err != nil {
		return err
	}
	measured := measuring()
	if err := f.wait(from + f.cfg.Duration); err != nil {
		return err
	}
	measured()
	f.order(drain)
	if err := f.until("answers", func(l *loop) *atomic.Int64 { return &l.quiet }, f.sessions(), drainPatience); err != nil || !f.cfg.Online {
		return err
	}
	sent := 0
	for _, l := range f.loops {
		sent += int(l.sent.Load()) // told before the answers to all of it
	}
	return f.until("deliveries", func(l *loop) *atomic.Int64 { return &l.arrived }, sent, drainPatience)
}

// drainPatience is how long the answers to all that was sent may take, and then its
// delivery.
const drainPatience = time.Minute

// wait waits until a time since the fleet began.
func (f *fleet) wait(until time.Duration) error {
	tick := time.NewTicker(progressEvery)
	defer tick.Stop()
	end := time.NewTimer(until - time.Since(f.began))
	defer end.Stop()
	for {
		select {
		case <-end.C:
			return nil
		case <-tick.C:
			f.tell("load: %v to go", (until - time.Since(f.began)).Round(time.Second))
		case <-f.ctx.Done():
			return fmt.Errorf("bench: load: %w", context.Cause(f.ctx))
		}
	}
}

// sum adds up what the loops have measured, and says how many sends of each session
// were acknowledged. They must have ended.
func (f *fleet) sum() (total results, acked []events.Number) {
	total, acked = newResults(), make([]events.Number, f.cfg.Sessions)
	for _, l := range f.loops {
		total.unsent += l.unsent()
		total.acked += l.results.acked
		total.delivered += l.results.delivered
		total.busy += l.results.busy
		total.ack.Merge(l.results.ack)
		total.delivery.Merge(l.results.delivery)
		for _, s := range l.sessions {
			acked[s.index] = s.base - 1
		}
	}
	return total, acked
}
