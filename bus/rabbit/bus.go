package rabbit

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"timberline/bus"
	"timberline/events"
)

// ErrAway says that the broker cannot be reached now. Try again later; what was
// published may come all the same.
var ErrAway = errors.New("the broker is away")

// errRejected says that the broker refused a message, because a queue was full.
var errRejected = errors.New("the broker refused a message")

// A Bus is one process's end. It passes nothing on before Run is called.
type Bus struct {
	cfg    Config
	counts *counts
	out    *outbox
	lossy  atomic.Bool // a push was lost: all edges are to read heads again

	hints     handlers[func(bus.Hint)]
	pushes    handlers[func([]bus.Push)]
	distrusts handlers[func()]

	connected atomic.Bool // changes under mu
	changed   chan struct{}

	mu     sync.Mutex
	wanted wants
	bound  map[events.Slot]bool // whose pushes come here
	late   map[events.Slot]bool // somebody has stopped waiting for them: distrust when they come
	moved  chan struct{}        // closed, and another, when bound or connected has changed
}

// wants are what is to come here. They only grow.
type wants struct {
	hints, pushes bool
	slots         map[events.Slot]bool
}

// New returns a bus for Run.
func New(c Config) (*Bus, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	b := &Bus{
		cfg:     c,
		out:     newOutbox(c.MaxWaiting),
		changed: make(chan struct{}, 1),
		wanted:  wants{slots: make(map[events.Slot]bool)},
		bound:   make(map[events.Slot]bool),
		late:    make(map[events.Slot]bool),
		moved:   make(chan struct{}),
	}
	b.counts = newCounts(c.Metrics, b.isConnected, func() float64 { return float64(b.out.size()) }, b.slots)
	return b, nil
}

func (b *Bus) isConnected() float64 {
	if b.connected.Load() {
		return 1
	}
	return 0
}

func (b *Bus) slots() float64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return float64(len(b.bound))
}

// How long to wait before connecting again: twice as long after each failure, less a
// random part, so that not all processes come back at one moment.
const (
	retryFirst = 100 * time.Millisecond
	retryMost  = 5 * time.Second
)

// Run carries messages until ctx ends, and connects again whenever the connection is
// lost. At the end it publishes what waits, for 2 s at most. Call it once.
func (b *Bus) Run(ctx context.Context) error {
	retry := retryFirst
	for logged := false; ctx.Err() == nil; {
		began := time.Now()
		served, err := b.serve(ctx)
		if ctx.Err() != nil {
			break
		}
		if served {
			retry, logged = retryFirst, false
		}
		if !logged {
			b.cfg.Logger.Warn("the bus is away; trying again", "err", err, "after", time.Since(began))
			logged = true
		}
		select {
		case <-time.After(retry/2 + rand.N(retry/2)):
		case <-ctx.Done():
		}
		retry = min(2*retry, retryMost)
	}
	return nil
}

// PublishHint implements bus.Bus. While the broker is away hints are dropped: they
// would be late anyway.
func (b *Bus) PublishHint(h bus.Hint) {
	m := hintMessage(h)
	if !b.connected.Load() || !b.out.add(m) {
		b.drop(m)
	}
}

// PublishPushes implements bus.Bus.
func (b *Bus) PublishPushes(ps []bus.Push) { b.publish(pushMessages(pushesExchange, ps)) }

// PublishMissed implements bus.Bus. They go to the offline queue.
func (b *Bus) PublishMissed(ps []bus.Push) { b.publish(pushMessages(offlineExchange, ps)) }

func (b *Bus) publish(ms []*message) {
	for _, m := range ms {
		if !b.out.add(m) {
			b.drop(m)
		}
	}
}

// drop counts what will not be published.
func (b *Bus) drop(m *message) {
	switch {
	case m.kind == kindHint:
		b.counts.dropped.WithLabelValues("hints").Inc()
	case m.exchange == offlineExchange:
		b.counts.dropped.WithLabelValues("missed").Add(float64(m.pushes))
	case m.kind == kindPushes:
		b.counts.dropped.WithLabelValues("pushes").Add(float64(m.pushes))
		b.lossy.Store(true)
	case m.kind == kindDistrust:
		b.lossy.Store(true)
	}
}

// Confirm publishes pushes and returns nil when the broker has taken responsibility
// for all of them: they will come to each edge that follows their slots, or that edge
// was told to distrust its heads; or they are in the offline queue. After an error,
// ErrAway or that of ctx, any of them may come all the same. Publish them again. Do
// not call it with many at a time: they wait whether there is room or not.
func (b *Bus) Confirm(ctx context.Context, ps []bus.Push) error {
	err := b.confirm(ctx, pushMessages(pushesExchange, ps))
	if errors.Is(err, errRejected) {
		return b.confirm(ctx, []*message{distrustMessage(b.cfg.Store)})
	}
	return err
}

func (b *Bus) confirm(ctx context.Context, ms []*message) error {
	if len(ms) == 0 {
		return nil
	}
	if !b.connected.Load() {
		return ErrAway
	}
	w := &waiting{left: len(ms), done: make(chan struct{})}
	for _, m := range ms {
		m.waiting = w
		b.out.add(m)
	}
	select {
	case <-w.done:
		return w.err
	case <-ctx.Done():
		b.out.remove(func(m *message) bool { return m.waiting == w })
		return ctx.Err()
	}
}

// A waiting is somebody who waits for the confirms of some messages.
type waiting struct {
	mu   sync.Mutex
	left int
	err  error         // that of the gravest; to be read when done
	done chan struct{} // closed when none is left
}

// settle tells of one of them.
func (w *waiting) settle(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil || errors.Is(err, ErrAway) {
		w.err = err
	}
	if w.left--; w.left == 0 {
		close(w.done)
	}
}

// OnHint implements bus.Bus.
func (b *Bus) OnHint(handle func(bus.Hint)) (stop func()) {
	stop = b.hints.add(handle)
	b.want(func(w *wants) { w.hints = true })
	return stop
}

// OnPushes implements bus.Bus.
func (b *Bus) OnPushes(handle func([]bus.Push), distrust func()) (stop func()) {
	stopPushes, stopDistrusts := b.pushes.add(handle), b.distrusts.add(distrust)
	b.want(func(w *wants) { w.pushes = true })
	return func() {
		stopPushes()
		stopDistrusts()
	}
}

// want notes what is to come here, now and after each reconnection.
func (b *Bus) want(note func(*wants)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	note(&b.wanted)
	b.wake()
}

func (b *Bus) wake() {
	select {
	case b.changed <- struct{}{}:
	default:
	}
}

// Follow implements bus.Bus. It returns ErrAway at once while the broker is away: the
// slot is followed when it is back.
func (b *Bus) Follow(ctx context.Context, s events.Slot) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for !b.bound[s] {
		if !b.wanted.slots[s] {
			b.wanted.slots[s], b.wanted.pushes = true, true
			b.wake()
		}
		if !b.connected.Load() {
			return ErrAway
		}
		moved := b.moved
		b.mu.Unlock()
		select {
		case <-moved:
			b.mu.Lock()
		case <-ctx.Done():
			b.mu.Lock()
			if !b.bound[s] {
				b.late[s] = true
				return ctx.Err()
			}
		}
	}
	return nil
}

// Connected implements bus.Bus.
func (b *Bus) Connected() bool { return b.connected.Load() }

// set changes what Follow waits for. The caller holds mu.
func (b *Bus) set(change func()) {
	change()
	close(b.moved)
	b.moved = make(chan struct{})
}

// distrust tells who listens here that pushes may have been lost.
func (b *Bus) distrust() {
	b.counts.distrusts.Inc()
	for _, handle := range b.distrusts.all() {
		(*handle)()
	}
}

// handlers are who listens.
type handlers[F any] struct {
	mu   sync.Mutex
	list []*F // copied when it changes: it is read without a lock
}

func (h *handlers[F]) add(handle F) (stop func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	mine := &handle
	h.list = append(slices.Clone(h.list), mine)
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.list = slices.DeleteFunc(slices.Clone(h.list), func(f *F) bool { return f == mine })
	}
}

func (h *handlers[F]) all() []*F {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.list
}
