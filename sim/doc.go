// Package sim runs the whole system in one deterministic test: devices, edge,
// ingest, projector and push, all of them the real code, on a network, a disk and
// clocks of its own.
//
//	devices ──▶ client ──▶ network ──▶ node (edge, ingest, projector, push)
//	   │                (loss, repeats,   │            │
//	   │                 cuts, delays)   bus         engine
//	   ▼                               (loss)   (appends that fail)
//	history ──▶ check                                  │
//	                                                  disk
//	                                         (slow syncs, crashes)
//
// A seed is a run: who sends what to whom and when, what the network does to each
// datagram, which appends fail, land late or lose their answer, when the server
// crashes and what the disk has kept of what was not synced, when devices are
// killed, moved or cut off and start again from their outbox. At the end every
// message must be answered, every device must have its whole timeline without
// asking for it, new devices read all timelines back, and package check holds the
// history against the promises.
//
//	go test ./sim -sim.seeds=1000 -sim.from=1
//	go test ./sim -run TestSeeds -sim.seeds=1 -sim.from=42 -sim.trace=trace.txt
//
// # How it is kept deterministic
//
// The same seed gives the same trace, byte for byte. synctest does not order
// goroutines that are ready at one instant, so nothing that matters may be: every
// event of the network, every access to the store, every sync, hint and check of
// a token has a moment of its own, drawn by what it is for and not by when it was
// asked for, and the bubble comes to rest after each. What is left is the order
// of what one event sets in motion. One processor and no collector in between
// keep that, too (see alone), though hardly anything hangs on it: the race
// detector shuffles goroutines, and seeds still repeat. Where one does not, look
// for two things that are due at one instant.
//
// # Limitations
//
// One server, plain mode, direct conversations, no strangers. A sync may be slow,
// but never fails. Devices fail to save, and die saving, only where something is
// to be sent after the save. The trace is what the network carried, and what was
// done to server and devices.
package sim
