package client

import (
	"testing"
	"time"

	"timberline/events"
	"timberline/wire"
)

// A network that loses much makes the window small: smaller than a large message,
// which is answered as a whole.
func TestMessageOfMoreFragmentsThanTheWindowArrives(t *testing.T) {
	const pieces = 60
	f, r, now := newFlight(), rtt{}, time.Unix(1, 0)
	for range 10 {
		now = now.Add(time.Second)
		f.shrink(now)
	}
	for range 2 {
		x := &send{pieces: make([]wire.Send, pieces)}
		for i := range x.pieces {
			f.add(x, i)
		}
	}
	came := make([]bool, 2*pieces+1)
	for begin := now; f.base == 1; now = now.Add(10 * time.Millisecond) {
		if now.Sub(begin) > time.Second {
			t.Fatalf("not all of %d fragments were sent within a second", pieces)
		}
		sent := 0
		f.transmit(now, func(x *wire.Send) { came[x.Number] = true; sent++ })
		if sent > f.window {
			t.Errorf("%d fragments at once, the window is %d", sent, f.window)
		}
		ack := &wire.Ack{Held: make([]byte, 16)}
		whole := true
		for n := events.Number(1); n <= pieces; n++ {
			whole = whole && came[n]
		}
		if whole {
			ack.Through = pieces
		}
		for n := ack.Through + 1; n < events.Number(len(came)); n++ {
			if came[n] {
				ack.Held[(n-ack.Through-1)/8] |= 1 << ((n - ack.Through - 1) % 8)
			}
		}
		f.advance(now, ack, &r)
	}
}
