//go:build race

package sim

const raceEnabled = true

// defaultSeeds are fewer with the race detector: one takes ten times as long.
const defaultSeeds = 5
