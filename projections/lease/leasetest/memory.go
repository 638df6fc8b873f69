package leasetest

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"

	"timberline/events"
	"timberline/projections/lease"
)

// A Memory is leases that are nowhere else. The zero Memory has none.
type Memory struct {
	mu  sync.Mutex
	all map[place]lease.Lease
}

type place struct{ kind, name string }

// ListLeases implements lease.Leases.
func (m *Memory) ListLeases(_ context.Context, kind string) ([]lease.Lease, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := slices.Collect(maps.Values(m.all))
	all = slices.DeleteFunc(all, func(l lease.Lease) bool { return l.Kind != kind })
	slices.SortFunc(all, func(a, b lease.Lease) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
}

// PutLease implements lease.Leases.
func (m *Memory) PutLease(_ context.Context, was, is lease.Lease) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	at := place{is.Kind, is.Name}
	stands := m.all[at] // the zero lease is none
	switch none := stands.Counter == 0; {
	case stands == is, none && is.Counter == 0:
		return nil
	case stands != was && !(none && was.Counter == 0):
		return events.ErrConflict
	case is.Counter == 0:
		delete(m.all, at)
		return nil
	case m.all == nil:
		m.all = make(map[place]lease.Lease)
	}
	m.all[at] = is
	return nil
}

// Of returns the lease of a name, which stands or not.
func (m *Memory) Of(kind, name string) lease.Lease {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.all[place{kind, name}]
}
