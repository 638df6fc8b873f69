package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"timberline/client"
	"timberline/edge/auth"
	"timberline/events"
)

var chatCommand = &command{
	name:    "chat",
	summary: "talk to somebody",
	about: `
Type a message and press Enter. A message is marked … while it is on its way, ✓ once
it is on stable storage, ● once the other one has read it, and ✗ with the reason if it
never will be stored. What is on its way survives the end of this program and of the
server: it goes out when you chat again. /quit or Ctrl-D ends, /help tells more. What
comes counts as read once it is on the screen of a terminal. Without a terminal chat
reads lines from the standard input and ends with them.

A user can chat in several windows: each is a device of its own, with a file of its
own for what is on its way, in the data folder.`,
	example: "timberline chat --as alice --to bob",
	run: func(ctx context.Context, c *call) error {
		var d deviceConfig
		d.define(c)
		c.flags.StringVar(&d.device, "device", "", "`name` of the device (default: chat, or the next of chat-2, chat-3 … that is not in use)")
		state := c.flags.String("state", "", "`folder` that keeps what is on its way (default: devices in --data; with --token, in your own configuration)")
		to := c.flags.String("to", "", "`user` to talk to (required)")
		if err := c.parse(0); err != nil {
			return err
		}
		if err := checkPeer(*to); err != nil {
			return err
		}
		o, id, outbox, err := openChat(&d, *state)
		if err != nil {
			return err
		}
		return newChat(c, &d, id, events.User(*to)).run(ctx, o, outbox)
	},
}

// maxChats is how many chats a user can have open without naming devices.
const maxChats = 9

// openChat finds a device that is not in use.
func openChat(d *deviceConfig, folder string) (o client.Options, id auth.Identity, outbox *client.File, err error) {
	named := d.device != "" || d.token != ""
	for n := 1; ; n++ {
		device := "chat"
		if n > 1 {
			device = fmt.Sprintf("chat-%d", n)
		}
		if o, id, err = d.options(device); err != nil {
			return
		}
		outbox, err = d.openOutbox(folder, id)
		if err == nil || !errors.Is(err, client.ErrInUse) || named || n == maxChats {
			return
		}
	}
}

// A chat is one conversation at a terminal. The client calls its methods from
// several goroutines.
type chat struct {
	c      *call
	me     auth.Identity
	peer   events.User
	server string
	view   view

	state  guarded
	client atomic.Pointer[client.Client] // nil: it is not there yet
}

func newChat(c *call, d *deviceConfig, id auth.Identity, peer events.User) *chat {
	return &chat{c: c, me: id, peer: peer, server: d.server, state: guarded{
		mine: make(map[events.MessageID]string), fates: make(map[events.MessageID]error),
		marked: make(map[events.MessageID]bool), receipts: newReceipts(),
	}}
}

// rewind is how far back a chat looks for what was said before, in entries.
const rewind = 500

// A rewound is a Store whose cursor stands a little before what the device has
// had. It tells of the sends that are still on their way.
type rewound struct {
	*client.File
	had     events.Seq
	pending []client.SavedSend
}

// Load implements client.Store.
func (r *rewound) Load() (client.Saved, error) {
	saved, err := r.File.Load()
	r.had = saved.Cursor.Seq
	r.pending = saved.Sends
	if saved.Cursor.Seq > rewind {
		saved.Cursor.Seq -= rewind
	} else {
		saved.Cursor.Seq = 0
	}
	return saved, err
}

func (ch *chat) run(ctx context.Context, o client.Options, outbox *client.File) (err error) {
	ch.view, err = openView(ch.c, fmt.Sprintf("%s → %s> ", ch.me.User, ch.peer))
	if err != nil {
		return errors.Join(err, outbox.Close())
	}
	defer func() { err = errors.Join(err, ch.view.Close()) }()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	store := &rewound{File: outbox}
	o.Store, o.OnMessage, o.OnResult = store, ch.message, ch.result
	o.OnReset = func(events.StoreID) { ch.view.Note("the server's store is new: everything comes again") }
	o.OnTrimmed = func(first, last events.Seq) { ch.view.Note("entries %d to %d were trimmed", first, last) }
	o.OnState = func(s client.State) {
		if s == client.StateClosed {
			cancel(errEnded)
			return
		}
		ch.online(s)
	}
	cl, err := ch.begin(store, o)
	if err != nil {
		return errors.Join(err, outbox.Close())
	}
	err = ch.talk(ctx, cl)
	if errors.Is(context.Cause(ctx), errEnded) {
		err = explain(cl, cl.Err(), ch.server)
	}
	return errors.Join(err, cl.Close(), ch.left())
}

// talk sends what is typed, until there is no more.
func (ch *chat) talk(ctx context.Context, cl *client.Client) error {
	ctx, cancel := context.WithCancel(ctx)
	var history sync.WaitGroup
	history.Go(func() {
		if cl.Sync(ctx) == nil {
			ch.caughtUp()
		}
	})
	defer history.Wait()
	defer cancel()
	lines := ch.view.Lines(ctx)
	for {
		select {
		case l, ok := <-lines:
			switch {
			case !ok:
				return ch.finish(ctx, cl)
			case l.err != nil:
				return l.err
			case l.line == "/quit":
				return nil
			case strings.HasPrefix(l.line, "/ "):
				if err := ch.send(ctx, cl, l.line[2:]); err != nil {
					return err
				}
			case strings.HasPrefix(l.line, "/"):
				ch.view.Note("/quit or Ctrl-D ends; a slash and a blank before a text with a slash; … on its way, ✓ stored, ● read, ✗ will never be stored")
			case strings.TrimSpace(l.line) != "":
				if err := ch.send(ctx, cl, l.line); err != nil {
					return err
				}
			}
		case upto := <-ch.state.receipts.marks:
			if err := ch.markRead(ctx, cl, upto); err != nil {
				return err
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// finish waits a while for what is on its way, both ways, where the input had an
// end.
func (ch *chat) finish(ctx context.Context, cl *client.Client) error {
	if ch.view.Interactive() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	err := errors.Join(cl.Flush(ctx), cl.Sync(ctx))
	if errors.Is(err, context.DeadlineExceeded) {
		return nil
	}
	ch.caughtUp()
	return err
}

func (ch *chat) send(ctx context.Context, cl *client.Client, text string) error {
	id, err := cl.Send(ctx, ch.peer, []byte(text))
	switch {
	case errors.Is(err, events.ErrTooLarge), errors.Is(err, events.ErrInvalid):
		ch.view.Note("not sent: %v", err)
		return nil
	case ctx.Err() != nil:
		return nil
	case err != nil:
		return err
	}
	ch.sent(id, text)
	return nil
}

// left tells what is still on its way at the end.
func (ch *chat) left() error {
	if n := ch.state.pending(); n > 0 {
		ch.view.Note("%d on their way: they are kept, and go out when you chat again as this device", n)
	}
	return nil
}
