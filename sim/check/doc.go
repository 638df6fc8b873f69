// Package check holds a recorded history against the promises of Timberline
// (docs/architecture.md): it is the one checker of the demo, the simulation, the
// process tests and verify.
//
// A [History] records what clients did and saw: what each device sent, in its
// order, what became of it, and which entries each device was shown at which
// seqs. [History.Check] says which promises that breaks:
//
//	lost          acked, and not in a timeline of a recipient or of the sender
//	doubled       twice in one timeline, or under two ids in two timelines
//	out_of_order  two sends of one session stand in a timeline against the order sent,
//	              or two messages have one id
//	gap           a device was shown a seq before the one below it
//	changed       two readings of a seq differ in more than an emptied body
//	foreign       an entry that nobody sent, or not like that, or not to there
//	refused       an entry whose sender was told that it would never be stored
//	acausal       an answer has a lower id than what its device had been shown
//	ahead         an id is above all that the servers' clocks have ever shown
//	behind        a device that should have everything has not
//	inexact       a timeline is not what log and checkpoints give
//	strangers     an address that has proved nothing got more than it sent, or what is for others
//	unbounded     a server holds more than its limits let it
//
// The last three are found by who has the store, sees all packets, or asks the server,
// and are told to the History (see [History.Inexact], [History.Stranger] and
// [History.Unbounded]).
//
// A send that was never answered may stand in the timelines or not, but once.
//
// # Concurrency
//
// A History and its readers may be used from many goroutines. One reader's Send
// calls come one after the other, as its device sends.
//
// # Limitations
//
// Conversations are direct ones. Events other than messages are held against
// gap and changed only.
package check
