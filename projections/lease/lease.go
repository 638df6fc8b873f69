// Package lease is what work is shared out by among processes: who holds a piece of it
// may do it, and whoever else wants it waits until the holder gives it up or is gone.
//
// A lease is for liveness only: two may believe that they hold one at the same time,
// and what they do must bear it (R7).
package lease

import "context"

// A Lease says who holds a piece of work.
type Lease struct {
	Kind    string // of work: "shard", …
	Name    string // of the piece, unique within its kind
	Owner   string // random for each process; empty: nobody
	Counter uint64 // raised by whoever writes the lease
	Place   string // how far the owner is, in words of its own; opaque
}

// Leases stores leases.
type Leases interface {
	// ListLeases returns the leases of a kind in the order of their names, and shows
	// everything that was put before it began.
	ListLeases(ctx context.Context, kind string) ([]Lease, error)

	// PutLease replaces the lease was by is, which has the same kind and name; a zero
	// was stands for none. nil means that is stands there, durably, perhaps since an
	// earlier try. If anything but was or is stands there it returns events.ErrConflict.
	// After any other error is may stand, now or later, as long as was does.
	PutLease(ctx context.Context, was, is Lease) error
}
