package client

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"timberline/events"
	"timberline/wire"
)

const (
	// The bounds of the pause before another try: 250 ms, twice as long after
	// each failure; the pause itself is drawn from zero to that (full jitter), so
	// that a million devices do not come back at once.
	firstPause = 250 * time.Millisecond
	maxPause   = 30 * time.Second
	// calm is how long a session must last for the next failure to count as the
	// first.
	calm = 5 * time.Second

	maxLoginPause = 3 * time.Second // between repeats of a LOGIN
	maxLogins     = 5               // unanswered ones, before a new try
	maxPings      = 4               // unanswered ones, before a new try
	maxReplaced   = 3               // sessions in a row, before it is another client
	minPingPause  = firstRTO        // between them: a server that stalls for seconds need not be left
)

// A phase is where a link is in its life.
//
//	idle ──▶ preparing ──▶ greeting ──▶ joining ──▶ joined ──▶ (idle)
//	                                                         ──▶ over
type phase uint8

const (
	idle      phase = iota // waits for the next try
	preparing              // socket and token are being got
	greeting               // HELLO is sent until WELCOME comes; not in plain mode
	joining                // LOGIN is sent until it is answered
	joined                 // has a session
	over                   // never tries again
)

// A link is the device's connection: login, heartbeat, and when to give up. It
// does no I/O and reads no clock.
type link struct {
	phase    phase
	err      error     // why it is over
	retry    time.Time // idle: when to try next
	failures int
	vain     int  // tries that got no session: each takes the server's next address
	expired  bool // the last token was refused as expired
	replaced int  // sessions in a row that another LOGIN took over

	handover string // where the next try goes; empty: where the app says
	server   netip.AddrPort
	seal     *seal // nil: in plain mode
	login    *wire.Login
	loginAt  time.Time // when to send it next; zero: no more
	logins   int
	session  events.SessionID
	journal  wire.OldSession // of the session, as it would be settled
	begun    time.Time
	settle   events.SessionID // still to be settled before anything is sent; zero: nothing is

	rtt      rtt
	pace     pace
	heard    time.Time // when the server's last packet came
	pingAt   time.Time
	pingID   uint32
	pingSent time.Time     // when the ping with that id went out
	silence  time.Duration // how long nothing had come before it; 0: that says nothing of the way
	pings    int           // unanswered ones
	moved    bool          // the next ping is the first from another socket

	renewAt time.Time // when to get a fresh token; zero: never, or one is being got
	expires time.Time // when the session ends with its token; zero: never
}

// prepared goes on when socket and token are there: now it is the LOGIN's turn.
func (l *link) prepared(now time.Time, server netip.AddrPort, f *wire.Login) {
	l.phase, l.server, l.login = joining, server, f
	l.loginAt, l.logins = now, 0
	l.session, l.settle = events.SessionID{}, events.SessionID{}
	l.rtt.doubled = 0
}

// repeatLogin returns the LOGIN if it is to be sent now.
func (l *link) repeatLogin(now time.Time) *wire.Login {
	if l.loginAt.IsZero() || now.Before(l.loginAt) {
		return nil
	}
	l.logins++
	if l.logins == 1 {
		l.begun = now
	}
	l.loginAt = now.Add(min(l.rtt.rto()<<min(l.logins-1, 8), maxLoginPause))
	return l.login
}

// unanswered reports whether the LOGIN was sent in vain too often.
func (l *link) unanswered(now time.Time) bool {
	if l.phase == greeting {
		return l.seal.hellos >= maxLogins && !now.Before(l.seal.helloAt)
	}
	return l.phase == joining && l.logins >= maxLogins && !now.Before(l.loginAt)
}

// accepted takes in the answer to the LOGIN.
func (l *link) accepted(now time.Time, f *wire.Accepted, jitter func(time.Duration) time.Duration) {
	if l.logins == 1 {
		l.rtt.measured(now.Sub(l.begun))
	}
	l.phase, l.session, l.expired = joined, f.Session, false
	l.journal = wire.OldSession{Session: f.Session, Journal: f.Journal, Offset: f.Offset}
	l.begun, l.heard = now, now
	l.pace = newPace(heartbeat(f.Heartbeat), heartbeat(f.MaxHeartbeat))
	l.pings = 0
	l.granted(now, f, jitter)
	l.beat(now, jitter)
	if len(l.login.Settle) > 0 {
		l.settle, l.logins = l.login.Settle[0].Session, 1
		l.loginAt = now.Add(l.rtt.rto())
		return
	}
	l.loginAt = time.Time{}
}

// settled notes that the session before is settled. It reports whether that is
// what sending had to wait for.
func (l *link) settled(s events.SessionID) bool {
	if l.phase != joined || l.settle == (events.SessionID{}) || s != l.settle {
		return false
	}
	l.settle, l.loginAt = events.SessionID{}, time.Time{}
	return true
}

// heartbeat returns an interval that the server names, within reason.
func heartbeat(ms uint32) time.Duration {
	return min(max(time.Duration(ms)*time.Millisecond, time.Second), 10*time.Minute)
}

// beat plans the next heartbeat: a little early, and not together with all
// others.
func (l *link) beat(now time.Time, jitter func(time.Duration) time.Duration) {
	l.pingAt = now.Add(l.pace.interval - jitter(l.pace.interval/5))
}

// ping returns the id of the ping to send now; ok is false if it is not time.
func (l *link) ping(now time.Time) (id uint32, ok bool) {
	if l.phase != joined || now.Before(l.pingAt) {
		return 0, false
	}
	if l.heard.After(l.pingSent) {
		l.pings = 0 // it lives
	}
	l.silence = 0
	if l.pings == 0 && !l.moved {
		l.silence = now.Sub(l.heard)
	}
	if l.pings == 0 || !l.moved { // else it stands for the one before it, which nobody had time to answer
		l.pings++
	}
	l.moved = false
	l.pingID++
	l.pingSent = now
	l.pingAt = now.Add(min(max(l.rtt.rto(), minPingPause)<<(l.pings-1), maxLoginPause))
	return l.pingID, true
}

// silent reports whether the server has left all pings unanswered.
func (l *link) silent(now time.Time) bool {
	return l.phase == joined && l.pings >= maxPings && !now.Before(l.pingAt) && !l.heard.After(l.pingSent)
}

// doubt sends a ping now, because something else was not answered.
func (l *link) doubt(now time.Time) {
	if l.pings == 0 && now.Sub(l.heard) > 2*l.rtt.rto() {
		l.pingAt = now
	}
}

// pong takes in the answer to a ping. late says that it tells of entries whose
// pushes have not come.
func (l *link) pong(now time.Time, id uint32, late bool, jitter func(time.Duration) time.Duration) {
	if id == l.pingID && l.pings > 0 {
		l.rtt.measured(now.Sub(l.pingSent))
		l.pace.after(l.silence, !late)
	}
	l.pings = 0
	l.beat(now, jitter)
}

// rest ends the try and plans the next one: after what the server asks for, or
// after a pause that grows.
func (l *link) rest(now time.Time, asked time.Duration, jitter func(time.Duration) time.Duration) {
	switch {
	case l.phase != joined:
		l.vain++
	case now.Sub(l.begun) > calm:
		l.failures = 0
	}
	pause := asked + jitter(min(firstPause<<min(l.failures, 16), maxPause))
	l.failures++
	l.phase, l.session, l.loginAt = idle, events.SessionID{}, time.Time{}
	l.renewAt = time.Time{}
	l.retry = now.Add(pause)
}

// end ends the link for good.
func (l *link) end(err error) {
	l.phase, l.err = over, err
	l.session, l.loginAt = events.SessionID{}, time.Time{}
}

// denied decides what to do after a Denied: end, or rest for as long as asked.
func (l *link) denied(now time.Time, f *wire.Denied) (asked time.Duration, end error) {
	asked = time.Duration(f.RetryAfter) * time.Millisecond
	err := fmt.Errorf("%w: %v", ErrDenied, f.Reason)
	if f.Detail != "" {
		err = fmt.Errorf("%w (%s)", err, f.Detail)
	}
	switch f.Reason {
	case wire.ReasonExpired:
		if !l.expired {
			l.expired = true // a fresh token may do
			return 0, nil
		}
		return 0, err
	case wire.ReasonReplaced:
		return 0, l.outdone(now)
	case wire.ReasonBusy, wire.ReasonShutdown, wire.ReasonIdle, wire.ReasonJournal:
		return asked, nil
	}
	if f.RetryAfter > 0 {
		return asked, nil
	}
	return 0, err
}

// closed decides what to do when the server has ended the session.
func (l *link) closed(now time.Time, f *wire.Closed) (asked time.Duration, end error) {
	switch f.Reason {
	case wire.ReasonReplaced:
		return 0, l.outdone(now)
	case wire.ReasonLoggedOut:
		return 0, errLoggedOut
	}
	l.handover = f.Address
	return time.Duration(f.RetryAfter) * time.Millisecond, nil
}

// outdone decides whether it is over when another LOGIN of the device counts for
// more.
//
// In plain mode that may be one of the device's own that came late, also from a
// process that has ended: so the device logs in again, a few times. If it is
// another client with the same device, each replaces the other, and the older one
// gives up first.
func (l *link) outdone(now time.Time) (end error) {
	if l.seal != nil {
		return ErrReplaced // no LOGIN of another connection can be late
	}
	if now.Sub(l.begun) > calm {
		l.replaced = 0
	}
	if l.replaced++; l.replaced > maxReplaced {
		return ErrReplaced
	}
	return nil
}

var errLoggedOut = errors.New("device was logged out")

// next returns when there is something to do; zero: never.
func (l *link) next() time.Time {
	switch l.phase {
	case idle:
		return l.retry
	case greeting:
		return l.seal.helloAt
	case joining:
		return l.loginAt
	case joined:
		if l.loginAt.IsZero() {
			return sooner(l.pingAt, l.renewAt)
		}
		return sooner(l.pingAt, l.loginAt) // a renewal waits for the answer
	}
	return time.Time{}
}
