package sim

import (
	"fmt"
	"net/netip"
	"sync"

	"timberline/events"
	"timberline/sim/check"
	"timberline/wire"
	"timberline/wire/sealed"
)

// A witness sees all that one process of the server reads and sends, and holds it
// against promise 8: who has proved nothing gets no more than it has sent, and nothing
// that is for others or for whom something is kept. It has no keys: a DATA packet of the size of a
// challenge counts as one.
type witness struct {
	w    *world
	name string // of the process

	mu        sync.Mutex
	strangers map[netip.AddrPort]*stranger
	sessions  map[events.SessionID]*seat
	known     map[string]bool // DATA packets that came from a device's address
}

// A stranger is an address at which no device is.
type stranger struct {
	*check.Stranger
	news int // DATA packets that it was the first to bring, less challenges that it got
}

// A seat is where a session's device is told things.
type seat struct {
	device byte
	at     netip.AddrPort
}

func newWitness(w *world, process string) *witness {
	return &witness{
		w: w, name: process,
		strangers: make(map[netip.AddrPort]*stranger),
		sessions:  make(map[events.SessionID]*seat),
		known:     make(map[string]bool),
	}
}

// A witnessed socket is one that a witness watches.
type witnessed struct {
	wire.PacketConn
	witness *witness
}

// ReadBatch implements wire.PacketConn.
func (c witnessed) ReadBatch(ds []wire.Datagram) (int, error) {
	n, err := c.PacketConn.ReadBatch(ds)
	c.witness.mu.Lock()
	defer c.witness.mu.Unlock()
	for _, d := range ds[:n] {
		c.witness.came(d)
	}
	return n, err
}

// WriteBatch implements wire.PacketConn.
func (c witnessed) WriteBatch(ds []wire.Datagram) error {
	c.witness.mu.Lock()
	for _, d := range ds {
		c.witness.goes(d)
	}
	c.witness.mu.Unlock()
	return c.PacketConn.WriteBatch(ds)
}

// came takes in what the server has read.
func (w *witness) came(d wire.Datagram) {
	_, isData := sealed.PeekData(d.Data)
	if deviceAt(d.Addr) {
		if isData {
			w.known[string(d.Data)] = true
		}
		return
	}
	s := w.stranger(d.Addr)
	s.Sent(len(d.Data))
	if isData && !w.known[string(d.Data)] {
		s.news++
	}
}

// goes takes in what the server sends.
func (w *witness) goes(d wire.Datagram) {
	session, isData := sealed.PeekData(d.Data)
	challenge := isData && challengeSizes[len(d.Data)]
	if deviceAt(d.Addr) {
		if isData && !challenge {
			w.told(session, d.Addr)
		}
		return
	}
	s := w.stranger(d.Addr)
	s.Got(len(d.Data))
	switch {
	case d.Data[0] == sealed.TypeWelcome:
		s.Told("a WELCOME: something is kept for it")
	case !isData:
	case !challenge:
		s.Told(fmt.Sprintf("%d bytes of session %v", len(d.Data), session))
	case s.news == 0:
		s.Told(fmt.Sprintf("a challenge of session %v, of which it only repeats packets", session))
	default:
		s.news--
	}
}

// told notes that a session is told something at a device's address.
func (w *witness) told(session events.SessionID, at netip.AddrPort) {
	s := w.sessions[session]
	switch device := at.Addr().As4()[2]; {
	case s == nil:
		w.sessions[session] = &seat{device, at}
		w.w.count(&w.w.outcome.Sessions)
	case s.device != device:
		w.stranger(at).Told(fmt.Sprintf("something of session %v, which is at %v", session, s.at))
	case s.at != at:
		s.at = at
		w.w.count(&w.w.outcome.Moves)
	}
}

func (w *witness) stranger(at netip.AddrPort) *stranger {
	s := w.strangers[at]
	if s == nil {
		s = &stranger{Stranger: w.w.history.Stranger(fmt.Sprintf("%v, to %s", at, w.name))}
		w.strangers[at] = s
	}
	return s
}

// challengeSizes are how large DATA packets with one challenge are.
var challengeSizes = map[int]bool{challengeSize(wire.Proto): true, challengeSize(wire.JSON): true}

func challengeSize(c wire.Codec) int {
	p := wire.NewSealedPacker(c)
	p.Add(&wire.Challenge{Token: make([]byte, 8)})
	return len(p.Packets()[0]) + wire.SealedTag
}
