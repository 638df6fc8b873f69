package bench

import (
	"bytes"
	"context"
	"sync/atomic"
	"time"

	"timberline/events"
	"timberline/sim/proxy"
)

// Verified is what the receivers' timelines say of what was acknowledged.
type Verified struct {
	Acked      int `json:"acked"`
	ReadBack   int `json:"read_back"`
	Lost       int `json:"lost"`
	Doubled    int `json:"doubled"`
	OutOfOrder int `json:"out_of_order"`
}

// OK reports whether every promise was kept.
func (v *Verified) OK() bool { return v.Lost == 0 && v.Doubled == 0 && v.OutOfOrder == 0 }

// verify reads the timelines of all receivers with new devices, and holds them
// against what was acknowledged to each sender. The network has no faults then.
func verify(ctx context.Context, cfg Config, acked []events.Number) (Verified, error) {
	cfg.Faults, cfg.Rate = proxy.Faults{}, 0
	f, err := newFleet(cfg)
	if err != nil {
		return Verified{}, err
	}
	for i, n := range acked {
		from, to := cfg.sender(i)
		l := f.loops[i%len(f.loops)]
		l.onEntry = (*session).read
		s := l.add(i, to, from, cfg.Token(to, "reader"))
		s.readBack(from, int(n), &cfg.Payload)
	}
	f.start(ctx)
	if err = f.connect(); err == nil {
		f.until("timelines read back", func(l *loop) *atomic.Int64 { return &l.quiet }, len(acked), readPatience(acked))
	} // what is missing then is lost
	if stopped := f.stop(); err == nil {
		err = stopped
	}
	var v Verified
	for _, l := range f.loops {
		for _, s := range l.sessions {
			v.Acked += s.wanted
			v.ReadBack += s.entries
			v.Doubled += s.doubled
			v.OutOfOrder += s.late
		}
	}
	v.Lost = v.Acked - v.ReadBack
	return v, err
}

// readPatience is how long reading so much may take.
func readPatience(acked []events.Number) time.Duration {
	n := events.Number(0)
	for _, a := range acked {
		n += a
	}
	return 30*time.Second + time.Duration(n)*20*time.Microsecond
}

// readBack makes the session read its timeline until it has so many entries of a sender.
func (s *session) readBack(from string, entries int, bodies *Payload) {
	s.from, s.wanted, s.bodies, s.seen = events.User(from), entries, bodies, make([]bool, entries+1)
}

// read takes in an entry of a timeline that is read back. One with another body than
// was sent is none.
func (s *session) read(_ events.Seq, e *events.Event) {
	switch n := e.Number; {
	case e.Sender != s.from || n == 0 || int(n) >= len(s.seen) || !bytes.Equal(e.Body, s.bodies.body(s.index, n)):
	case s.seen[n]:
		s.doubled++
	default:
		s.seen[n] = true
		s.entries++
		if n < s.last {
			s.late++
		}
		s.last = max(s.last, n)
	}
}
