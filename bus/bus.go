// Package bus carries hints between the roles: that a journal has a new record,
// that a timeline has a new item. Whatever it carries may be lost, repeated or
// late; the log and the timelines are the truth (promise 7).
//
// # Concurrency
//
// A Bus is safe for concurrent use. Handlers run in the goroutine of whoever
// published, or in one of the bus: they return quickly and never block.
package bus

import (
	"context"

	"timberline/events"
)

// A Hint tells of an append.
type Hint struct {
	Store   events.StoreID
	Journal events.Journal
	Offset  events.Offset
	Record  events.Record // nil where it was not worth carrying; not to be changed
}

// A Push tells of a new, durable item in a user's timeline.
type Push struct {
	Store  events.StoreID
	User   events.User
	First  events.Seq // of the first event; the others follow without a gap
	Events [][]byte   // each an events.Raw, not to be changed
	Newest events.ID  // the highest id in the timeline up to here
}

// Head returns the seq of the last event.
func (p Push) Head() events.Seq { return p.First + events.Seq(len(p.Events)) - 1 }

// A Bus passes hints and pushes to whoever listens. Publishing never blocks and
// never fails: what cannot be passed on is dropped.
type Bus interface {
	PublishHint(h Hint)
	PublishPushes(ps []Push)
	// PublishMissed tells of pushes that reached no device: somebody may want to tell
	// its user on another way. A bus that has nobody to tell drops them.
	PublishMissed(ps []Push)
	// OnHint calls handle for each hint until stop is called.
	OnHint(handle func(Hint)) (stop func())
	// OnPushes calls handle for each batch of pushes until stop is called, and
	// distrust when pushes may have been lost on the way: heads must be read
	// from the store again. Of users in slots that nobody here follows pushes may
	// come or not.
	OnPushes(handle func([]Push), distrust func()) (stop func())
	// Follow makes pushes for the users of a slot come here: from the moment that it
	// returns nil for as long as the bus lives. After an error they may not come yet;
	// distrust is called when they do. It costs nothing for a slot that is followed.
	Follow(ctx context.Context, s events.Slot) error
	// Connected reports whether what others publish comes here now. While it does
	// not, heads must be read from the store; distrust is called when it does again.
	Connected() bool
}
