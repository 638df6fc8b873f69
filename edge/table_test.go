package edge

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"timberline/bus"
	"timberline/bus/local"
	"timberline/edge/auth"
	"timberline/events"
	"timberline/ingest"
	"timberline/wire"
)

// A tale is a table with everything around it in the test's hands: packets go
// in, time passes when the test says so, and what the table answers is read in
// words.
type tale struct {
	t         *testing.T
	table     *table
	now       time.Time
	writer    *ledger
	timelines *shelf
	settler   *oracle
	bus       *mailbox
	replies   map[netip.AddrPort][]wire.Frame
	bytes     int // of the last answers
	hold      bool
	codec     wire.Codec
}

// A ledger is a Writer that keeps what is submitted until the test has it
// appended.
type ledger struct {
	submitted []events.Event
	busy      error
	offset    events.Offset
	stopped   bool
	forgotten []ingest.Owner
}

func (l *ledger) Position() (events.Journal, events.Offset) { return "j:1", l.offset }
func (l *ledger) Submit(_ events.Journal, e events.Event) error {
	if l.busy != nil && e.Kind.Sent() {
		return l.busy
	}
	l.submitted = append(l.submitted, e)
	return nil
}
func (l *ledger) Commit()               {}
func (l *ledger) Forget(o ingest.Owner) { l.forgotten = append(l.forgotten, o) }
func (l *ledger) Stop()                 { l.stopped = true }

// A shelf is the timelines.
type shelf struct {
	raws map[events.User][][]byte
	err  error
}

func (s *shelf) run(u events.User) events.Run {
	run := events.Run{Head: events.Seq(len(s.raws[u])), First: 1}
	for _, raw := range s.raws[u] {
		if id := events.Raw(raw).EventID(); id.Compare(run.Newest) > 0 {
			run.Newest = id
		}
	}
	return run
}

func (s *shelf) Head(_ context.Context, u events.User) (events.Run, error) { return s.run(u), s.err }

func (s *shelf) Read(_ context.Context, u events.User, after, upto events.Seq, size int) (events.Run, error) {
	run := s.run(u)
	if upto == 0 || upto > run.Head {
		upto = run.Head
	}
	run.From = after + 1
	for seq := after + 1; seq <= upto && (size > 0 || seq == after+1); seq++ {
		raw := s.raws[u][seq-1]
		size -= len(raw)
		run.Events = append(run.Events, raw)
	}
	return run, s.err
}

// An oracle is a Settler that answers as the test says.
type oracle struct {
	answers map[events.SessionID]ingest.Answered
	err     error
	asked   int
}

func (o *oracle) Settle(_ context.Context, _ events.Journal, qs []ingest.Question) ([]ingest.Answered, error) {
	o.asked++
	if o.err != nil {
		return nil, o.err
	}
	var as []ingest.Answered
	for i, q := range qs {
		if slices.ContainsFunc(qs[:i], func(before ingest.Question) bool { return before.Owner == q.Owner }) {
			continue // one answer for each session
		}
		a := o.answers[q.Session]
		a.Owner = q.Owner
		as = append(as, a)
	}
	return as, nil
}

// A mailbox is a bus that keeps what it is told.
type mailbox struct {
	local.Bus
	followed []events.Slot
	onFollow func() // before it returns
	err      error  // of Follow
	missed   []bus.Push
	down     bool
}

func (m *mailbox) Follow(_ context.Context, s events.Slot) error {
	m.followed = append(m.followed, s)
	if m.onFollow != nil {
		m.onFollow()
	}
	return m.err
}
func (m *mailbox) PublishMissed(ps []bus.Push) { m.missed = append(m.missed, ps...) }
func (m *mailbox) Connected() bool             { return !m.down }

type noConn struct{ wire.PacketConn }

func newTale(t *testing.T) *tale {
	random := rand.NewChaCha8([32]byte{1})
	tl := &tale{
		t: t, now: time.Unix(1_000_000, 0), writer: &ledger{}, settler: &oracle{}, bus: &mailbox{},
		timelines: &shelf{raws: make(map[events.User][][]byte)}, replies: make(map[netip.AddrPort][]wire.Frame),
	}
	clock, err := events.NewClock(func() time.Time { return tl.now }, random)
	if err != nil {
		t.Fatal(err)
	}
	cfg := &Config{
		Sockets: []Socket{{PacketConn: noConn{}, Plain: true}}, Writer: tl.writer, Settler: tl.settler, Timelines: tl.timelines,
		Bus: tl.bus, Clock: clock, Verify: verify, Store: events.StoreID{7}, Random: random,
		Now: func() time.Time { return tl.now }, Logger: slog.New(slog.DiscardHandler),
	}
	if err := cfg.setDefaults(); err != nil {
		t.Fatal(err)
	}
	tl.table = newTable(cfg)
	return tl
}

// verify takes "user/device" for a token.
func verify(token string, _ time.Time) (auth.Identity, error) {
	user, dev, ok := strings.Cut(token, "/")
	switch {
	case token == "old":
		return auth.Identity{}, auth.ErrExpired
	case !ok:
		return auth.Identity{}, auth.ErrBadToken
	}
	return auth.Identity{User: events.User(user), Device: events.Device(dev)}, nil
}

func address(n int) netip.AddrPort {
	return netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(n))
}

// packet hands frames to the table as they come over the wire.
func (tl *tale) packet(addr int, s events.SessionID, frames ...wire.Frame) {
	p := wire.Packet{Codec: tl.codec, Session: s, Frames: frames}
	tl.table.packet(tl.now, from{addr: address(addr)}, p.Encode())
	tl.settle()
}

// settle does what the table wants done, and gathers what it says.
func (tl *tale) settle() {
	tl.t.Helper()
	for !tl.hold && len(tl.table.tasks) > 0 {
		for _, task := range tl.table.takeTasks() {
			task.do(tl.t.Context())(tl.now)
		}
	}
	tl.bytes = 0
	if !tl.table.cfg.Sockets[0].Plain {
		return // for a guest to listen to
	}
	for _, ds := range tl.packets() {
		for _, d := range ds {
			tl.bytes += len(d.Data)
			p, err := wire.Decode(d.Data)
			if err != nil {
				tl.t.Fatal(err)
			}
			tl.replies[d.Addr] = append(tl.replies[d.Addr], p.Frames...)
		}
	}
}

// login logs a device in from an address and returns its session.
func (tl *tale) login(addr int, token string, olds ...wire.OldSession) events.SessionID {
	tl.t.Helper()
	tl.packet(addr, events.SessionID{}, &wire.Login{Version: 1, Attempt: events.MessageID{byte(addr), 1}, Token: token, Settle: olds})
	for _, f := range tl.replies[address(addr)] {
		if a, ok := f.(*wire.Accepted); ok {
			return a.Session
		}
	}
	tl.t.Fatalf("login of %s from %d was not accepted: %s", token, addr, tl.heard(addr))
	return events.SessionID{}
}

// heard tells what came to an address since it was asked last.
func (tl *tale) heard(addr int) string {
	var words []string
	for _, f := range tl.replies[address(addr)] {
		words = append(words, say(f))
	}
	delete(tl.replies, address(addr))
	return strings.Join(words, ", ")
}

func say(f wire.Frame) string {
	switch f := f.(type) {
	case *wire.Accepted:
		return fmt.Sprintf("accepted head %d", f.Head)
	case *wire.Denied:
		return "denied " + f.Reason.String()
	case *wire.Ack:
		s := fmt.Sprintf("ack %d", f.Through)
		for _, r := range f.Refused {
			s += fmt.Sprintf(" refused %d-%d %v", r.From, r.To, r.Reason)
		}
		if len(f.Held) > 0 {
			s += fmt.Sprintf(" held %b", f.Held)
		}
		return s
	case *wire.Busy:
		return fmt.Sprintf("busy from %d", f.From)
	case *wire.Push:
		s := fmt.Sprintf("push %d", f.From)
		for _, raw := range f.Events {
			e, _ := events.Raw(raw).Decode()
			s += fmt.Sprintf(" %q", e.Body)
		}
		if f.Omitted {
			s += " omitted"
		}
		return s
	case *wire.Page:
		s := fmt.Sprintf("page %d", f.From)
		for _, raw := range f.Events {
			e, _ := events.Raw(raw).Decode()
			s += fmt.Sprintf(" %q", e.Body)
		}
		if f.Last {
			s += " last"
		}
		return s + []string{"", " too old", " ahead", " busy"}[f.Status]
	case *wire.Pong:
		return fmt.Sprintf("pong %d head %d", f.ID, f.Head)
	case *wire.Settled:
		return fmt.Sprintf("settled %v", f.Numbers)
	case *wire.Closed:
		if f.Final {
			return fmt.Sprintf("closed %v final through %d", f.Reason, f.Through)
		}
		return "closed " + f.Reason.String()
	}
	return fmt.Sprintf("%T", f)
}

func (tl *tale) want(addr int, why, what string) {
	tl.t.Helper()
	if got := tl.heard(addr); got != what {
		tl.t.Errorf("%s:\n got %q\nwant %q", why, got, what)
	}
}

// appended reports that the log holds what was submitted.
func (tl *tale) appended() {
	tl.writer.offset++
	r := ingest.Report{Journal: "j:1", Offset: tl.writer.offset}
	for _, e := range tl.writer.submitted {
		r.Durable = append(r.Durable, ingest.Durable{
			Owner: ingest.Owner{Session: e.Session, User: e.Sender, Device: e.Device}, Number: e.Number, Kind: e.Kind,
		})
	}
	tl.writer.submitted = nil
	tl.table.reported(tl.now, r)
	tl.settle()
}

// entry puts an event into a timeline and returns the push that tells of it.
func (tl *tale) entry(u events.User, session events.SessionID, body string) bus.Push {
	e := events.Event{ID: tl.table.cfg.Clock.Next(), Kind: events.KindMessage, Session: session, Body: []byte(body)}
	raw := e.Encode()
	tl.timelines.raws[u] = append(tl.timelines.raws[u], raw)
	return bus.Push{Store: events.StoreID{7}, User: u, First: events.Seq(len(tl.timelines.raws[u])), Events: [][]byte{raw}, Newest: e.ID}
}

func (tl *tale) pushed(ps ...bus.Push) {
	tl.table.pushed(tl.now, ps)
	tl.settle()
}

func (tl *tale) advance(d time.Duration) {
	tl.now = tl.now.Add(d)
	tl.table.tick(tl.now)
	tl.settle()
}

func message(n events.Number, to events.User, body string) *wire.Send {
	return &wire.Send{Number: n, Low: 1, To: to, Body: []byte(body)}
}

func TestSendIsAcknowledgedOnlyWhenDurable(t *testing.T) {
	for _, codec := range []wire.Codec{wire.Proto, wire.JSON} {
		tl := newTale(t)
		tl.codec = codec
		alice := tl.login(1, "alice/phone")
		tl.want(1, "logged in", "accepted head 0")
		tl.packet(1, alice, message(1, "bob", "hi"), message(2, "bob", "there"))
		tl.want(1, "not durable: no ack", "")
		tl.packet(1, alice, message(1, "bob", "hi"))
		tl.want(1, "a repeat hears what there is", "ack 0 held [11]")
		tl.appended()
		tl.want(1, "one ack for both", "ack 2")
		if n := len(tl.writer.submitted); n != 0 {
			t.Errorf("the repeat was submitted again")
		}
	}
}

func TestSubmittedEventSaysWhoAndWhere(t *testing.T) {
	tl := newTale(t)
	alice := tl.login(1, "alice/phone")
	tl.packet(1, alice, &wire.Send{Number: 1, To: "bob", Message: events.MessageID{5}, Type: "x/y", Body: []byte("hi")})
	e := tl.writer.submitted[0]
	if e.Conversation != "d:alice,bob" || e.Sender != "alice" || e.Device != "phone" || e.Session != alice ||
		e.Number != 1 || e.Message != (events.MessageID{5}) || e.ContentType != "x/y" || string(e.Body) != "hi" {
		t.Errorf("submitted %+v", e)
	}
}

func TestSubmittedReadSaysWithWhomAndUpToWhere(t *testing.T) {
	tl := newTale(t)
	bob := tl.login(1, "bob/phone")
	tl.packet(1, bob, &wire.Send{Number: 1, With: "alice", Message: events.MessageID{5}, Read: events.ID{7}})
	e := tl.writer.submitted[0]
	if e.Kind != events.KindReadUpTo || e.Conversation != "d:alice,bob" || e.Sender != "bob" || e.Device != "phone" || e.Session != bob ||
		e.Number != 1 || e.Message != (events.MessageID{5}) || e.Target != (events.ID{7}) || len(e.Body)+len(e.ContentType) > 0 {
		t.Errorf("submitted %+v", e)
	}
	tl.heard(1)
	tl.appended()
	tl.want(1, "it is answered as a message is", "ack 1")
	if n := tl.table.load.waiting; n != 0 {
		t.Errorf("%d sends count as waiting, and all are answered", n)
	}
}

func TestRefusalsSayWhyAndBusyIsForNow(t *testing.T) {
	tl := newTale(t)
	alice := tl.login(1, "alice/phone")
	tl.heard(1)
	tl.packet(1, alice, message(1, "no such name!", "hi"))
	tl.want(1, "a name that is none", "ack 1 refused 1-1 recipient")
	tl.table.cfg.MaxBody = 3
	tl.packet(1, alice, &wire.Send{Number: 2, Low: 2, To: "bob", Body: []byte("four")})
	tl.want(1, "too large; the first refusal was heard", "ack 2 refused 2-2 too_large")
	tl.writer.busy = events.ErrBusy
	tl.packet(1, alice, &wire.Send{Number: 3, Low: 3, To: "bob", Body: []byte("x")})
	tl.want(1, "no room", "busy from 3")
	tl.writer.busy = nil
	tl.packet(1, alice, &wire.Send{Number: 3, Low: 3, To: "bob", Body: []byte("x")})
	tl.appended()
	tl.want(1, "room again", "ack 3")
}

func TestLoginsThatAreNotAcceptedGetNoMoreThanTheySent(t *testing.T) {
	tl := newTale(t)
	for _, c := range []struct {
		login wire.Login
		want  string
	}{
		{wire.Login{Version: 1, Token: "nonsense-that-is-no-token"}, "denied bad_token"},
		{wire.Login{Version: 1, Token: "old"}, ""}, // too short a packet for any answer in full
		{wire.Login{Version: 9, Token: strings.Repeat("x", 100)}, "denied version"},
	} {
		p := wire.Packet{Frames: []wire.Frame{&c.login}}
		tl.packet(1, events.SessionID{}, &c.login)
		if tl.bytes > len(p.Encode()) {
			t.Errorf("%+v: %d bytes answered %d", c.login, tl.bytes, len(p.Encode()))
		}
		if got := tl.heard(1); got != c.want && got != "" {
			t.Errorf("%+v: %q, want %q or nothing", c.login, got, c.want)
		}
	}
	if len(tl.table.sessions)+len(tl.table.attempts)+len(tl.table.users) != 0 {
		t.Error("a stranger left memory behind")
	}
}

func TestUnknownSessionIsToldInNoMoreBytes(t *testing.T) {
	tl := newTale(t)
	for _, f := range []wire.Frame{&wire.Ping{ID: 1, Cursor: 1}, message(1, "bob", "hi")} {
		p := wire.Packet{Session: events.SessionID{9}, Frames: []wire.Frame{f}}
		tl.packet(1, events.SessionID{9}, f)
		if tl.bytes > len(p.Encode()) {
			t.Errorf("%d bytes answered %d", tl.bytes, len(p.Encode()))
		}
		tl.want(1, "unknown here", "closed ")
	}
	for range 2 * maxResets {
		tl.packet(2, events.SessionID{9}, &wire.Ping{ID: 1, Cursor: 1})
	}
	if n := len(tl.replies[address(2)]); n > maxResets {
		t.Errorf("%d answers to strangers in one second, want at most %d", n, maxResets)
	}
}

func TestRepeatedLoginIsTheSameSession(t *testing.T) {
	tl := newTale(t)
	first := tl.login(1, "alice/phone")
	tl.replies = make(map[netip.AddrPort][]wire.Frame)
	if again := tl.login(1, "alice/phone"); again != first {
		t.Error("a repeat of a login made another session")
	}
}

// The id of an attempt is no secret: the protocol page has one.
func TestAttemptOfAnotherWithoutItsTokenIsNoRepeat(t *testing.T) {
	tl := newTale(t)
	login := func(addr int, token string) {
		tl.packet(addr, events.SessionID{}, &wire.Login{Version: 1, Attempt: events.MessageID{15: 1}, Token: token})
	}
	sessions := make(map[events.SessionID]bool)
	accepted := func(addr int) (n int) {
		for _, f := range tl.replies[address(addr)] {
			if a, ok := f.(*wire.Accepted); ok {
				sessions[a.Session] = true
				n++
			}
		}
		return n
	}
	login(1, "alice/phone")
	login(2, "nonsense")
	login(3, "bob/phone")
	login(4, "alice/phone")
	for addr, want := range map[int]int{1: 1, 2: 0, 3: 1, 4: 1} {
		if got := accepted(addr); got != want {
			t.Errorf("login %d was accepted %d times, want %d", addr, got, want)
		}
	}
	if len(sessions) != 2 {
		t.Errorf("%d sessions, want one of alice and one of bob", len(sessions))
	}
}

func TestAcceptedIsSaidBeforeWhatIsSettledAtOnce(t *testing.T) {
	tl := newTale(t)
	old := tl.login(1, "alice/phone") // all that it sent was lost
	tl.heard(1)
	tl.login(2, "alice/phone", wire.OldSession{Session: old, Journal: "j:1"})
	tl.want(2, "who does not know the session yet drops the rest of a packet", "accepted head 0, settled []")
}

func TestResetsAreNotAnsweredWithResets(t *testing.T) {
	tl := newTale(t)
	for _, c := range []wire.Codec{wire.Proto, wire.JSON} {
		p := wire.Packet{Codec: c, Session: events.SessionID{9}, Frames: []wire.Frame{&wire.Closed{}}}
		data := p.Encode()
		for n := 0; data != nil; n++ {
			if n > 3 {
				t.Fatalf("%v: each answer is answered", c)
			}
			tl.table.packet(tl.now, from{addr: address(5)}, data)
			data = nil
			for _, d := range tl.packets()[0] {
				data = d.Data
			}
		}
	}
}

func TestNewLoginReplacesTheDevicesOldSession(t *testing.T) {
	tl := newTale(t)
	old := tl.login(1, "alice/phone")
	other := tl.login(2, "alice/laptop")
	tl.heard(1)
	tl.login(3, "alice/phone")
	tl.want(1, "the old one is told", "closed replaced")
	tl.heard(2)
	tl.packet(2, other, &wire.Ping{ID: 4})
	tl.want(2, "another device stays", "pong 4 head 0")
	tl.packet(1, old, message(1, "bob", "hi"))
	tl.want(1, "the old one is over", "closed ")
	if len(tl.writer.submitted) != 0 {
		t.Error("a send of a replaced session was admitted")
	}
}

func TestLiveSessionIsSettledWhenItsCloseIsDurable(t *testing.T) {
	tl := newTale(t)
	old := tl.login(1, "alice/phone")
	tl.packet(1, old, message(1, "bob", "a"), message(2, "bad name", "b"), message(3, "bob", "c"))
	fresh := tl.login(2, "alice/phone", wire.OldSession{Session: old, Journal: "j:1"})
	tl.want(2, "accepted, but not settled", "accepted head 0")
	tl.packet(2, fresh, message(1, "bob", "c again"))
	tl.packet(1, old, message(4, "bob", "late"))
	if n := len(tl.writer.submitted); n != 3 {
		t.Fatalf("%d events submitted, want a, c and session_closed", n)
	}
	if k := tl.writer.submitted[2].Kind; k != events.KindSessionClosed {
		t.Fatalf("the last event is a %v, want session_closed", k)
	}
	tl.appended()
	tl.want(2, "the set of what stands", "settled [1 1 3 3]")
	tl.packet(2, events.SessionID{}, &wire.Login{Version: 1, Attempt: events.MessageID{2, 1}, Token: "alice/phone"})
	tl.want(2, "repeated for whoever lost the answer", "accepted head 0, settled [1 1 3 3]")
	tl.packet(2, fresh, message(1, "bob", "d"))
	tl.appended()
	tl.want(2, "and now sends are admitted", "ack 1")
	if len(tl.table.sessions) != 1 {
		t.Errorf("%d sessions, want the new one only", len(tl.table.sessions))
	}
}

func TestDeadSessionIsSettledByTheLogAndAskedForAgain(t *testing.T) {
	tl := newTale(t)
	gone := events.SessionID{3}
	tl.settler.err = errors.New("throttled")
	tl.login(1, "alice/phone", wire.OldSession{Session: gone, Journal: "j:9"})
	tl.heard(1)
	tl.advance(askAgain / 2)
	if tl.settler.asked != 1 {
		t.Errorf("asked %d times, want once and then a pause", tl.settler.asked)
	}
	tl.advance(askAgain)
	if tl.settler.asked != 2 {
		t.Errorf("asked %d times, want again after a failure", tl.settler.asked)
	}
	tl.want(1, "no answer yet", "")
	tl.settler.err = nil
	tl.settler.answers = map[events.SessionID]ingest.Answered{gone: {Numbers: []uint64{5, 6}}}
	tl.advance(askAgain)
	tl.want(1, "the log's answer", "settled [5 6]")
	if len(tl.table.asking) != 0 {
		t.Error("an inquiry is left behind")
	}
}

// While the log takes no records no settling ends, and there may be one for each edge that
// has died.
func TestSettlingLeavesWorkersToOthers(t *testing.T) {
	tl := newTale(t)
	var olds []wire.OldSession
	const devices = 4 * wire.MaxSettle
	for n := range devices {
		olds = append(olds, wire.OldSession{Session: events.SessionID{9, byte(n)}, Journal: events.JournalNumbered(uint64(n + 2))})
	}
	s := tl.table.sessions[tl.login(1, "alice/phone")]
	tl.heard(1)
	tl.hold = true
	for some := range slices.Chunk(olds, wire.MaxSettle) {
		tl.table.settle(s, some)
	}
	if n := len(tl.table.tasks); n != tl.table.cfg.Workers/2 {
		t.Errorf("%d of %d workers are to settle", n, tl.table.cfg.Workers)
	}
	tl.settler.err = errors.New("throttled")
	tl.hold = false
	tl.settle()
	if tl.settler.asked != devices {
		t.Errorf("asked about %d journals, want that each of %d has its turn", tl.settler.asked, devices)
	}
	tl.settler.err = nil
	tl.advance(askAgain)
	if s.settling != 0 || len(tl.table.asking) != 0 || tl.table.inquiries != 0 {
		t.Errorf("%d sessions are to be settled, %d journals asked for, %d under way; want none", s.settling, len(tl.table.asking), tl.table.inquiries)
	}
}

func TestNobodySettlesAnothersSession(t *testing.T) {
	tl := newTale(t)
	alice := tl.login(1, "alice/phone")
	tl.packet(1, alice, message(1, "bob", "a"))
	tl.heard(1)
	tl.login(2, "mallory/phone", wire.OldSession{Session: alice, Journal: "j:1"})
	tl.packet(1, alice, message(2, "bob", "b"))
	tl.appended()
	tl.want(1, "alice's session goes on", "ack 2")
}

func TestPushIsSentAgainUntilAcknowledgedOrGivenUp(t *testing.T) {
	tl := newTale(t)
	bob := tl.login(1, "bob/phone")
	tl.heard(1)
	tl.pushed(tl.entry("bob", events.SessionID{}, "hi"))
	tl.want(1, "at once", `push 1 "hi"`)
	tl.advance(resendFirst)
	tl.want(1, "no answer: again", `push 1 "hi"`)
	tl.packet(1, bob, &wire.Got{Cursor: 1})
	tl.advance(time.Minute / 2)
	tl.want(1, "acknowledged: quiet", "")
	tl.pushed(tl.entry("bob", events.SessionID{}, "again"))
	for range 20 {
		tl.advance(time.Second)
	}
	if n := strings.Count(tl.heard(1), "push"); n != 1+maxResends {
		t.Errorf("pushed %d times, want %d and then silence", n, 1+maxResends)
	}
	tl.packet(1, bob, &wire.Ping{ID: 9, Cursor: 1})
	tl.want(1, "the heartbeat tells", "pong 9 head 2")
}

func TestPushesFillPacketsButNeverBeyondTheirLimit(t *testing.T) {
	for _, codec := range []wire.Codec{wire.Proto, wire.JSON} {
		tl := newTale(t)
		tl.codec = codec
		tl.login(1, "bob/phone")
		tl.heard(1)
		p := tl.entry("bob", events.SessionID{}, "one")
		for _, body := range []string{strings.Repeat("x", 600), strings.Repeat("y", 700), strings.Repeat("z", 5000), "last"} {
			p.Events = append(p.Events, tl.entry("bob", events.SessionID{}, body).Events...)
		}
		tl.pushed(p) // a packet beyond the limit cannot be decoded
		var parts wire.Assembler
		got := map[events.Seq]int{}
		for _, f := range tl.replies[address(1)] {
			switch f := f.(type) {
			case *wire.Push:
				for i, raw := range f.Events {
					got[f.From+events.Seq(i)] = len(raw)
				}
			case *wire.Part:
				if raw, complete := parts.Add(f); complete {
					got[f.Seq] = len(raw)
				}
			}
		}
		for i, raw := range p.Events {
			if n := got[events.Seq(i+1)]; n != len(raw) {
				t.Errorf("%v: entry %d came with %d bytes, want %d", codec, i+1, n, len(raw))
			}
		}
	}
}

func TestOwnMessageIsPushedWithoutItsBody(t *testing.T) {
	tl := newTale(t)
	phone := tl.login(1, "alice/phone")
	tl.login(2, "alice/laptop")
	tl.heard(1)
	tl.heard(2)
	tl.pushed(tl.entry("alice", phone, "mine"))
	tl.want(1, "it has the body", `push 1 "" omitted`)
	tl.want(2, "the other device has not", `push 1 "mine"`)
}

func TestDroppedPushesAreToldByTheHead(t *testing.T) {
	tl := newTale(t)
	bob := tl.login(1, "bob/phone")
	for range maxFlight + 5 {
		tl.pushed(tl.entry("bob", events.SessionID{}, "x"))
	}
	if n := strings.Count(tl.heard(1), "push"); n != maxFlight {
		t.Errorf("%d pushes in flight, want %d", n, maxFlight)
	}
	tl.packet(1, bob, &wire.Got{Cursor: maxFlight})
	tl.want(1, "there is more", fmt.Sprintf("pong 0 head %d", maxFlight+5))
}

// What was left out is not taken for pushed because something behind it was.
func TestConnectedTellsWhatIsOnItsWayToADevice(t *testing.T) {
	tl := newTale(t)
	bob := tl.login(1, "bob/phone")
	tl.login(2, "alice/phone")
	has, pushed, not := Connected{"phone", true, true}, Connected{"phone", true, false}, Connected{"phone", false, false}
	is := func(why string, at events.Seq, want Connected) {
		t.Helper()
		if got := tl.table.connected("bob", at); !slices.Equal(got, []Connected{want}) {
			t.Errorf("%s: entry %d: %+v, want %+v", why, at, got, want)
		}
	}
	const left = maxFlight + 1
	for range left {
		tl.pushed(tl.entry("bob", events.SessionID{}, "x"))
	}
	is("the first", 1, pushed)
	is("the last for which there was room", left-1, pushed)
	is("left out", left, not)
	tl.packet(1, bob, &wire.Got{Cursor: 10})
	tl.pushed(tl.entry("bob", events.SessionID{}, "x"))
	is("acknowledged", 10, has)
	is("not yet", 11, pushed)
	is("left out, and one behind it was not", left, not)
	is("there was room again", left+1, pushed)
	is("nobody's yet", left+2, not)
	tl.hold = true
	tl.packet(3, events.SessionID{}, &wire.Login{Version: 1, Attempt: events.MessageID{3, 1}, Token: "bob/tablet"})
	for _, task := range tl.table.takeTasks() { // its token is read
		task.do(t.Context())(tl.now)
	}
	if n := len(tl.table.users["bob"]); n != 2 {
		t.Errorf("%d sessions, want one that is open, and one that is not yet", n)
	}
	is("another device logs in", 10, has)
	if got := tl.table.connected("carol", 1); got != nil {
		t.Errorf("one who is not there has %+v", got)
	}
}

func TestPushesOfAnotherStoreAreDropped(t *testing.T) {
	tl := newTale(t)
	tl.login(1, "bob/phone")
	tl.heard(1)
	p := tl.entry("bob", events.SessionID{}, "x")
	p.Store = events.StoreID{8}
	tl.pushed(p)
	tl.want(1, "not ours", "")
}

func TestSyncAnswersRangesWithinTheBudget(t *testing.T) {
	tl := newTale(t)
	for i := range 5 {
		tl.entry("bob", events.SessionID{}, string(rune('a'+i)))
	}
	bob := tl.login(1, "bob/phone")
	tl.want(1, "the head", "accepted head 5")
	tl.packet(1, bob, &wire.Sync{ID: 1, Ranges: []wire.Range{{After: 0, Upto: 2}, {After: 3}}})
	tl.want(1, "two ranges", `page 1 "a" "b", page 4 "d" "e", page 0 last`)
	tl.packet(1, bob, &wire.Sync{ID: 2, Ranges: []wire.Range{{After: 0}}, Budget: 60})
	tl.want(1, "a small budget", `page 1 "a" "b" "c", page 0 last`)
	tl.packet(1, bob, &wire.Sync{ID: 3, Ranges: []wire.Range{{After: 9}}})
	tl.want(1, "beyond the end", "page 0 last ahead")
	tl.timelines.err = errors.New("throttled")
	tl.packet(1, bob, &wire.Sync{ID: 4, Ranges: []wire.Range{{After: 0}}})
	tl.want(1, "the store fails", "page 0 last busy")
}

func TestLongAnswerLeavesInBurstsThatTheLoopWakesUpFor(t *testing.T) {
	tl := newTale(t)
	tl.login(1, "alice/phone")
	bob := tl.login(2, "bob/phone")
	for range 400 {
		tl.pushed(tl.entry("bob", events.SessionID{}, strings.Repeat("x", 600)))
	}
	tl.table.packet(tl.now, from{addr: address(2)}, (&wire.Packet{Session: bob, Frames: []wire.Frame{&wire.Got{Cursor: 400}, &wire.Sync{ID: 1, Ranges: []wire.Range{{}}, Budget: maxBudget}}}).Encode())
	for _, task := range tl.table.takeTasks() {
		task.do(t.Context())(tl.now)
	}
	bursts := 0
	for ; tl.table.paced > 0 || bursts == 0; bursts++ {
		tl.table.tick(tl.now)
		if n := len(tl.packets()[0]); n == 0 || n > maxBurst+1 {
			t.Fatalf("burst %d has %d packets", bursts, n)
		}
		if next := tl.table.next(tl.now); tl.table.paced > 0 && next > burstEvery {
			t.Fatalf("the loop sleeps for %v after burst %d", next, bursts)
		}
		tl.now = tl.now.Add(burstEvery)
	}
	if bursts < 3 {
		t.Errorf("%d bursts, want some", bursts)
	}
}

// A device that was killed may have been shown more than its cursor says.
func TestClockIsAboveEverythingADeviceMayHaveSeen(t *testing.T) {
	for cursor := range events.Seq(3) {
		tl := newTale(t)
		before := events.Event{ID: events.ID{0xe0}, Kind: events.KindMessage}
		ahead := events.Event{ID: events.ID{0xf0}, Kind: events.KindMessage}
		tl.timelines.raws["bob"] = [][]byte{before.Encode(), ahead.Encode()}
		tl.packet(1, events.SessionID{}, &wire.Login{Version: 1, Store: events.StoreID{7}, Cursor: cursor, Token: "bob/phone"})
		if id := tl.table.cfg.Clock.Next(); id.Compare(ahead.ID) <= 0 {
			t.Errorf("login at cursor %d: next id %v is not above %v, which the device may have seen", cursor, id, ahead.ID)
		}
	}
}

func TestCursorOfAnotherTimelineAdmitsNoSends(t *testing.T) {
	tl := newTale(t)
	tl.entry("bob", events.SessionID{}, "a")
	tl.packet(1, events.SessionID{}, &wire.Login{Version: 1, Attempt: events.MessageID{1, 1}, Store: events.StoreID{7}, Cursor: 50, Token: "bob/phone"})
	bob := tl.login(1, "bob/phone")
	tl.packet(1, bob, message(1, "alice", "x"))
	if len(tl.writer.submitted) != 0 {
		t.Error("a send was admitted though nobody knows what its author has seen")
	}
}

func TestSilentSessionEndsAndSoDoesItsLogEntry(t *testing.T) {
	tl := newTale(t)
	alice := tl.login(1, "alice/phone")
	tl.packet(1, alice, message(1, "bob", "a"))
	tl.appended()
	tl.advance(2 * tl.table.cfg.Heartbeat)
	tl.packet(1, alice, &wire.Ping{ID: 1})
	tl.heard(1)
	tl.advance(3 * tl.table.cfg.Heartbeat)
	tl.want(1, "heard in time", "")
	tl.advance(idleHeartbeats * tl.table.cfg.Heartbeat)
	tl.want(1, "silent for too long", "closed idle")
	if len(tl.writer.submitted) != 1 || tl.writer.submitted[0].Kind != events.KindSessionClosed {
		t.Errorf("submitted %v, want session_closed", tl.writer.submitted)
	}
	tl.appended()
	tb := tl.table
	if len(tb.sessions)+len(tb.devices)+len(tb.users)+len(tb.attempts)+len(tb.timers) != 0 {
		t.Error("something of the session is left behind")
	}
}

func TestLostJournalEndsItsSessions(t *testing.T) {
	tl := newTale(t)
	alice := tl.login(1, "alice/phone")
	tl.packet(1, alice, message(1, "bob", "a"))
	tl.heard(1)
	tl.login(2, "alice/phone", wire.OldSession{Session: alice, Journal: "j:1"})
	tl.heard(2)
	tl.table.reported(tl.now, ingest.Report{Journal: "j:1", Offset: 1, Ended: true})
	tl.settle()
	if got := tl.heard(2); !strings.HasSuffix(got, "closed journal final through 0") {
		t.Errorf("heard %q, want to be told: the new session is of the lost journal, too", got)
	}
	if len(tl.table.sessions) != 0 {
		t.Errorf("%d sessions are left", len(tl.table.sessions))
	}
}

func TestSessionClosedByAnotherEdgeIsReplaced(t *testing.T) {
	tl := newTale(t)
	alice := tl.login(1, "alice/phone")
	tl.heard(1)
	o := ingest.Owner{Session: alice, User: "alice", Device: "phone"}
	foreign := o
	foreign.User = "mallory"
	tl.table.reported(tl.now, ingest.Report{Journal: "j:1", Offset: 1, Closed: []ingest.Owner{foreign}})
	tl.settle()
	tl.want(1, "a close of somebody else's counts for nothing", "")
	tl.table.reported(tl.now, ingest.Report{Journal: "j:1", Offset: 1, Closed: []ingest.Owner{o}})
	tl.settle()
	tl.want(1, "closed elsewhere", "closed replaced")
	if len(tl.writer.forgotten) == 0 || tl.writer.forgotten[len(tl.writer.forgotten)-1] != o {
		t.Error("the writer was not told to forget the session")
	}
}

// The Writer keeps who was closed by others until it is told to forget it: else every
// device that settles elsewhere what it has left here would take memory for ever.
func TestNothingLeaksOfSessionsClosedElsewhereThatAreNotHere(t *testing.T) {
	tl := newTale(t)
	gone := ingest.Owner{Session: events.SessionID{9}, User: "alice", Device: "phone"}
	foreign := ingest.Owner{Session: tl.login(1, "bob/phone"), User: "mallory", Device: "phone"}
	tl.table.reported(tl.now, ingest.Report{Journal: "j:1", Offset: 1, Closed: []ingest.Owner{gone, foreign}})
	tl.settle()
	if !slices.Equal(tl.writer.forgotten, []ingest.Owner{gone, foreign}) {
		t.Errorf("the writer was told to forget %v, want both", tl.writer.forgotten)
	}
}

func TestStoppingAnswersWhatIsDurableAndThenSaysGoodbye(t *testing.T) {
	tl := newTale(t)
	alice := tl.login(1, "alice/phone")
	tl.packet(1, alice, message(1, "bob", "a"))
	tl.heard(1)
	tl.table.drain()
	if !tl.writer.stopped {
		t.Error("the writer was not stopped")
	}
	tl.packet(9, events.SessionID{}, &wire.Login{Version: 1, Token: strings.Repeat("x", 90)})
	tl.want(9, "no new logins", "denied shutdown")
	tl.appended()
	tl.want(1, "acknowledged", "ack 1")
	tl.table.reported(tl.now, ingest.Report{Journal: "j:1", Offset: 2, Ended: true})
	tl.settle()
	tl.want(1, "and told, with the last ack in the same packet", "ack 1, closed shutdown final through 1")
	if !tl.table.drained {
		t.Error("the table is not drained")
	}
}

// The Writer tells of a journal that another has ended when it has opened the next one: the
// edge may have begun to stop by then, and sessions of the next one wait for their acks.
func TestEndOfAJournalLostBeforeIsNotTheLastThingToWaitFor(t *testing.T) {
	tl := newTale(t)
	alice := tl.login(1, "alice/phone")
	tl.packet(1, alice, message(1, "bob", "a"))
	tl.heard(1)
	tl.table.drain()
	tl.table.reported(tl.now, ingest.Report{Journal: "j:0", Offset: 7, Ended: true})
	if tl.table.drained {
		t.Error("the table is drained, and a send has no ack")
	}
	tl.appended()
	tl.want(1, "acknowledged", "ack 1")
	tl.table.reported(tl.now, ingest.Report{Journal: "j:1", Offset: 2, Ended: true})
	if !tl.table.drained {
		t.Error("the table is not drained")
	}
}

func TestOnlySessionsOfEndedJournalsAreToldThatTheirAnswersAreFinal(t *testing.T) {
	tl := newTale(t)
	alice := tl.login(1, "alice/phone")
	tl.login(2, "bob/phone")
	tl.packet(1, alice, message(1, "bob", "a"))
	tl.heard(1)
	tl.heard(2)
	tl.table.reported(tl.now, ingest.Report{Journal: "j:1", Offset: 1, Ended: true}) // by another: alice's send is lost
	tl.settle()
	tl.want(1, "what became of her send is for settling to say", "closed journal")
	tl.want(2, "bob has nothing on its way", "closed journal final through 0")
}

func TestFullTaskQueueRefusesLoginsAndSyncsButNotHeartbeats(t *testing.T) {
	tl := newTale(t)
	bob := tl.login(1, "bob/phone")
	tl.heard(1)
	tl.hold = true
	tl.packet(2, events.SessionID{}, &wire.Login{Version: 1, Attempt: events.MessageID{9}, Token: "carol/" + strings.Repeat("x", 50)})
	tl.packet(1, bob, &wire.Sync{ID: 1, Ranges: []wire.Range{{}}})
	tl.now = tl.now.Add(headTrusted / 6)
	tl.table.distrust(tl.now)
	tl.packet(1, bob, &wire.Ping{ID: 2})
	for _, task := range tl.table.takeTasks() {
		task.refuse(tl.now)
	}
	tl.settle()
	tl.want(2, "no room to check the token", "denied busy")
	tl.want(1, "no room to read", "pong 2 head 0, page 0 last busy")
}

func TestLoginsThatAreCheckedAtATimeDoNotExceedTheSessions(t *testing.T) {
	tl := newTale(t)
	tl.table.cfg.MaxSessions = 1
	tl.hold = true
	for addr, user := range []string{"bob", "carol"} {
		tl.packet(1+addr, events.SessionID{}, &wire.Login{Version: 1, Attempt: events.MessageID{1, byte(addr)}, Token: user + "/" + strings.Repeat("x", 60)})
	}
	tl.hold = false
	tl.settle()
	if n := len(tl.table.sessions); n != 1 {
		t.Errorf("%d sessions, want as many as there may be: 1", n)
	}
	tl.want(2, "the place was taken while its token was checked", "denied busy")
}

func TestDistrustedHeadIsReadAgainAtTheNextHeartbeat(t *testing.T) {
	tl := newTale(t)
	bob := tl.login(1, "bob/phone")
	tl.heard(1)
	tl.entry("bob", events.SessionID{}, "x") // and its push is lost
	tl.packet(1, bob, &wire.Ping{ID: 1})
	tl.want(1, "nobody knows", "pong 1 head 0")
	tl.advance(time.Second)
	tl.table.distrust(tl.now)
	tl.packet(1, bob, &wire.Ping{ID: 2})
	tl.want(1, "the store knows", "pong 2 head 1")
}

func TestHeadThatWasReadBeforeAPushWasLostIsReadAgain(t *testing.T) {
	tl := newTale(t)
	bob := tl.login(1, "bob/phone")
	tl.heard(1)
	tl.hold = true
	tl.table.distrust(tl.now)
	tl.packet(1, bob, &wire.Ping{ID: 1})
	read := tl.table.takeTasks()[0].do(t.Context()) // and its answer is on its way
	tl.entry("bob", events.SessionID{}, "x")        // and its push is lost
	tl.now = tl.now.Add(time.Millisecond)
	tl.table.distrust(tl.now)
	tl.now = tl.now.Add(time.Millisecond)
	read(tl.now)
	tl.hold = false
	tl.packet(1, bob, &wire.Ping{ID: 2})
	tl.want(1, "what was read then says nothing of what was lost since", "pong 1 head 0, pong 2 head 1")
}

func TestPushesInFlightAreBoundedInBytes(t *testing.T) {
	tl := newTale(t)
	bob := tl.login(1, "bob/phone")
	tl.heard(1)
	body := strings.Repeat("x", 20<<10)
	sent := 0
	for range maxFlight {
		tl.pushed(tl.entry("bob", events.SessionID{}, body))
		sent += tl.bytes
	}
	if sent > 2*flightBytes {
		t.Errorf("%d bytes are on their way to one session, want about %d at most", sent, flightBytes)
	}
	tl.heard(1)
	tl.packet(1, bob, &wire.Got{Cursor: 3})
	tl.want(1, "it has what was sent: there is more, and no push will tell", "pong 0 head 32")
	tl.packet(1, bob, &wire.Got{Cursor: 32})
	tl.heard(1)
	tl.pushed(tl.entry("bob", events.SessionID{}, strings.Repeat("x", 70<<10)))
	tl.want(1, "too large to be pushed at all", "pong 0 head 33")
	tl.pushed(tl.entry("bob", events.SessionID{}, "small"))
	tl.want(1, "and there is room for others", `push 34 "small"`)
}

func TestSyncThatWaitsIsAnsweredWhenTheQueueIsFull(t *testing.T) {
	tl := newTale(t)
	bob := tl.login(1, "bob/phone")
	tl.heard(1)
	tl.hold = true
	tl.packet(1, bob, &wire.Sync{ID: 1, Ranges: []wire.Range{{}}})
	tl.packet(1, bob, &wire.Sync{ID: 2, Ranges: []wire.Range{{}}})
	e := &Edge{cfg: *tl.table.cfg, table: tl.table, tasks: make(chan task)}
	e.cfg.Sockets[0].PacketConn = wordless{}
	e.flush(tl.now)
	tl.table.tick(tl.now)
	e.flush(tl.now)
	if bob := tl.table.sessions[bob]; bob.sync.busy || bob.sync.waiting != nil {
		t.Error("a request was not answered")
	}
}

type wordless struct{ wire.PacketConn }

func (wordless) WriteBatch([]wire.Datagram) error { return nil }

// packets returns what the table sends.
func (tl *tale) packets() [][]wire.Datagram {
	out := tl.table.packets(tl.now)
	copies := make([][]wire.Datagram, len(out))
	for i, ds := range out {
		for _, d := range ds {
			copies[i] = append(copies[i], wire.Datagram{Addr: d.Addr, Data: bytes.Clone(d.Data)})
		}
	}
	tl.table.sent()
	return copies
}

// A repeat of the first LOGIN names no session, and may come when the session lives
// by another token.
func TestLateLoginIsARepeatAfterARenewal(t *testing.T) {
	tl := newTale(t)
	alice := tl.login(1, "alice/phone")
	tl.heard(1)
	tl.packet(1, alice, &wire.Login{Version: 1, Attempt: events.MessageID{2}, Token: "alice/phone"})
	tl.want(1, "renewed", "accepted head 0")
	tl.packet(1, events.SessionID{}, &wire.Login{Version: 1, Attempt: events.MessageID{1, 1}, Token: "alice/phone"})
	tl.want(1, "one session for one login", "accepted head 0")
	tl.packet(1, alice, &wire.Login{Version: 1, Attempt: events.MessageID{2}, Token: "alice/phone"})
	tl.want(1, "and for its renewal", "accepted head 0")
	if n := len(tl.table.sessions); n != 1 || len(tl.table.attempts) != 1 {
		t.Errorf("%d sessions for %d logins, want one", n, len(tl.table.attempts))
	}
	tl.packet(1, alice, &wire.Bye{})
	if n := len(tl.table.attempts); n != 0 {
		t.Errorf("%d logins are remembered without a session", n)
	}
}

func TestLoginsThatAreCheckedAtOnceOpenNoMoreSessionsThanThereMayBe(t *testing.T) {
	tl := newTale(t)
	tl.table.cfg.MaxSessions = 3
	tl.hold = true
	for n := range 5 {
		login := &wire.Login{Version: 1, Attempt: events.MessageID{byte(n + 1)}, Token: fmt.Sprintf("user%d/a-phone-with-a-long-name", n)}
		tl.packet(n+1, events.SessionID{}, login)
	}
	tl.hold = false
	tl.settle()
	if n := len(tl.table.sessions); n != 3 {
		t.Errorf("%d sessions, want 3", n)
	}
	tl.want(3, "the last for which there was room", "accepted head 0")
	tl.want(4, "one too many", "denied busy")
}

func TestStoreThatIsAwayIsNoErrorOfTheEdgeAndDamageIs(t *testing.T) {
	for err, want := range map[error]string{errors.New("throttled"): "level=WARN", events.ErrCorrupt: "level=ERROR"} {
		tl := newTale(t)
		var said bytes.Buffer
		tl.table.cfg.Logger = slog.New(slog.NewTextHandler(&said, nil))
		bob := tl.login(1, "bob/phone")
		tl.want(1, "nothing is wrong", "accepted head 0")
		tl.timelines.err = err
		tl.packet(1, bob, &wire.Sync{ID: 1, Ranges: []wire.Range{{After: 0}}})
		tl.bus.down = true
		tl.packet(1, bob, &wire.Ping{ID: 1})
		tl.packet(2, events.SessionID{}, &wire.Login{Version: 1, Token: "carol/phone"})
		if got := strings.Count(said.String(), want); got != 3 || strings.Count(said.String(), "level=") != 3 {
			t.Errorf("%v: it says\n%swant three times %s", err, &said, want)
		}
	}
}

// An inquiry that is due while as many are under way as may be begins when one of them ends.
// Were the loop to wake for it, it would do nothing else until then.
func TestNobodyWakesForAnInquiryThatCannotBegin(t *testing.T) {
	tl := newTale(t)
	table, now := tl.table, tl.now
	most := now.Add(time.Minute)
	table.asking["j:1"] = &inquiry{journal: "j:1", again: now.Add(-time.Second)}
	if at := table.retryAt(most); !at.Before(now) {
		t.Errorf("it is due at %v, want at once, as there is room", at)
	}
	table.inquiries = table.mostInquiries()
	if at := table.retryAt(most); at != most {
		t.Errorf("it is due at %v, want %v, as there is no room", at, most)
	}
}
