package client

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"timberline/events"
	"timberline/sim/script"
	"timberline/wire"
)

// Whatever a server says and whatever happens, in whatever order: a device's cursor
// moves from entry to entry, each send is answered once, and none is told to be stored
// unless the server has said so.
func FuzzDevice(f *testing.F) {
	script.Seed(f)
	f.Fuzz(func(t *testing.T, story []byte) {
		newMadServer(t, story[:min(len(story), 2<<10)]).run()
	})
}

// A madServer is a device, and a server, an app and a store that do what a script
// says.
type madServer struct {
	script.Script
	t   *testing.T
	d   *device
	now time.Time

	kept     Saved // by the store
	sends    int
	answered map[uint64]Answer // by a send's ID, as the app was told
	cursor   Cursor            // of what was handed to the app
	serial   uint64
	said     func(x *send) bool // the frame under way says that the send is stored
}

func newMadServer(t *testing.T, story script.Script) *madServer {
	m := &madServer{Script: story, t: t, now: time.Unix(1_000_000, 0), answered: make(map[uint64]Answer)}
	m.d = newDevice(wire.Codec(m.Pick(2)), rand.NewChaCha8([32]byte{1}), Saved{})
	return m
}

func (m *madServer) run() {
	for len(m.Script) > 0 && m.d.link.phase != over {
		m.said = func(*send) bool { return false }
		m.act()
		m.step()
		m.check()
	}
}

// act has one thing happen.
func (m *madServer) act() {
	switch n := m.Pick(32); {
	case n < 16:
		m.packet(m.frame())
	case n < 17:
		m.d.packet(m.now, serverAddr, m.Take(m.Pick(80)))
	case n < 21:
		m.send()
	case n < 25:
		m.now = m.now.Add([]time.Duration{time.Millisecond, 25 * time.Millisecond, 250 * time.Millisecond, time.Second, 10 * time.Second}[m.Pick(5)])
	case n < 28:
		m.take()
	case n < 29:
		m.d.gotToken(m.now, "token", nil)
	case n < 30:
		m.again()
	case n < 31:
		m.d.rebound(m.now)
	default:
		m.d.in.ask(m.now)
	}
}

// step does what the loop does between two things that happen.
func (m *madServer) step() {
	m.d.tick(m.now)
	m.results()
	m.save()
	m.results()
	for _, packet := range m.d.emit(m.now) {
		if _, err := wire.Decode(packet); err != nil || len(packet) > wire.MaxPacket {
			m.t.Fatalf("the device says %d bytes %q: %v", len(packet), packet, err)
		}
	}
	m.d.hangUp, m.d.refresh, m.d.rebind, m.d.trouble, m.d.states = false, false, false, nil, nil
	if m.d.prepare {
		m.d.prepare = false
		m.d.prepared(m.now, serverAddr, "token")
	}
}

// save has the store keep what changed, or fail.
func (m *madServer) save() {
	began := m.d.out.begin()
	changes := m.d.out.takeChanges()
	if len(changes) > 0 && m.Pick(16) == 1 {
		m.d.out.changes = m.d.out.rollBack(changes, began, 0)
		return
	}
	for _, c := range changes {
		m.kept.Apply(c)
	}
	m.kept = m.kept.clone()
	m.d.out.kept()
}

// results takes what became of sends.
func (m *madServer) results() {
	for _, x := range m.d.out.takeResults() {
		if before, twice := m.answered[x.ID]; twice {
			m.t.Fatalf("send %d was answered %+v, and is again: %+v", x.ID, before, x.Answer)
		}
		m.answered[x.ID] = x.Answer
		if x.Answer.Fate == FateStored && !m.said(x) {
			m.t.Fatalf("send %d, number %d, is told to be stored, and nobody has said so", x.ID, x.Number)
		}
		if m.Pick(4) > 0 {
			m.d.out.done(x.ID)
		}
	}
}

func (m *madServer) send() {
	s := SavedSend{Message: m.d.messageID(), To: "bob", Body: make([]byte, m.Pick(64)<<(m.Pick(36)/6))}
	if len(s.Body) == 1 {
		s.Read, s.With, s.To, s.Body = events.ID{m.Next()}, s.To, "", nil
	}
	if err := m.d.out.add(s); err == nil {
		m.sends++
	} else if !errors.Is(err, events.ErrTooLarge) {
		m.t.Fatal(err)
	}
	if m.d.out.size() > 200 {
		m.d.out.withdraw(1)
	}
}

// take hands deliveries to the app, which takes some.
func (m *madServer) take() {
	list := m.d.in.queue.peek()
	list = list[:min(m.Pick(20), len(list))]
	for _, x := range list {
		if x.serial <= m.serial {
			m.t.Fatalf("delivery %d is handed over again", x.serial)
		}
		m.serial = x.serial
		switch {
		case x.kind == deliverReset && x.cursor.Seq == 0:
		case x.cursor.Store != m.cursor.Store && m.cursor.Store != (events.StoreID{}):
			m.t.Fatalf("the cursor is %+v, and then of another store: %+v", m.cursor, x.cursor)
		case x.kind == deliverMessage && x.message.Seq == m.cursor.Seq+1 && x.cursor.Seq == x.message.Seq:
		case x.kind == deliverTrimmed && x.first == m.cursor.Seq+1 && x.cursor.Seq >= x.first:
		default:
			m.t.Fatalf("the cursor is %+v, and then %+v by a delivery of kind %d", m.cursor, x.cursor, x.kind)
		}
		m.cursor = x.cursor
	}
	if len(list) == 0 {
		return
	}
	if c, moved := m.d.in.taken(m.now, m.serial); moved {
		m.d.out.changes = append(m.d.out.changes, Change{Cursor: &c})
	}
}

// again plays the next process of the device, from what was kept.
func (m *madServer) again() {
	random := m.d.random
	m.d = newDevice(m.d.codec, random, m.kept.clone())
	m.cursor, m.serial = m.kept.Cursor, 0
	m.said = func(x *send) bool { return true } // by what was kept
	clear(m.answered)
	m.results()
	m.said = func(*send) bool { return false }
}

// packet hands a frame to the device.
func (m *madServer) packet(f wire.Frame) {
	session := m.d.link.session
	if m.Pick(16) == 1 {
		session = events.SessionID{m.Next()}
	}
	p := wire.Packet{Codec: m.d.codec, Session: session, Frames: []wire.Frame{f}}
	m.said = m.stores(f)
	m.d.packet(m.now, serverAddr, p.Encode())
}

// stores returns of which sends a frame says that they are stored.
func (m *madServer) stores(f wire.Frame) func(x *send) bool {
	switch f := f.(type) {
	case *wire.Ack:
		return func(x *send) bool {
			refused := slices.ContainsFunc(f.Refused, func(r wire.Refusal) bool { return r.From <= x.Number && x.Number <= r.To })
			return x.Number <= f.Through && !refused
		}
	case *wire.Settled:
		session := m.d.out.session.Session
		return func(x *send) bool {
			for run := range slices.Chunk(f.Numbers, 2) {
				if run[0] <= uint64(x.Number) && uint64(x.Number) <= run[1] {
					return f.Session == session && !f.Unknown
				}
			}
			return false
		}
	}
	return func(*send) bool { return false }
}

// frame returns a frame of any kind, most often one that fits.
func (m *madServer) frame() wire.Frame {
	l, in, out := &m.d.link, &m.d.in, &m.d.out
	seq := in.have + events.Seq(m.Pick(6))
	if m.Pick(16) == 1 {
		seq = in.have - min(in.have, events.Seq(m.Pick(20))) + events.Seq(m.Pick(3))<<(11*m.Pick(6))
	}
	n := out.flight.base + events.Number(m.Pick(8))
	switch m.Pick(16) {
	case 0, 1, 2:
		f := &wire.Accepted{
			Session: events.SessionID{1 + m.Next()%4}, Journal: "j:1", Offset: events.Offset(m.Pick(9)), Store: events.StoreID{1 + m.Next()/250},
			Head: seq, First: 1 + events.Seq(m.Pick(40)/38)*in.have, Heartbeat: uint32(m.Next()) << m.Pick(24), MaxBody: 1 << 10,
			Expires: uint64(m.Next()) << m.Pick(60), MaxHeartbeat: uint32(m.Next()) << m.Pick(24),
		}
		if l.login != nil {
			f.Attempt = l.login.Attempt
		}
		return f
	case 3:
		f := &wire.Denied{Reason: wire.Reason(m.Pick(16)), RetryAfter: uint32(m.Next())}
		if l.login != nil && m.Pick(4) == 1 {
			f.Attempt = l.login.Attempt
		}
		return f
	case 4, 5, 6:
		f := &wire.Ack{Through: n - min(n, events.Number(m.Pick(3))), Offset: events.Offset(m.Pick(20)), Held: m.bytes(m.Pick(4))}
		for range m.Pick(8) % 3 {
			from := out.flight.base + events.Number(m.Pick(8))
			f.Refused = append(f.Refused, wire.Refusal{From: from, To: from + events.Number(m.Pick(3)), Reason: wire.Reason(m.Pick(16))})
		}
		return f
	case 7:
		return &wire.Busy{From: n - min(n, events.Number(m.Pick(3))), RetryAfter: uint32(m.Next())}
	case 8, 9:
		return &wire.Push{From: seq, Events: m.events(), Omitted: m.Pick(8) == 1}
	case 10:
		raw := m.events()[0]
		count := 1 + m.Pick(3)
		return &wire.Part{Sync: in.sync.id * uint32(m.Pick(2)), Seq: seq, Index: uint32(m.Pick(count)), Count: uint32(count), Data: raw[:len(raw)/count]}
	case 11, 12:
		f := &wire.Page{Sync: in.sync.id, From: seq, Head: seq + events.Seq(m.Pick(10)), First: 1, Last: m.Pick(2) == 1, Status: wire.Status(m.Pick(32) / 28)}
		if f.Status == wire.StatusOK {
			f.Events = m.events()
		}
		if m.Pick(32) == 1 {
			f.First = seq + events.Seq(m.Pick(4))
		}
		return f
	case 13:
		return &wire.Pong{ID: l.pingID - uint32(m.Pick(2)), Head: seq, First: 1}
	case 14:
		f := &wire.Settled{Session: out.session.Session, Unknown: m.Pick(8) == 1}
		if m.Pick(8) == 1 {
			f.Session = events.SessionID{m.Next()}
		}
		from := uint64(0)
		for range m.Pick(3) {
			from += 1 + uint64(m.Pick(4))
			f.Numbers = append(f.Numbers, from, from+uint64(m.Pick(4)))
			from = f.Numbers[len(f.Numbers)-1]
		}
		return f
	}
	return []wire.Frame{
		&wire.Closed{Reason: wire.Reason(m.Pick(16)), RetryAfter: uint32(m.Next())}, &wire.Challenge{Token: make([]byte, 8)},
		&wire.Login{}, &wire.Send{Number: 1}, &wire.Got{Cursor: 9}, &wire.Sync{}, &wire.Ping{}, &wire.Bye{}, &wire.Echo{},
	}[m.Pick(9)]
}

// bytes takes so many from the script.
func (m *madServer) bytes(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = m.Next()
	}
	return b
}

// events returns some, some of them of the device's own.
func (m *madServer) events() (raws [][]byte) {
	for range 1 + m.Pick(3) {
		e := events.Event{ID: events.ID{m.Next()}, Kind: events.KindMessage, Sender: "bob", Body: bytes.Repeat([]byte("z"), m.Pick(60))}
		if m.Pick(4) == 1 {
			e.Session, e.Number = m.d.link.session, events.Number(1+m.Pick(10))
		}
		raw := e.Encode()
		if m.Pick(32) == 1 {
			raw = raw[:m.Pick(len(raw))]
		}
		raws = append(raws, raw)
	}
	return raws
}

// check holds the device against what must be true of it at any time.
func (m *madServer) check() {
	m.t.Helper()
	d := m.d
	open := 0
	for i, x := range d.out.sends {
		if x.Answer.Fate == FateOpen {
			open++
		}
		if i > 0 && x.ID <= d.out.sends[i-1].ID {
			m.t.Fatalf("send %d stands behind %d", x.ID, d.out.sends[i-1].ID)
		}
	}
	early := 0
	for seq, e := range d.in.early {
		early += len(e.Body)
		if seq <= d.in.have || seq > d.in.have+maxEarly {
			m.t.Fatalf("entry %d waits for its turn, and all through %d had theirs", seq, d.in.have)
		}
	}
	queued := 0
	for _, x := range d.in.queue.list {
		queued += size(x)
	}
	switch {
	case open != d.out.open:
		m.t.Fatalf("%d sends are open, %d are counted", open, d.out.open)
	case early != d.in.bytes || early > maxEarlyBytes:
		m.t.Fatalf("%d bytes came early, %d are counted", early, d.in.bytes)
	case queued != d.in.queue.bytes:
		m.t.Fatalf("%d bytes wait for the app, %d are counted", queued, d.in.queue.bytes)
	case d.in.have > d.in.head:
		m.t.Fatalf("the device has all through %d of a timeline that ends at %d", d.in.have, d.in.head)
	case d.link.phase == joined && d.link.session == (events.SessionID{}):
		m.t.Fatal("joined, and no session")
	case len(d.out.echoes.list) > maxEchoes || d.out.echoes.bytes > maxEchoBytes:
		m.t.Fatalf("%d bodies of %d bytes are kept", len(d.out.echoes.list), d.out.echoes.bytes)
	}
	if at := d.next(m.now); d.link.phase != over && d.link.phase != preparing && at.IsZero() {
		m.t.Fatalf("nothing will ever be done in phase %d", d.link.phase)
	}
}
