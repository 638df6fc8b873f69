package leasetest

import (
	"cmp"
	"context"
	"runtime"
	"slices"
	"sync"
	"testing"

	"timberline/events"
	"timberline/projections/lease"
)

// memory keeps leases, and may have a flaw.
type memory struct {
	mu     sync.Mutex
	leases map[[2]string]lease.Lease

	overwrites, looksFirst, forgetsPlace, mixesKinds bool
}

func (m *memory) ListLeases(_ context.Context, kind string) (all []lease.Lease, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, l := range m.leases {
		if l.Kind == kind || m.mixesKinds {
			all = append(all, l)
		}
	}
	slices.SortFunc(all, func(a, b lease.Lease) int { return cmp.Compare(a.Name, b.Name) })
	return all, nil
}

func (m *memory) PutLease(_ context.Context, was, is lease.Lease) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	stands := m.leases[[2]string{is.Kind, is.Name}]
	if m.looksFirst {
		m.mu.Unlock()
		runtime.Gosched()
		m.mu.Lock()
	}
	if m.forgetsPlace {
		was.Place, stands.Place = "", ""
	}
	if stands != was && stands != is && !m.overwrites {
		return events.ErrConflict
	}
	m.leases[[2]string{is.Kind, is.Name}] = is
	return nil
}

func TestContractHolds(t *testing.T) {
	Run(t, func(*testing.T) lease.Leases { return &memory{leases: map[[2]string]lease.Lease{}} })
}

func TestContractCatchesWhatBreaksIt(t *testing.T) {
	for what, flawed := range map[string]func() *memory{
		"overwrites":             func() *memory { return &memory{overwrites: true} },
		"looks first, then puts": func() *memory { return &memory{looksFirst: true} },
		"does not compare place": func() *memory { return &memory{forgetsPlace: true} },
		"mixes kinds":            func() *memory { return &memory{mixesKinds: true} },
	} {
		caught := false
		for range 200 { // what depends on who runs first
			for _, part := range Contract {
				m := flawed()
				m.leases = map[[2]string]lease.Lease{}
				caught = caught || part.Holds(t.Context(), m) != nil
			}
			if caught {
				break
			}
		}
		if !caught {
			t.Errorf("leases of which the store %s keep the contract", what)
		}
	}
}
