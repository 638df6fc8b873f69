package client

import "time"

// The bounds of a time-out. The least is above what a server's group commit
// takes on a busy disk; the greatest keeps a device from sleeping through the
// server's return.
const (
	firstRTO = 500 * time.Millisecond
	minRTO   = 100 * time.Millisecond
	maxRTO   = 8 * time.Second
)

// A rtt estimates how long an answer takes (RFC 6298). Only packets sent once
// are measured (Karn's algorithm).
type rtt struct {
	smooth  time.Duration // 0: nothing was measured
	varies  time.Duration
	doubled int // time-outs in a row
}

// measured takes in a round trip.
func (r *rtt) measured(d time.Duration) {
	d = max(d, time.Microsecond)
	if r.smooth == 0 {
		r.smooth, r.varies = d, d/2
	} else {
		r.varies += ((r.smooth - d).Abs() - r.varies) / 4
		r.smooth += (d - r.smooth) / 8
	}
	r.answered()
}

// answered notes that something sent has arrived.
func (r *rtt) answered() { r.doubled = 0 }

// timedOut notes that nothing came in time: the next time-out is twice as long.
func (r *rtt) timedOut() { r.doubled = min(r.doubled+1, 16) }

// rto returns how long to wait for an answer.
func (r *rtt) rto() time.Duration {
	base := firstRTO
	if r.smooth > 0 {
		base = max(r.smooth+4*r.varies, minRTO)
	}
	return min(base<<r.doubled, maxRTO)
}
