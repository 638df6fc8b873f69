package sim

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"time"

	"timberline/sim/network"
	"timberline/wire"
	"timberline/wire/sealed"
)

// Whose an address is: devices have 10.1.0.0/16.
var (
	devicesAt      = netip.MustParsePrefix("10.1.0.0/16")
	floodersAt     = [2]byte{198, 18} // and two bytes that are made up
	eavesdropperAt = netip.MustParseAddr("203.0.113.5")
)

// deviceAt reports whether an address is a device's.
func deviceAt(a netip.AddrPort) bool { return devicesAt.Contains(a.Addr()) }

// A hostilePlan is what strangers do to sealed sockets.
type hostilePlan struct {
	hellos   int           // of a flood; 0: there is none
	floodAt  time.Duration // when it begins
	floodFor time.Duration
	replays  []time.Duration // when the eavesdropper sends what it has heard
	races    float64         // the part of packets that it repeats before they arrive themselves
}

func newHostilePlan(r *rand.Rand) hostilePlan {
	p := hostilePlan{
		hellos:   oneOf(r, 0, 100, 300),
		floodAt:  between(r, 0, chatFor),
		floodFor: between(r, 500*time.Millisecond, 3*time.Second),
		races:    oneOf(r, 0, 0.02, 0.02, 0.1, 1),
	}
	for range 2 + r.IntN(5) {
		p.replays = append(p.replays, between(r, time.Second, chatFor+5*time.Second))
	}
	return p
}

// flood has somebody send HELLOs from addresses that are made up, or those of
// devices.
func (w *world) flood() {
	p := &w.plan.hostile
	for i := range p.hellos {
		r := network.Source(w.seed, "flood", uint64(i))
		at, from, hello := p.floodAt+between(r, 0, p.floodFor), w.flooder(r), w.hello(r)
		to := oneOf(r, w.server.hosts...).sealedAddr()
		w.net.At(at, func() { w.net.Spoof(from, to, hello) })
	}
}

func (w *world) flooder(r *rand.Rand) netip.AddrPort {
	a := netip.AddrFrom4([4]byte{floodersAt[0], floodersAt[1], byte(r.IntN(256)), byte(r.IntN(256))})
	if chance(r, 0.1) { // one that somebody is at
		a = deviceHost(byte(r.IntN(len(w.devices))), byte(r.IntN(3)))
	}
	return netip.AddrPortFrom(a, uint16(1+r.IntN(1000)))
}

// hello returns one that nobody will finish: with a cookie of another's making, of
// another version, for another key, too short or too long.
func (w *world) hello(r *rand.Rand) []byte {
	id := w.serverKey.Public.ID()
	hello := make([]byte, sealed.HelloSize, wire.MaxPacket)
	for i := range hello {
		hello[i] = byte(r.Uint32())
	}
	hello[0], hello[1] = sealed.TypeHello, sealed.Version
	copy(hello[2:], id[:])
	switch r.IntN(10) {
	case 0:
		hello[1]++
	case 1:
		hello[2]++
	case 2:
		return hello[:r.IntN(len(hello))]
	case 3:
		return hello[:cap(hello)]
	}
	return hello
}

// An eavesdropper hears all that goes to the sealed socket and comes from it, and
// sends it again: whole, in parts, in another order, from where it came from, from
// its own address or another's, to either side. It does all that as the network
// carries things, with the bubble at rest.
type eavesdropper struct {
	w     *world
	kept  []overheard // what it has heard last
	ports uint16      // of its own that it has used
}

// An overheard datagram is one that arrived, or was lost.
type overheard struct {
	from, to netip.AddrPort
	data     []byte
}

// maxKept bounds what the eavesdropper remembers.
const maxKept = 2000

// begin listens in, and plans what is done with what is heard.
func (e *eavesdropper) begin() {
	e.w.net.Overhear(e.hear)
	for i, at := range e.w.plan.hostile.replays {
		e.w.net.At(at, func() { e.replay(network.Source(e.w.seed, "eavesdropper", uint64(i))) })
	}
}

// hear keeps a datagram. Of some it sends a copy at once, which arrives before.
func (e *eavesdropper) hear(from, to netip.AddrPort, data []byte) (hold time.Duration) {
	if !(isSealed(to) && deviceAt(from) || isSealed(from) && deviceAt(to)) {
		return 0
	}
	o := overheard{from, to, data}
	if len(e.kept) == maxKept {
		e.kept = append(e.kept[:0], e.kept[1:]...)
	}
	e.kept = append(e.kept, o)
	r := e.w.draws.next(fmt.Sprintf("heard %v > %v", from, to))
	if !chance(r, e.w.plan.hostile.races) {
		return 0
	}
	e.send(r, o, "copies")
	return 2 * (e.w.plan.network.Delay + e.w.plan.network.Jitter)
}

// replay sends some of what it has heard.
func (e *eavesdropper) replay(r *rand.Rand) {
	if len(e.kept) == 0 {
		return
	}
	n := 5 + r.IntN(20)
	what, how := e.kept, r.IntN(4)
	if how == 1 {
		what = what[max(len(what)-n, 0):]
	}
	for range n {
		o := oneOf(r, what...)
		did := "repeats"
		switch how {
		case 2:
			did, o.data = "damages", damaged(r, o.data)
		case 3:
			did, o.data = "closes", forgedBye(r, o.data)
		}
		e.w.net.At(between(r, 0, 300*time.Millisecond), func() { e.send(r, o, did) })
	}
}

// send sends a datagram to where it went, or back, from an address that is drawn.
func (e *eavesdropper) send(r *rand.Rand, o overheard, did string) {
	from, to := o.from, o.to
	switch r.IntN(6) {
	case 0, 1, 2:
		from = e.own(r)
	case 3:
		from = netip.AddrPortFrom(deviceHost(byte(r.IntN(len(e.w.devices))), 0), 1)
	}
	switch {
	case isSealed(to) && wire.IsPlain(o.data) && chance(r, 0.5):
		to = netip.AddrPortFrom(to.Addr(), plainPort)
	case isSealed(to) && chance(r, 0.2):
		to = oneOf(r, e.w.server.hosts...).sealedAddr()
	case !isSealed(to) && chance(r, 0.3):
		from, to = e.own(r), o.from // what the server has said itself
	case !isSealed(to):
		from = o.from // to the device: it listens to nobody else
	}
	e.w.count(&e.w.outcome.Replays)
	e.w.net.Note(fmt.Sprintf("the eavesdropper %s what went from %v to %v, as from %v", did, o.from, o.to, from))
	e.w.net.Spoof(from, to, o.data)
}

// own returns an address of its own: mostly one that it has never used.
func (e *eavesdropper) own(r *rand.Rand) netip.AddrPort {
	if e.ports == 0 || chance(r, 0.7) {
		e.ports++
	}
	return netip.AddrPortFrom(eavesdropperAt, e.ports)
}

// damaged returns a part of a datagram, or one that differs in a bit.
func damaged(r *rand.Rand, data []byte) []byte {
	switch n := r.IntN(len(data)); r.IntN(3) {
	case 0:
		return data[:n]
	case 1:
		return data[n:]
	default:
		data = bytes.Clone(data)
		data[n] ^= 1 << r.IntN(8)
		return data
	}
}

// forgedBye returns a packet in plain mode that claims to end the session of a
// sealed one.
func forgedBye(r *rand.Rand, data []byte) []byte {
	p := wire.Packet{Codec: oneOf(r, wire.Proto, wire.JSON), Frames: []wire.Frame{&wire.Bye{}}}
	p.Session, _ = sealed.PeekData(data)
	return p.Encode()
}
