// Package projections turns the log into timelines.
//
// A user's timeline is a sequence of entries at seqs 1, 2, 3 … Users hash to
// slots, slots belong to shards. For each shard a [Projector] appends checkpoints
// 1, 2, 3 …: how far it has read each journal. What follows from a checkpoint is
// a pure function of the log, the checkpoints up to it, and the version of the
// rules: the events newly covered, sorted by id, each in the timelines of its
// recipients at their next seqs (R6). So timelines can be thrown away and made
// again, and two projectors on one shard are harmless (R7).
//
//	log ──▶ Projector ──▶ checkpoint n ──▶ one item per user ──▶ Reader ──▶ edge
//
// A [Replay] makes timelines again of which nothing is left but log and checkpoints; a
// [Rebuild] does that in a version beside the one that is read, and has that read then. A
// [Verification] compares what stands with what follows, and [Placements] tell where a
// message went. A [Trim], which a [Retention] does every so often, takes the oldest entries
// away. A [Projection] is one of somebody's own, which a [Follower] keeps up.
//
// # Durability
//
// A projector may read records that are not durable yet if the engine keeps log
// and timelines in one write-ahead log. Nothing is published and no strong read
// returns before it is durable (R8).
//
// # Concurrency
//
// A Projector runs in the goroutine that calls Run. A [Reader] may be used from
// many.
package projections
