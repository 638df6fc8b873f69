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
	moved chan struct{} // closed when acked or err changes
}

type counts struct {
	sent, acked, read int
	kills             int
	serverKills       int // among them; of a soak, as what follows
	stops, restarts   int
}

func newTally() *tally { return &tally{moved: make(chan struct{})} }

func (t *tally) sent()   { t.count(func(c *counts) { c.sent++ }) }
func (t *tally) read()   { t.count(func(c *counts) { c.read++ }) }
func (t *tally) killed() { t.count(func(c *counts) { c.kills++ }) }

func (t *tally) acked() {
	t.count(func(c *counts) { c.acked++ })
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
	for {
		t.mu.Lock()
		c, err, moved := t.c, t.err, t.moved
		t.mu.Unlock()
		if err != nil || c.acked >= acked {
			return err
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
