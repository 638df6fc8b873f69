package edge

import (
	"net/netip"

	"timberline/events"
	"timberline/wire"
	"timberline/wire/sealed"
)

// A halfOpen is a connection that nobody has logged in on: the address is proved,
// the client is not.
type halfOpen struct {
	session   events.SessionID // that it will have
	hello     helloFrom
	src       from
	channel   *sealed.Channel // nil: the handshake is being computed
	welcome   []byte          // for whoever repeats the HELLO
	verifying bool            // a token is being checked
	packets   int             // that came on it
	slot      int             // in the ring
	turn      uint64          // see session
}

// A helloFrom is what a HELLO and its repeats have in common.
type helloFrom struct {
	echo sealed.Echo
	addr netip.AddrPort
}

// A ring holds the half-open connections: so many, and never more. A new one
// takes the place of the oldest.
type ring struct {
	slots    []*halfOpen
	next     int // the oldest
	sessions map[events.SessionID]*halfOpen
	hellos   map[helloFrom]*halfOpen
}

func newRing(size int) *ring {
	return &ring{
		slots:    make([]*halfOpen, size),
		sessions: make(map[events.SessionID]*halfOpen),
		hellos:   make(map[helloFrom]*halfOpen),
	}
}

func (r *ring) add(h *halfOpen) {
	if oldest := r.slots[r.next]; oldest != nil {
		r.drop(oldest)
	}
	r.slots[r.next], h.slot = h, r.next
	r.next = (r.next + 1) % len(r.slots)
	r.sessions[h.session], r.hellos[h.hello] = h, h
}

// has reports whether a connection has not been dropped, or pushed out.
func (r *ring) has(h *halfOpen) bool { return r.sessions[h.session] == h }

// drop forgets a connection. Its slot stays empty until its turn comes.
func (r *ring) drop(h *halfOpen) {
	if !r.has(h) {
		return
	}
	delete(r.sessions, h.session)
	delete(r.hellos, h.hello)
	r.slots[h.slot] = nil
}

// seal returns the packet that tells a half-open connection one frame.
func (h *halfOpen) seal(c wire.Codec, f wire.Frame) ([]byte, error) {
	p := wire.NewSealedPacker(c)
	p.Add(f)
	return h.channel.Seal(p.Packets()[0])
}
