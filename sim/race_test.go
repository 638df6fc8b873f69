//go:build race

package sim

// defaultSeeds are fewer with the race detector: one takes ten times as long.
const defaultSeeds = 5
