package sim

import (
	"context"
	"maps"
	"slices"
	"sync"

	"timberline/events"
	"timberline/projections/lease"
)

// leases are those of a boot's nodes: of shards only.
type leases struct {
	mu  sync.Mutex
	all map[string]lease.Lease
}

func (l *leases) list() (all []lease.Lease) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(l.all)) {
		all = append(all, l.all[name])
	}
	return all
}

func (l *leases) put(was, is lease.Lease) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if stands := l.all[is.Name]; stands != was && stands.Counter+was.Counter > 0 {
		return events.ErrConflict
	}
	l.all[is.Name] = is
	return nil
}

// ListLeases implements lease.Leases.
func (e *engine) ListLeases(context.Context, string) ([]lease.Lease, error) {
	return fetch(e.access(projector, "list leases"), func() ([]lease.Lease, error) { return e.p.boot.leases.list(), nil })
}

// PutLease implements lease.Leases.
func (e *engine) PutLease(ctx context.Context, was, is lease.Lease) error {
	name := "put lease " + is.Name
	_, err := write(ctx, e.access(projector, "%s", name), name, func(context.Context) (none struct{}, err error) {
		return none, e.p.boot.leases.put(was, is)
	})
	if was.Owner != is.Owner {
		e.note(err, "takes shard %s of %q for %q", is.Name, was.Owner, is.Owner)
	}
	return err
}
