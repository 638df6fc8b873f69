package sim

import "testing"

func TestSameSeedSameTrace(t *testing.T) {
	for seed := *from; seed < *from+uint64(*seeds); seed++ {
		first, again := Run(t, seed, &Seams{}), Run(t, seed, &Seams{})
		if mine, theirs := first.Trace.Diff(&again.Trace); mine != theirs {
			t.Errorf("seed %d has another trace when it runs again:\n%s\n%s", seed, mine, theirs)
		}
	}
}
