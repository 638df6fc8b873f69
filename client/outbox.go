package client

import (
	"fmt"
	"math"
	"slices"
	"time"

	"timberline/events"
	"timberline/wire"
)

// A send is one message in the outbox.
type send struct {
	SavedSend
	pieces []wire.Send // in the codec in use; Number and Low are not set
	told   bool        // the result is on its way to the app
}

// An outbox is the sends that are not over, and what became of them (R3). It
// does no I/O and reads no clock.
//
//	sends:  answered, app not told | in the session, by number | not in it yet
//
// A send is in the session when it has a number there, and it gets one only when
// every older session is settled; so at most one session has sends that may or
// may not stand in the log.
type outbox struct {
	codec  wire.Codec
	sends  []*send // in the order sent
	nextID uint64
	open   int // sends without an answer

	session wire.OldSession // where numbers were given; zero: nowhere
	active  bool            // the device is in that session
	begun   bool            // the Store knows that
	flight  flight          // the numbered fragments
	echoes  echoes

	changes []Change // for the Store
	results []*send  // for the app, answered
	mark    mark
}

// A mark is an offset that may be stored once every send up to a number is over:
// later the server would not look for them there.
type mark struct {
	through events.Number
	offset  events.Offset
}

// load fills the outbox from what was kept.
func (o *outbox) load(s Saved) {
	o.session = s.Session
	o.nextID = 1
	for _, saved := range s.Sends {
		x := &send{SavedSend: saved}
		o.sends = append(o.sends, x)
		o.nextID = saved.ID + 1
		if x.Answer.Fate == FateOpen {
			o.open++
		} else {
			o.tell(x)
		}
	}
}

// split returns a send's fragments. Numbers are thought as long as they can
// become, so how many there are depends on the send and the codec alone.
func split(c wire.Codec, s *SavedSend) ([]wire.Send, error) {
	return wire.Fragment(c, wire.Send{
		Number: math.MaxInt64, Low: math.MaxInt64,
		To: s.To, Message: s.Message, Type: s.Type, Body: s.Body, With: s.With, Read: s.Read,
	})
}

// add takes a send into the outbox; the Store is yet to be told (changes). The
// error wraps events.ErrTooLarge.
func (o *outbox) add(s SavedSend) error {
	pieces, err := split(o.codec, &s)
	if err != nil {
		return fmt.Errorf("%w: %w", events.ErrTooLarge, err)
	}
	s.ID = o.nextID
	o.nextID++
	x := &send{SavedSend: s, pieces: pieces}
	o.sends = append(o.sends, x)
	o.open++
	if o.active && o.begun {
		o.number(x)
	}
	o.changes = append(o.changes, Change{Send: &x.SavedSend})
	return nil
}

// withdraw takes back the newest sends, which the Store did not keep. They have
// not been sent.
func (o *outbox) withdraw(n int) {
	for _, x := range o.sends[len(o.sends)-n:] {
		if x.Number != 0 {
			o.flight.drop(len(x.pieces))
		}
		o.open--
	}
	o.sends = o.sends[:len(o.sends)-n]
}

// number gives the send its numbers in the session.
func (o *outbox) number(x *send) {
	for i := range x.pieces {
		o.flight.add(x, i)
	}
	x.Number = o.flight.end() - 1
}

// size returns how many sends are not over: answered ones count until the app
// has taken the result.
func (o *outbox) size() int { return len(o.sends) }

// unsettled returns the session that a login has to settle; ok is false if no
// send without an answer has a number.
func (o *outbox) unsettled() (s wire.OldSession, ok bool) {
	for _, x := range o.sends {
		if x.Answer.Fate == FateOpen && x.Number != 0 {
			return o.session, true
		}
	}
	return wire.OldSession{}, false
}

// leave notes that the session is over. Its sends keep their numbers until they
// are settled.
func (o *outbox) leave() {
	o.active = false
	o.flight = flight{}
	o.echoes = echoes{}
}

// settled takes in what stands in the log of the session that was left.
func (o *outbox) settled(f *wire.Settled) {
	if f.Session != o.session.Session || o.active {
		return
	}
	for _, x := range o.sends {
		switch {
		case x.Answer.Fate != FateOpen || x.Number == 0:
		case f.Unknown:
			o.answer(x, Answer{Fate: FateUnknown})
		case stands(f.Numbers, x.Number):
			o.answer(x, Answer{Fate: FateStored})
		default:
			x.Number = 0 // it will never be there: free to be sent anew
		}
	}
}

// over takes in that a session is over for ever. If it is the one whose sends have no
// answer, and not one that was to settle that, and they have all answers that will ever
// come, there is nothing to settle.
func (o *outbox) over(session events.SessionID, f *wire.Closed) {
	if session != o.session.Session {
		return
	}
	missed := func(x *send) bool { return x.Answer.Fate == FateOpen && x.Number != 0 && x.Number <= f.Through }
	if f.Final && !slices.ContainsFunc(o.sends, missed) {
		o.settled(&wire.Settled{Session: o.session.Session})
	}
}

// stands reports whether n is in one of the runs.
func stands(runs []uint64, n events.Number) bool {
	for run := range slices.Chunk(runs, 2) {
		if run[0] <= uint64(n) && uint64(n) <= run[1] {
			return true
		}
	}
	return false
}

// enter notes that the device is in a session and may send: every older one is
// settled.
func (o *outbox) enter(s wire.OldSession) {
	o.session, o.active, o.begun = s, true, false
	o.mark = mark{}
	o.flight = newFlight()
}

// waitsForStore reports whether sends wait for the Store to keep their session.
func (o *outbox) waitsForStore() bool { return o.active && !o.begun && o.open > 0 }

// begin gives numbers to what waits, before anything is sent; the Store is yet
// to be told. Answers that the app has not taken are kept with it: their old
// session can no longer be asked. It reports whether it did anything.
func (o *outbox) begin() bool {
	if !o.waitsForStore() {
		return false
	}
	o.begun = true
	begin := &SavedBegin{Session: o.session}
	for _, x := range o.sends {
		if x.Answer.Fate != FateOpen {
			o.changes = append(o.changes, Change{Answer: &SavedAnswer{ID: x.ID, Answer: x.Answer}})
			continue
		}
		if x.pieces == nil && !o.resplit(x) {
			continue
		}
		o.number(x)
		begin.Numbers = append(begin.Numbers, uint64(x.Number))
	}
	o.changes = append(o.changes, Change{Session: begin})
	return true
}

// takeChanges returns what the Store is yet to be told.
func (o *outbox) takeChanges() []Change {
	c := o.changes
	o.changes = nil
	return c
}

// rollBack takes back what must not show unless the Store keeps it: the begin of
// a session, and the newest sends. It returns the changes that stay.
func (o *outbox) rollBack(changes []Change, began bool, adds int) []Change {
	if began {
		o.unbegin()
	}
	o.withdraw(adds)
	return slices.DeleteFunc(changes, func(c Change) bool { return c.Send != nil || c.Session != nil })
}

// resplit makes the fragments of a send that was kept by another process,
// perhaps for another codec, in which it was not too large.
func (o *outbox) resplit(x *send) (ok bool) {
	pieces, err := split(o.codec, &x.SavedSend)
	if err != nil {
		o.answer(x, Answer{Fate: FateRefused, Reason: wire.ReasonTooLarge})
		return false
	}
	x.pieces = pieces
	return true
}

// unbegin takes begin back: the Store did not keep it, and nothing was sent.
func (o *outbox) unbegin() {
	o.begun = false
	o.flight = newFlight()
	for _, x := range o.sends {
		if x.Answer.Fate == FateOpen {
			x.Number = 0
		}
	}
}

// answer notes what became of a send. A refusal and an unknown fate are kept at
// once, since the log could not tell them again; that a send is stored it could.
func (o *outbox) answer(x *send, a Answer) {
	x.Answer = a
	o.open--
	if a.Fate != FateStored {
		o.changes = append(o.changes, Change{Answer: &SavedAnswer{ID: x.ID, Answer: a}})
	}
	o.tell(x)
}

func (o *outbox) tell(x *send) {
	if !x.told {
		x.told = true
		o.results = append(o.results, x)
	}
}

// takeResults returns the sends whose results the app is to be told.
func (o *outbox) takeResults() []*send {
	r := o.results
	o.results = nil
	return r
}

// done notes that the app has taken the result of a send, which is over now.
func (o *outbox) done(id uint64) {
	i := slices.IndexFunc(o.sends, func(x *send) bool { return x.ID == id })
	if i < 0 {
		return
	}
	o.sends = slices.Delete(o.sends, i, i+1)
	o.changes = append(o.changes, Change{Done: id})
	o.moveOffset()
}

// moveOffset keeps the marked offset once all sends before it are over: a
// settling has less to read then. It is never urgent.
func (o *outbox) moveOffset() {
	if !o.begun || o.mark.offset <= o.session.Offset {
		return
	}
	for _, x := range o.sends {
		if x.Number != 0 && x.Number <= o.mark.through {
			return
		}
	}
	o.session.Offset = o.mark.offset
	o.changes = append(o.changes, Change{Offset: o.mark.offset})
	o.mark = mark{}
}

// pendingUpTo reports whether any send up to that one is not over.
func (o *outbox) pendingUpTo(id uint64) bool {
	return len(o.sends) > 0 && o.sends[0].ID <= id
}

// low returns the lowest number without an answer that is kept; 0 if the session
// has sent nothing.
func (o *outbox) low() events.Number {
	if !o.sending() {
		return 0
	}
	return o.flight.low
}

// kept notes that the Store knows of every answer so far. A server that is told a
// higher low forgets its refusals, and settling would take them for stored.
func (o *outbox) kept() { o.flight.low = o.flight.base }

// acked takes in an Ack of the session.
func (o *outbox) acked(now time.Time, f *wire.Ack, r *rtt) {
	if !o.active || f.Through+1 < o.flight.base || f.Through >= o.flight.end() {
		return // late, or not of this session
	}
	for _, x := range o.flight.advance(now, f, r) {
		a := Answer{Fate: FateStored}
		for _, refused := range f.Refused {
			if refused.From <= x.Number && x.Number <= refused.To {
				a = Answer{Fate: FateRefused, Reason: refused.Reason}
			}
		}
		o.answer(x, a)
		if a.Fate == FateStored {
			o.echoes.add(x)
		}
	}
	if o.mark.offset == 0 {
		o.mark = mark{through: f.Through, offset: f.Offset}
	}
}

// busy takes in that the server wants nothing from a number on before a time.
func (o *outbox) busy(from events.Number, until time.Time) {
	if o.active {
		o.flight.busy(from, until)
	}
}

// sending reports whether sends may go out: the Store knows their session.
func (o *outbox) sending() bool { return o.active && o.begun }

// timeOut gives up waiting for late answers. It reports whether there were any.
func (o *outbox) timeOut(now time.Time, r *rtt) bool {
	return o.sending() && o.flight.timeOut(now, r)
}

// transmit calls out for every frame that is to be sent now.
func (o *outbox) transmit(now time.Time, out func(*wire.Send)) {
	if o.sending() {
		o.flight.transmit(now, out)
	}
}

// next returns when there is something to do; zero: never.
func (o *outbox) next(now time.Time, r *rtt) time.Time {
	if !o.sending() {
		return time.Time{}
	}
	return o.flight.next(now, r)
}

// body returns the body of a send of this session, which the server leaves out
// when it shows the device its own message.
func (o *outbox) body(n events.Number) (body []byte, ok bool) {
	if f := o.flight.at(n); f != nil {
		return f.send.Body, true
	}
	return o.echoes.body(n)
}
