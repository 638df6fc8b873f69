package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"timberline/client"
	"timberline/events"
)

var inboxCommand = &command{
	name:    "inbox",
	summary: "print a user's timeline",
	about: `
It syncs from the cursor given by --after and prints what it gets, oldest first. What
was acknowledged just now may need another moment to be there. It logs in as a device
of its own, so the user's other devices are not disturbed. With --json a line is
{"seq", "event"}.

With --as-of it prints the timeline as it was at a time: what was appended by then. A time
is ` + momentHelp + `.`,
	example: "timberline inbox --as bob --follow --json",
	run: func(ctx context.Context, c *call) error {
		var d deviceConfig
		d.define(c)
		c.flags.StringVar(&d.device, "device", "", "`name` of the device (default: a new one)")
		after := c.flags.Uint64("after", 0, "print only what stands above this `seq`")
		follow := c.flags.Bool("follow", false, "go on with what comes, until interrupted")
		timeout := c.flags.Duration("timeout", 10*time.Second, "how long to wait while nothing comes, without --follow")
		var asOf moment
		c.flags.Var(&asOf, "as-of", "print what was there at that `time`")
		asJSON := c.flags.Bool("json", false, "print a line of JSON for each entry")
		if err := c.parse(0); err != nil {
			return err
		}
		if *follow && !asOf.IsZero() {
			return wrong("follow", "is of no use with --as-of: nothing comes to what was")
		}
		o, _, err := d.options(passing("inbox"))
		if err != nil {
			return err
		}
		r := &inboxReader{c: c, after: events.Seq(*after), follow: *follow, json: *asJSON, timeout: *timeout, server: d.server, asOf: asOf.Time}
		return r.run(ctx, o)
	},
}

// An inboxReader prints a timeline.
type inboxReader struct {
	c       *call
	after   events.Seq
	follow  bool
	json    bool
	timeout time.Duration
	server  string
	asOf    time.Time // zero: now
}

// A startAt is a Store whose cursor is given.
type startAt struct {
	*client.Memory
	cursor events.Seq
}

// Load implements client.Store.
func (s startAt) Load() (client.Saved, error) {
	saved, err := s.Memory.Load()
	saved.Cursor.Seq = s.cursor
	return saved, err
}

func (r *inboxReader) run(ctx context.Context, o client.Options) (err error) {
	if _, err := net.ResolveUDPAddr("udp", r.server); err != nil {
		return fmt.Errorf("server %s: %w", r.server, err)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	// Whoever waits for the server waits as long as something comes.
	late := time.AfterFunc(r.timeout, func() {
		if !r.follow {
			cancel(context.DeadlineExceeded)
		}
	})
	defer late.Stop()
	o.Store = startAt{client.NewMemory(), r.after}
	o.OnReset = func(events.StoreID) {
		cancel(wrong("after", "is %d, but the timeline does not reach that far", r.after))
	}
	o.OnTrimmed = func(first, last events.Seq) {
		fmt.Fprintf(r.c.stderr, "entries %d to %d were trimmed\n", first, last)
	}
	o.OnState = func(st client.State) {
		if st == client.StateClosed {
			cancel(errEnded)
		}
	}
	o.OnMessage = func(m client.Message) error {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		late.Reset(r.timeout)
		if !r.asOf.IsZero() && m.Event.ID.Time().After(r.asOf) {
			return nil // entries are not in the order of their ids alone, so more may come
		}
		err := r.print(m)
		if err != nil {
			cancel(err)
		}
		return err
	}
	cl, err := client.Dial(r.server, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cl.Close()) }()
	err = cl.Sync(ctx)
	if err == nil && r.follow {
		<-ctx.Done()
		err = ctx.Err()
	}
	cause := context.Cause(ctx)
	switch {
	case err == nil:
		return nil
	case errors.Is(cause, errEnded), cl.Err() != nil:
		return explain(cl, cl.Err(), r.server)
	case cause != nil && !errors.Is(cause, context.Canceled):
		return explain(cl, cause, r.server)
	}
	return err
}

// errEnded says that the server has ended the connection for good.
var errEnded = errors.New("connection has ended")

func (r *inboxReader) print(m client.Message) error {
	if r.json {
		line := fmt.Appendf(nil, `{"seq":"%d","event":`, m.Seq)
		return r.c.print("%s}\n", m.Event.AppendJSON(line))
	}
	return r.c.print("%d\t%s\n", m.Seq, describe(&m.Event))
}
