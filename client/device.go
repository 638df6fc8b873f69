package client

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"time"

	"timberline/events"
	"timberline/sim/planted"
	"timberline/wire"
)

// A device is the whole protocol as one value: link, outbox and inbox, and what
// joins them. It does no I/O and reads no clock: the loop that owns it hands in
// packets and the time, and does what it asks for.
type device struct {
	codec  wire.Codec
	random *rand.ChaCha8
	link   link
	out    outbox
	in     inbox

	maxBody int   // bytes, as the server said; 0: not known
	state   State // as the app was told

	// What the loop is asked to do.
	prepare bool    // get a token and a socket, then call prepared
	hangUp  bool    // close the socket
	states  []State // tell the app
	synced  uint32  // the newest request whose answer told the head
	heads   events.Seq
	resets  int   // how often the inbox began anew
	rebind  bool  // open another socket, then call rebound
	refresh bool  // get a token, then call gotToken
	trouble error // why there is no connection: news for the log and the app
	dropped dropped
}

// dropped counts packets that were not taken in, by cause.
type dropped struct {
	malformed, stranger, otherSession uint64
}

func newDevice(c wire.Codec, random *rand.ChaCha8, s Saved) *device {
	d := &device{codec: c, random: random, out: outbox{codec: c}, in: newInbox(s.Cursor)}
	d.out.load(s)
	d.states = []State{StateConnecting}
	return d
}

// jitter draws a duration below d.
func (d *device) jitter(below time.Duration) time.Duration {
	if below <= 0 {
		return 0
	}
	return time.Duration(rand.New(d.random).Int64N(int64(below)))
}

func (d *device) messageID() (id events.MessageID) {
	d.random.Read(id[:]) // never fails
	return id
}

func (d *device) enterState(s State) {
	if s != d.state {
		d.state = s
		d.states = append(d.states, s)
	}
}

// prepared goes on with what the loop was asked to prepare.
func (d *device) prepared(now time.Time, server netip.AddrPort, token string) {
	if d.link.phase != preparing {
		return
	}
	f := d.makeLogin(token)
	if old, ok := d.out.unsettled(); ok && !planted.Is(planted.ResendUnsettled) {
		f.Settle = []wire.OldSession{old}
	}
	if n := d.loginSize(f); n > wire.MaxPacket {
		d.end(fmt.Errorf("%w: the token of %d bytes makes a login of %d bytes, a packet has %d", ErrDenied, len(token), n, wire.MaxPacket))
		return
	}
	d.link.prepared(now, server, f)
	if d.link.seal == nil {
		return
	}
	if err := d.link.greet(now); err != nil {
		d.end(err)
	}
}

// makeLogin returns a LOGIN of its own attempt, which settles nothing.
func (d *device) makeLogin(token string) *wire.Login {
	return &wire.Login{
		Version: wire.Version, Attempt: d.messageID(), Token: token,
		Cursor: d.in.have, Store: d.in.store,
	}
}

// loginSize returns the size of a LOGIN's packet in bytes.
func (d *device) loginSize(f *wire.Login) int {
	p := d.packer(events.SessionID{})
	p.Add(f)
	size := len(p.Packets()[0])
	if d.link.seal != nil {
		size += wire.SealedTag
	}
	return size
}

// rest ends the try or the session, and plans the next.
func (d *device) rest(now time.Time, asked time.Duration) {
	d.leave()
	d.link.rest(now, asked, d.jitter)
	d.enterState(StateOffline)
}

// end ends the device's connection for good.
func (d *device) end(err error) {
	d.leave()
	d.link.end(err)
	d.enterState(StateClosed)
}

func (d *device) leave() {
	d.out.leave()
	d.in.sync.leave()
	d.in.gotAt = time.Time{}
	d.hangUp, d.rebind = true, false
}

// packet takes in a datagram. It keeps parts of data.
func (d *device) packet(now time.Time, from netip.AddrPort, data []byte) {
	if !same(from, d.link.server) {
		d.dropped.stranger++
		return
	}
	if d.link.seal != nil {
		d.sealedPacket(now, data)
		return
	}
	p, err := wire.Decode(data)
	if err != nil {
		d.dropped.malformed++
		return
	}
	d.frames(now, p)
}

// frames takes in what a packet says.
func (d *device) frames(now time.Time, p wire.Packet) {
	for _, f := range p.Frames {
		if d.joining(now, f) || d.challenged(now, f) {
			continue
		}
		if d.link.phase != joined || p.Session != d.link.session {
			d.dropped.otherSession++
			return
		}
		d.link.heard = now
		d.frame(now, f)
	}
}

// same compares addresses; a socket of IPv6 writes those of IPv4 differently.
func same(a, b netip.AddrPort) bool {
	return a.Port() == b.Port() && a.Addr().Unmap() == b.Addr().Unmap()
}

// joining takes in the answer to the LOGIN under way. It reports whether the
// frame is for it.
func (d *device) joining(now time.Time, f wire.Frame) bool {
	switch f := f.(type) {
	case *wire.Accepted:
		switch {
		case f.Attempt != d.link.login.Attempt:
		case d.link.phase == joining:
			d.accepted(now, f)
		case d.link.phase == joined && f.Session != d.link.session:
			d.rest(now, 0) // a repeat of the LOGIN met a server that had forgotten the session
		case d.link.renewing():
			d.renewed(now, f)
		}
		return true
	case *wire.Denied:
		switch {
		case f.Attempt != d.link.login.Attempt:
		case d.link.phase == joining:
			d.denied(now, f)
		case d.link.renewing():
			d.renewed(now, nil)
		}
		return true
	}
	return false
}

func (d *device) denied(now time.Time, f *wire.Denied) {
	if asked, err := d.link.denied(now, f); err != nil {
		d.end(err)
	} else {
		d.trouble = fmt.Errorf("%s refuses the login for now: %v", d.link.server, f.Reason)
		d.rest(now, asked)
	}
}

func (d *device) accepted(now time.Time, f *wire.Accepted) {
	d.link.accepted(now, f, d.jitter)
	d.maxBody = int(f.MaxBody)
	if d.in.store == (events.StoreID{}) { // kept before the app is shown anything: it is told if that is replaced
		d.out.changes = append(d.out.changes, Change{Cursor: &Cursor{Store: f.Store, Seq: d.in.queue.cursor.Seq}})
	}
	if d.in.enter(now, f) {
		d.resets++
	}
	if d.link.settle == (events.SessionID{}) {
		d.out.enter(d.link.journal)
	}
	d.enterState(StateOnline)
}

// frame takes in a frame of the session.
func (d *device) frame(now time.Time, f wire.Frame) {
	switch f := f.(type) {
	case *wire.Settled:
		if d.link.settled(f.Session) {
			d.out.settled(f)
			d.out.enter(d.link.journal)
		}
	case *wire.Ack:
		d.out.acked(now, f, &d.link.rtt)
	case *wire.Busy:
		wait := time.Duration(f.RetryAfter) * time.Millisecond
		d.out.busy(f.From, now.Add(wait+d.jitter(wait/2+time.Millisecond)))
	case *wire.Push:
		d.push(now, f)
	case *wire.Part:
		d.part(now, f)
	case *wire.Page:
		d.page(now, f)
	case *wire.Pong:
		d.link.pong(now, f.ID, f.Head > d.in.head, d.jitter)
		d.in.pong(now, f.Head, f.First)
	case *wire.Closed:
		if asked, err := d.link.closed(now, f); err != nil {
			d.end(err)
		} else {
			session := d.link.session
			d.rest(now, asked)
			d.out.over(session, f)
		}
	}
}

func (d *device) push(now time.Time, f *wire.Push) {
	if planted.Is(planted.PushCountedDelivered) {
		d.in.have = max(d.in.have, f.From-1)
	}
	for i, raw := range f.Events {
		d.entry(now, f.From+events.Seq(i), raw, f.Omitted)
	}
	d.in.gap(now)
	d.in.acknowledge(now)
}

// entry takes in one entry. It reports whether the device did not have it yet.
func (d *device) entry(now time.Time, seq events.Seq, raw events.Raw, omitted bool) bool {
	e, err := raw.Decode()
	if err != nil {
		d.dropped.malformed++ // it stays a hole, and is asked for again
		return false
	}
	own := e.Session == d.link.session
	if omitted {
		body, ok := d.out.body(e.Number)
		if !own || !ok {
			d.in.head = max(d.in.head, seq)
			return false
		}
		e.Body = body
	}
	if !d.in.entry(seq, e) {
		return false
	}
	if own {
		d.out.echoes.seen(e.Number)
	}
	d.in.acknowledge(now)
	return true
}

func (d *device) part(now time.Time, f *wire.Part) {
	news := d.in.lacks(f.Seq)
	if news {
		d.in.head = max(d.in.head, f.Seq)
		if raw, complete := d.in.parts.Add(f); complete {
			news = d.entry(now, f.Seq, raw, false)
		}
	}
	if f.Sync == 0 {
		d.in.gap(now)
		d.in.acknowledge(now)
		return
	}
	d.in.sync.came(now, f.Sync, f.Seq, news, &d.link.rtt)
}

func (d *device) page(now time.Time, f *wire.Page) {
	if f.Status == wire.StatusAhead && f.Sync == d.in.sync.id && f.Head < d.in.have {
		d.in.reset(d.in.store)
		d.resets++
		d.rest(now, 0) // a session with a cursor of no timeline may not send (R4)
		return
	}
	for i, raw := range f.Events {
		seq := f.From + events.Seq(i)
		d.in.sync.came(now, f.Sync, seq, d.entry(now, seq, raw, false), &d.link.rtt)
	}
	if d.in.paged(now, f, &d.link.rtt) {
		d.synced, d.heads = f.Sync, f.Head
	}
	d.in.gap(now)
}

// tick does what is due.
func (d *device) tick(now time.Time) {
	l := &d.link
	switch {
	case l.phase == idle && !now.Before(l.retry):
		l.phase, d.prepare = preparing, true
		d.enterState(StateConnecting)
	case l.unanswered(now), l.silent(now):
		d.trouble = fmt.Errorf("no answer from %v", l.server)
		d.rest(now, 0)
	case l.worn():
		d.rest(now, 0)
	}
	if l.phase != joined {
		return
	}
	d.refresh = d.refresh || l.renew(now)
	if d.out.timeOut(now, &l.rtt) {
		l.doubt(now)
	}
	d.in.overdue(now, &l.rtt)
}

// emit returns the packets to be sent now, to link.server.
func (d *device) emit(now time.Time) [][]byte {
	var packets [][]byte
	if hello := d.link.repeatHello(now); hello != nil {
		packets = append(packets, hello)
	}
	echo := d.link.echo()
	if f := d.link.repeatLogin(now); f != nil {
		var session events.SessionID
		if d.link.renewing() {
			session = d.link.session
		}
		p := d.packer(session)
		if echo != nil {
			p.Add(echo) // before: the answer comes to where the device is
		}
		p.Add(f)
		packets = append(packets, d.link.sealPackets(p.Packets())...)
	} else if echo != nil {
		p := d.packer(d.link.session)
		p.Add(echo)
		packets = append(packets, d.link.sealPackets(p.Packets())...)
	}
	if d.link.phase != joined {
		return packets
	}
	p := d.packer(d.link.session)
	frames := 0
	add := func(f wire.Frame) {
		p.Add(f)
		frames++
	}
	moved := d.link.moved
	if id, ok := d.link.ping(now); ok {
		add(d.makePing(id, moved))
		d.in.gotAt = time.Time{}
	}
	d.out.transmit(now, func(f *wire.Send) { add(f) })
	if f := d.in.request(now, &d.link.rtt); f != nil {
		add(f)
	}
	if got := d.in.gotAt; !got.IsZero() && (frames > 0 || !now.Before(got)) {
		add(&wire.Got{Cursor: d.in.have})
		d.in.gotAt = time.Time{}
	}
	return append(packets, d.link.sealPackets(p.Packets())...)
}

// makePing returns a heartbeat. If the last ones were not answered, another socket
// may find a way: the device's network has changed, or a NAT has forgotten it. moved
// says that this one is from such a socket.
func (d *device) makePing(id uint32, moved bool) *wire.Ping {
	f := &wire.Ping{ID: id, Cursor: d.in.have, Low: d.out.low()}
	if d.link.seal != nil {
		f.Next = uint32(d.link.pace.interval.Milliseconds())
		f.Padding = pingPadding
		d.rebind = d.rebind || d.link.pings == rebindAfter && !moved
	}
	return f
}

// rebindAfter is how many pings go without an answer before another socket is
// tried.
const rebindAfter = 3

// rebound goes on from another socket, with a ping that shows the server where the
// device is now.
func (d *device) rebound(now time.Time) {
	if d.link.phase == joined {
		d.link.pace = newPace(d.link.pace.least, d.link.pace.most)
		d.link.pingAt, d.link.moved = now, true
	}
}

// next returns when tick and emit have something to do; zero: never.
func (d *device) next(now time.Time) time.Time {
	at := d.link.next()
	if d.link.phase == joined {
		at = sooner(at, d.out.next(now, &d.link.rtt))
		at = sooner(at, d.in.sync.next(&d.in, now))
		at = sooner(at, d.in.gotAt)
	}
	return at
}

// bye returns the packet that ends the session; nil if there is none.
func (d *device) bye() []byte {
	if d.link.phase != joined {
		return nil
	}
	p := d.packer(d.link.session)
	p.Add(&wire.Bye{})
	if packets := d.link.sealPackets(p.Packets()); len(packets) > 0 {
		return packets[0]
	}
	return nil
}
