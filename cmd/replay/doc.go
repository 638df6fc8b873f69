// Package replay measures how fast timelines are made again from the log, and verified,
// on a store of Pebble that it fills itself; and beside it what Pebble writes of the same
// items when nothing has to be read or computed for them.
//
// # Limitations
//
// The store is filled by records as large as they may be, and projected when the log is
// whole, so checkpoints cover as much as they may: few and large ones. A store of a quiet
// server has many small ones.
package replay
