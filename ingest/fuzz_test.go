package ingest

import (
	"errors"
	"slices"
	"testing"

	"timberline/events"
	"timberline/sim/script"
)

// Whatever a client sends, in whatever order, and whatever becomes of it: an Order
// keeps its bounds, admits by number, and says of nothing that it stands which was
// not reported.
func FuzzOrder(f *testing.F) {
	f.Add([]byte{0, 1, 0, 1, 9, 0, 0, 0, 1, 9, 0, 5, 0, 1, 9, 0, 2, 1, 1, 3})
	script.Seed(f)
	f.Fuzz(func(t *testing.T, story []byte) {
		o := &ordeal{Script: story[:min(len(story), 4<<10)], t: t}
		for len(o.Script) > 0 {
			o.act()
			o.check()
		}
	})
}

// An ordeal is an Order, and what is known of its sends.
type ordeal struct {
	script.Script
	t       *testing.T
	order   Order
	waiting []events.Number // admitted, not durable
	last    events.Number   // that was admitted, or refused
}

func (o *ordeal) act() {
	switch n := o.Next() % 16; {
	case n < 12:
		o.offer()
	case n < 14:
		n := min(int(o.Next()), len(o.waiting))
		for _, number := range o.waiting[:n] {
			o.order.Durable(number)
		}
		o.waiting = o.waiting[n:]
	default:
		o.order.Heard(o.order.Next() - min(events.Number(o.Next()%80), o.order.Next()))
	}
}

// offer hands in a fragment, most often the next.
func (o *ordeal) offer() {
	next := o.order.Next()
	f := Fragment{Number: next, Body: make([]byte, 8*int(o.Next()))}
	switch n := events.Number(o.Next()); {
	case n >= 254:
		f.Number = 1<<64 - 1 - (n - 254)
	case n >= 128:
		f.Number = next + n%80
	case n >= 112:
		f.Number = max(next, n-112) - (n - 112)
	}
	if n := o.Next(); n >= 192 {
		f.Count = uint32(2 + n%63)
		f.Index = uint32(o.Next()) % f.Count
	}
	verdict := o.Next()
	answer := o.order.Offer(f, func(send Fragment, last events.Number) error {
		if last <= o.last {
			o.t.Fatalf("number %d is admitted after %d", last, o.last)
		}
		switch {
		case verdict%8 == 7:
			return events.ErrBusy
		case verdict%8 >= 5:
			o.last = last
			return events.ErrTooLarge
		}
		o.last = last
		o.waiting = append(o.waiting, last)
		return nil
	})
	if f.Number >= next && o.order.ready() && len(o.order.refused) < maxRefusals {
		o.t.Fatalf("%d is next, and is held", o.order.Next())
	}
	if answer.Busy != 0 && answer.Busy != o.order.Next() {
		o.t.Fatalf("busy from %d, but %d is next", answer.Busy, o.order.Next())
	}
}

func (o *ordeal) check() {
	o.t.Helper()
	x := &o.order
	size := 0
	for i, f := range x.held {
		size += len(f.Body)
		if f.Number <= x.admitted || i > 0 && f.Number <= x.held[i-1].Number {
			o.t.Fatalf("fragment %d is held, and all through %d had their turn", f.Number, x.admitted)
		}
	}
	if len(x.held) > maxHeld || size != x.bytes || size > maxHeldBytes {
		o.t.Fatalf("%d fragments of %d bytes are held, %d are counted", len(x.held), size, x.bytes)
	}
	if len(x.refused) > maxRefusals || !slices.IsSortedFunc(x.refused, func(a, b Refusal) int { return int(a.To) - int(b.From) }) {
		o.t.Fatalf("refused: %v", x.refused)
	}
	if x.Through() > x.admitted || len(x.Held()) > maxBitmap {
		o.t.Fatalf("all through %d is answered, of %d; a bitmap of %d bytes", x.Through(), x.admitted, len(x.Held()))
	}
	if len(o.waiting) > 0 && x.Through() >= o.waiting[0] {
		o.t.Fatalf("all through %d is answered, but %d is not durable", x.Through(), o.waiting[0])
	}
	o.standing()
	for _, r := range x.refused {
		if !errors.Is(r.Cause, events.ErrTooLarge) && !errors.Is(r.Cause, ErrSequence) || r.From > r.To {
			o.t.Fatalf("refused %+v", r)
		}
	}
}

// standing checks what settling would be told.
func (o *ordeal) standing() {
	o.t.Helper()
	last := events.Number(0)
	runs := o.order.Standing()
	for run := range slices.Chunk(runs, 2) {
		if events.Number(run[0]) <= last || run[0] > run[1] || events.Number(run[1]) > o.order.Through() {
			o.t.Fatalf("what stands: %v, of all through %d", runs, o.order.Through())
		}
		last = events.Number(run[1])
		for _, r := range o.order.Refused() {
			if uint64(r.From) <= run[1] && run[0] <= uint64(r.To) {
				o.t.Fatalf("what stands: %v, but %d to %d is refused", runs, r.From, r.To)
			}
		}
	}
}
