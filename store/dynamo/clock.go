package dynamo

import (
	"net/http"
	"sync"
	"time"
)

// A clock compares the wall clock with the store's, by the Date of its answers.
type clock struct {
	now func() time.Time

	mu          sync.Mutex
	skew, bound time.Duration
	known       bool
}

// observe takes in the answer to a request that was sent at a time.
//
// Date is cut to the second, and was written at some time between sending and now. So
// the store's clock is ahead of ours by more than Date - now, and by less than
// Date + 1s - sent:
//
//	ours    sent ─────────── now
//	store       Date ≤ … < Date+1s
func (c *clock) observe(sent time.Time, answer http.Header) {
	now := c.now()
	date, err := http.ParseTime(answer.Get("Date"))
	if err != nil || answer.Get("Age") != "" { // of a cache, which answers for another time
		return
	}
	trip := max(0, now.Sub(sent))
	width := time.Second + trip
	c.mu.Lock()
	defer c.mu.Unlock()
	c.skew = date.Sub(now.Round(0)) + width/2
	c.bound = width / 2
	c.known = true
}

// Clock tells by how much the store's clock is ahead of this process's, as its last
// answer proved: it is between skew-bound and skew+bound. Bound is half a second and
// half the round trip. It is known after Open.
//
// A process whose clock is wrong by more than it may be must not serve (R4); see
// ClockIsOff.
func (s *Store) Clock() (skew, bound time.Duration, known bool) {
	c := &s.clock
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.skew, c.bound, c.known
}

// MaxSkew is how far a clock may be off for a process to serve (R4).
const MaxSkew = 500 * time.Millisecond

// ClockIsOff reports whether the store's last answer proves that this process's clock is
// off by more than MaxSkew. Errors of up to MaxSkew, a second and the round trip may go
// unproved.
func (s *Store) ClockIsOff() bool {
	skew, bound, known := s.Clock()
	return known && skew.Abs()-bound > MaxSkew
}
