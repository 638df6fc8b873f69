// Package migrations changes what a store is made of: tables, keys, formats. It also makes
// a store whole again that was restored from a backup.
//
// # Steps
//
// An engine has numbered steps, 1, 2, 3 …, that lead from nothing to what this program
// works with. Each is recorded in the store with the time and the program that applied it.
// A step may have been applied in part, and two may apply it at the same time: so it looks
// at what there is and makes what is missing, and the first record of it stands. A step
// keeps its number and its meaning for ever; a change is a new step.
//
// A store with the record of a step that a program does not know was changed by a newer
// one: the older refuses it, with events.ErrFormat.
//
// # Restore
//
// A backup is older than what clients have seen, and with DynamoDB each table of it may be
// of another moment. [Restore] gives the store a new id, by which clients know to start
// again from nothing; cuts off the checkpoints that cover more than the log has; and makes
// the timelines again from log and checkpoints. Until that has ended the store is refused,
// with [ErrRestoring].
//
// # Concurrency
//
// Steps may be applied from several places at a time, also beside processes that use the
// store, where a step does not say otherwise. A store is restored from one place, and
// nothing else uses it meanwhile.
package migrations
