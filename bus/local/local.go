// Package local is the bus of a process that has all roles: a call.
//
// # Concurrency
//
// Handlers run in the goroutine of whoever publishes.
package local

import (
	"context"
	"slices"
	"sync"

	"timberline/bus"
	"timberline/events"
)

// A Bus passes hints and pushes on by calling whoever listens. Its zero value is
// ready for use.
type Bus struct {
	mu     sync.RWMutex
	hints  []*func(bus.Hint)
	pushes []*func([]bus.Push)
}

// PublishHint implements bus.Bus.
func (b *Bus) PublishHint(h bus.Hint) {
	b.mu.RLock()
	hints := b.hints
	b.mu.RUnlock()
	for _, handle := range hints {
		(*handle)(h)
	}
}

// PublishPushes implements bus.Bus.
func (b *Bus) PublishPushes(ps []bus.Push) {
	b.mu.RLock()
	pushes := b.pushes
	b.mu.RUnlock()
	for _, handle := range pushes {
		(*handle)(ps)
	}
}

// PublishMissed implements bus.Bus. Nobody is told.
func (b *Bus) PublishMissed([]bus.Push) {}

// OnHint implements bus.Bus.
func (b *Bus) OnHint(handle func(bus.Hint)) (stop func()) {
	return listen(&b.mu, &b.hints, handle)
}

// OnPushes implements bus.Bus. Nothing is lost between a call and its handler, so
// distrust is never called.
func (b *Bus) OnPushes(handle func([]bus.Push), _ func()) (stop func()) {
	return listen(&b.mu, &b.pushes, handle)
}

// Follow implements bus.Bus. All pushes come here.
func (b *Bus) Follow(context.Context, events.Slot) error { return nil }

// Connected implements bus.Bus: there is nothing on the way.
func (b *Bus) Connected() bool { return true }

// listen adds a handler to a list that is copied whenever it changes: whoever
// publishes reads it without a lock held.
func listen[F any](mu *sync.RWMutex, list *[]*F, handle F) (stop func()) {
	mu.Lock()
	defer mu.Unlock()
	mine := &handle
	*list = append(slices.Clone(*list), mine)
	return func() {
		mu.Lock()
		defer mu.Unlock()
		*list = slices.DeleteFunc(slices.Clone(*list), func(f *F) bool { return f == mine })
	}
}
