package edge

import (
	"hash/maphash"
	"net/netip"
	"time"
)

// A meter limits how often something may happen to a number a second, of which a
// whole second's worth may come at once: the generic cell rate algorithm (ITU-T
// I.371). It is the time, since the table began, at which all that happened will
// have been paid for.
type meter time.Duration

// allow reports whether something may happen once more, and notes it if so.
func (m *meter) allow(now time.Duration, rate int) bool {
	paid := max(time.Duration(*m), now)
	if paid-now > time.Second {
		return false
	}
	*m = meter(paid + time.Second/time.Duration(rate))
	return true
}

// sources limits what each source may ask for that has not logged in: an IPv4
// address, or the /64 network of an IPv6 one. Its size is fixed, however many
// sources are made up: those that fall together share their rate, and who falls
// together with whom nobody outside can know.
type sources struct {
	seed   maphash.Seed
	meters [1 << 14]meter
}

func newSources() *sources { return &sources{seed: maphash.MakeSeed()} }

// allow reports whether a source may ask for something more.
func (s *sources) allow(now time.Duration, a netip.Addr, rate int) bool {
	network := a.Unmap()
	if network.Is6() {
		p, _ := network.WithZone("").Prefix(64) // an IPv6 address has 64 bits
		network = p.Addr()
	}
	hash := maphash.Comparable(s.seed, network)
	return s.meters[hash%uint64(len(s.meters))].allow(now, rate)
}
