package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"timberline/client"
	"timberline/events"
	"timberline/sim/check"
)

// A demoDevice is the device of one user of a demo.
type demoDevice struct {
	run    *demoRun
	user   events.User
	codec  string
	queue  []int // the messages to send, in order
	reader *check.Reader
	client *client.Client
	away   bool // has lost its connection
}

// demoOutbox bounds the sends of a device under way.
const demoOutbox = 256

func (d *demoDevice) open() error {
	o, reader, err := d.run.device(d.user, "phone", d.codec)
	if err != nil {
		return err
	}
	outbox, err := client.OpenFile(filepath.Join(d.run.folder, string(d.user)+".outbox"), client.FileOptions{})
	if err != nil {
		return err
	}
	d.reader = reader
	o.Store, o.OnResult, o.OnState, o.OutboxLimit = outbox, d.result, d.state, demoOutbox
	if d.client, err = client.Dial(d.run.edges[0].proxy.Addr().String(), o); err != nil {
		return errors.Join(err, outbox.Close())
	}
	return nil
}

// send sends the device's messages, each when its part of the run has come.
func (d *demoDevice) send(ctx context.Context) error {
	for _, i := range d.queue {
		select {
		case <-d.run.release[d.run.part(i)]:
		case <-ctx.Done():
			return ctx.Err()
		}
		m := &d.run.messages[i]
		sending := d.reader.Send(m.To, []byte(m.Text))
		id, err := d.client.Send(ctx, m.To, []byte(m.Text))
		if err != nil {
			return fmt.Errorf("%s sends message %d: %w", d.user, i+1, err)
		}
		sending.Kept(id)
		d.run.tally.sent()
	}
	return nil
}

// result is told by the client what became of a message.
func (d *demoDevice) result(r client.Result) {
	switch {
	case r.Err == nil:
		d.run.history.Acked(r.Message)
		d.run.tally.acked()
		return
	case errors.Is(r.Err, client.ErrRefused):
		d.run.history.Refused(r.Message)
	default:
		d.run.history.Unknown(r.Message)
	}
	d.run.tally.fail(fmt.Errorf("message %v of %s: %w", r.Message, d.user, r.Err))
}

// state is told by the client how its connection is.
func (d *demoDevice) state(s client.State) {
	switch away := s == client.StateOffline; {
	case away && !d.away:
		d.away = true
		d.run.tally.count(func(c *counts) { c.away++ })
	case s == client.StateOnline && d.away:
		d.away = false
		d.run.tally.count(func(c *counts) { c.away-- })
	}
}

// complete waits until the device has its whole timeline.
func (d *demoDevice) complete(ctx context.Context) error {
	if err := d.client.Sync(ctx); err != nil {
		return fmt.Errorf("%s syncs: %w", d.user, err)
	}
	d.reader.Complete()
	return nil
}

// again reads the whole timeline with a new device, from the server itself.
func (d *demoDevice) again(ctx context.Context) error {
	return d.run.again(ctx, d.run.edges[0], d.user, d.codec)
}
