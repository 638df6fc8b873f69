package main

import (
	"context"
	"sync"
)

// A tally counts how far a demo or a soak has come.
type tally struct {
	mu    sync.Mutex
	c     counts
	err   error         // a message was not stored
	moved chan struct{} // closed when acked, serverKills or err changes
}

type counts struct {
	sent, acked, read int
	away              int // devices of a demo that have lost their connection
	kills             int
	serverKills       int // among them; of a soak, as what follows
	roleKills             // among those
	stops, restarts   int
}

// roleKills are kills of a cluster's processes.
type roleKills struct {
	Edge      int `json:"edge_kills"`
	Projector int `json:"projector_kills"`
	Relay     int `json:"relay_kills"`
}

// of returns the count of a role; nil: it is none of a cluster.
func (k *roleKills) of(role string) *int {
	return map[string]*int{edgeRole: &k.Edge, projectorRole: &k.Projector, relayRole: &k.Relay}[role]
}

func newTally() *tally { return &tally{moved: make(chan struct{})} }

func (t *tally) sent()   { t.count(func(c *counts) { c.sent++ }) }
func (t *tally) read()   { t.count(func(c *counts) { c.read++ }) }
func (t *tally) killed() { t.count(func(c *counts) { c.kills++ }) }

func (t *tally) acked() {
	t.count(func(c *counts) { c.acked++ })
	t.wake(nil)
}

// serverKilled notes the kill of a server, or of a role of a cluster.
func (t *tally) serverKilled(role string) {
	t.count(func(c *counts) {
		c.serverKills++
		if n := c.of(role); n != nil {
			*n++
		}
	})
	t.wake(nil)
}

// fail notes that a message was not stored.
func (t *tally) fail(err error) { t.wake(err) }

func (t *tally) count(f func(*counts)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f(&t.c)
}

func (t *tally) wake(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err == nil {
		t.err = err
	}
	close(t.moved)
	t.moved = make(chan struct{})
}

func (t *tally) counts() counts {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.c
}

// reached waits until that many messages are acked. The error tells of a message
// that never will be.
func (t *tally) reached(ctx context.Context, acked int) error {
	return t.until(ctx, func(c counts) bool { return c.acked >= acked })
}

// until waits for counts.
func (t *tally) until(ctx context.Context, enough func(counts) bool) error {
	for {
		t.mu.Lock()
		c, err, moved := t.c, t.err, t.moved
		t.mu.Unlock()
		if err != nil || enough(c) {
			return err
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
