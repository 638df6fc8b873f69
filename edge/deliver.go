package edge

import (
	"context"
	"time"

	"timberline/bus"
	"timberline/events"
	"timberline/wire"
)

// Delivery of pushes. A push is a hint: whatever is given up here reaches the
// client by sync, for its next pong says where the timeline ends.
const (
	maxFlight   = 32       // pushes not yet acknowledged
	flightBytes = 64 << 10 // of their events
	maxResends  = 3
	// A push is sent again after twice the time that clients take to acknowledge one,
	// within these bounds, and then after twice as long each time.
	resendFirst = 250 * time.Millisecond // while nothing is known of the client
	resendLeast = 100 * time.Millisecond
	resendMost  = 2 * time.Second
	headTrusted = 5 * time.Minute // then it is read again
)

// A delivery is what a session knows of its timeline and of what it has told the
// client.
type delivery struct {
	head, first events.Seq
	read        time.Time  // when the store was asked for head
	cursor      events.Seq // the client has everything up to here
	flight      []bus.Push // sent, not acknowledged, oldest first
	bytes       int        // of flight
	tries       int        // of resending what is in flight
	sentAt      time.Time  // when the oldest of it was sent, or the one before it acknowledged
	resendAt    time.Time
	takes       time.Duration // to acknowledge, smoothed; 0: not known
	shed        bool          // something was not pushed since the client was last told the head
	tellAt      time.Time     // when to tell it; zero: no need to
}

func (d *delivery) start(cursor events.Seq, o opened) {
	d.head, d.first, d.read = max(d.head, o.run.Head), o.run.First, o.asked
	d.cursor = cursor
}

// push sends a new item to the client, or only notes that there is one.
func (s *session) push(now time.Time, p bus.Push) {
	d := &s.deliver
	d.head = max(d.head, p.Head()) // first of all: what follows may be dropped
	if s.state != open || p.Head() <= d.cursor {
		return
	}
	if s.table.load.pressure >= pressed {
		s.tellLater(now)
		return
	}
	size := pushBytes(&p)
	if len(d.flight) >= maxFlight || d.bytes+size > flightBytes {
		s.table.counts.pushesDropped.Add(1)
		if d.shed = len(d.flight) > 0; !d.shed {
			s.pong(0) // nothing in flight will bring the occasion
		}
		return
	}
	if len(d.flight) == 0 {
		d.wait(now)
		s.table.timers.set(s, d.resendAt)
	}
	d.flight = append(d.flight, p)
	d.bytes += size
	s.sayPush(p)
}

// tellLater leaves out a push. The client hears in a while that there is more: of many
// pushes once.
func (s *session) tellLater(now time.Time) {
	s.table.counts.pushesDropped.Add(1)
	if d := &s.deliver; d.tellAt.IsZero() {
		d.tellAt = now.Add(tellEvery)
		s.table.timers.set(s, d.tellAt)
	}
}

// tell tells the client that there is more, if it is time.
func (s *session) tell(now time.Time) {
	d := &s.deliver
	switch {
	case d.tellAt.IsZero():
	case now.Before(d.tellAt):
		s.table.timers.set(s, d.tellAt)
	default:
		d.tellAt = time.Time{}
		if d.head > d.cursor {
			s.pong(0)
		}
	}
}

// wait begins to wait for the acknowledgement of what is in flight.
func (d *delivery) wait(now time.Time) {
	d.tries, d.sentAt = 0, now
	d.resendAt = now.Add(d.patience())
}

// patience is how long an acknowledgement may take.
func (d *delivery) patience() time.Duration {
	if d.takes == 0 {
		return resendFirst
	}
	return min(max(2*d.takes, resendLeast), resendMost)
}

// acknowledged takes in how long an acknowledgement took.
func (d *delivery) acknowledged(took time.Duration) {
	if d.takes == 0 {
		d.takes = max(took, 1)
		return
	}
	d.takes += (took - d.takes) / 8
}

func pushBytes(p *bus.Push) (n int) {
	for _, raw := range p.Events {
		n += len(raw)
	}
	return n
}

// sayPush sends the events of a push. Those that this very session sent go
// without their bodies, which the client has.
func (s *session) sayPush(p bus.Push) {
	s.table.counts.pushes.Add(1)
	for i := 0; i < len(p.Events); {
		mine := s.sent(p.Events[i])
		n := i + 1
		for n < len(p.Events) && s.sent(p.Events[n]) == mine {
			n++
		}
		s.sayEvents(p.First+events.Seq(i), p.Events[i:n], mine)
		i = n
	}
}

func (s *session) sent(raw []byte) bool { return events.Raw(raw).SessionID() == s.owner.Session }

func (s *session) sayEvents(first events.Seq, raws [][]byte, mine bool) {
	if mine {
		bare := make([][]byte, len(raws))
		for i, raw := range raws {
			bare[i] = events.Raw(raw).WithoutBody()
		}
		raws = bare
	}
	s.say(&wire.Push{From: first, Events: raws, Omitted: mine})
}

// got notes that the client has everything up to a cursor.
func (s *session) got(now time.Time, cursor events.Seq) {
	d := &s.deliver
	if cursor <= d.cursor || cursor > d.head {
		return
	}
	s.table.counts.got.Add(uint64(cursor - d.cursor))
	d.cursor = cursor
	n := 0
	for n < len(d.flight) && d.flight[n].Head() <= cursor {
		d.bytes -= pushBytes(&d.flight[n])
		n++
	}
	if n > 0 {
		if d.tries == 0 {
			d.acknowledged(now.Sub(d.sentAt))
			s.table.counts.pushed.Observe(now.Sub(d.sentAt).Seconds())
		}
		d.flight = d.flight[n:]
		d.wait(now)
	}
	if len(d.flight) > 0 {
		return
	}
	d.flight = nil
	if d.shed && d.head > cursor {
		s.pong(0) // there is more, and no push will tell
	}
	d.shed = false
}

// resend sends again what is in flight for too long, and gives it up after some
// tries, or if the client lacks something before it: then it has to sync anyway.
func (s *session) resend(now time.Time) {
	d := &s.deliver
	if len(d.flight) == 0 || now.Before(d.resendAt) {
		return
	}
	d.tries++
	if d.tries > maxResends || d.flight[0].First > d.cursor+1 {
		s.table.counts.pushesGivenUp.Add(uint64(len(d.flight)))
		s.table.cfg.Bus.PublishMissed(d.flight)
		d.flight, d.bytes, d.shed = nil, 0, false
		return
	}
	d.resendAt = now.Add(d.patience() << d.tries)
	for _, p := range d.flight {
		s.sayPush(p)
	}
}

// stale reports whether the head must be read from the store again: after five
// minutes, or when pushes may have been lost on their way here.
func (t *table) stale(now time.Time, s *session) bool {
	read := s.deliver.read
	return now.Sub(read) >= headTrusted || !read.After(t.distrusted)
}

// distrust notes that pushes may have been lost on their way here.
func (t *table) distrust(now time.Time) { t.distrusted = now }

// readHead reads the timeline's end and then answers a Ping.
func (t *table) readHead(now time.Time, s *session, ping uint32) {
	user, cursor := s.owner.User, s.deliver.cursor
	t.want(func(ctx context.Context) func(time.Time) {
		o := t.readTimeline(ctx, now, user, cursor)
		return func(time.Time) {
			switch {
			case s.state != open:
				return
			case o.err != nil:
				t.unread(user, o.err)
			default:
				s.deliver.head = max(s.deliver.head, o.run.Head)
				s.deliver.first, s.deliver.read = o.run.First, o.asked
				s.mute = s.mute && !o.found
			}
			s.pong(ping)
		}
	}, func(time.Time) { s.pong(ping) })
}
