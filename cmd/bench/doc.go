// Package bench loads a server with simulated clients over real sockets, and
// measures what it does beside what the machine can do.
//
//	fleet ──▶ loops (one a socket) ──▶ sessions ──▶ packets ──▶ server process
//	                                     │
//	                   results: latencies, counts, what was acknowledged
//
// A simulated client speaks the protocol, sealed or plain, with all that a send
// needs: window, acks, resends, busy, got, and sync where pushes are missing. It has
// no app, no outbox and no goroutine of its own, so that a machine that it shares
// with the server is busy with the server. It gives up where a real client would
// log in again: a session that ends fails the run.
//
// Every run measures the machine's limits before and after ([Limits]): round trips
// of a bare UDP echo between two processes with the same sockets, batches and packet
// size, and syncs of a file. And every run is checked ([Verified]): what was
// acknowledged is read back from the receivers' timelines.
//
// # Concurrency
//
// Each socket has one goroutine, which owns its sessions.
package bench
