//go:build race

package pebble

const raceEnabled = true

// rounds is how often a test does what it does at random: less under the race detector, where
// it takes ten times as long.
const rounds = 1
