package main

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"path/filepath"

	"timberline/client"
	"timberline/edge/auth"
	"timberline/sim/check"
	"timberline/wire"
)

// A demoDevice is the device of one user of a demo.
type demoDevice struct {
	run    *demoRun
	id     auth.Identity
	key    ed25519.PrivateKey
	queue  []int // the messages to send, in order
	reader *check.Reader
	client *client.Client
	codec  wire.Codec
}

// demoOutbox bounds the sends of a device under way.
const demoOutbox = 256

func (d *demoDevice) open(codec string) error {
	if codec == "json" {
		d.codec = wire.JSON
	}
	outbox, err := client.OpenFile(filepath.Join(d.run.folder, string(d.id.User)+".outbox"), client.FileOptions{})
	if err != nil {
		return err
	}
	d.reader = d.run.history.Reader(d.id.User, d.id.Device)
	o := d.options(d.id, d.reader)
	o.Store, o.OnResult, o.OutboxLimit = outbox, d.result, demoOutbox
	if d.client, err = client.Dial(d.run.proxy.Addr().String(), o); err != nil {
		return errors.Join(err, outbox.Close())
	}
	return nil
}

// options returns those of a device of the user.
func (d *demoDevice) options(id auth.Identity, reader *check.Reader) client.Options {
	return client.Options{
		Codec: d.codec, ServerKey: d.run.server.key,
		Token: func(context.Context) (string, error) {
			return auth.Sign(d.key, fresh(id, tokenLife))
		},
		OnMessage: func(m client.Message) error {
			reader.Entry(m.Seq, &m.Event)
			d.run.tally.read()
			return nil
		},
		OnReset: reader.Reset,
	}
}

func (d *demoDevice) close() error {
	if d.client == nil {
		return nil
	}
	return d.client.Close()
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
			return fmt.Errorf("%s sends message %d: %w", d.id.User, i+1, err)
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
	d.run.tally.fail(fmt.Errorf("message %v of %s: %w", r.Message, d.id.User, r.Err))
}

// complete waits until the device has its whole timeline.
func (d *demoDevice) complete(ctx context.Context) error {
	if err := d.client.Sync(ctx); err != nil {
		return fmt.Errorf("%s syncs: %w", d.id.User, err)
	}
	d.reader.Complete()
	return nil
}

// again reads the whole timeline with a new device, from the server itself.
func (d *demoDevice) again(ctx context.Context) (err error) {
	id := d.id
	id.Device = "reader"
	reader := d.run.history.Reader(id.User, id.Device)
	c, err := client.Dial(d.run.server.addr.String(), d.options(id, reader))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	if err := c.Sync(ctx); err != nil {
		return fmt.Errorf("a new device of %s syncs: %w", id.User, err)
	}
	reader.Complete()
	return nil
}
