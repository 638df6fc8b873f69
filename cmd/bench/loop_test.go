package bench

import (
	"crypto/rand"
	"net/netip"
	"testing"
	"time"

	"timberline/wire"
)

// A void is a socket that takes everything and gives nothing.
type void struct{ conn }

func (void) WriteBatch([]wire.Datagram) error { return nil }

// newTestLoop returns a loop with one open session, of which the second from 1 s on is
// measured.
func newTestLoop(cfg *Config) (*loop, *session) {
	cfg.Window, cfg.Payload = 4, Payload{Bodies: [][]byte{nil}}
	l := newLoop(cfg, void{}, netip.AddrPort{}, rand.Reader, time.Now())
	s := l.add(0, "u00000", "u00001", "")
	s.state, l.turn, s.pingAt = open, 1, time.Hour
	l.from.Store(int64(time.Second))
	l.to.Store(int64(2 * time.Second))
	return l, s
}

func TestLatencyCountsFromWhenItWasDueHoweverLateTheAnswer(t *testing.T) {
	l, s := newTestLoop(&Config{Plain: true, Sockets: 1})
	for _, x := range []struct{ due, now time.Duration }{
		{900 * time.Millisecond, 1100 * time.Millisecond}, // due before, answered within
		{1900 * time.Millisecond, 2900 * time.Millisecond},
		{1900 * time.Millisecond, time.Hour}, // more than is told
	} {
		l.answered(x.now, x.due)
		l.delivered(x.now, x.due)
	}
	r := &l.results
	if r.acked != 1 || r.delivered != 1 {
		t.Errorf("%d acked and %d delivered in the measured part, want 1", r.acked, r.delivered)
	}
	if r.ack.TotalCount() != 2 || timesOf(r.ack).P50 < 999 || r.delivery.TotalCount() != 2 || r.delivery.Max() < longest.Microseconds() {
		t.Errorf("ack of %d: %+v; delivery of %d, at most %v µs", r.ack.TotalCount(), timesOf(r.ack), r.delivery.TotalCount(), r.delivery.Max())
	}
	if s.rests() != true {
		t.Error("a session that has sent nothing waits for something")
	}
}

func TestSendsThatFindNoRoomAreTold(t *testing.T) {
	l, s := newTestLoop(&Config{Plain: true, Sockets: 1, Rate: 10, Sessions: 1})
	l.orders.Store(int32(load))
	l.owing(time.Second)
	l.owing(2 * time.Second) // 11 are due, 4 find room
	total, _ := (&fleet{cfg: *l.cfg, loops: []*loop{l}}).sum()
	if s.next != 5 || total.unsent != 7 {
		t.Errorf("%d were sent, %d were not, want 4 and 7", s.next-1, total.unsent)
	}
	if n, most := total.ack.TotalCount(), timesOf(total.ack).P999; n != 6 || most < 599 || most > 601 {
		t.Errorf("%d of those in the measured part have waited for at most %v ms, want 6 and 600 ms", n, most)
	}
}

func TestNobodyIsQuietUntilAllIsAnswered(t *testing.T) {
	l, s := newTestLoop(&Config{Plain: true, Sockets: 1})
	l.tick(0)
	if n := l.quiet.Load(); n != 1 {
		t.Errorf("before the load %d sessions are quiet", n)
	}
	for _, p := range []phase{load, drain} {
		l.orders.Store(int32(p))
		l.tick(tickEvery)
		if n := l.quiet.Load(); n != 0 {
			t.Errorf("phase %d: %d sessions are quiet with %d sends without an answer", p, n, s.next-s.base)
		}
	}
	l.frame(time.Second, s, &wire.Ack{Through: 4})
	l.tick(time.Second)
	if n := l.quiet.Load(); n != 1 || l.sent.Load() != 4 {
		t.Errorf("all is answered, and %d sessions are quiet; %d sends", n, l.sent.Load())
	}
}
