// Package sim runs the whole system in one deterministic test: devices, edge,
// ingest, projector and push, all of them the real code, on a network, a disk and
// clocks of its own.
//
//	go test ./sim -sim.seeds=1000 -sim.from=1
//
// A seed is a run: which devices there are and what they send, what the network
// does to each datagram, which appends fail, land late or lose their answer, in
// which write the server crashes and what the disk has kept of it, when devices
// are killed and start again from their outbox. At the end every timeline is read
// back by every device and by new ones, and package check holds the history
// against the promises. The same seed gives the same trace, byte for byte.
//
// # How it is kept deterministic
//
// Everything runs in a synctest bubble on one processor. The network has one
// event at a time and lets the bubble come to rest after each; whatever else
// takes time (the disk, pauses of devices) takes a number of nanoseconds drawn
// for it alone, so that no two things wake at one instant. Draws depend on the
// seed and on what they are for, not on the order in which they are made.
//
// # Limitations
//
// The trace is what the network carried.
package sim
