//go:build !race

package sim

// defaultSeeds is how many seeds a run takes that does not say.
const defaultSeeds = 100
