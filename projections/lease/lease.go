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

	// PutLease replaces a lease, named by kind and name in both, on condition that
	// was stands; nil says that is stands, perhaps since an earlier try. Otherwise
	// the error is events.ErrConflict. After any error the lease may be replaced
	// later, when was stands. A lease whose counter is 0
	// is none: one that was none is created, one that is none is deleted.
	PutLease(ctx context.Context, was, is Lease) error
}
