package bench

import (
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// results is what a loop has measured: what happened in the measured part, and how long
// everything took that was due in it, however late it came.
type results struct {
	acked     int
	delivered int
	busy      int
	unsent    int                     // was due, and found no room in its window
	ack       *hdrhistogram.Histogram // microseconds
	delivery  *hdrhistogram.Histogram
}

// longest is the most that a histogram tells.
const longest = 10 * time.Minute

func newResults() results {
	const most = int64(longest / time.Microsecond)
	return results{ack: hdrhistogram.New(1, most, 3), delivery: hdrhistogram.New(1, most, 3)}
}

// took records how long something took.
func took(h *hdrhistogram.Histogram, d time.Duration) {
	h.RecordValue(int64(min(d, longest) / time.Microsecond))
}

// measured reports whether a time is in the measured part.
func (l *loop) measured(at time.Duration) bool {
	return int64(at) >= l.from.Load() && int64(at) < l.to.Load()
}

// answered counts a send that was acknowledged.
func (l *loop) answered(now, due time.Duration) {
	if l.measured(now) {
		l.results.acked++
	}
	if l.measured(due) {
		took(l.results.ack, now-due)
	}
}

// delivered counts an entry that has reached its receiver.
func (l *loop) delivered(now, due time.Duration) {
	l.entered++
	if l.measured(now) {
		l.results.delivered++
	}
	if l.measured(due) {
		took(l.results.delivery, now-due)
	}
}

// unsent counts what was due and found no room in its window. It has waited until the end
// of the measured part, at the least.
func (l *loop) unsent() (n int) {
	end := time.Duration(l.to.Load())
	for _, s := range l.sessions {
		n += s.backlog
		for due := s.backlogFrom; s.backlog > 0; s.backlog-- {
			if l.measured(due) {
				took(l.results.ack, end-due)
				took(l.results.delivery, end-due)
			}
			due += l.interval() * time.Duration(len(l.sessions))
		}
	}
	return n
}
