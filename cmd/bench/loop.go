package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"time"

	"timberline/events"
	"timberline/wire"
	"timberline/wire/sealed"
)

// A conn is a socket that can stop waiting.
type conn interface {
	wire.PacketConn
	SetReadDeadline(t time.Time) error
}

// The sizes of a loop's work.
const (
	batchSize   = 64                    // datagrams
	tickEvery   = 5 * time.Millisecond  // between looks for what is overdue
	connecting  = 32                    // handshakes at a time
	spinOnOwing = 10 * time.Microsecond // a send that is due so soon is waited for here
)

// A loop is one socket and the sessions on it.
type loop struct {
	cfg    *Config
	conn   conn
	random io.Reader
	began  time.Time // the same for all loops
	server netip.AddrPort

	sessions []*session
	byID     map[events.SessionID]*session
	byEcho   map[sealed.Echo]*session
	turn     int          // the session to connect next
	half     int          // sessions that are connecting
	ready    atomic.Int64 // that are open
	quiet    atomic.Int64 // that wait for nothing; told while there is no load
	sent     atomic.Int64 // sends so far, told now and then
	arrived  atomic.Int64 // entries that reached their receivers, likewise

	in   []wire.Datagram
	raw  []byte // room for them
	out  []wire.Datagram
	buf  []byte    // room for them
	send wire.Send // used again for each

	nextTick time.Duration
	given    int           // sends that have a number so far
	entered  int           // entries that reached their receivers
	robin    int           // the session whose turn it is to send
	lag      time.Duration // open loop: when the next send is due

	orders   atomic.Int32 // phase: what the fleet wants
	from, to atomic.Int64 // the part that is measured
	results  results
	onEntry  func(s *session, seq events.Seq, e *events.Event)
	failure  error
}

// A phase is what a fleet wants of its loops.
type phase int32

const (
	connect phase = iota
	load          // send
	drain         // no more sends; wait for answers
	stop
)

func newLoop(cfg *Config, c conn, server netip.AddrPort, random io.Reader, began time.Time) *loop {
	l := &loop{
		cfg: cfg, conn: c, server: server, random: random, began: began, results: newResults(),
		byID: make(map[events.SessionID]*session), byEcho: make(map[sealed.Echo]*session),
		in: make([]wire.Datagram, batchSize), raw: make([]byte, batchSize*(wire.MaxPacket+1)),
		buf: make([]byte, batchSize*wire.MaxPacket),
	}
	return l
}

func (l *loop) add(index int, user, to, token string) *session {
	s := &session{
		index: index, user: user, to: events.User(to), token: token,
		flight: make([]sent, l.cfg.Window), base: 1, next: 1, unsent: 1,
		window: min(firstWindow, l.cfg.Window), threshold: l.cfg.Window,
	}
	l.sessions = append(l.sessions, s)
	return s
}

func (l *loop) now() time.Duration { return time.Since(l.began) }

// run serves the sessions until the fleet says stop, or something fails.
func (l *loop) run(ctx context.Context) error {
	for l.failure == nil && phase(l.orders.Load()) != stop && ctx.Err() == nil {
		if err := l.read(); err != nil {
			return err
		}
		now := l.now()
		if now >= l.nextTick {
			l.tick(now)
			l.nextTick = now + tickEvery
		}
		if l.cfg.Rate > 0 && phase(l.orders.Load()) == load {
			l.owing(now)
		}
		l.flush()
	}
	return errors.Join(l.failure, ctx.Err())
}

// read takes in datagrams, and waits for them no longer than until something else
// is to be done.
func (l *loop) read() error {
	until := l.nextTick
	if l.cfg.Rate > 0 && phase(l.orders.Load()) == load {
		until = min(until, l.lag)
	}
	if until-l.now() < spinOnOwing {
		until = l.now() + spinOnOwing
	}
	l.conn.SetReadDeadline(l.began.Add(until))
	for i := range l.in {
		l.in[i].Data = l.raw[i*(wire.MaxPacket+1) : (i+1)*(wire.MaxPacket+1)]
	}
	n, err := l.conn.ReadBatch(l.in)
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil
	case errors.Is(err, net.ErrClosed):
		return errors.New("bench: the socket was closed")
	case err != nil:
		return err
	}
	now := l.now()
	for _, d := range l.in[:n] {
		l.packet(now, d.Data)
	}
	return nil
}

// packet takes in one datagram.
func (l *loop) packet(now time.Duration, data []byte) {
	if l.cfg.Plain {
		p, err := wire.Decode(data)
		if err != nil {
			return
		}
		l.frames(now, l.byID[p.Session], p)
		return
	}
	if len(data) == 0 {
		return
	}
	switch data[0] {
	case sealed.TypeRetry:
		l.retry(now, data)
	case sealed.TypeWelcome:
		l.welcome(now, data)
	case sealed.TypeReset:
		if len(data) == sealed.ResetSize {
			if s := l.byID[events.SessionID(data[1:])]; s != nil {
				s.fail(errors.New("the server has forgotten the session"))
			}
		}
	case sealed.TypeData:
		l.data(now, data)
	}
}

func (l *loop) data(now time.Duration, data []byte) {
	id, ok := sealed.PeekData(data)
	s := l.byID[id]
	if !ok || s == nil {
		return
	}
	frames, _, err := s.channel.Open(data)
	if err != nil {
		return
	}
	p, err := wire.DecodeSealed(id, frames)
	if err == nil {
		l.frames(now, s, p)
	}
}

// frames takes in what a packet says.
func (l *loop) frames(now time.Duration, s *session, p wire.Packet) {
	for _, f := range p.Frames {
		switch f := f.(type) {
		case *wire.Accepted:
			if l.cfg.Plain && s == nil {
				s = l.waitingFor(f.Attempt)
			}
			l.accepted(now, s, f)
		case *wire.Denied:
			if l.cfg.Plain && s == nil {
				s = l.waitingFor(f.Attempt)
			}
			if s != nil && s.state == joining {
				l.denied(now, s, f)
			}
		default:
			if s != nil && s.state == open {
				l.frame(now, s, f)
			}
		}
	}
	if s != nil && s.state == failed && l.failure == nil {
		l.failure = s.cause
	}
}

// frame takes in a frame of an open session.
func (l *loop) frame(now time.Duration, s *session, f wire.Frame) {
	switch f := f.(type) {
	case *wire.Ack:
		s.acked(now, f, func(x *sent) { l.answered(now, x.due) })
		if s.room() && phase(l.orders.Load()) == load {
			l.fill(now, s)
		}
		l.transmit(now, s)
	case *wire.Busy:
		if l.measured(now) {
			l.results.busy++
		}
		wait := time.Duration(f.RetryAfter) * time.Millisecond
		s.busy(now, now+wait+time.Duration(s.index*7919%1000)*wait/2000, f.From)
	case *wire.Push:
		l.entries(now, s, f.From, f.Events, f.Omitted)
	case *wire.Page:
		l.entries(now, s, f.From, f.Events, false)
		s.head = max(s.head, f.Head)
		if f.Last && f.Sync == s.syncID {
			s.budget = min(2*s.budget, maxBudget)
			if s.cursor < s.head {
				s.ask(now, l) // for the rest
			}
		}
		s.gap(now)
	case *wire.Pong:
		s.head = max(s.head, f.Head)
		s.gap(now)
	case *wire.Closed:
		s.fail(fmt.Errorf("the session was closed: %v", f.Reason))
	}
}

// entries takes in entries of the session's timeline.
func (l *loop) entries(now time.Duration, s *session, from events.Seq, raws [][]byte, own bool) {
	for i, raw := range raws {
		seq := from + events.Seq(i)
		var e events.Event
		if !own || l.onEntry != nil {
			var err error
			if e, err = events.Raw(raw).Decode(); err != nil {
				s.fail(err)
				return
			}
		}
		s.entry(now, seq, e, func(seq events.Seq, e *events.Event) {
			if l.onEntry != nil {
				if l.onEntry(s, seq, e); s.entries == s.wanted {
					s.complete = now
				}
			} else if e.Sender != "" && e.Sender != events.User(s.user) {
				l.delivered(now, dueOf(e.Message))
			}
		})
	}
}

// tick does what is overdue.
func (l *loop) tick(now time.Duration) {
	for l.half < connecting && l.turn < len(l.sessions) {
		l.begin(now, l.sessions[l.turn])
		l.turn++
	}
	sending, quiet := phase(l.orders.Load()) == load, int64(0)
	for _, s := range l.sessions {
		if s.state == open && s.rests() {
			quiet++
		}
		switch s.state {
		case greeting:
			if now >= s.again {
				l.hello(now, s)
			}
		case joining:
			if now >= s.again {
				l.logIn(now, s)
			}
		case open:
			l.look(now, s, sending)
		case failed:
			if l.failure == nil {
				l.failure = s.cause
			}
		}
	}
	if sending {
		l.quiet.Store(0) // what was told before is over; first, for whoever waits for sent
	}
	l.sent.Store(int64(l.given))
	l.arrived.Store(int64(l.entered))
	if !sending {
		l.quiet.Store(quiet) // last: all is sent then
	}
}

// look does what is overdue for an open session.
func (l *loop) look(now time.Duration, s *session, sending bool) {
	if sending && (l.cfg.Rate == 0 || s.backlog > 0) && s.room() {
		l.fill(now, s)
	}
	l.transmit(now, s)
	for _, n := range s.overdue(now) {
		l.sendOne(now, s, n)
	}
	if s.gotAt != 0 && now >= s.gotAt {
		s.gotAt = 0
		l.say(s, &wire.Got{Cursor: s.cursor})
	}
	if s.entries < s.wanted && s.gapAt == 0 {
		s.gapAt = now + gapWait
	}
	if s.gapAt != 0 && now >= s.gapAt {
		s.budget = firstBudget // if it was asked for before, something was lost
		s.ask(now, l)
	}
	if now >= s.pingAt {
		s.pingAt = now + pingEvery
		l.say(s, &wire.Ping{ID: 1, Cursor: s.cursor, Low: s.base})
	}
}

// ask asks for what is missing.
func (s *session) ask(now time.Duration, l *loop) {
	if s.syncID++; s.syncID == 1 {
		s.asked = now
	}
	s.gapAt = now + s.rto()
	l.say(s, &wire.Sync{ID: s.syncID, Ranges: []wire.Range{{After: s.cursor}}, Budget: s.budget})
}

// say sends frames of a session in one packet.
func (l *loop) say(s *session, fs ...wire.Frame) {
	b := l.room()
	if s.channel == nil {
		b = wire.AppendHeader(b, l.cfg.Codec, s.id)
		for _, f := range fs {
			b = wire.AppendFrame(b, l.cfg.Codec, s.id, f)
		}
		l.put(b)
		return
	}
	b = b[:wire.SealedHeader]
	for _, f := range fs {
		b = wire.AppendFrame(b, l.cfg.Codec, events.SessionID{}, f)
	}
	packet, err := s.channel.Seal(b)
	if err != nil {
		s.fail(err)
		return
	}
	l.put(packet)
}

// room returns an empty buffer for the next packet.
func (l *loop) room() []byte {
	if len(l.out) == batchSize {
		l.flush()
	}
	i := len(l.out) * wire.MaxPacket
	return l.buf[i : i : i+wire.MaxPacket]
}

// put sends a packet with the others of the batch.
func (l *loop) put(packet []byte) {
	if len(l.out) == batchSize {
		l.flush()
	}
	l.out = append(l.out, wire.Datagram{Addr: l.server, Data: packet})
}

func (l *loop) flush() {
	if len(l.out) > 0 {
		l.conn.WriteBatch(l.out) // what cannot be sent is lost
		l.out = l.out[:0]
	}
}
