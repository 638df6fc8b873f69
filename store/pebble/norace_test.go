//go:build !race

package pebble

const raceEnabled = false

// rounds is how often a test does what it does at random.
const rounds = 2
