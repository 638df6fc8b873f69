package edge

import "time"

// A load is how much is on its way into the log, and how fast it gets there.
type load struct {
	waiting int       // events submitted and not settled
	rate    float64   // events a second, smoothed
	since   time.Time // of the last report
}

// The bounds of what a client is told to wait before it sends again. It adds jitter of
// its own.
const (
	minRetry = 100 * time.Millisecond
	maxRetry = 5 * time.Second
)

// retry returns when there will be room again: when what waits now is in the log.
func (l *load) retry() time.Duration {
	if l.rate <= 0 {
		return minRetry
	}
	return min(max(time.Duration(float64(l.waiting)/l.rate*float64(time.Second)), minRetry), maxRetry)
}

// settled notes that so many events are in the log, or never will be.
func (l *load) settled(now time.Time, events int) {
	l.waiting = max(l.waiting-events, 0)
	if took := now.Sub(l.since); !l.since.IsZero() && took > 0 {
		l.rate += (float64(events)/took.Seconds() - l.rate) / 16
	}
	l.since = now
}

// lost notes that nothing is on its way any more: the journal is over.
func (l *load) lost() { l.waiting = 0 }
