// Package proxy is a bad network to order: a UDP proxy on loopback that loses,
// repeats, reorders and delays datagrams between clients and a server.
//
//	client ─┐                     ┌─ socket ─┐
//	client ─┼─▶ the proxy's address ├─ socket ─┼─▶ server
//	client ─┘                     └─ socket ─┘
//
// Each client address has a socket of its own towards the server, so the server
// sees as many addresses as there are. A socket goes when its client was silent
// for a while, or when there are too many and its client was silent for the
// longest.
//
// The server may go and come back at its address: what is sent to it meanwhile is
// lost, as on any network.
//
// # Concurrency
//
// Run runs one goroutine for the proxy's address, one for each client, and one
// for what is held back; it returns when all are gone.
//
// # Limitations
//
// The draws come from a seed, but what they fall on depends on the order in which
// the system hands over datagrams: runs are alike, not the same. See package
// network for runs that are.
package proxy
