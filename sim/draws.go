package sim

import (
	"math/rand/v2"
	"sync"
	"time"

	"timberline/sim/network"
)

// draws hands out randomness by name: the n-th draw of a name depends on the
// seed, the name and n alone, not on what else was drawn before. It is safe for
// concurrent use.
type draws struct {
	seed uint64

	mu    sync.Mutex
	count map[string]uint64
}

func newDraws(seed uint64) *draws { return &draws{seed: seed, count: make(map[string]uint64)} }

// next returns a generator for the next thing of that name.
func (d *draws) next(name string) *rand.Rand {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.count[name]++
	return network.Source(d.seed, name, d.count[name])
}

// between draws a duration from low up to high. Its nanoseconds are drawn, too:
// two draws are hardly ever equal.
func between(r *rand.Rand, low, high time.Duration) time.Duration {
	return low + time.Duration(r.Int64N(int64(high-low)))
}

// chance is true in that part of all cases.
func chance(r *rand.Rand, part float64) bool { return r.Float64() < part }
