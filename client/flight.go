package client

import (
	"slices"
	"time"

	"timberline/events"
	"timberline/wire"
)

// The bounds of the window, in numbers. The server keeps 64 early ones.
const (
	firstWindow = 32
	minWindow   = 8
	maxWindow   = 64
)

// A fragment that three later transmissions have overtaken is taken for lost.
const overtakers = 3

// minProbe is the least time to believe that the server still holds what it
// said it held.
const minProbe = 2 * time.Second

type fragmentState uint8

const (
	waiting fragmentState = iota // to be sent, or sent again
	sent
	held // the server has it, but it is not durable
)

// A fragment is one number of a session.
type fragment struct {
	send  *send
	piece int
	state fragmentState
	at    time.Time // of the last transmission
	order uint64    // the place of that among all transmissions
	tries int
}

// A flight is the numbers of a session that have no answer yet.
//
//	base … sent, held or waiting … base+window | waiting for room … end
type flight struct {
	base  events.Number // the number of list[0]
	low   events.Number // answers to all below are kept; the server may forget them
	list  []fragment
	order uint64

	window    int
	threshold int // below it the window grows fast
	credit    int // answers towards one more
	shrunk    time.Time

	busyFrom  events.Number // not before busyUntil; 0: none
	busyUntil time.Time
	news      time.Time // when something was last answered, or a probe sent
}

func newFlight() flight {
	return flight{base: 1, low: 1, window: firstWindow, threshold: maxWindow}
}

// add gives the next number to a piece of a send.
func (f *flight) add(x *send, piece int) {
	f.list = append(f.list, fragment{send: x, piece: piece})
}

// drop takes back the last n numbers, which were not sent.
func (f *flight) drop(n int) { f.list = f.list[:len(f.list)-n] }

// end returns the number behind the last one given.
func (f *flight) end() events.Number { return f.base + events.Number(len(f.list)) }

// at returns the fragment with that number, nil if it has an answer.
func (f *flight) at(n events.Number) *fragment {
	if n < f.base || n >= f.end() {
		return nil
	}
	return &f.list[n-f.base]
}

// inWindow returns the fragments that may be on the way. Those of the first send
// that the server has already take no room: it answers when it has all of them.
func (f *flight) inWindow() []fragment {
	has := 0
	for has < len(f.list) && f.list[has].state == held && f.list[has].send == f.list[0].send {
		has++
	}
	return f.list[:min(has+f.window, len(f.list))]
}

// delayed reports whether the server asked not to be sent that number now.
func (f *flight) delayed(now time.Time, n events.Number) bool {
	return f.busyFrom != 0 && n >= f.busyFrom && now.Before(f.busyUntil)
}

// transmit calls out for every fragment that is to be sent now.
func (f *flight) transmit(now time.Time, out func(*wire.Send)) {
	window := f.inWindow()
	for i := range window {
		x := &window[i]
		n := f.base + events.Number(i)
		if f.delayed(now, n) {
			return
		}
		if x.state != waiting {
			continue
		}
		f.order++
		x.state, x.at, x.order = sent, now, f.order
		x.tries++
		if f.news.IsZero() {
			f.news = now
		}
		frame := x.send.pieces[x.piece]
		frame.Number, frame.Low = n, f.low
		out(&frame)
	}
}

// advance takes in an Ack and returns the sends that it answers, in order.
func (f *flight) advance(now time.Time, ack *wire.Ack, r *rtt) (answered []*send) {
	n := int(ack.Through + 1 - f.base)
	fresh := f.report(f.list[:n])
	for i := range f.list[:n] {
		x := &f.list[i]
		if x.piece == len(x.send.pieces)-1 {
			answered = append(answered, x.send)
		}
	}
	clear(f.list[:n])
	f.list, f.base = f.list[n:], ack.Through+1
	fresh = append(fresh, f.hold(ack.Held, n > 0)...)
	if len(fresh) == 0 && n == 0 {
		return nil
	}
	f.news = now
	r.answered()
	measure(now, fresh, r)
	f.grow(len(fresh))
	f.overtaken(now)
	return answered
}

// report returns the fragments that are heard of for the first time since they
// were sent.
func (f *flight) report(list []fragment) (fresh []fragment) {
	for _, x := range list {
		if x.state == sent {
			fresh = append(fresh, x)
		}
	}
	return fresh
}

// hold takes in the bitmap of what the server holds. An Ack that moved on says
// all there is to say; of others, some may be old, and only add.
func (f *flight) hold(bits []byte, moved bool) (fresh []fragment) {
	for i := range f.list {
		x := &f.list[i]
		has := i/8 < len(bits) && bits[i/8]>>(i%8)&1 == 1
		switch {
		case has && x.state == sent:
			fresh = append(fresh, *x)
			x.state = held
		case has && x.tries > 0:
			x.state = held
		case !has && moved && x.state == held:
			x.state = sent
		}
	}
	return fresh
}

// measure takes the newest of the fragments that were sent once as a measure of
// the round trip.
func measure(now time.Time, fresh []fragment, r *rtt) {
	var newest time.Time
	for _, x := range fresh {
		if x.tries == 1 && x.at.After(newest) {
			newest = x.at
		}
	}
	if !newest.IsZero() {
		r.measured(now.Sub(newest))
	}
}

// overtaken sends again what later transmissions have overtaken.
func (f *flight) overtaken(now time.Time) {
	var orders []uint64
	for _, x := range f.inWindow() {
		if x.state == held {
			orders = append(orders, x.order)
		}
	}
	if len(orders) < overtakers {
		return
	}
	slices.Sort(orders)
	limit := orders[len(orders)-overtakers]
	for i := range f.inWindow() {
		if x := &f.list[i]; x.state == sent && x.order < limit {
			x.state = waiting
			f.shrink(now)
		}
	}
}

func (f *flight) grow(answers int) {
	if f.window < f.threshold {
		f.window = min(f.window+answers, maxWindow)
		return
	}
	f.credit += answers
	if f.credit >= f.window {
		f.credit -= f.window
		f.window = min(f.window+1, maxWindow)
	}
}

// shrink halves the window, at most once for what was lost together.
func (f *flight) shrink(now time.Time) {
	if now.Sub(f.shrunk) < minRTO {
		return
	}
	f.shrunk = now
	f.window = max(f.window/2, minWindow)
	f.threshold = f.window
}

// busy takes in that the server wants nothing from a number on before a time.
func (f *flight) busy(from events.Number, until time.Time) {
	if from >= f.end() {
		return
	}
	f.busyFrom, f.busyUntil = max(from, f.base), until
	f.window = min(f.window, max(int(f.busyFrom-f.base), minWindow)) // so much finds room
	for i := f.busyFrom - f.base; int(i) < len(f.list); i++ {
		f.list[i].state = waiting
	}
}

// timeOut gives up waiting for what should have been answered by now. It reports
// whether there was anything.
func (f *flight) timeOut(now time.Time, r *rtt) bool {
	late := false
	window := f.inWindow()
	for i := range window {
		if x := &window[i]; x.state == sent && !now.Before(x.at.Add(r.rto())) {
			x.state = waiting
			late = true
		}
	}
	if at, ok := f.probeAt(r); ok && !now.Before(at) {
		for i := range window {
			if x := &window[i]; x.state == held && x.send == window[0].send {
				x.state = waiting
			}
		}
		f.news = now
	}
	if late {
		r.timedOut()
		f.shrink(now)
	}
	return late
}

// probeAt returns when to ask whether the server still holds the send with the lowest
// number: all of it, for it answers nothing before it has that.
func (f *flight) probeAt(r *rtt) (at time.Time, ok bool) {
	if len(f.list) == 0 || f.list[0].state != held {
		return time.Time{}, false
	}
	return f.news.Add(max(minProbe, 4*r.rto())), true
}

// next returns when there is something to do; zero: never.
func (f *flight) next(now time.Time, r *rtt) (at time.Time) {
	at, _ = f.probeAt(r)
	for i, x := range f.inWindow() {
		switch {
		case f.delayed(now, f.base+events.Number(i)):
			return sooner(at, f.busyUntil)
		case x.state == waiting:
			return now
		case x.state == sent:
			at = sooner(at, x.at.Add(r.rto()))
		}
	}
	return at
}

// sooner returns the earlier of two times, of which zero means never.
func sooner(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
