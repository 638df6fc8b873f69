package main

import (
	"context"
	"encoding/gob"
	"errors"
	"io"
	"math/rand/v2"
	"net/netip"
	"sync"

	"timberline/client"
	"timberline/events"
)

var soakDeviceCommand = &command{
	name:    "soak-device",
	hidden:  true,
	summary: "one device of a soak, in a process of its own",
	about: `
Its standard input says what to send, its standard output tells what it does. It ends
when its input does.`,
	example: "timberline soak-device --servers 127.0.0.1:4747,127.0.0.1:4748 --as alice --device phone --outbox alice.outbox",
	run: func(ctx context.Context, c *call) error {
		var cfg deviceConfig
		cfg.define(c)
		c.flags.StringVar(&cfg.device, "device", "", "`name` of the device")
		servers := c.flags.String("servers", "", "`addresses` of servers, separated by commas: each login takes any of them; default: that of --server")
		outbox := c.flags.String("outbox", "", "`file` of the device's outbox")
		if err := c.parse(0); err != nil {
			return err
		}
		o, _, err := cfg.options("phone")
		if err != nil {
			return err
		}
		if *servers != "" {
			o.Resolve = anyOf(addresses(*servers))
		}
		store, err := client.OpenFile(*outbox, client.FileOptions{})
		if err != nil {
			return err
		}
		r := &recorder{Store: store, out: gob.NewEncoder(c.stdout)}
		return r.live(ctx, c.stdin, cfg.server, o)
	},
}

// anyOf returns what finds a server for a login: any of those at the addresses.
func anyOf(addresses []string) func(context.Context, int) (netip.AddrPort, error) {
	return func(context.Context, int) (netip.AddrPort, error) {
		return netip.ParseAddrPort(addresses[rand.IntN(len(addresses))])
	}
}

// An order is what a device is to do: to send a message, or, without a recipient, to
// wait until all is answered and to read its whole timeline.
type order struct {
	To   events.User
	Body []byte
}

// A deed is what a device has done, or is about to do.
type deed struct {
	What    deedKind
	Outbox  []events.MessageID // begins
	Message events.MessageID   // sends, and what became of it
	To      events.User        // sends
	Body    []byte
	Seq     events.Seq // shown
	Event   []byte
	Store   events.StoreID // reset
}

type deedKind uint8

// The kinds. Each is told before it counts, so that a process may be killed at any
// moment and the record is true: what it has not told was not shown to anybody, and
// nobody can have it from this device.
const (
	toldBegins  deedKind = iota + 1 // with an outbox that the one before has left
	toldSends                       // is about to keep a message in the outbox, and only then to send it
	toldKept                        // the outbox has it: from now on it must not be lost
	toldAcked                       // the app was told, and the outbox is about to forget
	toldRefused                     // likewise
	toldUnknown                     // likewise
	toldShown                       // the app was shown an entry, and the cursor is about to move
	toldReset                       // the store is another one
	toldSettled                     // everything is answered and read
)

// A recorder is a device's store that tells what is sent before it keeps it.
//
// A message that is about to be sent was sent for certain if it was told to be kept, or
// what became of it, or if the outbox has it when the next process begins: until its
// fate is told the outbox does not forget it. Otherwise it never was, or will be.
type recorder struct {
	client.Store

	mu  sync.Mutex
	out *gob.Encoder
}

// Save implements client.Store.
func (r *recorder) Save(changes []client.Change) error {
	for _, c := range changes {
		if c.Send == nil {
			continue
		}
		if err := r.tell(deed{What: toldSends, Message: c.Send.Message, To: c.Send.To, Body: c.Send.Body}); err != nil {
			return err
		}
	}
	return r.Store.Save(changes)
}

// tell returns when it is out of the process.
func (r *recorder) tell(d deed) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.out.Encode(d)
}

// live is the life of the process.
func (r *recorder) live(ctx context.Context, in io.Reader, server string, o client.Options) error {
	saved, err := r.Load()
	if err != nil {
		return err
	}
	begin := deed{What: toldBegins}
	for _, s := range saved.Sends {
		begin.Outbox = append(begin.Outbox, s.Message)
	}
	if err := r.tell(begin); err != nil {
		return err
	}
	o.Store = r
	o.OnMessage = func(m client.Message) error {
		return r.tell(deed{What: toldShown, Seq: m.Seq, Event: m.Event.Encode()})
	}
	o.OnReset = func(id events.StoreID) { r.tell(deed{What: toldReset, Store: id}) }
	o.OnResult = func(res client.Result) { r.tell(deed{What: fateOf(res.Err), Message: res.Message}) }
	c, err := client.Dial(server, o)
	if err != nil {
		return err
	}
	return errors.Join(r.obey(ctx, in, c), c.Close())
}

func fateOf(err error) deedKind {
	switch {
	case err == nil:
		return toldAcked
	case errors.Is(err, client.ErrRefused):
		return toldRefused
	}
	return toldUnknown
}

// obey does what it is told, until there is nothing more or ctx ends.
func (r *recorder) obey(ctx context.Context, in io.Reader, c *client.Client) error {
	orders := make(chan order)
	over := make(chan error, 1)
	go func() { // ends with the input, or with the process
		from := gob.NewDecoder(in)
		for {
			var o order
			if err := from.Decode(&o); err != nil {
				over <- err
				return
			}
			select {
			case orders <- o:
			case <-ctx.Done():
				return
			}
		}
	}()
	for {
		select {
		case o := <-orders:
			if err := r.do(ctx, c, o); err != nil && ctx.Err() == nil {
				return err
			}
		case err := <-over:
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		case <-ctx.Done():
			return nil
		}
	}
}

func (r *recorder) do(ctx context.Context, c *client.Client, o order) error {
	if o.To != "" {
		id, err := c.Send(ctx, o.To, o.Body)
		if err != nil {
			return err
		}
		return r.tell(deed{What: toldKept, Message: id})
	}
	if err := c.Flush(ctx); err != nil {
		return err
	}
	if err := c.Sync(ctx); err != nil {
		return err
	}
	return r.tell(deed{What: toldSettled})
}
