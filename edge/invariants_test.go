package edge

import (
	"time"

	"timberline/wire"
)

// check holds the table against what must be true of it at any time.
func (c *chaos) check() {
	c.t.Helper()
	t := c.table
	c.bounds()
	bound, opened, repeatable, paced := 0, 0, 0, 0
	for id, s := range t.sessions {
		if s.owner.Session != id {
			c.t.Fatalf("session %v is kept as %v", s.owner.Session, id)
		}
		c.session(s)
		paced += bytesOf(s.sync.packets)
		if s.state == closing {
			continue
		}
		bound++
		if s.state == open {
			opened++
		}
		if s.channel == nil && s.attempt != (attempt{}) {
			repeatable++
		}
	}
	heard := 0
	for u, all := range t.users {
		heard += len(all)
		if len(all) == 0 {
			c.t.Fatalf("user %s has no session, and is kept", u)
		}
		for _, s := range all {
			if s.owner.User != u || s.state == closing || t.sessions[s.owner.Session] != s {
				c.t.Fatalf("session of %s in state %d is one of %s", s.owner.User, s.state, u)
			}
		}
	}
	for d, s := range t.devices {
		if s.state != open || s.owner.User != d.user || s.owner.Device != d.name || t.sessions[s.owner.Session] != s {
			c.t.Fatalf("device %v has a session of %v in state %d", d, s.owner, s.state)
		}
	}
	for a, s := range t.attempts {
		if s.attempt != a || s.state == closing || t.sessions[s.owner.Session] != s {
			c.t.Fatalf("an attempt leads to a session in state %d", s.state)
		}
	}
	if heard != bound || len(t.devices) != opened || len(t.attempts) != repeatable || t.paced != paced {
		c.t.Fatalf("%d sessions are bound, %d hear; %d are open, %d devices; %d repeatable, %d attempts; %d bytes of answers, %d counted",
			bound, heard, opened, len(t.devices), repeatable, len(t.attempts), paced, t.paced)
	}
	c.timers()
	c.connections()
}

// bounds are those of the configuration.
func (c *chaos) bounds() {
	c.t.Helper()
	t := c.table
	if len(t.sessions) > t.cfg.MaxSessions || len(t.ring.sessions) > t.cfg.HalfOpen {
		c.t.Fatalf("%d sessions, want at most %d; %d half-open connections, want at most %d",
			len(t.sessions), t.cfg.MaxSessions, len(t.ring.sessions), t.cfg.HalfOpen)
	}
	if t.load.waiting < 0 {
		c.t.Fatalf("%d events wait", t.load.waiting)
	}
	if sleep := t.next(c.now); sleep > time.Hour || len(t.timers) > 0 && c.now.Add(sleep).After(t.timers[0].due) {
		c.t.Fatalf("the loop sleeps for %v", sleep)
	}
}

// session checks what one session keeps.
func (c *chaos) session(s *session) {
	c.t.Helper()
	size := 0
	for i := range s.deliver.flight {
		size += pushBytes(&s.deliver.flight[i])
	}
	d := &s.deliver
	switch {
	case len(d.flight) > maxFlight || size > flightBytes:
		c.t.Fatalf("%d pushes of %d bytes are in flight", len(d.flight), size)
	case s.state != closing && d.bytes != size:
		c.t.Fatalf("%d bytes are in flight, %d are counted", size, d.bytes)
	case d.cursor > d.head && !s.mute && s.state == open:
		c.t.Fatalf("the cursor is %d, the timeline ends at %d", d.cursor, d.head)
	case len(s.order.Refused()) > wire.MaxRefusals:
		c.t.Fatalf("%d refusals stand", len(s.order.Refused()))
	case s.order.Through() >= s.order.Next():
		c.t.Fatalf("all through %d is answered, and %d is next", s.order.Through(), s.order.Next())
	case s.settling < 0 || s.settling > wire.MaxSettle:
		c.t.Fatalf("%d old sessions are still to be settled", s.settling)
	case s.state == open && s.slot < 0:
		c.t.Fatalf("nothing will ever be due for session %v", s.owner)
	case !s.dirty && (s.ack || len(s.frames) > 0):
		c.t.Fatalf("%d frames are never sent", len(s.frames))
	}
}

// timers checks that the heap is one, of sessions that live.
func (c *chaos) timers() {
	c.t.Helper()
	for i, s := range c.table.timers {
		if s.slot != i || s.due.Before(c.table.timers[max(i-1, 0)/2].due) {
			c.t.Fatalf("timer %d of %d is due at %v, and in slot %d", i, len(c.table.timers), s.due, s.slot)
		}
		if s.state == closing || c.table.sessions[s.owner.Session] != s {
			c.t.Fatalf("something is due for a session in state %d", s.state)
		}
	}
}

// connections checks those that nobody has logged in on, and what is asked of old sessions.
func (c *chaos) connections() {
	c.t.Helper()
	r := c.table.ring
	kept := 0
	for i, h := range r.slots {
		if h == nil {
			continue
		}
		kept++
		if h.slot != i || r.sessions[h.session] != h || r.hellos[h.hello] != h || c.table.sessions[h.session] != nil {
			c.t.Fatalf("half-open connection %d is in slot %d", i, h.slot)
		}
	}
	if kept != len(r.sessions) || kept != len(r.hellos) {
		c.t.Fatalf("%d connections are kept, %d sessions and %d HELLOs lead to them", kept, len(r.sessions), len(r.hellos))
	}
	for j, in := range c.table.asking {
		if in.journal != j || !in.running && len(in.waiting) == 0 {
			c.t.Fatalf("an inquiry about %s that nobody waits for", j)
		}
	}
}
