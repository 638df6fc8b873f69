// Package network is a datagram network in memory, for tests in a synctest
// bubble: the sockets of many hosts, between which datagrams are lost, repeated,
// delayed and overtaken as a seed has it.
//
// What happens to a datagram depends on the seed, on its link (from which address
// to which) and on its number on that link, never on when it was handed in among
// others. Each event has a nanosecond of its own, and after each the network
// waits until the whole bubble is at rest: so two events never race, and a seed
// reproduces its run (see Trace).
//
// # Concurrency
//
// A Network, its hosts and sockets may be used from many goroutines of one
// bubble. Functions handed to At run in the goroutine of Run, with the bubble at
// rest; nobody else may call synctest.Wait while Run runs.
//
// # Limitations
//
// Nothing is resent and nothing paced: a link has no bandwidth. A socket keeps
// 1,024 datagrams that nobody has read; what comes after is lost.
package network
