package edge

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"time"

	"timberline/edge/auth"
	"timberline/events"
	"timberline/ingest"
	"timberline/sim/planted"
	"timberline/wire"
	"timberline/wire/sealed"
)

// A state is where a session is in its life.
//
//	opening ──▶ open ──▶ closing ──▶ (gone)
type state uint8

const (
	opening state = iota // the token is good, the store is being read
	open                 // takes frames
	closing              // its last event is on the way into the log
)

// A session is one login of one device. It does no I/O and reads no clock.
type session struct {
	table   *table
	turn    uint64 // which connection it is: a device's later one replaces the one before, however late its LOGIN is
	owner   ingest.Owner
	attempt attempt          // that opened it
	renewal events.MessageID // the attempt that renewed its token last; at first that which opened it
	channel *sealed.Channel  // nil: in plain mode
	codec   wire.Codec
	src     from  // where its packets come from, and go to
	path    *path // where they may come from now; nil: from src
	meter   meter // of its packets
	state   state
	journal events.Journal
	begins  events.Offset // every send will stand behind it
	heard   time.Time
	idle    time.Duration // it is over after so long without a packet
	mute    bool          // the cursor is not of this timeline: no send is admitted (R4)

	identity auth.Identity // whom its token names
	expires  time.Time     // when its token does; zero: never
	renewing bool          // another token is being checked

	order    ingest.Order
	waits    int             // events submitted and not settled
	settling int             // old sessions still to be settled: until then nothing is admitted
	settled  []*wire.Settled // answers, for as long as Login may be repeated
	waiting  []*session      // new sessions that wait for this one to be gone

	deliver delivery
	sync    syncing

	frames []wire.Frame // to be sent
	ack    bool         // an Ack is to be sent
	dirty  bool         // stands in table.dirty

	due  time.Time // when something is to be done
	slot int       // in timers; -1: in none
}

// say adds a frame to what is sent next. It must not alias a packet.
func (s *session) say(f wire.Frame) {
	s.frames = append(s.frames, f)
	s.touch()
}

// wantAck puts an Ack into what is sent next; there is one of it however often
// it is wanted.
func (s *session) wantAck() {
	s.ack = true
	s.touch()
}

func (s *session) touch() {
	if !s.dirty {
		s.dirty = true
		s.table.dirty = append(s.table.dirty, s)
	}
}

// pack returns the packets with all that is to be said now.
func (s *session) pack(now time.Time) [][]byte {
	p := s.begin()
	if s.ack {
		p.Add(s.makeAck())
	}
	for _, f := range s.frames {
		if f, ok := f.(*wire.Push); ok {
			wire.AppendPushes(p, f.From, f.Events, f.Omitted)
			continue
		}
		p.Add(f)
	}
	s.frames, s.ack = nil, false
	return s.seal(append(p.Packets(), s.takePages(now)...))
}

// begin returns the table's packer, ready for packets of the session.
func (s *session) begin() *wire.Packer {
	p := &s.table.packer
	if s.channel != nil {
		p.BeginSealed(s.codec)
	} else {
		p.Begin(s.codec, s.owner.Session)
	}
	return p
}

// seal seals packets in their place, if the session is sealed.
func (s *session) seal(packets [][]byte) [][]byte {
	for i := range packets {
		if s.channel == nil {
			break
		}
		var err error
		if packets[i], err = s.channel.Seal(packets[i]); err != nil {
			return packets[:i] // worn out: the session is about to end
		}
	}
	return packets
}

func (s *session) makeAck() *wire.Ack {
	ack := &wire.Ack{Through: s.order.Through(), Offset: s.offset(), Held: s.order.Held()}
	for _, r := range s.order.Refused() {
		ack.Refused = append(ack.Refused, wire.Refusal{From: r.From, To: r.To, Reason: reasonOf(r.Cause)})
	}
	if planted.Is(planted.RefusalForgotten) {
		s.order.Heard(ack.Through + 1)
	}
	return ack
}

// offset returns an offset that everything not yet answered will stand behind.
func (s *session) offset() events.Offset {
	if s.table.journal == s.journal {
		return max(s.begins, s.table.offset)
	}
	return s.begins
}

// reasonOf turns causes of refusals into what clients are told.
func reasonOf(err error) wire.Reason {
	switch {
	case errors.Is(err, events.ErrTooLarge):
		return wire.ReasonTooLarge
	case errors.Is(err, errRecipient):
		return wire.ReasonRecipient
	case errors.Is(err, events.ErrInvalid), errors.Is(err, ingest.ErrSequence):
		return wire.ReasonMalformed
	}
	return wire.ReasonNotAllowed
}

// Causes of refusals.
var (
	errRecipient  = errors.New("recipient is not a user's name")
	errNotAllowed = errors.New("sender may not write to that recipient")
)

// sayBusy refuses what a session sends from a number on, for now.
func (s *session) sayBusy(from events.Number) {
	s.table.counts.busy.Add(1)
	if last := len(s.frames) - 1; last >= 0 {
		if f, ok := s.frames[last].(*wire.Busy); ok && f.From == from {
			return // it is said
		}
	}
	s.say(&wire.Busy{From: from, RetryAfter: uint32(s.table.load.retry().Milliseconds())})
}

// slowDown answers a client that says more than its session may: what it wants to
// send it has to send again, and all else it repeats.
func (t *table) slowDown(s *session, fs []wire.Frame) {
	if s.state != open || !slices.ContainsFunc(fs, func(f wire.Frame) bool { _, ok := f.(*wire.Send); return ok }) {
		return
	}
	s.sayBusy(s.order.Next())
}

// send takes in a send, or a fragment of one.
func (t *table) send(now time.Time, s *session, f *wire.Send) {
	if s.settling > 0 || s.mute {
		return // the client knows, or will: see Login
	}
	t.counts.sends.Add(1)
	s.settled = nil // it has the answers, or it would not send
	s.order.Heard(f.Low)
	fragment := ingest.Fragment{
		Number: f.Number, Index: f.Fragment, Count: f.Fragments,
		To: f.To, ID: f.Message, Type: f.Type, Body: f.Body, With: f.With, Read: f.Read,
	}
	if s.order.Full(fragment, t.load.room()) {
		s.sayBusy(s.order.Next())
		return
	}
	lost := false
	answer := s.order.Offer(fragment, func(send ingest.Fragment, last events.Number) error {
		err := t.admit(now, s, send, last)
		if errors.Is(err, ingest.ErrJournalLost) {
			lost = true
			return events.ErrBusy // never in the log: the session is over
		}
		return err
	})
	switch {
	case lost:
		t.end(s, wire.ReasonJournal)
	case answer.Busy != 0:
		s.sayBusy(answer.Busy)
	case answer.Ack:
		s.wantAck()
	case t.load.slows():
		s.sayBusy(s.order.Next())
	}
}

// admit checks a whole send whose turn it is and gives it to the Writer.
func (t *table) admit(now time.Time, s *session, send ingest.Fragment, last events.Number) error {
	e, err := t.event(s, send, last)
	if err != nil {
		t.counts.refused.Add(1)
		return err
	}
	if planted.Is(planted.ClockFromClient) {
		t.cfg.Clock.Observe(events.ID(send.ID))
	}
	if err := t.cfg.Writer.Submit(s.journal, e); err != nil {
		return err
	}
	t.load.submitted(now)
	s.waits++
	return nil
}

// event returns what a send says, if the session's user may say that.
func (t *table) event(s *session, send ingest.Fragment, last events.Number) (e events.Event, err error) {
	kind, to := events.KindMessage, send.To
	switch {
	case to == "" && send.Read != (events.ID{}):
		kind, to = events.KindReadUpTo, send.With
	case to != "" && send.With != "":
		return e, fmt.Errorf("%w: a send to %q and with %q, want one of them", events.ErrInvalid, to, send.With)
	}
	if to.Validate() != nil {
		return e, errRecipient
	}
	if !t.cfg.Policy.MayWrite(s.owner.User, to) {
		return e, errNotAllowed
	}
	e = events.Event{
		Kind:         kind,
		Conversation: events.Direct(s.owner.User, to),
		Sender:       s.owner.User,
		Device:       s.owner.Device,
		Session:      s.owner.Session,
		Number:       last,
		Message:      send.ID,
		ContentType:  send.Type,
		Body:         bytes.Clone(send.Body),
		Target:       send.Read,
	}
	return e, e.Validate(t.cfg.MaxBody)
}

// ping takes in a heartbeat.
func (t *table) ping(now time.Time, s *session, f *wire.Ping) {
	s.order.Heard(f.Low)
	s.got(now, f.Cursor)
	s.idle = idleHeartbeats * min(max(time.Duration(f.Next)*time.Millisecond, t.cfg.Heartbeat), t.cfg.MaxHeartbeat)
	if s.order.Sent() {
		s.wantAck()
	}
	if s.mute || t.stale(now, s) || !t.cfg.Bus.Connected() {
		t.readHead(now, s, f.ID)
		return
	}
	s.pong(f.ID)
}

// pong tells the session where its timeline ends.
func (s *session) pong(id uint32) {
	s.say(&wire.Pong{ID: id, Head: s.deliver.head, First: s.deliver.first})
}

// closed returns what tells the client that the session is over. When the journal has ended
// nothing of it is on its way any more: all that was admitted is answered.
func (s *session) closed(reason wire.Reason) *wire.Closed {
	f := &wire.Closed{Reason: reason}
	if reason == wire.ReasonShutdown && s.channel != nil { // it names a sealed socket
		f.Address = s.table.cfg.Handover
	}
	if (reason == wire.ReasonShutdown || reason == wire.ReasonJournal) && s.order.Idle() {
		f.Final, f.Through = true, s.order.Through()
		if s.order.Sent() {
			s.wantAck() // in the same packet
		}
	}
	return f
}

// end ends a session: no frame of it is heard any more. It is gone when its last
// event is in the log.
func (t *table) end(s *session, reason wire.Reason) {
	if s.state == closing {
		return
	}
	if s.state == open {
		s.say(s.closed(reason))
	}
	s.state = closing
	t.unbind(s)
	closed := events.Event{
		Kind: events.KindSessionClosed, Sender: s.owner.User, Device: s.owner.Device, Session: s.owner.Session,
	}
	switch {
	case !s.order.Sent():
		t.gone(s) // a session that never sent has nothing to settle
	case t.cfg.Writer.Submit(s.journal, closed) != nil:
		// The journal is lost: the report that says so ends what is left of it.
	}
}

// unbind takes a session out of everything but sessions.
func (t *table) unbind(s *session) {
	dev := device{s.owner.User, s.owner.Device}
	if t.devices[dev] == s {
		delete(t.devices, dev)
	}
	if t.attempts[s.attempt] == s {
		delete(t.attempts, s.attempt)
	}
	t.timers.drop(s)
	s.deliver.flight = nil
	s.dropPages()
	others := t.users[s.owner.User]
	for i, other := range others {
		if other != s {
			continue
		}
		if len(others) == 1 {
			delete(t.users, s.owner.User)
		} else {
			t.users[s.owner.User] = append(others[:i:i], others[i+1:]...)
		}
		return
	}
}

// gone forgets a session of which everything is settled, and answers those who
// waited for that.
func (t *table) gone(s *session) {
	if s.state != closing || t.sessions[s.owner.Session] != s {
		return
	}
	delete(t.sessions, s.owner.Session)
	t.load.waiting -= s.waits // of a lost journal, or closed by another edge: never in the log
	t.cfg.Writer.Forget(s.owner)
	for _, w := range s.waiting {
		w.answered(&wire.Settled{Session: s.owner.Session, Numbers: s.order.Standing()})
	}
	s.waiting = nil
}

// restAfter is how long a session must be silent for its channel to rest: most
// sessions do nothing but send a heartbeat now and then.
const restAfter = time.Second

// rest lets the channel of a silent session rest.
func (t *table) rest(now time.Time, s *session) {
	switch at := s.heard.Add(restAfter); {
	case s.channel == nil:
	case now.Before(at):
		t.timers.set(s, at)
	default:
		s.channel.Rest()
	}
}

// due does what is due for a session and sets the next time.
func (t *table) due(now time.Time, s *session) {
	silent := s.heard.Add(s.idle)
	switch {
	case !now.Before(silent):
		t.end(s, wire.ReasonIdle)
		return
	case !s.expires.IsZero() && !now.Before(s.expires):
		t.end(s, wire.ReasonExpired)
		return
	}
	s.resend(now)
	t.rest(now, s)
	s.tell(now)
	t.timers.set(s, silent)
	if !s.expires.IsZero() {
		t.timers.set(s, s.expires)
	}
	if len(s.deliver.flight) > 0 {
		t.timers.set(s, s.deliver.resendAt)
	}
	switch {
	case len(s.sync.packets) == 0:
	case now.Before(s.sync.next):
		t.timers.set(s, s.sync.next)
	default:
		s.touch() // packets sets the next time
	}
	t.goOn(s)
}
