package bench

import (
	"fmt"
	"io"
	"time"

	"timberline/events"
	"timberline/wire"
	"timberline/wire/sealed"
)

// greeted returns the session whose HELLO an answer repeats, from a byte on.
func (l *loop) greeted(data []byte, at int) *session {
	if len(data) < at+16 {
		return nil
	}
	return l.byEcho[sealed.Echo(data[at:])]
}

func (l *loop) retry(now time.Duration, data []byte) {
	s := l.greeted(data, 3)
	if s == nil || s.state != greeting {
		return
	}
	r, err := s.begun.Retry(data)
	if err == nil {
		s.answered(now)
	}
	switch {
	case err != nil:
	case r.Cause != sealed.CauseCookie:
		s.fail(fmt.Errorf("the server does not take the HELLO: cause %d", r.Cause))
	default:
		s.cookie = r.Cookie
		l.hello(now, s)
	}
}

func (l *loop) welcome(now time.Duration, data []byte) {
	s := l.greeted(data, 1)
	if s == nil || s.state != greeting {
		return
	}
	channel, w, err := s.begun.Finish(data)
	if err != nil {
		return
	}
	h, err := sealed.ParseHello(s.begun.Hello(s.cookie))
	if err == nil {
		delete(l.byEcho, h.Echo())
	}
	s.answered(now)
	s.begun, s.channel, s.id, s.state = nil, channel, w.Session, joining
	l.byID[s.id] = s
	l.logIn(now, s)
}

// begin starts to connect a session.
func (l *loop) begin(now time.Duration, s *session) {
	l.half++
	if l.cfg.Plain {
		io.ReadFull(l.random, s.attempt[:])
		s.state = joining
		l.logIn(now, s)
		return
	}
	var err error
	if s.begun, err = sealed.NewInitiator(l.cfg.Key, l.random); err != nil {
		s.fail(err)
		return
	}
	s.state = greeting
	l.hello(now, s)
}

func (l *loop) hello(now time.Duration, s *session) {
	s.asks(now)
	packet := s.begun.Hello(s.cookie)
	h, err := sealed.ParseHello(packet)
	if err != nil {
		s.fail(err)
		return
	}
	l.byEcho[h.Echo()] = s
	l.put(packet)
}

func (l *loop) logIn(now time.Duration, s *session) {
	s.asks(now)
	l.say(s, &wire.Login{Version: wire.Version, Attempt: s.attempt, Token: s.token})
}

func (l *loop) waitingFor(attempt events.MessageID) *session {
	for _, s := range l.sessions {
		if s.state == joining && s.attempt == attempt {
			return s
		}
	}
	return nil
}

func (l *loop) accepted(now time.Duration, s *session, f *wire.Accepted) {
	if s == nil || s.state != joining {
		return
	}
	s.answered(now)
	s.state, s.id, s.head = open, f.Session, f.Head
	if s.wanted == 0 {
		s.cursor = f.Head // what was there before is of no interest
	}
	s.pingAt = now + pingEvery - time.Duration(s.index%4000)*time.Millisecond
	l.byID[s.id] = s
	l.half--
	l.ready.Add(1)
	s.gap(now)
	if s.gapAt != 0 {
		s.gapAt = now
	}
}

func (l *loop) denied(now time.Duration, s *session, f *wire.Denied) {
	if f.RetryAfter == 0 {
		s.fail(fmt.Errorf("login was denied: %v (%s)", f.Reason, f.Detail))
		return
	}
	s.tries = 0
	s.again = now + time.Duration(f.RetryAfter)*time.Millisecond
}
