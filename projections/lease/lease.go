package lease

import "context"

// A Lease says who does a piece of work.
type Lease struct {
	Kind    string // what sort of work
	Name    string // which piece of it
	Owner   string // empty: nobody
	Counter uint64 // raised with every change
	Place   string // how far the work has come: its owner's own words
}

// Leases is where a storage engine keeps leases.
type Leases interface {
	// ListLeases returns all leases of a kind, in the order of their names, as a
	// consistent read.
	ListLeases(ctx context.Context, kind string) ([]Lease, error)

	// PutLease replaces a lease on condition that was is what stands; a zero was
	// stands for none. Otherwise the error is events.ErrConflict. After any
	// other error the lease may have been replaced, now or later. A zero is
	// deletes the lease.
	PutLease(ctx context.Context, was, is Lease) error
}
