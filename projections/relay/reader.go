package relay

import (
	"context"
	"errors"
	"time"

	"timberline/bus"
)

// A reader reads one shard, in a goroutine of its own.
type reader struct {
	relay  *Relay
	shard  string
	cancel context.CancelFunc
	done   chan struct{}

	// run's own.
	place   string // of the last change passed on or left out
	next    string // where to read on; empty: seek first
	skipped bool   // changes were left out, and edges do not know yet
}

// The pauses between reads of a shard that has just had changes, and between tries.
const (
	pollFirst  = 20 * time.Millisecond
	retryFirst = 50 * time.Millisecond
	retryMost  = 5 * time.Second
)

// stop ends the reader and waits for that.
func (r *reader) stop() {
	r.cancel()
	<-r.done
}

// run reads until ctx ends, or the shard.
func (r *reader) run(ctx context.Context) {
	poll, retry := pollFirst, retryFirst
	for ctx.Err() == nil {
		n, err := r.turn(ctx)
		switch {
		case errors.Is(err, errEnd):
			r.moved(end)
			r.relay.keeper.Wake()
			return
		case err != nil:
			if ctx.Err() == nil {
				r.relay.cfg.Logger.Warn("the stream cannot be relayed; trying again", "shard", r.shard, "err", err)
			}
			sleep(ctx, retry)
			retry = min(2*retry, retryMost)
			continue
		case n > 0:
			poll = pollFirst
		default:
			poll = min(2*poll, r.relay.cfg.Poll)
		}
		retry = retryFirst
		sleep(ctx, poll)
	}
}

// errEnd says that a shard has no more, and never will.
var errEnd = errors.New("end of the shard")

// turn reads a page and passes it on. It returns how many changes were in it.
func (r *reader) turn(ctx context.Context) (int, error) {
	if r.next == "" {
		if err := r.seek(ctx); err != nil {
			return 0, err
		}
	}
	page, err := r.relay.cfg.Stream.Read(ctx, r.next)
	switch {
	case errors.Is(err, ErrExpired):
		r.next = ""
		return 0, nil
	case errors.Is(err, ErrTrimmed):
		return 0, r.trimmed(ctx)
	case err != nil:
		return 0, err
	}
	if err := r.pass(ctx, page.Changes); err != nil {
		return 0, err
	}
	if page.Place != "" {
		r.place = page.Place
	}
	if !r.skipped {
		r.moved(r.place)
	}
	if r.next = page.Next; r.next == "" {
		return 0, r.finish(ctx)
	}
	return len(page.Changes), nil
}

// seek finds where to read on. A place that is gone is where the shard begins now.
func (r *reader) seek(ctx context.Context) (err error) {
	r.next, err = r.relay.cfg.Stream.Seek(ctx, r.shard, r.place)
	if errors.Is(err, ErrTrimmed) {
		return r.trimmed(ctx)
	}
	return err
}

// trimmed goes on from the oldest change there is, if there is any, after changes
// were lost unread.
func (r *reader) trimmed(ctx context.Context) (err error) {
	r.relay.cfg.Logger.Warn("the stream has lost changes before they were read; edges read the heads of timelines again", "shard", r.shard, "place", r.place)
	r.relay.metrics.trimmed.Inc()
	r.skipped, r.place = true, ""
	r.next, err = r.relay.cfg.Stream.Seek(ctx, r.shard, "")
	if errors.Is(err, ErrTrimmed) {
		return r.finish(ctx) // of the whole shard nothing is left
	}
	return err
}

// finish ends a shard, once edges know what was left out.
func (r *reader) finish(ctx context.Context) error {
	if err := r.confess(ctx); err != nil {
		return err
	}
	return errEnd
}

// moved notes that all changes up to a place are done with.
func (r *reader) moved(place string) { r.relay.keeper.Move(r.shard, place) }

// pass passes changes on, but for those too old. It does not return before the bus
// has them, or ctx ends.
func (r *reader) pass(ctx context.Context, changes []Change) error {
	for pause := retryFirst; ; pause = min(2*pause, retryMost) {
		pushes := r.pushes(time.Now(), changes)
		if len(changes) > 0 && len(pushes) == 0 {
			return nil // there may be many such pages: edges are told once
		}
		began := time.Now()
		err := r.confess(ctx)
		if err == nil && len(pushes) > 0 {
			err = r.relay.cfg.Publisher.Confirm(ctx, pushes)
		}
		switch {
		case err == nil:
			r.relay.metrics.passed(began, pushes)
			return nil
		case ctx.Err() != nil:
			return err
		}
		r.relay.cfg.Logger.Warn("the bus does not take pushes; trying again", "shard", r.shard, "pushes", len(pushes), "err", err)
		sleep(ctx, pause)
	}
}

// confess tells edges that changes were left out.
func (r *reader) confess(ctx context.Context) error {
	if !r.skipped {
		return nil
	}
	if err := r.relay.cfg.Publisher.Distrust(ctx); err != nil {
		return err
	}
	r.skipped = false
	return nil
}

// pushes returns what is worth passing on.
func (r *reader) pushes(now time.Time, changes []Change) []bus.Push {
	var pushes []bus.Push
	for _, c := range changes {
		if now.Sub(c.At) > r.relay.cfg.MaxAge {
			r.skip()
			continue
		}
		item, err := c.Decode()
		if err != nil {
			r.relay.cfg.Logger.Error("an item cannot be read", "shard", r.shard, "user", c.User, "seq", c.Last, "err", err)
			r.skip()
			continue
		}
		pushes = append(pushes, bus.Push{Store: r.relay.cfg.Store, User: c.User, First: item.First, Events: item.Events(), Newest: item.Newest})
	}
	return pushes
}

func (r *reader) skip() {
	r.skipped = true
	r.relay.metrics.skipped.Inc()
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
