package sim

import "testing"

// One seed in five: each is run twice for it.
func TestSameSeedSameTrace(t *testing.T) {
	for seed := *from; seed < *from+uint64(*seeds); seed += 5 {
		first, again := Run(t, seed, &Seams{}), Run(t, seed, &Seams{})
		if mine, theirs := first.Trace.Diff(&again.Trace); mine != theirs {
			t.Errorf("seed %d has another trace when it runs again:\n%s\n%s", seed, mine, theirs)
		}
	}
}
