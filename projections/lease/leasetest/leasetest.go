// Package leasetest is the contract of lease.Leases as a test that every implementation
// runs.
package leasetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"timberline/events"
	"timberline/projections/lease"
)

// Run runs the contract, each part of it on leases of its own.
func Run(t *testing.T, newLeases func(t *testing.T) lease.Leases) {
	for _, part := range Contract {
		t.Run(part.Name, func(t *testing.T) {
			if err := part.Holds(t.Context(), newLeases(t)); err != nil {
				t.Error(err)
			}
		})
	}
}

// A Part is one part of the contract. Holds tries an empty store and says what is wrong.
type Part struct {
	Name  string
	Holds func(ctx context.Context, l lease.Leases) error
}

// Contract lists the parts.
var Contract = []Part{
	{"Lease is created once", createdOnce},
	{"Lease is replaced only if it is what it was", replaced},
	{"Lease that stands already is a success", standsAlready},
	{"One of many takers wins", oneWins},
	{"Lease is deleted only if it is what it was, and made anew", deleted},
	{"Leases are listed by kind, in the order of their names", listed},
}

var ann = lease.Lease{Kind: "shard", Name: "1", Owner: "ann", Counter: 1, Place: "here"}

// never is a lease that never stands, so that a put in its place, whose request may land
// late, never does.
var never = lease.Lease{Kind: ann.Kind, Name: ann.Name, Owner: "nobody", Counter: 99}

func wantLeases(ctx context.Context, l lease.Leases, kind string, want ...lease.Lease) error {
	got, err := l.ListLeases(ctx, kind)
	if err != nil {
		return err
	}
	if d := cmp.Diff(want, got, cmpopts.EquateEmpty()); d != "" {
		return fmt.Errorf("leases of kind %s (-want +got):\n%s", kind, d)
	}
	return nil
}

func wantConflict(err error) error {
	if !errors.Is(err, events.ErrConflict) {
		return fmt.Errorf("put where something else stands: %v, want ErrConflict", err)
	}
	return nil
}

func createdOnce(ctx context.Context, l lease.Leases) error {
	if err := wantLeases(ctx, l, "shard"); err != nil {
		return err
	}
	if err := l.PutLease(ctx, lease.Lease{}, ann); err != nil {
		return err
	}
	ben := ann
	ben.Owner = "ben"
	if err := wantConflict(l.PutLease(ctx, lease.Lease{}, ben)); err != nil {
		return err
	}
	return wantLeases(ctx, l, "shard", ann)
}

func replaced(ctx context.Context, l lease.Leases) error {
	next := ann
	next.Counter, next.Place = 2, "there"
	if err := wantConflict(l.PutLease(ctx, never, next)); err != nil {
		return fmt.Errorf("of none: %w", err)
	}
	if err := l.PutLease(ctx, lease.Lease{}, ann); err != nil {
		return err
	}
	for _, change := range []func(*lease.Lease){
		func(w *lease.Lease) { w.Owner = "ben" },
		func(w *lease.Lease) { w.Counter = 7 },
		func(w *lease.Lease) { w.Place = "" },
	} {
		was := ann
		change(&was)
		if err := wantConflict(l.PutLease(ctx, was, next)); err != nil {
			return fmt.Errorf("of %+v: %w", was, err)
		}
	}
	if err := wantLeases(ctx, l, "shard", ann); err != nil {
		return err
	}
	if err := l.PutLease(ctx, ann, next); err != nil {
		return err
	}
	free := next
	free.Owner, free.Counter, free.Place = "", 3, ""
	if err := l.PutLease(ctx, next, free); err != nil {
		return fmt.Errorf("give up: %w", err)
	}
	return wantLeases(ctx, l, "shard", free)
}

func standsAlready(ctx context.Context, l lease.Leases) error {
	next := ann
	next.Counter = 2
	for _, put := range []struct{ was, is lease.Lease }{{lease.Lease{}, ann}, {ann, next}} {
		for range 2 { // the answer to the first was lost
			if err := l.PutLease(ctx, put.was, put.is); err != nil {
				return err
			}
		}
	}
	return wantLeases(ctx, l, "shard", next)
}

func deleted(ctx context.Context, l lease.Leases) error {
	none := lease.Lease{Kind: ann.Kind, Name: ann.Name}
	if err := l.PutLease(ctx, none, ann); err != nil {
		return err
	}
	if err := wantConflict(l.PutLease(ctx, never, none)); err != nil {
		return err
	}
	for range 2 { // the answer to the first was lost
		if err := l.PutLease(ctx, ann, none); err != nil {
			return err
		}
	}
	if err := wantLeases(ctx, l, ann.Kind); err != nil {
		return err
	}
	next := ann
	next.Counter = 2
	if err := l.PutLease(ctx, none, next); err != nil {
		return err
	}
	return wantLeases(ctx, l, ann.Kind, next)
}

func oneWins(ctx context.Context, l lease.Leases) error {
	stands := lease.Lease{}
	for round := uint64(1); round <= 20; round++ {
		const takers = 6
		var errs [takers]error
		var is [takers]lease.Lease
		var all sync.WaitGroup
		for i := range takers {
			is[i] = lease.Lease{Kind: "shard", Name: "1", Owner: fmt.Sprint(i), Counter: round}
			all.Go(func() { errs[i] = l.PutLease(ctx, stands, is[i]) })
		}
		all.Wait()
		winners := 0
		for i, err := range errs {
			if err == nil {
				winners++
				stands = is[i]
			} else if err := wantConflict(err); err != nil {
				return err
			}
		}
		if winners != 1 {
			return fmt.Errorf("%d of %d took the lease", winners, takers)
		}
		if err := wantLeases(ctx, l, "shard", stands); err != nil {
			return err
		}
	}
	return nil
}

func listed(ctx context.Context, l lease.Leases) error {
	names := []string{"b", "a", "10", "9", "ab", "a\xc3\xa4", "a."}
	for _, name := range names {
		for _, kind := range []string{"shard", "stream"} {
			if err := l.PutLease(ctx, lease.Lease{}, lease.Lease{Kind: kind, Name: name, Owner: kind, Counter: 1}); err != nil {
				return err
			}
		}
	}
	var want []lease.Lease
	for _, name := range []string{"10", "9", "a", "a.", "ab", "a\xc3\xa4", "b"} {
		want = append(want, lease.Lease{Kind: "stream", Name: name, Owner: "stream", Counter: 1})
	}
	return errors.Join(wantLeases(ctx, l, "stream", want...), wantLeases(ctx, l, "other"))
}
