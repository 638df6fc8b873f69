package sim

import "testing"

// A run may be disturbed: Go preempts a goroutine that has run for 10 ms of real time,
// which on a loaded machine happens to any, and then what was ready behind it comes first.
// Of three runs two are the same then. It is rare; a cause in the code is not.
const disturbedMost = 0.01 // of the seeds, and one at least

func TestSameSeedSameTrace(t *testing.T) {
	disturbed := 0
	for seed := *from; seed < *from+uint64(*seeds); seed++ {
		first, again := Run(t, seed, &Seams{}), Run(t, seed, &Seams{})
		mine, theirs := first.Trace.Diff(&again.Trace)
		if mine == theirs {
			continue
		}
		third := Run(t, seed, &Seams{})
		if third.Trace.Sum() != first.Trace.Sum() && third.Trace.Sum() != again.Trace.Sum() {
			t.Errorf("seed %d has another trace whenever it runs again:\n%s\n%s", seed, mine, theirs)
			continue
		}
		t.Logf("seed %d was disturbed in one of three runs:\n%s\n%s", seed, mine, theirs)
		disturbed++
	}
	if most := max(1, int(disturbedMost*float64(*seeds))); disturbed > most {
		t.Errorf("%d of %d seeds were disturbed, want at most %d", disturbed, *seeds, most)
	}
}
