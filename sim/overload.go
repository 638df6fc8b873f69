package sim

import (
	"fmt"
	"math/rand/v2"
	"time"

	"timberline/sim/network"
)

// limits are what a node may hold. Zero fields have the defaults of its parts.
type limits struct {
	pending   int // bytes of sends that wait for the log
	sessions  int
	halfOpen  int     // connections that nobody has logged in on
	rate      int     // packets a second of one session
	syncBytes int     // of answers to syncs
	tasks     int     // that wait
	workers   int     // tasks done at a time
	backlog   float64 // the part of the time in which the sockets are about full
}

// tight draws limits that are met all the time: clients are told busy, and sessions
// wait for places. They leave room for all devices, once they have come to rest.
func tight(r *rand.Rand) limits {
	return limits{
		pending: maxBody + 1<<10 + r.IntN(4<<10), sessions: 6 + r.IntN(8), halfOpen: 2 + r.IntN(3),
		rate: 10 + r.IntN(40), syncBytes: 1 + r.IntN(16<<10), tasks: 1 + r.IntN(3), workers: 1 + r.IntN(2),
		backlog: oneOf(r, 0, 0.2, 0.5),
	}
}

// backlogFor is how long a socket's backlog stays as it is.
const backlogFor = 300 * time.Millisecond

// backlog is the sockets' Backlog, while the devices chat. The edge asks for it
// when it has something to do, once in a millisecond at most; so that is when its bounds
// are looked at, too.
func (p *process) backlog() (full float64, lost uint32) {
	p.lookAtBounds()
	now := p.w.time()
	if now > chatFor {
		return 0, 0
	}
	r := network.Source(p.w.seed, p.host.name+" backlog", uint64(now/backlogFor))
	if full = r.Float64() / 4; chance(r, p.w.plan.limits.backlog) {
		full = r.Float64()
	}
	return full, 0
}

// A session may have one answer to a sync on its way, begun when there was room; a
// writer takes the end of a session whatever waits.
const (
	maxAnswer = 300 << 10
	maxEnd    = 300
)

// lookAtBounds holds what the process says of itself against its limits (promise 9).
func (p *process) lookAtBounds() {
	l := &p.w.plan.limits
	for _, b := range []struct {
		name string
		most int
	}{
		{"timberline_ingest_pending_bytes", l.pending + l.sessions*maxEnd},
		{"timberline_edge_sessions", l.sessions},
		{"timberline_edge_half_open_connections", l.halfOpen},
		{"timberline_edge_sync_bytes", l.syncBytes + l.sessions*maxAnswer},
	} {
		if v := p.tells.value(b.name); v > b.most {
			p.w.history.Unbounded(fmt.Sprintf("%s: %s is %d, at most %d are let in", p, b.name, v, b.most))
		}
	}
}
