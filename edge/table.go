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
	counts   *counts
	sessions map[events.SessionID]*session
	devices  map[device]*session
	users    map[events.User][]*session
	attempts map[attempt]*session        // logins that may be repeated
	asking   map[events.Journal]*inquiry // to be settled
	timers   timers
	ring     *ring
	unproved *sources  // what those may ask for who have proved nothing
	proved   *sources  // handshakes of those who have proved their address
	began    time.Time // the first time that it was told; meters count from it

	inquiries  int // of those, under way
	packer     wire.Packer
	dirty      []*session        // have frames to be sent
	out        [][]wire.Datagram // by socket
	tasks      []task
	journal    events.Journal // of the last report
	offset     events.Offset
	distrusted time.Time // heads read before are not to be trusted
	revoked    uint64    // the generation of the revocations that all sessions passed
	paced      int       // bytes of answers to Sync on their way out
	load       load
	came       int // packets since the last press
	heard      int // those of sessions
	draining   bool
	drained    bool

	turns  uint64 // of connections so far
	resets meter  // answers to packets of unknown sessions
	crowd  meter  // answers to all who have proved nothing, while the edge is crowded
}

// A device is one user's device.
type device struct {
	user events.User
	name events.Device
}

// press takes in how much of the sockets' room is taken, and how many datagrams have
// found none.
func (t *table) press(now time.Time, taken float64, lost uint64) {
	ours := t.load.ours
	if t.came > 0 {
		ours = float64(t.heard) / float64(t.came)
	}
	t.load.press(now, taken, ours)
	t.came, t.heard = 0, 0
	t.counts.pressure.Store(int64(t.load.pressure))
	t.counts.noRoom.Store(lost)
}

// lookAt returns when to look at the sockets again if nothing happens before: at most at
// that time. Else, when nobody comes any more, pressure would stand for the first who does;
// and what found no room beside the last packets would not be counted till then.
func (t *table) lookAt(most time.Time) time.Time {
	if t.load.pressure == calm && t.came == 0 {
		return most
	}
	if at := t.load.looked.Add(standing); at.Before(most) {
		return at
	}
	return most
}

// maxResets bounds, per second, the answers to packets of unknown sessions.
const maxResets = 1000

func newTable(c *Config) *table {
	return &table{
		cfg:      c,
		counts:   newCounts(c.Metrics),
		sessions: make(map[events.SessionID]*session),
		devices:  make(map[device]*session),
		users:    make(map[events.User][]*session),
		attempts: make(map[attempt]*session),
		asking:   make(map[events.Journal]*inquiry),
		ring:     newRing(c.HalfOpen),
		unproved: newSources(),
		proved:   newSources(),
		revoked:  c.Revocations.Generation(),
		out:      make([][]wire.Datagram, len(c.Sockets)),
	}
}

// nextTurn returns the place of a new connection among all.
func (t *table) nextTurn() uint64 {
	t.turns++
	return t.turns
}

// since returns the time that meters count in.
func (t *table) since(now time.Time) time.Duration {
	if t.began.IsZero() {
		t.began = now
	}
	return now.Sub(t.began)
}

// packet takes in a datagram. Its bytes are the caller's again afterwards.
func (t *table) packet(now time.Time, src from, data []byte) {
	t.counts.packets.Add(1)
	t.came++
	if len(data) > wire.MaxPacket {
		t.counts.oversized.Add(1)
		return
	}
	if !t.cfg.Sockets[src.conn].Plain {
		t.sealedPacket(now, src, data)
		return
	}
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
	case s == nil || s.state != open || s.channel != nil:
		t.counts.unknownSession.Add(1)
		t.reset(now, src, p, len(data))
	case s.codec != p.Codec:
		t.counts.wrongCodec.Add(1)
	default:
		t.heard++
		s.heard, s.src = now, src
		t.frames(now, s, src, p.Frames)
	}
}

// frames takes in the frames of a packet of a session. Of one too many the client
// learns only if it wants an answer.
func (t *table) frames(now time.Time, s *session, src from, fs []wire.Frame) {
	if !s.meter.allow(t.since(now), t.cfg.SessionRate) {
		t.counts.overSession.Add(1)
		t.slowDown(s, fs)
		return
	}
	for _, f := range fs {
		t.frame(now, s, src, f)
	}
}

// stranger answers a packet without a session, which may only log in.
func (t *table) stranger(now time.Time, src from, p wire.Packet, size int) {
	for _, f := range p.Frames {
		if login, ok := f.(*wire.Login); ok {
			if t.mayAsk(now, src) {
				t.plainLogin(now, stranger{src: src, codec: p.Codec, size: size}, login)
			}
			return
		}
	}
	t.counts.malformed.Add(1)
}

// A stranger is whoever has not logged in.
type stranger struct {
	src   from
	codec wire.Codec
	half  *halfOpen // sealed: its address is proved
	size  int       // plain: of its packet. It has proved nothing, and gets no more
}

// tell sends a frame to a stranger, in plain mode only if it is not larger than
// what the stranger sent (promise 8).
func (t *table) tell(to stranger, s events.SessionID, f wire.Frame) {
	if to.half != nil {
		if data, err := to.half.seal(to.codec, f); err == nil {
			t.put(to.src, data)
		}
		return
	}
	p := wire.Packet{Codec: to.codec, Session: s, Frames: []wire.Frame{f}}
	if data := p.Encode(); len(data) <= to.size {
		t.put(to.src, data)
	}
}

// reset tells whoever sent a packet that its session is not known here. Each
// answer is smaller than what it answers, so that none is answered for ever.
func (t *table) reset(now time.Time, src from, p wire.Packet, size int) {
	if t.mayAsk(now, src) && t.mayReset(now) {
		t.counts.resets.Add(1)
		t.tell(stranger{src: src, codec: p.Codec, size: size - 1}, p.Session, &wire.Closed{})
	}
}

// mayReset reports whether one more session may be told to be unknown. Ask mayAsk
// first: no source uses up what is there for all.
func (t *table) mayReset(now time.Time) bool { return t.resets.allow(t.since(now), maxResets) }

// frame takes in one frame of a session. It aliases the packet.
func (t *table) frame(now time.Time, s *session, src from, f wire.Frame) {
	if login, ok := f.(*wire.Login); ok {
		t.loginAgain(now, s, login)
		return
	}
	if s.state != open {
		return
	}
	switch f := f.(type) {
	case *wire.Echo:
		t.echo(now, s, src, f)
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
func (t *table) reported(now time.Time, r ingest.Report) {
	t.journal, t.offset = r.Journal, r.Offset
	messages := 0
	for i := range r.Durable {
		d := &r.Durable[i]
		if d.Kind.Sent() {
			messages++
		}
		s := t.sessions[d.Session]
		switch {
		case s == nil || s.owner != d.Owner:
		case d.Kind == events.KindSessionClosed:
			t.gone(s)
		default:
			s.waits--
			s.order.Durable(d.Number)
			s.wantAck()
			t.counts.acked.Add(1)
		}
	}
	t.load.settled(now, messages)
	for _, o := range r.Closed { // by another edge, where the device is now
		if s := t.sessions[o.Session]; s != nil && s.owner == o {
			t.end(s, wire.ReasonReplaced)
			t.gone(s)
		} else {
			t.cfg.Writer.Forget(o) // no session of that owner submits anything
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
	current, _ := t.cfg.Writer.Position()
	t.drained = t.draining && j == current // one that was lost before may be told of only now
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
	var missed []bus.Push
	for _, p := range ps {
		if p.Store != t.cfg.Store {
			continue // of another store, or of this one before a restore
		}
		sessions := t.users[p.User]
		if len(sessions) == 0 {
			missed = append(missed, p)
			continue
		}
		t.cfg.Clock.Observe(p.Newest)
		for _, s := range sessions {
			s.push(now, p)
		}
	}
	if len(missed) > 0 {
		t.cfg.Bus.PublishMissed(missed)
	}
}

// drain stops admission. The Writer appends what it has, ends the journal, and
// reports that: then the table is drained.
func (t *table) drain() {
	t.draining = true
	t.cfg.Writer.Stop()
}

// revokeWithin is how late revocations are looked at.
const revokeWithin = 10 * time.Second

// tick does what is due.
func (t *table) tick(now time.Time) {
	t.revoke()
	for s := t.timers.due(now); s != nil; s = t.timers.due(now) {
		t.due(now, s)
	}
	t.retry(now)
	t.counts.sessions.Store(int64(len(t.sessions)))
	t.counts.halfOpen.Store(int64(len(t.ring.sessions)))
	t.counts.paced.Store(int64(t.paced))
}

// next returns how long nothing is due. Ask when packets were taken: some answers
// leave in bursts.
func (t *table) next(now time.Time) time.Duration {
	next := t.lookAt(t.retryAt(now.Add(time.Hour)))
	if len(t.sessions) > 0 && next.Sub(now) > revokeWithin {
		next = now.Add(revokeWithin)
	}
	if len(t.timers) > 0 && t.timers[0].due.Before(next) {
		next = t.timers[0].due
	}
	return next.Sub(now)
}

// revoke ends the sessions whose logins count no more.
func (t *table) revoke() {
	generation := t.cfg.Revocations.Generation()
	if generation == t.revoked {
		return
	}
	t.revoked = generation
	for _, s := range t.inOrder() {
		if t.cfg.Revocations.Revoked(s.identity) {
			t.end(s, wire.ReasonRevoked)
		}
	}
}

// packets returns the datagrams to be sent, by socket. Call sent when they are.
func (t *table) packets(now time.Time) [][]wire.Datagram {
	for _, s := range t.dirty {
		s.dirty = false
		for _, data := range s.pack(now) {
			t.put(s.src, data)
		}
	}
	clear(t.dirty)
	t.dirty = t.dirty[:0]
	return t.out
}

// sent takes back the buffers of what packets has returned.
func (t *table) sent() {
	for conn, ds := range t.out {
		for _, d := range ds {
			t.packer.Recycle(d.Data)
		}
		clear(ds)
		t.out[conn] = ds[:0]
	}
}
