package bench

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"time"

	"timberline/events"
	"timberline/wire"
	"timberline/wire/sealed"
)

// A state is where a session is in its life.
type state uint8

const (
	waiting  state = iota // for its turn to connect
	greeting              // HELLO is sent until WELCOME comes
	joining               // LOGIN is sent until it is accepted
	open
	failed
)

// Times of a session; those of the SDK, where it has them.
const (
	firstRTO  = 500 * time.Millisecond
	minRTO    = 100 * time.Millisecond
	maxRTO    = 8 * time.Second
	gotDelay  = 20 * time.Millisecond
	gapWait   = 200 * time.Millisecond
	pingEvery = 12 * time.Second

	firstBudget = 16 << 10 // of a sync, in bytes; doubled while nothing is lost
	maxBudget   = 256 << 10
)

// A session is one simulated client: plain values, of which a loop is the owner.
// Times are since the loop began.
type session struct {
	index int
	user  string
	to    events.User
	token string
	state state
	cause error // why it failed

	begun     *sealed.Initiator
	cookie    sealed.Cookie
	channel   *sealed.Channel // nil: plain
	id        events.SessionID
	attempt   events.MessageID
	greetedAt time.Duration // when HELLO or LOGIN was sent
	again     time.Duration // when it is due again
	tries     int

	// Sends: numbers from base to next−1 have no answer; those before unsent are on
	// the way, or were lost.
	flight       []sent // by number modulo its length
	base, next   events.Number
	unsent       events.Number
	backlog      int // sends that are due and wait for room in the window
	backlogFrom  time.Duration
	busyUntil    time.Duration
	window       int // how many may be on the way now: at most as many as flight has room for
	threshold    int // below it the window grows fast
	credit       int // answers towards one more
	shrunk       time.Duration
	smooth, vary time.Duration

	// Entries: the app has everything up to cursor.
	cursor, head events.Seq
	early        map[events.Seq]events.Event
	gotAt        time.Duration // when to acknowledge; 0: nothing is new
	gapAt        time.Duration // when to ask for what is missing; 0: nothing is
	syncID       uint32
	budget       uint32
	pingAt       time.Duration

	// A reader reads its timeline from the start, until it has so many entries of
	// the sender that it is there for.
	wanted, entries int
	from            events.User
	bodies          *Payload      // what was sent
	seen            []bool        // by number
	last            events.Number // the highest so far
	doubled, late   int           // entries that came twice, and against the order sent
	asked, complete time.Duration // when it asked first, and when it had them all

	most int // sends in all; 0: without end
}

// rests reports whether the session waits for nothing. A reader goes on to the end: an
// entry that stands there twice may stand behind all others.
func (s *session) rests() bool {
	return s.base == s.next && s.entries >= s.wanted && (s.wanted == 0 || s.cursor >= s.head)
}

// A sent is a send without an answer.
type sent struct {
	due   time.Duration // when it was to be sent
	at    time.Duration // when it was sent last
	tries int
	held  bool // the server has it
}

func (s *session) slot(n events.Number) *sent { return &s.flight[uint64(n)%uint64(len(s.flight))] }

// room reports whether another send may go out.
func (s *session) room() bool {
	return int(s.next-s.base) < min(s.window, len(s.flight)) && (s.most == 0 || int(s.next) <= s.most)
}

// The bounds of a window that was shrunk, and of one that begins.
const (
	minWindow   = 8
	firstWindow = 32
)

// grow makes the window larger for so many answers, as the SDK does.
func (s *session) grow(answers int) {
	if s.window < s.threshold {
		s.window = min(s.window+answers, len(s.flight))
		return
	}
	for s.credit += answers; s.credit >= s.window && s.window < len(s.flight); s.window++ {
		s.credit -= s.window
	}
}

// shrink makes it smaller, at most once for what was lost together.
func (s *session) shrink(now time.Duration, to int) {
	if now-s.shrunk < minRTO {
		return
	}
	s.shrunk = now
	s.window = min(s.window, max(to, minWindow))
	s.threshold, s.credit = s.window, 0
}

// add gives a send the next number.
func (s *session) add(due time.Duration) {
	*s.slot(s.next) = sent{due: due}
	s.next++
}

// rto is how long to wait for an answer (RFC 6298).
func (s *session) rto() time.Duration {
	if s.smooth == 0 {
		return firstRTO
	}
	return min(max(s.smooth+4*s.vary, minRTO), maxRTO)
}

// asks notes that HELLO or LOGIN is sent.
func (s *session) asks(now time.Duration) {
	s.tries++
	s.greetedAt, s.again = now, now+min(s.rto()<<min(s.tries-1, 4), maxRTO)
}

// answered notes that it was answered: how long that took is known if it was sent once.
func (s *session) answered(now time.Duration) {
	if s.tries == 1 {
		s.measured(now - s.greetedAt)
	}
	s.tries = 0
}

// measured takes in a round trip.
func (s *session) measured(d time.Duration) {
	if s.smooth == 0 {
		s.smooth, s.vary = d, d/2
		return
	}
	s.vary += ((s.smooth - d).Abs() - s.vary) / 4
	s.smooth += (d - s.smooth) / 8
}

// acked takes in an Ack, and calls answered for each send that it answers.
func (s *session) acked(now time.Duration, f *wire.Ack, answered func(x *sent)) {
	if f.Through >= s.next || f.Through+1 < s.base {
		return
	}
	newest := time.Duration(-1)
	if f.Through >= s.base {
		s.grow(int(f.Through - s.base + 1))
	}
	for ; s.base <= f.Through; s.base++ {
		x := s.slot(s.base)
		if x.tries == 1 {
			newest = max(newest, x.at)
		}
		answered(x)
	}
	for _, r := range f.Refused {
		s.fail(fmt.Errorf("send %d was refused: %v", r.From, r.Reason))
	}
	if newest >= 0 {
		s.measured(now - newest)
	}
	s.unsent = max(s.unsent, s.base)
	for n := s.base; n < s.unsent; n++ {
		i := n - s.base
		s.slot(n).held = int(i/8) < len(f.Held) && f.Held[i/8]>>(i%8)&1 == 1
	}
}

// busy takes in that the server wants nothing from a number on, for a while.
func (s *session) busy(now, until time.Duration, from events.Number) {
	if from < s.unsent {
		s.unsent = max(from, s.base)
		s.busyUntil = until
		s.shrink(now, int(s.unsent-s.base))
	}
}

// overdue finds sends that were lost: of those on the way, as many as the window is
// now.
func (s *session) overdue(now time.Duration) (again []events.Number) {
	for n := s.base; n < s.unsent && int(n-s.base) < max(s.window, minWindow); n++ {
		if x := s.slot(n); !x.held && now >= x.at+s.rto()<<min(x.tries-1, 5) {
			again = append(again, n)
		}
	}
	if len(again) > 0 {
		s.shrink(now, s.window/2)
	}
	return again
}

func (s *session) fail(err error) {
	s.state, s.cause = failed, fmt.Errorf("%s: %w", s.user, err)
}

// entry takes in an entry of the timeline, and calls deliver for each whose turn it
// is.
func (s *session) entry(now time.Duration, seq events.Seq, e events.Event, deliver func(events.Seq, *events.Event)) {
	s.head = max(s.head, seq)
	switch {
	case seq <= s.cursor:
	case seq == s.cursor+1:
		s.cursor = seq
		deliver(seq, &e)
		for len(s.early) > 0 {
			next, ok := s.early[s.cursor+1]
			if !ok {
				break
			}
			s.cursor++
			delete(s.early, s.cursor)
			deliver(s.cursor, &next)
		}
	case len(s.early) < maxEarly:
		if s.early == nil {
			s.early = make(map[events.Seq]events.Event)
		}
		e.Body = bytes.Clone(e.Body) // it aliases the packet
		s.early[seq] = e
	}
	if s.gotAt == 0 {
		s.gotAt = now + gotDelay
	}
	s.gap(now)
}

// maxEarly bounds the entries that came before their turn.
const maxEarly = 4096

// gap plans a sync if something is missing.
func (s *session) gap(now time.Duration) {
	switch {
	case s.cursor >= s.head:
		s.gapAt = 0
	case s.gapAt == 0:
		s.gapAt = now + gapWait
	}
}

// messageID tells when a send was due, and that it is of this kind.
func messageID(due time.Duration) (id events.MessageID) {
	copy(id[:], "bench")
	binary.BigEndian.PutUint64(id[8:], uint64(due))
	return id
}

// dueOf reads a message's id.
func dueOf(id events.MessageID) time.Duration { return time.Duration(binary.BigEndian.Uint64(id[8:])) }
