package bench

import (
	"time"

	"timberline/events"
	"timberline/wire"
)

// fill gives a session as many sends as its window has room for: in a closed loop
// any, else those that wait.
func (l *loop) fill(now time.Duration, s *session) {
	for s.room() {
		due := now
		if l.cfg.Rate > 0 {
			if s.backlog == 0 {
				return
			}
			s.backlog--
			due = s.backlogFrom
			s.backlogFrom += l.interval() * time.Duration(len(l.sessions))
		}
		l.given++
		s.add(due)
	}
}

// interval is the time between two sends of a loop that has a rate.
func (l *loop) interval() time.Duration {
	return time.Duration(float64(time.Second) * float64(l.cfg.Sockets) / l.cfg.Rate)
}

// owing makes the sessions send what is due, one after the other.
func (l *loop) owing(now time.Duration) {
	if l.lag == 0 {
		l.lag = now
	}
	for ; l.lag <= now; l.lag += l.interval() {
		s := l.sessions[l.robin%len(l.sessions)]
		l.robin++
		if s.backlog == 0 {
			s.backlogFrom = l.lag
		}
		s.backlog++
		l.fill(now, s)
		l.transmit(now, s)
	}
}

// transmit sends what has a number and was not sent.
func (l *loop) transmit(now time.Duration, s *session) {
	if now < s.busyUntil {
		return
	}
	for ; s.unsent < s.next; s.unsent++ {
		l.sendOne(now, s, s.unsent)
	}
}

// sendOne sends one number, in a datagram of its own.
func (l *loop) sendOne(now time.Duration, s *session, n events.Number) {
	x := s.slot(n)
	x.at = now
	x.tries++
	l.send = wire.Send{Number: n, Low: s.base, To: s.to, Message: messageID(x.due), Body: l.cfg.Payload.body(s.index, n)}
	if s.gotAt == 0 {
		l.say(s, &l.send)
		return
	}
	s.gotAt = 0
	l.say(s, &l.send, &wire.Got{Cursor: s.cursor})
}
