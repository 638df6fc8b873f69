package client

import (
	"context"
	"errors"
	"iter"
	"slices"
	"time"

	"timberline/events"
)

// A batch is deliveries for the app.
type batch []delivery

// Messages iterates over entries as they come, where OnMessage is nil. The
// cursor moves past an entry when the loop asks for the next; so the one at which
// a loop is left comes again. It ends with an error: ctx's, or ErrClosed with the
// cause. One loop runs at a time; others wait.
func (c *Client) Messages(ctx context.Context) iter.Seq2[Message, error] {
	return func(yield func(Message, error) bool) {
		if c.o.OnMessage != nil {
			yield(Message{}, errors.New("messages go to OnMessage"))
			return
		}
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(c.ctx, cancel)()
		err := c.each(ctx, func(m Message) bool { return yield(m, nil) })
		if err != errLeft {
			yield(Message{}, err)
		}
	}
}

// The pause before an entry that the app did not take comes again.
const (
	firstRetake = 100 * time.Millisecond
	maxRetake   = 5 * time.Second
)

// handFor is how long deliveries are handed over before it is noted how far the
// app has taken them.
const handFor = 100 * time.Millisecond

// deliver is the goroutine that calls OnMessage.
func (c *Client) deliver() {
	pause := firstRetake
	c.each(c.ctx, func(m Message) bool { // ends with the client
		for {
			err := c.o.OnMessage(m)
			if err == nil {
				pause = firstRetake
				return true
			}
			c.o.Logger.Warn("message was not taken; trying again", "seq", m.Seq, "err", err)
			select {
			case <-c.ctx.Done():
				return false
			case <-time.After(pause):
				pause = min(2*pause, maxRetake)
			}
		}
	})
}

// errLeft says that the app does not want more.
var errLeft = errors.New("left")

// each hands deliveries to the app, in order, until take returns false (errLeft),
// or ctx or the client ends.
func (c *Client) each(ctx context.Context, take func(Message) bool) error {
	select {
	case c.turn <- struct{}{}:
		defer func() { <-c.turn }()
	case <-ctx.Done():
		return c.ended(ctx)
	}
	for {
		ds, err := c.next(ctx)
		if err == nil {
			err = c.hand(ctx, ds, take)
		}
		if err != nil {
			return err
		}
	}
}

// hand hands over what next returned, and notes how far the app has taken it,
// also when it panics.
func (c *Client) hand(ctx context.Context, ds batch, take func(Message) bool) error {
	var taken uint64
	defer func() { c.took(taken) }()
	for begin := time.Now(); len(ds) > 0 && time.Since(begin) < handFor; ds = ds[1:] {
		if ctx.Err() != nil {
			return c.ended(ctx)
		}
		if !c.takes(ds[0], take) {
			return errLeft
		}
		taken = ds[0].serial
	}
	return nil
}

// takes hands one delivery to the app.
func (c *Client) takes(d delivery, take func(Message) bool) bool {
	switch d.kind {
	case deliverMessage:
		return take(d.message)
	case deliverReset:
		if c.o.OnReset != nil {
			c.o.OnReset(d.cursor.Store)
		}
	case deliverTrimmed:
		if c.o.OnTrimmed != nil {
			c.o.OnTrimmed(d.first, d.cursor.Seq)
		}
	}
	return true
}

// ended returns why nothing more is delivered, given that ctx has ended.
func (c *Client) ended(ctx context.Context) error {
	if c.ctx.Err() != nil {
		return ErrClosed
	}
	return ctx.Err()
}

// next waits for deliveries.
func (c *Client) next(ctx context.Context) (batch, error) {
	reply := make(chan batch, 1)
	if err := c.do(ctx, func(time.Time) { c.loop.pull = reply }); err != nil {
		return nil, err
	}
	select {
	case ds, ok := <-reply:
		if !ok {
			return nil, c.Err()
		}
		return ds, nil
	case <-ctx.Done():
		return nil, c.ended(ctx)
	case <-c.gone:
		return nil, ErrClosed
	}
}

// took notes how far the app has taken deliveries.
func (c *Client) took(serial uint64) {
	if serial == 0 {
		return
	}
	c.do(context.Background(), func(now time.Time) { c.loop.took(now, serial) }) // fails if the loop is over: they come again
}

func (l *loop) took(now time.Time, serial uint64) {
	if cursor, moved := l.d.in.taken(now, serial); moved {
		l.d.out.changes = append(l.d.out.changes, Change{Cursor: &cursor})
	}
}

// serve answers those who wait, where what they wait for has come.
func (l *loop) serve() {
	if l.pull != nil && len(l.d.in.queue.list) > 0 && !l.unmet {
		l.pull <- l.d.in.queue.peek()
		l.pull = nil
	}
	if l.pull != nil && l.d.link.phase == over {
		close(l.pull)
		l.pull = nil
	}
	if l.resets != l.d.resets {
		l.resets = l.d.resets
		for _, w := range l.waiters {
			w.head, w.known = 0, !w.asks
			if w.asks {
				l.d.in.ask(l.now())
			}
		}
	}
	l.waiters = slices.DeleteFunc(l.waiters, func(w *waiter) bool {
		if l.d.link.phase == over {
			w.done <- l.c.Err()
			return true
		}
		done := l.fulfilled(w)
		if done {
			w.done <- nil
		}
		return done
	})
}

// A waiter waits until sends are over and entries delivered.
type waiter struct {
	sends uint64     // up to this one; 0: none
	asks  bool       // the head has to be asked for
	after uint32     // the request has to be newer
	head  events.Seq // entries up to here, once known
	known bool
	done  chan error // has room
}

func (l *loop) flush() *waiter {
	return l.admit(&waiter{sends: l.d.out.nextID - 1, head: l.d.in.head, known: true})
}

func (l *loop) sync() *waiter {
	l.d.in.ask(l.now())
	return l.admit(&waiter{asks: true, after: l.d.in.sync.id})
}

func (l *loop) admit(w *waiter) *waiter {
	w.done = make(chan error, 1)
	l.waiters = append(l.waiters, w)
	return w
}

func (l *loop) forget(w *waiter) {
	l.waiters = slices.DeleteFunc(l.waiters, func(x *waiter) bool { return x == w })
}

// fulfilled reports whether what w waits for has come true.
func (l *loop) fulfilled(w *waiter) bool {
	if w.asks && !w.known && int32(l.d.synced-w.after) > 0 {
		w.head, w.known = l.d.heads, true
	}
	if !w.known || w.sends > 0 && l.d.out.pendingUpTo(w.sends) {
		return false
	}
	if l.c.o.OnMessage == nil {
		return l.d.in.have >= w.head || !w.asks && l.d.in.queue.full()
	}
	return l.d.in.have >= w.head && l.d.in.queue.takenUpTo(w.head)
}
