package network

import (
	"container/heap"
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"testing/synctest"
	"time"

	"timberline/wire"
)

// Faults say what the network does to datagrams. The zero value is a network
// without faults and with almost no delay.
type Faults struct {
	Loss      float64       // the part that never arrives
	Duplicate float64       // the part that arrives twice
	Reorder   float64       // the part that is held back by up to ten times Delay
	Delay     time.Duration // the least way of a datagram
	Jitter    time.Duration // what is added to it, at most
}

// A Network carries datagrams between sockets.
type Network struct {
	seed  uint64
	start time.Time
	wake  chan struct{} // room for one: the queue has a new first event

	mu     sync.Mutex
	faults Faults
	ear    Ear // nil: nobody listens in
	conns  map[netip.AddrPort]*Conn
	links  map[link]uint64 // datagrams so far
	cut    []pair
	ports  map[netip.Addr]uint16 // the last one given away
	queue  queue
	taken  map[time.Duration]bool // the times of events in the queue
	trace  Trace
}

// A link is one direction between two addresses.
type link struct{ from, to netip.AddrPort }

// A pair is two hosts that cannot reach each other.
type pair struct{ a, b netip.Addr }

func (p pair) joins(x, y netip.Addr) bool { return p.a == x && p.b == y || p.a == y && p.b == x }

// New returns a network. It carries nothing before Run.
func New(seed uint64, f Faults) *Network {
	return &Network{
		seed:   seed,
		start:  time.Now(),
		wake:   make(chan struct{}, 1),
		faults: f,
		conns:  make(map[netip.AddrPort]*Conn),
		links:  make(map[link]uint64),
		ports:  make(map[netip.Addr]uint16),
		taken:  make(map[time.Duration]bool),
	}
}

// Listen opens a socket. Port 0 is the host's next port that was never used. It
// fails if the address is in use.
func (n *Network) Listen(at netip.AddrPort) (*Conn, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if at.Port() == 0 {
		n.ports[at.Addr()]++
		at = netip.AddrPortFrom(at.Addr(), n.ports[at.Addr()])
	}
	if n.conns[at] != nil {
		return nil, fmt.Errorf("listen on %v: the address is in use", at)
	}
	c := newConn(n, at)
	n.conns[at] = c
	return c, nil
}

// SetFaults changes what the network does to datagrams that are sent from now on.
func (n *Network) SetFaults(f Faults) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.faults = f
}

// Cut makes two hosts unreachable to each other until Heal. Datagrams on the way
// are lost, too.
func (n *Network) Cut(a, b netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut = append(n.cut, pair{a, b})
}

// Heal takes back Cut.
func (n *Network) Heal(a, b netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut = slices.DeleteFunc(n.cut, func(p pair) bool { return p.joins(a, b) })
}

// Spoof sends a datagram that claims to come from an address.
func (n *Network) Spoof(from, to netip.AddrPort, data []byte) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.send(packet{link: link{from, to}, data: data, unheard: true})
}

// An Ear hears a datagram as it arrives, or is lost. It is called in the goroutine
// of Run, with the bubble at rest, and must not change data. It returns for how
// long the datagram is held back, so that who listens in can be faster.
type Ear func(from, to netip.AddrPort, data []byte) (hold time.Duration)

// Overhear has somebody listen in on all that sockets send from now on. What is
// spoofed is not heard.
func (n *Network) Overhear(e Ear) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ear = e
}

// At calls do in the goroutine of Run after a while, with the bubble at rest
// before and after.
func (n *Network) At(after time.Duration, do func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.schedule(n.now()+after, do)
}

// Run carries datagrams until ctx ends.
func (n *Network) Run(ctx context.Context) error {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		next, due := n.next()
		if due != nil {
			runtime.Gosched() // nobody who becomes ready now is interrupted halfway
			due()
			synctest.Wait()
			continue
		}
		timer.Reset(next)
		select {
		case <-timer.C:
			synctest.Wait() // whoever else woke now goes first
		case <-n.wake:
		case <-ctx.Done():
			return nil
		}
	}
}

// now returns the time since the network was made.
func (n *Network) now() time.Duration { return time.Since(n.start) }

// next takes off the event that is due, or returns how long the next one is away.
func (n *Network) next() (wait time.Duration, due func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.queue) == 0 {
		return time.Hour, nil
	}
	if wait = n.queue[0].at - n.now(); wait > 0 {
		return wait, nil
	}
	e := heap.Pop(&n.queue).(event)
	delete(n.taken, e.at)
	return 0, e.do
}

// schedule puts an event into the queue, at the first nanosecond from a time on
// that no other has. The caller holds mu.
func (n *Network) schedule(at time.Duration, do func()) {
	for n.taken[at] {
		at++
	}
	n.taken[at] = true
	heap.Push(&n.queue, event{at, do})
	select {
	case n.wake <- struct{}{}:
	default: // it will look anyway
	}
}

// send numbers a datagram and draws what happens to it. The caller holds mu.
func (n *Network) send(p packet) {
	n.links[p.link]++
	p.number, p.data = n.links[p.link], slices.Clone(p.data)
	d := draw(n.seed, p.link, p.number)
	if d.Float64() < n.faults.Loss {
		n.later(d, func() { n.lose(p) })
		return
	}
	n.later(d, func() { n.deliver(p) })
	if d.Float64() < n.faults.Duplicate {
		n.later(d, func() { n.deliver(p) })
	}
}

// later calls do after a way that is drawn. The caller holds mu.
func (n *Network) later(d *rand.Rand, do func()) {
	way := n.faults.Delay + time.Duration(d.Float64()*float64(n.faults.Jitter))
	if d.Float64() < n.faults.Reorder {
		way += time.Duration(d.Float64() * 10 * float64(n.faults.Delay))
	}
	way += time.Duration(1 + d.IntN(10_000)) // nanoseconds, so that ways differ
	n.schedule(n.now()+way, do)
}

// lose notes a datagram as lost. It does so later, as deliver does, so that the
// trace does not depend on who handed in first at one instant.
func (n *Network) lose(p packet) {
	n.hear(p)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.note(p, "lost")
}

// hear lets who listens in hear a datagram, once.
func (n *Network) hear(p packet) (hold time.Duration) {
	n.mu.Lock()
	ear := n.ear
	n.mu.Unlock()
	if ear == nil || p.unheard {
		return 0
	}
	return ear(p.from, p.to, p.data)
}

// deliver puts a datagram into the socket it is for.
func (n *Network) deliver(p packet) {
	hold := n.hear(p)
	n.mu.Lock()
	defer n.mu.Unlock()
	if hold > 0 {
		p.unheard = true
		n.schedule(n.now()+hold, func() { n.deliver(p) })
		return
	}
	conn := n.conns[p.to]
	separated := slices.ContainsFunc(n.cut, func(c pair) bool { return c.joins(p.from.Addr(), p.to.Addr()) })
	switch {
	case separated:
		n.note(p, "cut off")
	case conn == nil:
		n.note(p, "nobody there")
	case !conn.put(wire.Datagram{Addr: p.from, Data: p.data}):
		n.note(p, "no room")
	default:
		n.note(p, "")
	}
}

// A packet is a datagram on its way.
type packet struct {
	link
	number  uint64 // on its link
	data    []byte
	unheard bool // nobody listens in on it any more
}

// An event is what happens at a time.
type event struct {
	at time.Duration // since the network was made
	do func()
}

// queue is a heap of events by time.
type queue []event

// Len, Less, Swap, Push and Pop serve container/heap.
func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].at < q[j].at }
func (q queue) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }

// Push adds an event.
func (q *queue) Push(x any) { *q = append(*q, x.(event)) }

// Pop takes the last event off.
func (q *queue) Pop() any {
	last := len(*q) - 1
	e := (*q)[last]
	*q = (*q)[:last]
	return e
}
