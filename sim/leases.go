package sim

import (
	"context"

	"timberline/projections/lease"
)

// ListLeases implements lease.Leases.
func (e *engine) ListLeases(ctx context.Context, kind string) ([]lease.Lease, error) {
	return fetch(e.access(projector, "list leases %s", kind), func() ([]lease.Lease, error) { return e.p.boot.leases.ListLeases(ctx, kind) })
}

// PutLease implements lease.Leases.
func (e *engine) PutLease(ctx context.Context, was, is lease.Lease) error {
	name := "put lease " + is.Name
	_, err := write(ctx, e.access(projector, "%s", name), name, func(ctx context.Context) (none struct{}, err error) {
		return none, e.p.boot.leases.PutLease(ctx, was, is)
	})
	if was.Owner != is.Owner {
		e.note(err, "takes shard %s of %q for %q", is.Name, was.Owner, is.Owner)
	}
	return err
}
