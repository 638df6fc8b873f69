// Package sim runs the whole system in one deterministic test: devices, edge,
// ingest, projector and relay, all of them the real code, on a network, a disk and
// clocks of its own.
//
//	devices ──▶ client ──▶ network ──▶ node ◀─ bus ─▶ node (edge, ingest, projector, relay)
//	   │             ▲  (loss, repeats,  │   (loss)    │
//	   │        strangers cuts, delays) engine       engine
//	   ▼                                 │  (writes that fail, stalls)
//	history ──▶ check ◀── witness        └──── store ──┘
//	                                             │
//	                                           disk (slow syncs, crashes)
//
// A seed is a run: who sends what to whom and when, what the network does to each
// datagram, which writes fail, land late or lose their answer, when the server
// crashes and what the disk has kept of what was not synced, when devices are
// killed, moved or cut off and start again from their outbox. At the end every
// message must be answered, every device must have its whole timeline without
// asking for it, new devices read all timelines back, and package check holds the
// history against the promises.
//
// In most seeds two nodes share the store, as processes on many machines will: each
// with an edge at its own address, a journal, a clock, and a projector of all shards. In
// more than half of these they share work as many machines do: shards by leases, the
// checkpoint and each item a write of its own, and pushes from the stream of what was
// written, by relays. One of the nodes may be an edge alone then, or an edge and a relay;
// shards of the stream are closed and have children, and iterators expire. A device comes to either with each login, so that its old session is closed in the
// journal of a node that lives. One node is killed while the other goes on, and
// another takes its place; or what it does with the store stands still for a while,
// between any two accesses, as if it was stopped by a signal. In some seeds somebody
// takes all nodes for dead that run, and ends their journals; or the store answers nobody
// for a while.
//
// In most seeds somebody works on the whole store while it is in use: has timelines rebuilt
// and switched, back and forth, and versions dropped, also those that are being filled;
// trims timelines and journals; verifies; follows with a projection of one's own; makes
// backups. Who does it is killed and begins again. In some the disk is lost, and an older
// state of it takes its place, or a backup, and is restored, with interruptions: the store
// has another id then, and devices begin from the start. What was trimmed stands in an
// archive, so that it is known what devices may skip, and what no rebuild needs any more.
//
// In half of the seeds devices write to a user to whom nobody may write: they must hear
// of each refusal, also when its ack is lost, and in no other way.
//
// In some seeds the disk is full for a while: the store gives up, the server ends as
// it does then, and starts again when there is room.
//
// In others the nodes' limits are tiny, all devices send much at a time, and the
// sockets are said to be full now and then: clients are told to wait, and no limit is
// exceeded.
//
// Most devices speak sealed mode, the others plain mode. An eavesdropper hears
// what the sealed ones and the server say, and sends it again: whole, damaged, in
// another order, before the original or long after it, from where it came from,
// from its own address or another's, to either side. In most seeds somebody floods
// HELLOs from addresses that are made up. A witness at the server's sockets holds
// what strangers get against what they have sent.
//
//	go test ./sim -sim.seeds=1000 -sim.from=1
//	go test ./sim -run TestSeeds -sim.seeds=1 -sim.from=42 -sim.trace=trace.txt
//
// # Which check covers which promise
//
//	1 acked is durable    lost: the crashes take what was not synced
//	2 acked arrives       lost, behind
//	3 once                doubled
//	4 timelines grow      gap, changed
//	5 order               out_of_order (of a session), acausal (answers), ahead (clocks), changed (the same for all)
//	6 rebuild is exact    inexact: at each clean end log, archive and checkpoints are replayed, and held against the version that is read
//	7 push is optional    some seeds lose all hints or pushes; every device must have its whole timeline within catchUpWithin
//	8 strangers           strangers: what the witness sees
//	9 overload            unbounded: what nodes tell of themselves; refused; every send must be answered
//
// What nobody sent, or not like that, is foreign. Answers that stay out, and sends
// refused that were not too large, are errors of the Outcome.
//
// # How it is kept deterministic
//
// The same seed gives the same trace, byte for byte. synctest does not order
// goroutines that are ready at one instant, so nothing that matters may be: every
// event of the network, every access to the store, every sync, hint and check of
// a token has a moment of its own, drawn by what it is for and not by when it was
// asked for, and the bubble comes to rest after each. Handshakes take no time: the
// edge draws what they need before its workers compute them. What is left is the
// order of what one event sets in motion. One processor and no collector in between
// keep that, too (see alone), though hardly anything hangs on it: the race
// detector shuffles goroutines, and seeds still repeat. Where one does not, look
// for two things that are due at one instant.
//
// # Limitations
//
// Direct conversations. Nodes share one Pebble store, whose writes all land in the
// order of one log. What a stream has not been read of is never trimmed: package relay tests that. A sync may be slow, and fails only when the disk is full. Reads fail
// only while a node serves. Devices fail to save, and die saving, only where something is
// to be sent after the save; apps take what they are told at once. No shard has a thousand
// checkpoints, and no settling has so much to read that its answer is unknown: that it is
// only where a journal was trimmed or lost. Timelines are trimmed by count, not by age.
// What takes something away (deletes of a trim or a restore) does not land late.
// Strangers have no token and no keys, and nobody listens at their addresses: they
// shake no hands. They leave plain sessions alone, which have no defence against
// them. No source sends so much that the edge limits its rate, because which
// sources share a limit is drawn anew in every process. The witness has no keys
// either: it takes a packet for a challenge by its size, and what a process keeps
// of strangers it cannot see. The trace is what the network carried, and what was
// done to server and devices.
package sim
