package edge

import (
	"bytes"
	"net/netip"
	"slices"
	"time"

	"timberline/bus"
	"timberline/events"
	"timberline/ingest"
	"timberline/wire"
)

// from is where a packet came from: which socket of ours, which address.
type from struct {
	conn int
	addr netip.AddrPort
}

// A table is all sessions of an edge. It does no I/O, starts no goroutine and
// reads no clock: it is told what happened and when, and leaves packets and
// tasks behind.
type table struct {
	cfg      *Config
	counts   counts
	sessions map[events.SessionID]*session
	devices  map[device]*session
	users    map[events.User][]*session
	attempts map[attempt]*session        // logins that may be repeated
	asking   map[events.Journal]*inquiry // settling under way
	timers   timers

	dirty      []*session        // have frames to be sent
	out        [][]wire.Datagram // by socket
	tasks      []task
	journal    events.Journal // of the last report
	offset     events.Offset
	distrusted time.Time // heads read before are not to be trusted
	draining   bool
	drained    bool

	resets     int       // answers to strangers left in this second
	resetsFrom time.Time // when the second began
}

// A device is one user's device.
type device struct {
	user events.User
	name events.Device
}

// maxResets bounds, per second, the answers to packets of unknown sessions.
const maxResets = 1000

func newTable(c *Config) *table {
	return &table{
		cfg:      c,
		sessions: make(map[events.SessionID]*session),
		devices:  make(map[device]*session),
		users:    make(map[events.User][]*session),
		attempts: make(map[attempt]*session),
		asking:   make(map[events.Journal]*inquiry),
		out:      make([][]wire.Datagram, len(c.Conns)),
	}
}

// packet takes in a datagram. Its bytes are the caller's again afterwards.
func (t *table) packet(now time.Time, src from, data []byte) {
	t.counts.packets.Add(1)
	p, err := wire.Decode(data)
	if err != nil {
		t.counts.malformed.Add(1)
		return
	}
	if p.Session == (events.SessionID{}) {
		t.stranger(now, src, p, len(data))
		return
	}
	s := t.sessions[p.Session]
	switch {
	case s == nil || s.state != open:
		t.counts.unknownSession.Add(1)
		t.reset(now, src, p, len(data))
	case s.codec != p.Codec:
		t.counts.wrongCodec.Add(1)
	default:
		s.heard, s.src = now, src
		for _, f := range p.Frames {
			t.frame(now, s, f)
		}
	}
}

// stranger answers a packet without a session, which may only log in.
func (t *table) stranger(now time.Time, src from, p wire.Packet, size int) {
	for _, f := range p.Frames {
		if login, ok := f.(*wire.Login); ok {
			t.login(now, stranger{src: src, codec: p.Codec, size: size}, login)
			return
		}
	}
	t.counts.malformed.Add(1)
}

// A stranger is whoever has proved nothing. It gets no more bytes than it sent.
type stranger struct {
	src   from
	codec wire.Codec
	size  int // of its packet
}

// tell sends a frame to a stranger if it is not larger than what the stranger
// sent (promise 8).
func (t *table) tell(to stranger, s events.SessionID, f wire.Frame) {
	p := wire.Packet{Codec: to.codec, Session: s, Frames: []wire.Frame{f}}
	if data := p.Encode(); len(data) <= to.size {
		t.out[to.src.conn] = append(t.out[to.src.conn], wire.Datagram{Addr: to.src.addr, Data: data})
	}
}

// reset tells whoever sent a packet that its session is not known here. Each
// answer is smaller than what it answers, so that none is answered for ever.
func (t *table) reset(now time.Time, src from, p wire.Packet, size int) {
	if now.Sub(t.resetsFrom) >= time.Second {
		t.resets, t.resetsFrom = maxResets, now
	}
	if t.resets > 0 {
		t.resets--
		t.counts.resets.Add(1)
		t.tell(stranger{src: src, codec: p.Codec, size: size - 1}, p.Session, &wire.Closed{})
	}
}

// frame takes in one frame of a session. It aliases the packet.
func (t *table) frame(now time.Time, s *session, f wire.Frame) {
	switch f := f.(type) {
	case *wire.Send:
		t.send(now, s, f)
	case *wire.Got:
		s.got(now, f.Cursor)
	case *wire.Ping:
		t.ping(now, s, f)
	case *wire.Sync:
		t.sync(now, s, f)
	case *wire.Bye:
		t.end(s, wire.ReasonLoggedOut)
	}
}

// reported takes in what an append settled.
func (t *table) reported(_ time.Time, r ingest.Report) {
	t.journal, t.offset = r.Journal, r.Offset
	for i := range r.Durable {
		d := &r.Durable[i]
		s := t.sessions[d.Session]
		switch {
		case s == nil || s.owner != d.Owner:
		case d.Kind == events.KindSessionClosed:
			t.gone(s)
		default:
			s.order.Durable(d.Number)
			s.wantAck()
		}
	}
	for _, o := range r.Closed { // by another edge, where the device is now
		if s := t.sessions[o.Session]; s != nil && s.owner == o {
			t.end(s, wire.ReasonReplaced)
			t.gone(s)
		}
	}
	if r.Ended {
		t.ended(r.Journal)
	}
}

// ended ends the sessions of a journal that takes no more records.
func (t *table) ended(j events.Journal) {
	reason := wire.ReasonJournal
	if t.draining {
		reason = wire.ReasonShutdown
	}
	for _, s := range t.inOrder() {
		if s.journal == j {
			t.end(s, reason)
			t.gone(s)
		}
	}
	t.drained = t.draining
}

// inOrder returns all sessions in the order of their ids: an order of a map
// would make no two runs alike.
func (t *table) inOrder() []*session {
	all := make([]*session, 0, len(t.sessions))
	for _, s := range t.sessions {
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b *session) int { return bytes.Compare(a.owner.Session[:], b.owner.Session[:]) })
	return all
}

// pushed takes in new timeline items.
func (t *table) pushed(now time.Time, ps []bus.Push) {
	for _, p := range ps {
		if p.Store != t.cfg.Store {
			continue // of another store, or of this one before a restore
		}
		if sessions := t.users[p.User]; len(sessions) > 0 {
			t.cfg.Clock.Observe(p.Newest)
			for _, s := range sessions {
				s.push(now, p)
			}
		}
	}
}

// drain stops admission. The Writer appends what it has, ends the journal, and
// reports that: then the table is drained.
func (t *table) drain() {
	t.draining = true
	t.cfg.Writer.Stop()
}

// tick does what is due, and returns how long nothing more is.
func (t *table) tick(now time.Time) time.Duration {
	for s := t.timers.due(now); s != nil; s = t.timers.due(now) {
		t.due(now, s)
	}
	next := t.retry(now)
	if len(t.timers) > 0 && t.timers[0].due.Before(next) {
		next = t.timers[0].due
	}
	return next.Sub(now)
}

// packets returns the datagrams to be sent, by socket, and forgets them at the
// next call.
func (t *table) packets() [][]wire.Datagram {
	for _, s := range t.dirty {
		s.dirty = false
		for _, data := range s.pack() {
			t.out[s.src.conn] = append(t.out[s.src.conn], wire.Datagram{Addr: s.src.addr, Data: data})
		}
	}
	clear(t.dirty)
	t.dirty = t.dirty[:0]
	out := t.out
	t.out = make([][]wire.Datagram, len(t.cfg.Conns))
	return out
}
