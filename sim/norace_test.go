//go:build !race

package sim

const raceEnabled = false

// defaultSeeds is how many seeds a run takes that does not say.
const defaultSeeds = 100
