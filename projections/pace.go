package projections

import (
	"context"
	"math"
	"time"
)

// A pace holds work to so many things a second.
type pace struct {
	rate  float64 // 0: as many as can be
	began time.Time
	done  uint64
	spell
}

func newPace(rate float64) *pace {
	return &pace{rate: rate, began: time.Now(), spell: newSpell()}
}

// mostMadeUp is how much time that was lost is made up for. What stood still for longer would do
// all that it has missed as fast as can be.
const mostMadeUp = 20 * time.Millisecond

// did notes that n things are done, and waits until as much time has gone by as the rate
// gives to all of them.
func (p *pace) did(ctx context.Context, n int) error {
	p.done += uint64(n)
	if p.rate <= 0 {
		return ctx.Err()
	}
	due := time.Duration(min(float64(p.done)/p.rate*float64(time.Second), math.MaxInt64/2)) // else it may be negative
	early := due - time.Since(p.began)
	if early < -mostMadeUp {
		p.began = p.began.Add(-early - mostMadeUp)
	}
	if early < leastPause { // less is made up for later
		return p.rest(ctx)
	}
	return p.sleep(ctx, early)
}

const leastPause = time.Millisecond

// rest has others come first, if there is a rate and they had to wait for a while.
func (p *pace) rest(ctx context.Context) error {
	if p.rate <= 0 {
		return ctx.Err()
	}
	return p.spell.rest(ctx)
}

// A spell is work on end. With one core nobody else has a turn before it ends: ten
// milliseconds, as Go has it.
type spell struct{ began time.Time }

func newSpell() spell { return spell{time.Now()} }

// Work that is not to be noticed goes on for so long, and rests for so long at least.
const (
	workTime = 100 * time.Microsecond
	restTime = 50 * time.Microsecond
)

// rest ends a spell that was long enough. Only a sleep does: who merely yields is chosen
// again before anybody looks for what has come from the network.
func (s *spell) rest(ctx context.Context) error {
	if time.Since(s.began) < workTime {
		return ctx.Err()
	}
	return s.sleep(ctx, restTime)
}

func (s *spell) sleep(ctx context.Context, d time.Duration) error {
	defer func() { s.began = time.Now() }()
	wait := time.NewTimer(d)
	defer wait.Stop()
	select {
	case <-wait.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
