package client

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"log/slog"
	randv2 "math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"timberline/events"
	"timberline/wire"
	"timberline/wire/sealed"
)

// Options say who connects and how. The zero value of a field is its default.
type Options struct {
	// Token returns the JWT to log in with. It is called for every login, and when
	// nine tenths of the time of a session's token are over, from another
	// goroutine but never twice at a time. It may take 30 s. Required.
	Token func(ctx context.Context) (string, error)
	// ServerKey is the server's public key, as "timberline serve" prints it: 43
	// characters. What is sent can be read only by who has the other half of it.
	// Required unless Plain.
	ServerKey string
	// Plain turns sealing off, for sockets in plain mode: whoever is on the way
	// reads and forges everything.
	Plain bool
	// Store keeps outbox and cursor; default: NewMemory(). Close closes it.
	Store Store
	// Codec of the frames; default: wire.Proto.
	Codec wire.Codec
	// OnMessage is called for every entry, in the order of seqs, from one
	// goroutine. The cursor moves past the entry when it returns nil; otherwise
	// the entry comes again after a pause. If nil, messages wait for Messages.
	OnMessage func(Message) error
	// OnState is called when the connection's state changes. Of many changes
	// that the app is too slow for, the oldest are left out.
	OnState func(State)
	// OnResult is called for every send, once it is answered; again after a
	// crash if the process ended before OnResult returned. Sends of an earlier
	// process whose results were not taken are among them.
	OnResult func(Result)
	// OnReset tells that the store was reset (created anew, or restored): the
	// cursor is 0 again and every entry will come anew. It is called between
	// messages, in the same way as they are taken.
	OnReset func(events.StoreID)
	// OnTrimmed tells that the entries from first to last were trimmed before
	// the device had them: they will never come. It is called as OnReset is.
	OnTrimmed func(first, last events.Seq)
	// OutboxLimit bounds the sends that are not answered, or whose result the
	// app has not taken; default: 1024.
	OutboxLimit int

	// The seams of tests. Resolve returns where the server is, for each login anew,
	// and is told how many were in vain; Listen opens the socket, Now is the clock,
	// Random the source of randomness; defaults: the system's.
	Resolve func(ctx context.Context, try int) (netip.AddrPort, error)
	Listen  func() (wire.PacketConn, error)
	Now     func() time.Time
	Random  io.Reader
	Logger  *slog.Logger // default: none

	seal *seal // nil: Plain
}

// A Message is one entry of the user's timeline.
type Message struct {
	Store events.StoreID // with Seq: the entry's key, for ever
	Seq   events.Seq
	Event events.Event
}

// Cursor returns the cursor of a device whose app has taken the message.
func (m Message) Cursor() Cursor { return Cursor{Store: m.Store, Seq: m.Seq} }

// A State is what the connection is doing.
type State uint8

// The states.
const (
	StateConnecting State = iota // logging in
	StateOnline                  // logged in
	StateOffline                 // waiting before the next try
	StateClosed                  // Close was called, or the login was denied for good: see Err
)

// String returns the state in a word.
func (s State) String() string {
	switch s {
	case StateConnecting:
		return "connecting"
	case StateOnline:
		return "online"
	case StateOffline:
		return "offline"
	case StateClosed:
		return "closed"
	}
	return fmt.Sprintf("state %d", uint8(s))
}

// A Result says what became of one send.
type Result struct {
	Message events.MessageID
	Err     error // nil: the message is durable; else ErrRefused or ErrUnknown
}

// A Client is one device's connection.
type Client struct {
	o Options

	ctx    context.Context // ends when Close begins
	cancel context.CancelFunc
	tasks  sync.WaitGroup // goroutines that the loop must outlive
	calls  chan func(now time.Time)
	sends  chan *sendCall
	stop   chan struct{} // ends the loop
	gone   chan struct{} // closed when the loop is over
	turn   chan struct{} // held by who takes messages
	asking chan struct{} // held by who asks for a token
	loop   *loop

	closing sync.Once
	closed  error // of the Store
	err     atomic.Pointer[error]
	trouble atomic.Pointer[error]
	state   atomic.Uint32
}

// Dial starts a client for the server at address ("host:port"). It returns
// before the login; see OnState. Close it.
func Dial(address string, o Options) (*Client, error) {
	if err := o.setDefaults(address); err != nil {
		return nil, err
	}
	saved, err := o.Store.Load()
	if err != nil {
		return nil, fmt.Errorf("load the device's store: %w", err)
	}
	var seed [32]byte
	if _, err := io.ReadFull(o.Random, seed[:]); err != nil {
		return nil, fmt.Errorf("draw a seed: %w", err)
	}
	c := &Client{
		o:     o,
		calls: make(chan func(time.Time)),
		sends: make(chan *sendCall),
		stop:  make(chan struct{}),
		gone:  make(chan struct{}),
		turn:  make(chan struct{}, 1),

		asking: make(chan struct{}, 1),
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	d := newDevice(o.Codec, randv2.NewChaCha8(seed), saved)
	d.link.seal = o.seal
	c.loop = newLoop(c, d)
	go c.loop.run()
	if o.OnMessage != nil {
		c.tasks.Go(c.deliver)
	}
	return c, nil
}

func (o *Options) setDefaults(address string) error {
	if _, _, err := net.SplitHostPort(address); err != nil {
		return fmt.Errorf("server address %q: %w, want host:port", address, err)
	}
	if o.Token == nil {
		return fmt.Errorf("client options: Token is missing, want a function that returns a JWT")
	}
	if o.Plain == (o.ServerKey != "") {
		return fmt.Errorf("client options: want either ServerKey, the server's public key, or Plain")
	}
	if o.OutboxLimit < 0 {
		return fmt.Errorf("client options: OutboxLimit is %d, want at least 1", o.OutboxLimit)
	}
	if o.OutboxLimit == 0 {
		o.OutboxLimit = 1024
	}
	if o.Store == nil {
		o.Store = NewMemory()
	}
	if o.Resolve == nil {
		o.Resolve = func(ctx context.Context, try int) (netip.AddrPort, error) { return resolve(ctx, address, try) }
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Random == nil {
		o.Random = rand.Reader
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Plain {
		return nil
	}
	key, err := sealed.ParseKey(o.ServerKey)
	if err != nil {
		return fmt.Errorf("client options: %w", err)
	}
	o.seal = &seal{key: key, random: o.Random}
	return nil
}

// NetworkChanged tells that the device is on another network now. The session goes
// on from a new socket at once, instead of when answers are missed; in plain mode
// nothing happens.
func (c *Client) NetworkChanged() {
	c.do(c.ctx, func(time.Time) {
		d := c.loop.d
		d.rebind = d.rebind || d.link.seal != nil && d.link.phase == joined
	})
}

// State returns what the connection is doing.
func (c *Client) State() State { return State(c.state.Load()) }

// Trouble returns what went wrong last with the connection, as somebody would want to
// read it: nothing answers, the server does not have the key, no token could be got.
// It is nil while the client is online, and as long as nothing went wrong.
func (c *Client) Trouble() error {
	if err := c.trouble.Load(); err != nil {
		return *err
	}
	return nil
}

// Err returns why the client is closed, nil while it is not. It is ErrClosed
// after Close; it wraps ErrDenied or ErrReplaced where the server ended it.
func (c *Client) Err() error {
	if err := c.err.Load(); err != nil {
		return *err
	}
	return nil
}

// Send puts a message into the outbox and returns its id once it is kept there.
// It waits while the outbox is full. It keeps no reference to body. The error
// wraps events.ErrInvalid or events.ErrTooLarge if the message can never be
// sent, ErrStore if the Store did not keep it, and ErrClosed.
func (c *Client) Send(ctx context.Context, to events.User, body []byte) (events.MessageID, error) {
	return c.SendTyped(ctx, to, "", body)
}

// SendTyped is Send for a body of another content type than
// text/plain; charset=utf-8.
func (c *Client) SendTyped(ctx context.Context, to events.User, contentType string, body []byte) (events.MessageID, error) {
	if err := to.Validate(); err != nil {
		return events.MessageID{}, err
	}
	return c.send(ctx, SavedSend{To: to, Type: contentType, Body: bytes.Clone(body)})
}

// MarkRead says that the user has read the conversation with another one, up to and with
// an event: the newest that was looked at. It is kept, answered and repeated as a message
// is, and stands in the timelines of both as an event of kind events.KindReadUpTo, whose
// Target is the event. So the other one sees it, and so do the user's other devices; see
// events.Event.ReadUpTo.
func (c *Client) MarkRead(ctx context.Context, with events.User, upto events.ID) (events.MessageID, error) {
	if err := with.Validate(); err != nil {
		return events.MessageID{}, err
	}
	if upto == (events.ID{}) {
		return events.MessageID{}, fmt.Errorf("%w: mark read up to the event %v, want the id of one", events.ErrInvalid, upto)
	}
	return c.send(ctx, SavedSend{With: with, Read: upto})
}

func (c *Client) send(ctx context.Context, saved SavedSend) (events.MessageID, error) {
	s := &sendCall{send: saved, reply: make(chan error, 1)}
	select {
	case c.sends <- s:
	case <-ctx.Done():
		return events.MessageID{}, fmt.Errorf("wait for room in the outbox: %w", ctx.Err())
	case <-c.ctx.Done():
		return events.MessageID{}, ErrClosed
	}
	if err := <-s.reply; err != nil { // the loop answers whatever it has taken in
		return events.MessageID{}, err
	}
	return s.send.Message, nil
}

// Flush waits until every send so far is over, its result taken by the app, and
// every entry up to the known head was delivered. Without OnMessage, entries that
// wait for Messages count as delivered.
func (c *Client) Flush(ctx context.Context) error {
	return c.wait(ctx, func(l *loop) *waiter { return l.flush() })
}

// Sync waits until the device has everything the timeline held when it asked,
// and the app has taken it. Without OnMessage, entries that wait for Messages
// count as taken; somebody has to take them, for only so many have room. What was
// acknowledged a moment ago, to whomever, may not be in the timeline yet.
func (c *Client) Sync(ctx context.Context) error {
	return c.wait(ctx, func(l *loop) *waiter { return l.sync() })
}

// wait makes the loop tell when something has come true.
func (c *Client) wait(ctx context.Context, begin func(*loop) *waiter) error {
	var w *waiter
	if err := c.do(ctx, func(time.Time) { w = begin(c.loop) }); err != nil {
		return err
	}
	select {
	case err := <-w.done:
		return err
	case <-c.gone:
		return ErrClosed
	case <-ctx.Done():
		if c.do(c.ctx, func(time.Time) { c.loop.forget(w) }) != nil {
			return ErrClosed
		}
		return ctx.Err()
	}
}

// do has the loop call f, and waits until it has.
func (c *Client) do(ctx context.Context, f func(now time.Time)) error {
	done := make(chan struct{})
	call := func(now time.Time) {
		f(now)
		close(done)
	}
	select {
	case c.calls <- call:
		<-done
		return nil
	case <-ctx.Done():
		if c.ctx.Err() != nil {
			return ErrClosed
		}
		return ctx.Err()
	case <-c.gone:
		return ErrClosed
	}
}

// Close ends the session and waits until nothing of the client is left. It does
// not wait for sends: those without an answer stay in the Store. It does wait for
// callbacks under way. The error is of the Store.
func (c *Client) Close() error {
	c.closing.Do(func() {
		c.cancel()
		c.tasks.Wait()
		close(c.stop)
		<-c.gone
		c.closed = c.o.Store.Close()
	})
	return c.closed
}
