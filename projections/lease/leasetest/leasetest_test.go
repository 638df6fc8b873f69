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

// flawed is leases in memory that break the contract.
type flawed struct {
	mu     sync.Mutex
	leases map[[2]string]lease.Lease

	overwrites, looksFirst, forgetsPlace, mixesKinds bool
}

func (m *flawed) ListLeases(_ context.Context, kind string) (all []lease.Lease, err error) {
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

func (m *flawed) PutLease(_ context.Context, was, is lease.Lease) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	at := [2]string{is.Kind, is.Name}
	stands := m.leases[at]
	if was.Counter == 0 {
		was = lease.Lease{}
	}
	if is.Counter == 0 {
		is = lease.Lease{}
	}
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
	if m.leases[at] = is; is.Counter == 0 {
		delete(m.leases, at)
	}
	return nil
}

func TestContractHolds(t *testing.T) {
	Run(t, func(*testing.T) lease.Leases { return new(Memory) })
}

func TestContractCatchesWhatBreaksIt(t *testing.T) {
	for what, leases := range map[string]func() *flawed{
		"overwrites":             func() *flawed { return &flawed{overwrites: true} },
		"looks first, then puts": func() *flawed { return &flawed{looksFirst: true} },
		"does not compare place": func() *flawed { return &flawed{forgetsPlace: true} },
		"mixes kinds":            func() *flawed { return &flawed{mixesKinds: true} },
	} {
		caught := false
		for range 200 { // what depends on who runs first
			for _, part := range Contract {
				m := leases()
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
