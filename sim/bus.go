package sim

import (
	"fmt"
	"sync"
	"time"

	"timberline/bus"
	"timberline/bus/local"
)

// A busEnd is one process's end of the bus that all share. What it publishes comes
// to each process later, so that messages overtake each other, and some are lost.
type busEnd struct {
	local.Bus // who listens in the process
	from      *process

	mu       sync.Mutex
	distrust func()
}

// OnPushes implements bus.Bus.
func (b *busEnd) OnPushes(handle func([]bus.Push), distrust func()) (stop func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.distrust = distrust
	return b.Bus.OnPushes(handle, distrust)
}

// distrusts has the process read heads again.
func (b *busEnd) distrusts() {
	b.mu.Lock()
	distrust := b.distrust
	b.mu.Unlock()
	if distrust != nil {
		distrust()
	}
}

// PublishHint implements bus.Bus.
func (b *busEnd) PublishHint(h bus.Hint) {
	b.pass(fmt.Sprintf("hint %s %d", h.Journal, h.Offset), b.from.w.plan.hints, func(to *busEnd) { to.Bus.PublishHint(h) })
}

// PublishPushes implements bus.Bus.
func (b *busEnd) PublishPushes(ps []bus.Push) {
	for _, p := range ps {
		b.pass(fmt.Sprintf("push %s %d", p.User, p.First), b.from.w.plan.pushes, func(to *busEnd) { to.Bus.PublishPushes([]bus.Push{p}) })
	}
}

// pass passes a message on to each process that runs.
func (b *busEnd) pass(name string, lost float64, on func(to *busEnd)) {
	if b.from.isDead() {
		return
	}
	for _, to := range b.from.boot.running() {
		r := b.from.w.draws.next(fmt.Sprintf("%s from %s to %s", name, b.from.name, to.name))
		if chance(r, lost) {
			continue
		}
		b.from.boot.later(between(r, time.Microsecond, 3*time.Millisecond), func() {
			if !to.isDead() {
				on(to.bus)
			}
		})
	}
}
