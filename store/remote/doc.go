// Package remote is a store in another process: as much of it as a projection of one's own
// needs (projections.Followed). A server offers its store by a handler of HTTP, on the socket in
// its data folder, and a program beside it reads what happened and keeps its rows there.
//
// What is not offered is nothing to such a program: it appends neither records nor
// checkpoints, and sees no timelines. Rows it reads and writes only in the spaces of
// projections (projections.OfProjection).
//
//	POST /store/METHOD   the arguments, in gob; the result likewise, or an error with its causes
//
// Each call names the store that was opened. After a restore the server has another one, in
// which checkpoints of the same numbers cover something else, so it does nothing for that call.
//
// # Concurrency
//
// A [Store] is safe for concurrent use.
//
// # Durability
//
// That of the server's store. All that is read is durable, also where the caller would do with
// less: a crash of the server is none of the caller's. A call that gets no answer may have had its effect, or have it
// later; each may be made again, as it does the same.
//
// # Limitations
//
// Both sides are of the same version of the program. Who may connect is for the socket to say.
package remote
