//go:build race

package sim

// defaultSeeds are fewer with the race detector: one takes twenty times as long.
const defaultSeeds = 2
