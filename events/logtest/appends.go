package logtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"

	"timberline/events"
)

func recordStands(ctx context.Context, p Place) error {
	return opened(p, func(e Engine) error {
		if err := stands(ctx, e, 0); err != nil {
			return err
		}
		if err := appendAll(ctx, e, 20); err != nil {
			return err
		}
		return stands(ctx, e, 20)
	})
}

func appendIsDurable(ctx context.Context, p Place) error {
	for n := range 5 {
		err := crashed(p, func(e Engine) error {
			return put(ctx, e, journal, events.Offset(n+1), record(n+1))
		}, func(e Engine) error { return stands(ctx, e, n+1) })
		if err != nil {
			return err
		}
	}
	return nil
}

func takenOffsetStays(ctx context.Context, p Place) error {
	taken := func(e Engine) error {
		for at := events.Offset(1); at <= 3; at++ {
			got, err := e.Append(ctx, journal, at, events.Record("another"))
			if err := wantConflict(got, err, record(int(at))); err != nil {
				return err
			}
		}
		return stands(ctx, e, 3)
	}
	return crashed(p, func(e Engine) error {
		if err := appendAll(ctx, e, 3); err != nil {
			return err
		}
		return taken(e)
	}, taken)
}

// While one append is on its way to the disk, another meets it. What the second
// one is shown must be there for ever.
func conflictIsDurable(ctx context.Context, p Place) error {
	for n := range 5 {
		at := events.Offset(n + 1)
		err := crashed(p, func(e Engine) error {
			answers := make(chan error, 2)
			var shown [2]events.Record
			for i := range shown {
				go func() {
					var err error
					shown[i], err = e.Append(ctx, journal, at, record(n+1))
					if errors.Is(err, events.ErrConflict) {
						err = wantConflict(shown[i], err, record(n+1))
					}
					answers <- err
				}()
			}
			if err := errors.Join(<-answers, <-answers); err != nil {
				return err
			}
			if shown[0] == nil && shown[1] == nil {
				return errors.New("of two appends at one offset none has met the other")
			}
			return nil
		}, func(e Engine) error { return stands(ctx, e, n+1) })
		if err != nil {
			return err
		}
	}
	return nil
}

// A strong read meets an append that is on its way to the disk, and the machine
// dies right behind it.
func strongReadIsDurable(ctx context.Context, p Place) error {
	seen := 0
	for at := events.Offset(1); at <= 10; at++ {
		var appending sync.WaitGroup
		before := func(e Engine) error {
			if recs, err := readAll(ctx, e, 1); err != nil || len(recs) < seen {
				return fmt.Errorf("%d records, %v; a strong read had shown %d", len(recs), err, seen)
			}
			appending.Go(func() {
				e.Append(ctx, journal, at, record(int(at))) // it may find an earlier one there
			})
			for {
				recs, err := e.ReadLog(ctx, journal, at, 1, events.Strong)
				if err != nil || len(recs) > 0 {
					seen = int(at)
					return err
				}
			}
		}
		err := crashed(p, before, func(e Engine) error {
			recs, err := readAll(ctx, e, 1)
			if err == nil && len(recs) < seen {
				err = fmt.Errorf("%d records, a strong read had shown %d", len(recs), seen)
			}
			return err
		})
		appending.Wait()
		if err != nil {
			return err
		}
	}
	return nil
}

func oneWins(ctx context.Context, p Place) error {
	return opened(p, func(e Engine) error {
		for at := events.Offset(1); at <= 50; at++ {
			if err := contend(ctx, e, at); err != nil {
				return err
			}
		}
		return nil
	})
}

// contend has many append at one offset: one wins, and all others are shown its
// record.
func contend(ctx context.Context, e Engine, at events.Offset) error {
	const callers = 8
	won := make([]bool, callers)
	shown := make([]events.Record, callers)
	errs := make([]error, callers)
	var all sync.WaitGroup
	for i := range callers {
		all.Go(func() {
			shown[i], errs[i] = e.Append(ctx, journal, at, record(i))
			won[i] = errs[i] == nil || errors.Is(errs[i], events.ErrConflict) && bytes.Equal(shown[i], record(i)) // see put
		})
	}
	all.Wait()
	recs, err := e.ReadLog(ctx, journal, at, 1, events.Strong)
	if err != nil || len(recs) != 1 {
		return fmt.Errorf("read at %d: %d records, %v", at, len(recs), err)
	}
	winners := 0
	for i := range callers {
		switch {
		case won[i]:
			winners++
			if !bytes.Equal(recs[0], record(i)) {
				return fmt.Errorf("an append of %q at %d succeeded, but %q stands there", record(i), at, recs[0])
			}
		default:
			if err := wantConflict(shown[i], errs[i], recs[0]); err != nil {
				return err
			}
		}
	}
	if winners != 1 {
		return fmt.Errorf("%d appends at offset %d succeeded, want 1", winners, at)
	}
	return nil
}

func lateAppendChangesNothing(ctx context.Context, p Place) error {
	return opened(p, func(e Engine) error {
		faults := []Fault{Late, None}
		l := &Faulty{Log: e, Next: func() (f Fault) { f, faults = faults[0], faults[1:]; return f }}
		if _, err := l.Append(ctx, journal, 1, events.Record("late")); !errors.Is(err, ErrLost) {
			return fmt.Errorf("append: %w", err)
		}
		if err := stands(ctx, e, 0); err != nil { // which settles nothing
			return err
		}
		if err := put(ctx, l, journal, 1, record(1)); err != nil {
			return fmt.Errorf("append at 1: %w", err)
		}
		if errs := l.Land(); !errors.Is(errs[0], events.ErrConflict) {
			return fmt.Errorf("an append that comes late to a taken offset answers %v, want ErrConflict", errs[0])
		}
		return stands(ctx, e, 1)
	})
}

func lostAnswerIsFound(ctx context.Context, p Place) error {
	return opened(p, func(e Engine) error {
		faults := []Fault{Landed, None}
		l := &Faulty{Log: e, Next: func() (f Fault) { f, faults = faults[0], faults[1:]; return f }}
		if _, err := l.Append(ctx, journal, 1, record(1)); !errors.Is(err, ErrLost) {
			return fmt.Errorf("append: %w", err)
		}
		got, err := l.Append(ctx, journal, 1, record(1))
		return wantConflict(got, err, record(1))
	})
}

// everythingOnce appends as a writer does (R2), crashes now and then, and counts.
func everythingOnce(ctx context.Context, p Place) error {
	const records = 200
	draws := rand.New(rand.NewPCG(1, 2))
	e, err := p.Open()
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	l := &Faulty{Log: e, Next: func() Fault { return []Fault{None, None, None, Refused, Landed, Late}[draws.IntN(6)] }}
	for n := 1; n <= records; n++ {
		if err := appendUntilSettled(ctx, l, events.Offset(n), record(n)); err != nil {
			return err
		}
		if draws.IntN(4) == 0 {
			l.Land()
		}
		if draws.IntN(40) != 0 {
			continue
		}
		if err := p.Crash(); err != nil {
			return fmt.Errorf("crash: %w", err)
		}
		if e, err = p.Open(); err != nil {
			return fmt.Errorf("open after a crash: %w", err)
		}
		l = &Faulty{Log: e, Next: l.Next}
	}
	l.Land()
	if err := stands(ctx, e, records); err != nil {
		return err
	}
	return p.Close()
}

func appendUntilSettled(ctx context.Context, l events.Log, at events.Offset, rec events.Record) error {
	for {
		stands, err := l.Append(ctx, journal, at, rec)
		switch {
		case err == nil, errors.Is(err, events.ErrConflict) && bytes.Equal(stands, rec):
			return nil
		case errors.Is(err, events.ErrConflict), errors.Is(err, events.ErrFatal):
			return fmt.Errorf("append at %d finds %q: %w", at, stands, err)
		}
	}
}
