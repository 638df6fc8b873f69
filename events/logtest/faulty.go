package logtest

import (
	"context"
	"errors"
	"sync"

	"timberline/events"
)

// ErrLost is what a failing Append of a Faulty returns. It settles nothing.
var ErrLost = errors.New("no answer")

// A Fault is what happens to one append.
type Fault uint8

// The faults.
const (
	None    Fault = iota
	Refused       // it does nothing, and fails
	Landed        // it lands, and fails: the answer is lost
	Late          // it fails, and lands when Faulty.Land is called
)

// A Faulty is a Log some of whose appends fail. It is safe for concurrent use.
type Faulty struct {
	events.Log
	// Next returns what happens to the next append; nil: nothing does.
	Next func() Fault

	mu   sync.Mutex
	late []func() error
}

// Append implements events.Log.
func (f *Faulty) Append(ctx context.Context, j events.Journal, at events.Offset, rec events.Record) (events.Record, error) {
	fault := None
	if f.Next != nil {
		fault = f.Next()
	}
	switch fault {
	case Refused:
		return nil, ErrLost
	case Landed:
		f.Log.Append(ctx, j, at, rec)
		return nil, ErrLost
	case Late:
		rec = append(events.Record(nil), rec...)
		f.mu.Lock()
		defer f.mu.Unlock()
		f.late = append(f.late, func() error {
			_, err := f.Log.Append(context.WithoutCancel(ctx), j, at, rec)
			return err
		})
		return nil, ErrLost
	}
	return f.Log.Append(ctx, j, at, rec)
}

// Land lets all appends land that are late, and returns what became of each.
func (f *Faulty) Land() (errs []error) {
	f.mu.Lock()
	late := f.late
	f.late = nil
	f.mu.Unlock()
	for _, land := range late {
		errs = append(errs, land())
	}
	return errs
}
