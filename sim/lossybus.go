package sim

import (
	"fmt"
	"time"

	"timberline/bus"
	"timberline/bus/local"
)

// A lossyBus passes hints and pushes on later, so that they overtake each other,
// and loses some.
type lossyBus struct {
	local.Bus
	draws *draws
	plan  *plan
	later func(time.Duration, func()) // calls back after a while, if the process lives
}

// PublishHint implements bus.Bus.
func (b *lossyBus) PublishHint(h bus.Hint) {
	b.pass(fmt.Sprintf("hint %s %d", h.Journal, h.Offset), b.plan.hints, func() { b.Bus.PublishHint(h) })
}

// PublishPushes implements bus.Bus.
func (b *lossyBus) PublishPushes(ps []bus.Push) {
	for _, p := range ps {
		b.pass(fmt.Sprintf("push %s %d", p.User, p.First), b.plan.pushes, func() { b.Bus.PublishPushes([]bus.Push{p}) })
	}
}

func (b *lossyBus) pass(name string, lost float64, on func()) {
	if r := b.draws.next(name); !chance(r, lost) {
		b.later(between(r, time.Microsecond, 3*time.Millisecond), on)
	}
}
