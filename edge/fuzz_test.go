package edge

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"timberline/bus"
	"timberline/edge/auth"
	"timberline/events"
	"timberline/ingest"
	"timberline/sim/script"
	"timberline/wire"
	"timberline/wire/sealed"
)

// Whatever comes from whom and happens when, in whatever order: the table keeps its
// bounds and its promises, and nothing of a session is left when it has ended.
func FuzzTable(f *testing.F) {
	script.Seed(f)
	f.Fuzz(func(t *testing.T, story []byte) {
		newChaos(t, story[:min(len(story), 2<<10)]).run()
	})
}

// A chaos is an edge with a sealed and a plain socket, and everybody around it, who
// do what a script says.
type chaos struct {
	*tale
	script.Script
	scribe  *scribe
	revoked *revoking

	clients   []*caller
	strangers map[netip.AddrPort]*tally
	unsent    [][]byte                                    // sealed packets that are kept back, or sent before
	owed      map[events.SessionID]map[events.Number]bool // admitted, and not reported as durable
	entries   map[events.User][]bus.Push
}

// A tally is the bytes that somebody has sent and got.
type tally struct{ sent, got int }

// A caller is a client; it does not obey the protocol.
type caller struct {
	plain   bool
	codec   wire.Codec
	at      netip.AddrPort
	session events.SessionID // the last one that it got
	begun   *sealed.Initiator
	cookie  sealed.Cookie
	channel *sealed.Channel
	token   []byte // of a challenge
}

// The sockets.
const (
	sealedConn = iota
	plainConn
)

var chaosUsers = []events.User{"alice", "bob", "carol"}

// chaosTokens cannot be found by comparing.
var chaosTokens = func() map[string]auth.Identity {
	r := rand.NewChaCha8([32]byte{9})
	all := make(map[string]auth.Identity)
	for _, u := range chaosUsers {
		for _, d := range []events.Device{"phone", "laptop", "tablet", "watch"} {
			var b [12]byte
			r.Read(b[:])
			all[hex.EncodeToString(b[:])] = auth.Identity{User: u, Device: d, ID: string(u + "/" + events.User(d))}
		}
	}
	return all
}()

var chaosTokenList = func() (all []string) {
	for token := range chaosTokens {
		all = append(all, token)
	}
	slices.SortFunc(all, func(a, b string) int {
		return bytes.Compare([]byte(chaosTokens[a].ID), []byte(chaosTokens[b].ID))
	})
	return all
}()

func newChaos(t *testing.T, story script.Script) *chaos {
	c := &chaos{
		tale: newTale(t), Script: story, scribe: newScribe(), revoked: &revoking{tokens: make(map[string]bool)},
		strangers: make(map[netip.AddrPort]*tally), owed: make(map[events.SessionID]map[events.Number]bool),
		entries: make(map[events.User][]bus.Push),
	}
	cfg := *c.table.cfg
	cfg.Sockets = []Socket{sealedConn: {PacketConn: noConn{}}, plainConn: {PacketConn: noConn{}, Plain: true}}
	cfg.Keys = func() []sealed.ServerKey { return []sealed.ServerKey{testKey} }
	cfg.Secret = sealed.Secret{1}
	cfg.Writer, cfg.Revocations = c.scribe, c.revoked
	cfg.Verify, cfg.Policy, cfg.SessionRate, cfg.SourceRate = c.verify, notEve{}, 60, 60
	cfg.MaxSessions, cfg.UserSessions, cfg.HalfOpen, cfg.SyncBytes, cfg.MaxBody = 7, 3, 3, 8<<10, 2<<10
	c.table = newTable(&cfg)
	for i := range 6 {
		c.clients = append(c.clients, &caller{plain: i%2 == 0, codec: wire.Codec(i / 2 % 2), at: c.home(byte(i))})
	}
	return c
}

func (c *chaos) verify(token string, now time.Time) (auth.Identity, error) {
	id, ok := chaosTokens[token]
	switch {
	case !ok:
		return auth.Identity{}, auth.ErrBadToken
	case id.Device == "watch":
		id.Expires = now.Add(10 * time.Minute)
	}
	return id, nil
}

// home returns one of the addresses that clients have.
func (c *chaos) home(n byte) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, n % 4}), 1000+uint16(n))
}

func (c *chaos) run() {
	for len(c.Script) > 0 && !c.table.drained {
		c.act()
		c.settle()
		c.check()
	}
	c.finish()
}

// act does one thing.
func (c *chaos) act() {
	who := c.clients[c.Pick(len(c.clients))]
	switch n := c.Pick(64); {
	case n < 8:
		c.enter(who)
	case n < 32:
		c.say(who)
	case n < 36:
		c.stranger()
	case n < 40:
		c.repeat(who)
	case n < 44:
		c.scribe.append(c.Pick(70))
	case n < 48:
		c.deliver()
	case n < 54:
		c.push()
	case n < 57:
		c.now = c.now.Add([]time.Duration{time.Millisecond, 20 * time.Millisecond, 250 * time.Millisecond, time.Second, 15 * time.Second, time.Minute}[c.Pick(6)])
	case n < 58:
		c.lose()
	case n < 59:
		c.revoked.change(chaosTokens[chaosTokenList[c.Pick(len(chaosTokenList))]].ID)
	case n < 60:
		c.table.press(c.now, float64(c.Pick(11))/10, uint64(c.Pick(3)))
	case n < 61:
		c.hold = c.Pick(4) == 1
		c.refuse()
	case n < 62:
		c.fail()
	case n < 63:
		c.table.distrust(c.now)
	case c.Pick(16) == 1:
		c.table.drain()
	}
}

// refuse has some of the tasks that wait find no room.
func (c *chaos) refuse() {
	tasks := c.table.takeTasks()
	for _, task := range tasks {
		if c.Pick(4) == 1 {
			task.refuse(c.now)
		} else {
			c.table.tasks = append(c.table.tasks, task)
		}
	}
}

// fail switches failures of what is around the edge on and off.
func (c *chaos) fail() {
	flip := func(err *error) {
		if *err = nil; c.Chance() {
			*err = errors.New("throttled")
		}
	}
	switch c.Pick(3) {
	case 0:
		flip(&c.timelines.err)
	case 1:
		flip(&c.settler.err)
		c.bus.err, c.bus.down = c.settler.err, c.settler.err != nil // what is between processes fails as one
	case 2:
		c.scribe.busy = c.Chance()
	}
}

// settle does what the table wants done, hears what it says, and lets its time pass.
func (c *chaos) settle() {
	c.table.tick(c.now)
	for !c.hold && len(c.table.tasks) > 0 {
		for _, task := range c.table.takeTasks() {
			task.do(c.t.Context())(c.now)
		}
	}
	for conn, ds := range c.packets() {
		for _, d := range ds {
			c.hear(conn, d)
		}
	}
	for addr, n := range c.strangers {
		if n.got > n.sent {
			c.t.Fatalf("%v, who has proved nothing, sent %d bytes and got %d", addr, n.sent, n.got)
		}
	}
}

// put hands a packet to the edge.
func (c *chaos) put(conn int, at netip.AddrPort, packet []byte) {
	if n := c.strangers[at]; n != nil {
		n.sent += len(packet)
	}
	c.table.packet(c.now, from{conn: conn, addr: at}, bytes.Clone(packet))
	c.admitted()
}

// admitted notes what was submitted.
func (c *chaos) admitted() {
	for _, e := range c.scribe.fresh {
		if !e.Kind.Sent() {
			continue
		}
		if c.owed[e.Session] == nil {
			c.owed[e.Session] = make(map[events.Number]bool)
		}
		if c.owed[e.Session][e.Number] {
			c.t.Fatalf("session %v: number %d is admitted twice", e.Session, e.Number)
		}
		c.owed[e.Session][e.Number] = true
	}
	c.scribe.fresh = nil
}

// enter goes on towards a session, or begins anew.
func (c *chaos) enter(who *caller) {
	if who.plain {
		c.putPlain(who, events.SessionID{}, c.login())
		return
	}
	if again := c.Pick(8) == 1; again || who.begun == nil {
		var err error
		if who.begun, err = sealed.NewInitiator(testKey.Public, c.table.cfg.Random); err != nil {
			c.t.Fatal(err)
		}
		who.channel = nil
	}
	for range 1 + c.Pick(3) {
		if who.channel != nil {
			c.putSealed(who, c.login())
			return
		}
		c.put(sealedConn, who.at, who.begun.Hello(who.cookie))
		c.settle()
	}
}

func (c *chaos) login() *wire.Login {
	f := &wire.Login{
		Version: uint32(1 + c.Pick(40)/39), Attempt: events.MessageID{byte(c.Pick(6))}, Token: chaosTokenList[c.Pick(len(chaosTokenList))],
		Cursor: events.Seq(c.Pick(4)), Store: events.StoreID{byte(7 + c.Pick(8)/7)},
	}
	for range c.Pick(6) % (wire.MaxSettle + 1) {
		old := c.clients[c.Pick(len(c.clients))].session
		f.Settle = append(f.Settle, wire.OldSession{Session: old, Journal: events.JournalNumbered(uint64(1 + c.Pick(3))), Offset: events.Offset(c.Pick(3))})
	}
	return f
}

// say sends frames as they come.
func (c *chaos) say(who *caller) {
	var fs []wire.Frame
	for range 1 + c.Pick(4) {
		fs = append(fs, c.frame(who))
	}
	if c.Pick(8) == 1 {
		who.at = c.home(c.Next())
	}
	if who.plain {
		session := who.session
		if c.Pick(16) == 1 {
			session = events.SessionID{c.Next()}
		}
		c.putPlain(who, session, fs...)
		return
	}
	c.putSealed(who, fs...)
}

func (c *chaos) putPlain(who *caller, s events.SessionID, fs ...wire.Frame) {
	codec := who.codec
	if c.Pick(32) == 1 {
		codec = 1 - codec
	}
	p := wire.Packet{Codec: codec, Session: s, Frames: fs}
	c.put(plainConn, who.at, p.Encode())
}

func (c *chaos) putSealed(who *caller, fs ...wire.Frame) {
	if who.channel == nil {
		return
	}
	codec := who.codec
	if c.Pick(32) == 1 {
		codec = 1 - codec
	}
	p := wire.NewSealedPacker(codec)
	for _, f := range fs {
		p.Add(f)
	}
	for _, packet := range p.Packets() {
		packet, err := who.channel.Seal(packet)
		if err != nil {
			c.t.Fatal(err)
		}
		keep := c.Pick(8)
		if keep < 2 {
			c.unsent = append(c.unsent[max(0, len(c.unsent)-20):], bytes.Clone(packet))
		}
		if keep != 1 {
			c.put(sealedConn, who.at, packet)
		}
	}
}

// repeat sends something that was sent before, or kept back: whole or damaged, from
// where it came or from elsewhere.
func (c *chaos) repeat(who *caller) {
	if len(c.unsent) == 0 {
		return
	}
	packet := bytes.Clone(c.unsent[c.Pick(len(c.unsent))])
	if c.Pick(4) == 1 {
		packet[c.Pick(len(packet))] ^= 1 << c.Pick(8)
	}
	at := who.at
	if c.Chance() {
		at = c.strange()
	}
	c.put(sealedConn, at, packet)
}

// frame returns a frame of any kind.
func (c *chaos) frame(who *caller) wire.Frame {
	n := events.Number(1)
	if s := c.table.sessions[who.session]; s != nil {
		n = s.order.Next()
	}
	switch c.Pick(16) {
	case 0:
		return c.login()
	case 1, 2, 3, 4, 5, 6:
		return c.send(n)
	case 7:
		return &wire.Got{Cursor: events.Seq(c.Pick(40))}
	case 8:
		f := &wire.Sync{ID: uint32(c.Next()), Budget: uint32(c.Next()) << c.Pick(12), Spread: uint32(c.Pick(50))}
		for range c.Pick(wire.MaxRanges + 1) {
			f.Ranges = append(f.Ranges, wire.Range{After: events.Seq(c.Pick(30)), Upto: events.Seq(c.Pick(30))})
		}
		return f
	case 9, 10:
		return &wire.Ping{ID: uint32(c.Next()), Cursor: events.Seq(c.Pick(40)), Low: n - min(n, events.Number(c.Pick(8))), Next: uint32(c.Next()) << c.Pick(12), Padding: make([]byte, c.Pick(30))}
	case 11:
		return &wire.Bye{}
	case 12:
		if c.Chance() {
			return &wire.Echo{Token: who.token}
		}
		return &wire.Echo{Token: []byte{c.Next()}}
	}
	return []wire.Frame{
		&wire.Accepted{Session: who.session}, &wire.Denied{Reason: wire.ReasonBusy}, &wire.Ack{Through: n}, &wire.Busy{From: n}, &wire.Push{From: 1},
		&wire.Part{Seq: 1, Count: 2}, &wire.Page{Last: true}, &wire.Pong{Head: 9}, &wire.Settled{Session: who.session}, &wire.Closed{}, &wire.Challenge{Token: make([]byte, 8)},
	}[c.Pick(11)]
}

func (c *chaos) send(next events.Number) wire.Frame {
	f := &wire.Send{Number: next, To: chaosUsers[c.Pick(len(chaosUsers))], Body: bytes.Repeat([]byte("x"), c.Pick(256))}
	switch c.Pick(12) {
	case 0, 1:
		f.Number += events.Number(c.Pick(70))
	case 2:
		f.Number -= min(events.Number(c.Pick(70)), f.Number-1)
	case 3:
		f.To = []events.User{"no such name!", "eve"}[c.Pick(2)]
	case 4:
		f.Body = bytes.Repeat([]byte("x"), 1100)
	case 5:
		f.Number = 1<<64 - 1
	case 6, 7, 8:
		f.Fragments = uint32(2 + c.Pick(wire.MaxFragments-1))
		f.Fragment = uint32(c.Pick(int(f.Fragments)))
	case 9:
		f.Read, f.With, f.To = events.ID{c.Next()}, f.To, f.With
		f.Body = f.Body[:min(len(f.Body), c.Pick(2))]
	}
	f.Low = f.Number - min(f.Number, events.Number(c.Pick(20)))
	return f
}

// strange returns the address of somebody who proves nothing.
func (c *chaos) strange() netip.AddrPort {
	at := netip.AddrPortFrom(netip.AddrFrom4([4]byte{203, 0, 113, byte(c.Pick(3))}), 666)
	if c.strangers[at] == nil {
		c.strangers[at] = new(tally)
	}
	return at
}

// stranger sends something that proves nothing.
func (c *chaos) stranger() {
	at, conn := c.strange(), c.Pick(2)
	switch c.Pick(6) {
	case 0:
		c.put(conn, at, c.Take(c.Pick(80)))
	case 1:
		i, err := sealed.NewInitiator(testKey.Public, c.table.cfg.Random)
		if err != nil {
			c.t.Fatal(err)
		}
		hello := i.Hello(sealed.Cookie{c.Next()})
		hello[c.Pick(12)] ^= byte(c.Pick(4))
		c.put(conn, at, hello)
	case 2:
		p := wire.Packet{Codec: wire.Codec(c.Pick(2)), Frames: []wire.Frame{&wire.Login{Version: 1, Token: string(make([]byte, c.Pick(100)))}}}
		c.put(conn, at, p.Encode())
	case 3:
		p := wire.Packet{Codec: wire.Codec(c.Pick(2)), Session: events.SessionID{c.Next(), 1}, Frames: []wire.Frame{c.send(1)}}
		c.put(conn, at, p.Encode())
	case 4:
		packet := append([]byte{byte(c.Pick(8))}, c.clients[c.Pick(len(c.clients))].session[:]...)
		c.put(sealedConn, at, append(packet, make([]byte, c.Pick(60))...))
	case 5:
		c.put(sealedConn, at, sealed.AppendReset(nil, c.clients[c.Pick(len(c.clients))].session, sealed.Token{1}))
	}
}

// deliver tells the edge of the appends that it does not know of yet.
func (c *chaos) deliver() {
	for _, r := range c.scribe.reports {
		for _, d := range r.Durable {
			delete(c.owed[d.Session], d.Number)
		}
		c.table.reported(c.now, r)
		c.admitted()
	}
	c.scribe.reports = nil
}

// lose has another edge close a session, or end the journal.
func (c *chaos) lose() {
	who := c.clients[c.Pick(len(c.clients))]
	s := c.table.sessions[who.session]
	switch {
	case c.Pick(8) == 1:
		c.scribe.end()
	case s != nil:
		o := s.owner
		if c.Pick(4) == 1 {
			o.User = "mallory"
		}
		c.scribe.close(o)
	}
}

// push puts an entry into a timeline and tells of it, or tells of an old one, or of
// something of another store.
func (c *chaos) push() {
	u := chaosUsers[c.Pick(len(chaosUsers))]
	var session events.SessionID
	if c.Pick(3) == 1 {
		session = c.clients[c.Pick(len(c.clients))].session
	}
	p := c.entry(u, session, string(bytes.Repeat([]byte("y"), c.Pick(200)<<c.Pick(8))))
	c.entries[u] = append(c.entries[u], p)
	switch c.Pick(6) {
	case 0:
		return // lost
	case 1:
		p = c.entries[u][c.Pick(len(c.entries[u]))]
	case 2:
		p.Store = events.StoreID{8}
	}
	c.table.pushed(c.now, []bus.Push{p})
}

// hear takes in what the edge sends.
func (c *chaos) hear(conn int, d wire.Datagram) {
	if len(d.Data) > wire.MaxPacket {
		c.t.Fatalf("a packet of %d bytes", len(d.Data))
	}
	if n := c.strangers[d.Addr]; n != nil {
		n.got += len(d.Data)
	}
	if conn == sealedConn && d.Data[0] < 6 {
		c.hearSealed(d)
		return
	}
	p, err := wire.Decode(d.Data)
	if err != nil {
		c.t.Fatalf("the edge says %q: %v", d.Data, err)
	}
	for _, who := range c.clients {
		if who.plain && who.at == d.Addr {
			c.heardFrames(who, p)
			return
		}
	}
	c.heardFrames(&caller{}, p)
}

func (c *chaos) hearSealed(d wire.Datagram) {
	for _, who := range c.clients {
		switch {
		case who.plain || who.begun == nil:
		case d.Data[0] == sealed.TypeRetry:
			if r, err := who.begun.Retry(d.Data); err == nil {
				who.cookie = r.Cookie
			}
		case d.Data[0] == sealed.TypeWelcome && who.channel == nil:
			if channel, w, err := who.begun.Finish(d.Data); err == nil {
				who.channel, who.session = channel, w.Session
			}
		case d.Data[0] == sealed.TypeData && who.channel != nil:
			if id, ok := sealed.PeekData(d.Data); !ok || id != who.channel.Session() {
				continue
			}
			frames, _, err := who.channel.Open(d.Data)
			if err != nil {
				c.t.Fatalf("a packet of the edge cannot be opened: %v", err)
			}
			p, err := wire.DecodeSealed(who.session, frames)
			if err != nil {
				c.t.Fatalf("the edge says %q: %v", frames, err)
			}
			c.heardFrames(who, p)
			return
		}
	}
}

// heardFrames holds what the edge says against what is durable.
func (c *chaos) heardFrames(who *caller, p wire.Packet) {
	for _, f := range p.Frames {
		switch f := f.(type) {
		case *wire.Accepted:
			who.session = f.Session
		case *wire.Challenge:
			who.token = bytes.Clone(f.Token)
		case *wire.Ack:
			for n := range c.owed[p.Session] {
				if n <= f.Through {
					c.t.Fatalf("session %v: ack of all through %d, but %d is not durable", p.Session, f.Through, n)
				}
			}
		case *wire.Settled:
			for n := range c.owed[f.Session] {
				for run := range slices.Chunk(f.Numbers, 2) {
					if run[0] <= uint64(n) && uint64(n) <= run[1] {
						c.t.Fatalf("session %v: settled as %v, but %d is not durable", f.Session, f.Numbers, n)
					}
				}
			}
		}
	}
}

// finish ends everything: whatever state the edge is in, nothing is left then.
func (c *chaos) finish() {
	c.hold, c.scribe.busy, c.timelines.err, c.settler.err = false, false, nil, nil
	c.settle()
	c.check()
	for range 20 {
		c.now = c.now.Add(time.Minute)
		c.settle()
		c.check()
		c.scribe.append(1 << 20)
		c.deliver()
		if c.table.draining && !c.table.drained {
			c.scribe.end()
		}
	}
	c.settle()
	c.check()
	t := c.table
	left := len(t.sessions) + len(t.devices) + len(t.users) + len(t.attempts) + len(t.asking) + len(t.timers) + len(t.dirty) + len(t.tasks) + t.paced + t.load.waiting
	if left != 0 {
		c.t.Fatalf("left: %d sessions, %d devices, %d users, %d attempts, %d inquiries, %d timers, %d dirty, %d tasks, %d bytes of answers, %d events",
			len(t.sessions), len(t.devices), len(t.users), len(t.attempts), len(t.asking), len(t.timers), len(t.dirty), len(t.tasks), t.paced, t.load.waiting)
	}
}

// A scribe is a Writer whose appends and journals the script rules.
type scribe struct {
	journal   uint64
	offset    events.Offset
	submitted []events.Event
	fresh     []events.Event // submitted since it was asked last
	reports   []ingest.Report
	closed    map[ingest.Owner]bool
	busy      bool
	stopped   bool
}

func newScribe() *scribe { return &scribe{journal: 1, closed: make(map[ingest.Owner]bool)} }

func ownerOf(e *events.Event) ingest.Owner {
	return ingest.Owner{Session: e.Session, User: e.Sender, Device: e.Device}
}

// Position implements Writer.
func (w *scribe) Position() (events.Journal, events.Offset) {
	return events.JournalNumbered(w.journal), w.offset
}

// Submit implements Writer.
func (w *scribe) Submit(j events.Journal, e events.Event) error {
	switch now, _ := w.Position(); {
	case j != now || w.closed[ownerOf(&e)]:
		return ingest.ErrJournalLost
	case e.Kind.Sent() && (w.busy || w.stopped):
		return events.ErrBusy
	}
	w.submitted, w.fresh = append(w.submitted, e), append(w.fresh, e)
	return nil
}

// Commit implements Writer.
func (w *scribe) Commit() {}

// Forget implements Writer.
func (w *scribe) Forget(o ingest.Owner) { delete(w.closed, o) }

// Stop implements Writer.
func (w *scribe) Stop() { w.stopped = true }

// append makes a record of the first events.
func (w *scribe) append(most int) {
	n := min(most, len(w.submitted))
	w.offset++
	j, at := w.Position()
	r := ingest.Report{Journal: j, Offset: at}
	for i := range w.submitted[:n] {
		e := &w.submitted[i]
		r.Durable = append(r.Durable, ingest.Durable{Owner: ownerOf(e), Number: e.Number, Kind: e.Kind})
	}
	w.submitted = w.submitted[n:]
	w.reports = append(w.reports, r)
}

// close obeys another's record that closes a session.
func (w *scribe) close(o ingest.Owner) {
	w.closed[o] = true
	w.submitted = slices.DeleteFunc(w.submitted, func(e events.Event) bool { return ownerOf(&e) == o })
	w.offset++
	j, at := w.Position()
	w.reports = append(w.reports, ingest.Report{Journal: j, Offset: at, Closed: []ingest.Owner{o}})
}

// end obeys another's end of the journal, and opens the next one.
func (w *scribe) end() {
	w.offset++
	j, at := w.Position()
	w.reports = append(w.reports, ingest.Report{Journal: j, Offset: at, Ended: true})
	clear(w.closed)
	w.submitted = nil
	w.journal, w.offset = w.journal+1, 0
}

// revoking is Revocations that the script changes, by the ids of tokens.
type revoking struct {
	generation uint64
	tokens     map[string]bool
}

func (r *revoking) change(id string) { r.generation++; r.tokens[id] = !r.tokens[id] }

// Generation implements Revocations.
func (r *revoking) Generation() uint64 { return r.generation }

// Revoked implements Revocations.
func (r *revoking) Revoked(id auth.Identity) bool { return r.tokens[id.ID] }
