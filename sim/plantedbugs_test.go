//go:build plantedbugs

package sim

import (
	"slices"
	"strings"
	"testing"

	"timberline/sim/planted"
)

// foundWithin is how many seeds a bug may take to be found.
const foundWithin = 500

// needs says of some bugs what a seed has to have.
var needs = map[planted.Bug]func(*plan) bool{
	planted.SwitchBehind:     has(rebuild, back),
	planted.DroppedComesLive: (*plan).givesUp,
	planted.PlaceBeforePut:   has(rebuild, back),
	planted.StepUnstored:     has(tally),
	planted.BackupWithoutLog: has(backUp),
}

// has tells the plans in which one of some tasks is done.
func has(any ...task) func(*plan) bool {
	return func(p *plan) bool {
		return slices.ContainsFunc(p.upkeep, func(u upkeep) bool { return slices.Contains(any, u.what) })
	}
}

// givesUp reports whether a version is dropped that may be about to be filled.
func (p *plan) givesUp() bool {
	return slices.ContainsFunc(p.upkeep, func(u upkeep) bool { return u.what == drop && u.next })
}

// TestPlantedBugsAreFound chooses one bug after the other and runs seeds until one says
// that a promise is broken.
func TestPlantedBugsAreFound(t *testing.T) {
	for _, bug := range planted.All {
		t.Run(strings.ReplaceAll(string(bug), " ", "-"), func(t *testing.T) {
			planted.Choose(bug)
			defer planted.Choose(planted.None)
			for seed := uint64(1); seed <= foundWithin; seed++ {
				if needs := needs[bug]; needs != nil && !needs(newPlan(seed)) {
					continue // nobody does in it what the bug is in
				}
				if err := Run(t, seed, &Seams{}).Err(); err != nil {
					t.Logf("found by seed %d: %.200v", seed, err)
					return
				}
			}
			t.Errorf("not found by %d seeds", foundWithin)
		})
	}
}
