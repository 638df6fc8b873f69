//go:build plantedbugs

package sim

import (
	"strings"
	"testing"

	"timberline/sim/planted"
)

// foundWithin is how many seeds a bug may take to be found.
const foundWithin = 500

// TestPlantedBugsAreFound chooses one bug after the other and runs seeds until one says
// that a promise is broken.
func TestPlantedBugsAreFound(t *testing.T) {
	for _, bug := range planted.All {
		t.Run(strings.ReplaceAll(string(bug), " ", "-"), func(t *testing.T) {
			planted.Choose(bug)
			defer planted.Choose(planted.None)
			for seed := uint64(1); seed <= foundWithin; seed++ {
				if err := Run(t, seed, &Seams{}).Err(); err != nil {
					t.Logf("found by seed %d: %.200v", seed, err)
					return
				}
			}
			t.Errorf("not found by %d seeds", foundWithin)
		})
	}
}
