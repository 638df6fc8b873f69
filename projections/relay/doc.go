// Package relay passes on what a storage engine's stream tells of new timeline items
// to the edges, as pushes.
//
// A stream is a set of shards. Each has a parent, or had one: what a shard holds of a
// user follows what its parent held. Processes share the shards by leases
// ([timberline/projections/lease]); the place a relay has come to stands in the lease,
// and moves only when the bus has confirmed what came before it. So a push may come
// twice, to a relay's successor, but is not left out.
//
// Left out is what is old: then edges are told to distrust what they know, and read
// the heads of timelines again. So are they when a shard has lost what was not read in
// time (a stream keeps a day). Nothing else depends on the stream: sync is the truth.
//
// # Concurrency
//
// Run starts a goroutine for each shard held and ends when all have ended.
package relay
