// Package client is the Go SDK of Timberline: one device's connection to its
// user's timeline, over a network that loses, repeats and reorders packets, to a
// server that may be killed at any time.
//
//	Send ──▶ outbox ──▶ packets ──▶ server
//	                       │
//	app ◀── queue ◀── inbox ◀┘
//
// A message handed to [Client.Send] is stored once, however often it has to be
// repeated, and its [Result] says when it is durable. Every entry of the timeline
// is handed to the app in the order of its seq, at least once; seqs are the keys
// by which an app that crashed halfway tells what it has already. An app that
// stores messages and cursor in one transaction, and gives that cursor back from
// its [Store], sees every entry exactly once.
// An entry is a message, or tells how far somebody has read ([Client.MarkRead]):
// see events.Event.Kind.
//
// # Durability
//
// What the device must not forget is in a [Store]. [Client.Send] returns when the
// message is kept there. A [File] survives the death of the process, and with its
// Sync option the death of the machine. Before a session sends its first message
// the Store holds the session's id, and with each message its number in it: so
// after a crash the server can be asked which of the messages stand in the log
// (protocol.md, "Settling"), and only the others are sent again.
//
// # Concurrency
//
// All methods may be called from many goroutines. The protocol is plain values
// (link, outbox, inbox) without a clock, lock or socket; one goroutine owns them.
// Callbacks run on two others: OnMessage, OnReset and OnTrimmed on one, OnResult
// and OnState on another, so neither a slow nor a stuck app stops heartbeats and
// acknowledgements. OnMessage may call Send and MarkRead. OnResult and OnState must not call
// methods that wait, and no callback may call Close, because these wait for the
// callback's own end.
//
// # Bounds
//
// The outbox holds Options.OutboxLimit sends, and Send waits for room. Entries
// that the app has not taken wait in a queue; when it is full the device stops
// asking for more and goes on when there is room.
//
// # Networks
//
// What is sent can be read only by the server whose key Options.ServerKey pins. A
// session outlives a change of network: the client goes on from another socket
// when heartbeats are not answered, or at once when NetworkChanged tells. The
// heartbeat's interval grows, up to what the server allows, for as long as the
// NATs on the way stand it.
//
// # Limitations
//
// One Store serves one device of one user.
package client
