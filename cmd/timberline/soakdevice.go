package main

import (
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"timberline/edge/auth"
	"timberline/events"
	"timberline/sim/check"
)

// A soakDevice is one process after the other, each with the outbox that the one
// before has left.
type soakDevice struct {
	child
	run     *soakRun
	at      []*entrance // each login takes any of them
	id      auth.Identity
	codec   string
	reader  *check.Reader
	orders  chan order    // what finds no room is not sent
	settled chan struct{} // has room

	writing sync.WaitGroup
	quit    chan struct{} // ends writing

	// Of whoever hears the process.
	begun map[events.MessageID]check.Sending // was to be kept, and may have been
}

// maxOrders bounds what a device has yet to send.
const maxOrders = 64

func newSoakDevice(r *soakRun, id auth.Identity, codec string) *soakDevice {
	d := &soakDevice{
		run: r, at: r.edges, id: id, codec: codec, reader: r.history.Reader(id.User, id.Device),
		orders: make(chan order, maxOrders), settled: make(chan struct{}, 1),
		begun: make(map[events.MessageID]check.Sending),
	}
	d.child = child{name: d.reader.String(), log: d.path(".log")}
	return d
}

func (d *soakDevice) path(end string) string {
	return filepath.Join(d.run.folder, string(d.id.User)+","+string(d.id.Device)+end)
}

// start starts a process.
func (d *soakDevice) start(context.Context) error {
	var servers []string
	for _, e := range d.at {
		servers = append(servers, e.proxy.Addr().String())
	}
	in, err := d.launch(d.hear, "soak-device", "--servers", strings.Join(servers, ","), "--server-key", d.at[0].key, "--data", d.at[0].keys,
		"--as", string(d.id.User), "--device", string(d.id.Device), "--codec", d.codec, "--outbox", d.path(".outbox"))
	if err != nil {
		return err
	}
	d.quit = make(chan struct{})
	d.writing.Go(func() { d.write(in) })
	return nil
}

// end ends the process with a signal. It is an error if it has ended before, or has
// told nonsense.
func (d *soakDevice) end(s os.Signal) error {
	if d.cmd == nil {
		return nil
	}
	err := d.child.end(s)
	close(d.quit)
	d.writing.Wait()
	if err != nil {
		return fmt.Errorf("%w\n%s", err, d.lastWords())
	}
	return nil
}

// write hands orders to the process.
func (d *soakDevice) write(in io.Writer) {
	to := gob.NewEncoder(in)
	for {
		select {
		case o := <-d.orders:
			if to.Encode(o) != nil {
				return // the process has ended
			}
		case <-d.quit:
			return
		}
	}
}

// order has the device send a message, if it has room for it.
func (d *soakDevice) order(o order) {
	select {
	case d.orders <- o:
	default:
	}
}

// hear takes in what the process tells, to the end. A deed that was cut off as it
// was told was not done.
func (d *soakDevice) hear(out io.Reader) error {
	from := gob.NewDecoder(out)
	for {
		var x deed
		switch err := from.Decode(&x); {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return nil
		case err != nil:
			return fmt.Errorf("what it tells: %w", err)
		}
		if err := d.takeIn(&x); err != nil {
			return fmt.Errorf("what it tells: %w", err)
		}
	}
}

// takeIn records a deed.
func (d *soakDevice) takeIn(x *deed) error {
	h := d.run.history
	if d.run.told != nil {
		d.run.told(d, x)
	}
	switch x.What {
	case toldBegins:
		for id := range d.begun {
			if slices.Contains(x.Outbox, id) {
				d.kept(id)
			}
		}
		clear(d.begun)
	case toldSends:
		d.begun[x.Message] = d.reader.Send(x.To, x.Body)
	case toldKept:
		d.kept(x.Message)
	case toldAcked:
		d.kept(x.Message)
		h.Acked(x.Message)
		d.run.tally.acked()
	case toldRefused:
		d.kept(x.Message)
		h.Refused(x.Message)
	case toldUnknown:
		d.kept(x.Message)
		h.Unknown(x.Message)
	case toldShown:
		e, err := events.Raw(x.Event).Decode()
		if err != nil {
			return err
		}
		d.reader.Entry(x.Seq, &e)
		d.run.tally.read()
	case toldReset:
		d.reader.Reset(x.Store)
	case toldSettled:
		d.settled <- struct{}{}
	default:
		return fmt.Errorf("a deed of kind %d", x.What)
	}
	return nil
}

// kept notes that a message has been in the outbox.
func (d *soakDevice) kept(id events.MessageID) {
	sending, ok := d.begun[id]
	if !ok {
		return // it is known
	}
	delete(d.begun, id)
	sending.Kept(id)
	d.run.tally.sent()
}

// settle waits until everything that the device has sent is answered, and it has
// read its whole timeline.
func (d *soakDevice) settle(ctx context.Context) error {
	select {
	case d.orders <- order{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-d.settled:
		d.reader.Complete()
		return nil
	case err := <-d.heard:
		d.heard <- err // for end
		return errors.Join(fmt.Errorf("%s has ended", d.name), err)
	case <-ctx.Done():
		return ctx.Err()
	}
}
