// Package events holds the vocabulary of Timberline and the contract of its log.
//
// An [Event] is what one send became: immutable, with an id that orders it among
// all others. Events are stored in batches, as [Record] values, at offsets 1, 2,
// 3 … of a [Journal]; the log is the set of all journals. [Log] is what a storage
// engine implements; package events/logtest holds the test that every engine
// runs.
//
// This package knows nothing of users' timelines (package projections), of
// sockets (package edge), or of any engine (packages below store).
//
// # Durability
//
// A nil error of [Log.Append] means that the record is on stable storage. No
// other answer settles anything: see the comments of Log.
//
// # Concurrency
//
// Events and records are values and are not changed once made. A [Clock] may be
// used from many goroutines. Engines are safe for concurrent use.
package events
