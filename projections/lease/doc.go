// Package lease spreads work over processes: each holds a share of the leases of a
// kind, renews them while it lives, and takes over what others have left.
//
// A lease says who should do something, for no other end than that not all do it and
// somebody does. It protects nothing: two processes may believe that they hold one
// lease, and what is done under it has to be right all the same. Projectors are, by
// R6 and R7; a relay repeats pushes at the worst.
//
// A lease is taken from another process only when it has not changed for its length,
// as measured by the taker's clock alone, or when the other holds at least two more: so
// the shares differ by one at the most once processes have come or gone.
//
// # Concurrency
//
// A [Keeper] is run by one goroutine; its other methods are safe for concurrent use.
package lease
