package ingest

import (
	"errors"

	"timberline/events"
	"timberline/sim/planted"
)

// A Fragment is a piece of a send as it came from the client; most sends are one
// fragment. Only the first of several has more than a body.
type Fragment struct {
	Number events.Number
	Index  uint32 // 0 is the first
	Count  uint32 // 0 and 1: the send is whole
	To     events.User
	ID     events.MessageID
	Type   string
	Body   []byte // may alias a packet: an Order copies what it keeps
	With   events.User
	Read   events.ID // the conversation with With was read up to here; zero: it is a message
}

// A Refusal is a send that will never be in the log. Its numbers are used up.
type Refusal struct {
	From, To events.Number
	Cause    error
}

// An Answer says what the owner of an Order has to tell the client.
type Answer struct {
	Ack  bool          // now: there is news, or the client seems to lack some
	Busy events.Number // if not 0: everything from here on must be sent again
}

// Bounds of what an Order keeps for one session.
const (
	maxHeld      = 64       // fragments that came early
	maxHeldBytes = 64 << 10 // their bodies
	maxRefusals  = 64       // standing refusals before admission stops
)

// ErrSequence is the cause of a refusal: a fragment does not continue the one
// before it.
var ErrSequence = errors.New("fragment does not continue the send before it")

// An Order is the sends of one session on their way into the log (R3). It does
// no I/O and reads no clock: it is told what arrives and what became durable.
//
//	1 … durable | submitted, in flight | joined … admitted | a gap | held early
type Order struct {
	admitted events.Number // the last number that had its turn
	durable  events.Number // up to here every send is in the log, or was refused long ago
	refused  []Refusal     // standing, by number
	joined   *joined       // the send whose fragments are being put together
	held     []Fragment    // early ones, by number
	bytes    int           // of their bodies
}

// joined is a send of which the first fragments have come.
type joined struct {
	first Fragment // with the bodies so far
	index uint32   // of the next fragment
}

// Offer takes a fragment. It calls admit for each send that is complete and in
// order, with the number of its last fragment; the body may alias the packet.
// admit's error says why the send is refused: events.ErrBusy for now, any other
// for good.
func (o *Order) Offer(f Fragment, admit func(send Fragment, last events.Number) error) (answer Answer) {
	switch {
	case f.Number <= o.admitted:
		return Answer{Ack: true} // a repeat: the answer to it was lost, or is on its way
	case len(o.refused) >= maxRefusals:
		return Answer{Ack: true} // until the client has heard of some
	case f.Number > o.admitted+1 && !planted.Is(planted.AdmitOutOfOrder):
		o.hold(f)
		answer.Ack = true // tells the client what is missing
		if !o.ready() {
			return answer
		}
		f = o.unhold() // refusals that are heard by now had stopped it
	}
	for {
		refusals := len(o.refused)
		if busy := o.take(f, admit); busy != 0 {
			o.dropFrom(busy)
			answer.Busy = busy
			return answer
		}
		answer.Ack = answer.Ack || len(o.refused) > refusals
		if len(o.held) > 0 && o.held[0].Number == o.admitted {
			o.unhold() // it has come again
		}
		if !o.ready() || len(o.refused) >= maxRefusals {
			return answer
		}
		f = o.unhold()
	}
}

// ready reports whether it is the turn of a fragment that came early.
func (o *Order) ready() bool { return len(o.held) > 0 && o.held[0].Number == o.admitted+1 }

// unhold takes out the first fragment that came early.
func (o *Order) unhold() Fragment {
	f := o.held[0]
	o.held = o.held[1:]
	o.bytes -= len(f.Body)
	return f
}

// take admits the fragment whose turn it is. It returns the number from which
// the session is busy, or 0.
func (o *Order) take(f Fragment, admit func(Fragment, events.Number) error) (busy events.Number) {
	o.admitted = f.Number
	send, first, complete := o.join(f)
	if !complete {
		return 0
	}
	var err error
	if send == nil {
		err = ErrSequence
	} else {
		err = admit(*send, f.Number)
	}
	switch {
	case err == nil:
		return 0
	case errors.Is(err, events.ErrBusy):
		return first
	}
	o.refused = append(o.refused, Refusal{From: first, To: f.Number, Cause: err})
	return 0
}

// join adds a fragment to the send it belongs to. complete says that the send is
// over: whole, or (send nil) not to be put together.
func (o *Order) join(f Fragment) (send *Fragment, first events.Number, complete bool) {
	j := o.joined
	if f.Count <= 1 && f.Index == 0 && j == nil {
		return &f, f.Number, true
	}
	switch {
	case j == nil && f.Index == 0:
		f.Body = append([]byte(nil), f.Body...)
		o.joined = &joined{first: f, index: 1}
		return nil, f.Number, false
	case j == nil:
		return nil, f.Number, true
	case f.Index != j.index || f.Count != j.first.Count:
		o.joined = nil
		return nil, j.first.Number, true
	}
	j.first.Body = append(j.first.Body, f.Body...)
	j.index++
	if j.index < j.first.Count {
		return nil, j.first.Number, false
	}
	o.joined = nil
	return &j.first, j.first.Number, true
}

// hold keeps an early fragment if there is room; of more than fit, those with
// the highest numbers are dropped.
func (o *Order) hold(f Fragment) {
	if f.Number > o.admitted+maxHeld {
		return
	}
	i := len(o.held)
	for i > 0 && o.held[i-1].Number >= f.Number {
		i--
	}
	if i < len(o.held) && o.held[i].Number == f.Number {
		return
	}
	f.Body = append([]byte(nil), f.Body...)
	o.held = append(o.held, Fragment{})
	copy(o.held[i+1:], o.held[i:])
	o.held[i] = f
	o.bytes += len(f.Body)
	for o.bytes > maxHeldBytes {
		last := len(o.held) - 1
		o.bytes -= len(o.held[last].Body)
		o.held = o.held[:last]
	}
}

// dropFrom forgets everything from number n on, as if it had never come.
func (o *Order) dropFrom(n events.Number) {
	o.admitted = n - 1
	o.joined, o.held, o.bytes = nil, nil, 0
}

// Durable notes that the send with that number, and so all submitted before it,
// is in the log.
func (o *Order) Durable(n events.Number) { o.durable = max(o.durable, n) }

// Heard notes that the client has an answer for every number below low.
func (o *Order) Heard(low events.Number) {
	for len(o.refused) > 0 {
		r := o.refused[0]
		if r.To >= low || r.From > o.durable+1 {
			return
		}
		o.durable = max(o.durable, r.To) // what the refusal said is said
		o.refused = o.refused[1:]
	}
	o.refused = nil
}

// Through returns the number up to which every send is answered.
func (o *Order) Through() events.Number {
	through := o.durable
	for _, r := range o.refused {
		if r.From == through+1 {
			through = r.To
		}
	}
	return through
}

// Refused returns the standing refusals up to Through, by number. The slice is
// the Order's own.
func (o *Order) Refused() []Refusal {
	through := o.Through()
	n := 0
	for n < len(o.refused) && o.refused[n].To <= through {
		n++
	}
	return o.refused[:n]
}

// Held returns a bitmap of what has arrived behind Through and waits: bit i,
// least significant first, is number Through+1+i. It is nil if nothing waits.
func (o *Order) Held() []byte {
	through := o.Through()
	top := o.admitted
	if len(o.held) > 0 {
		top = o.held[len(o.held)-1].Number
	}
	if top <= through {
		return nil
	}
	bits := make([]byte, min((top-through+7)/8, maxBitmap))
	set := func(n events.Number) {
		if i := n - through - 1; int(i/8) < len(bits) {
			bits[i/8] |= 1 << (i % 8)
		}
	}
	for n := through + 1; n <= o.admitted && int(n-through-1) < 8*maxBitmap; n++ {
		set(n)
	}
	for _, f := range o.held {
		set(f.Number)
	}
	return bits
}

// maxBitmap bounds the bytes of a bitmap: more than a client has in flight.
const maxBitmap = 64

// Idle reports whether every send that was admitted is answered.
func (o *Order) Idle() bool { return o.Through() == o.admitted }

// Next returns the number whose turn it is.
func (o *Order) Next() events.Number { return o.admitted + 1 }

// Full reports whether so many numbers were admitted and are not answered, most or
// more, that a fragment has to wait: one that begins a send. What was begun always finds
// room.
func (o *Order) Full(f Fragment, most events.Number) bool {
	return f.Number > o.admitted && o.joined == nil && o.admitted-o.Through() >= most
}

// Sent reports whether any send was admitted.
func (o *Order) Sent() bool { return o.admitted > 0 }

// Standing returns the numbers up to Through that stand in the log, as pairs of
// first and last. A number of a send's earlier fragments counts with its last.
func (o *Order) Standing() []uint64 {
	var runs []uint64
	from := events.Number(1)
	for _, r := range o.Refused() {
		if r.From > from {
			runs = append(runs, uint64(from), uint64(r.From-1))
		}
		from = r.To + 1
	}
	if through := o.Through(); through >= from {
		runs = append(runs, uint64(from), uint64(through))
	}
	return runs
}
