package sim

import (
	"io"
	"net/netip"
	"sync"
	"time"

	"timberline/events"
	"timberline/sim/network"
	"timberline/wire/sealed"
)

// A host is where one node after the other runs: its addresses, its clock, and
// what its edge keeps over restarts.
type host struct {
	number int
	name   string
	addr   netip.Addr
	tag    events.EdgeTag
	secret sealed.Secret // of its sealed socket
	lives  int           // of processes so far

	mu    sync.Mutex
	clock time.Duration // how far off it is
	shown time.Time     // the highest that it has shown before it was set last
}

func newHost(w *world, n int) *host {
	h := &host{number: n, name: "node " + string(rune('a'+n)), addr: hostAddr(n)}
	random := network.Random(w.seed, h.name+" keeps")
	for _, b := range [][]byte{h.tag[:], h.secret[:]} {
		io.ReadFull(random, b) // never fails
	}
	if n < len(w.plan.clocks) {
		h.clock = w.plan.clocks[n]
	}
	return h
}

// Where hosts listen.
var serverHosts = netip.MustParsePrefix("10.0.0.0/24")

const (
	sealedPort = 4747
	plainPort  = 4748
)

// hostAddr is where the n-th host is.
func hostAddr(n int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, 0, byte(n + 1)}) }

func (h *host) sealedAddr() netip.AddrPort { return netip.AddrPortFrom(h.addr, sealedPort) }
func (h *host) plainAddr() netip.AddrPort  { return netip.AddrPortFrom(h.addr, plainPort) }

// isSealed reports whether an address is that of a sealed socket.
func isSealed(a netip.AddrPort) bool { return serverHosts.Contains(a.Addr()) && a.Port() == sealedPort }

// now is the host's wall clock.
func (h *host) now() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return time.Now().Add(h.clock)
}

func (h *host) setClock(off time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.shown, h.clock = h.highestLocked(), off
}

// highest returns the highest time that the clock has shown.
func (h *host) highest() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.highestLocked()
}

func (h *host) highestLocked() time.Time {
	if now := time.Now().Add(h.clock); now.After(h.shown) {
		return now
	}
	return h.shown
}
