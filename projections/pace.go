package projections

import (
	"context"
	"runtime"
	"time"
)

// A pace holds work to so many things a second.
type pace struct {
	rate  float64 // 0: as many as can be
	began time.Time
	done  uint64
}

func newPace(rate float64) *pace { return &pace{rate: rate, began: time.Now()} }

// leastPause is the shortest time that a pace waits: less is made up for later.
const leastPause = time.Millisecond

// mostMadeUp is how much time that was lost is made up for. What stood still for longer would do
// all that it has missed as fast as can be.
const mostMadeUp = time.Second

// did notes that n things are done, and waits until as much time has gone by as the rate
// gives to all of them.
func (p *pace) did(ctx context.Context, n int) error {
	p.done += uint64(n)
	if p.rate <= 0 {
		return ctx.Err()
	}
	early := time.Duration(float64(p.done)/p.rate*float64(time.Second)) - time.Since(p.began)
	if early < -mostMadeUp {
		p.began = p.began.Add(-early - mostMadeUp)
	}
	if early < leastPause {
		runtime.Gosched() // whoever else is due comes first
		return ctx.Err()
	}
	wait := time.NewTimer(early)
	defer wait.Stop()
	select {
	case <-wait.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
