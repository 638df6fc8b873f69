// Package client is the Go SDK of Timberline.
package client

import (
	"context"
	"errors"
	"io"
	"iter"
	"log/slog"
	"time"

	"timberline/events"
	"timberline/wire"
)

// Options say who connects and how. The zero value of a field is its default.
type Options struct {
	// Token returns the JWT to log in with. Required.
	Token func(ctx context.Context) (string, error)
	// Store keeps outbox and cursor; default: NewMemory().
	Store Store
	// Codec of the frames; default: wire.Proto.
	Codec wire.Codec
	// OnMessage is called for every entry, in the order of seqs, from one
	// goroutine. The cursor moves past the entry when it returns nil; otherwise
	// the entry comes again after a pause. If nil, messages wait for Messages.
	OnMessage func(Message) error
	OnState   func(State)
	OnResult  func(Result)
	// OnReset tells that the store was reset (created anew, or restored): the
	// cursor is 0 again and every entry will come anew.
	OnReset func(events.StoreID)
	// OutboxLimit bounds the sends not yet answered; default: 1024.
	OutboxLimit int

	// The seams of tests. Listen opens the socket, Now is the clock, Random the
	// source of randomness; defaults: the system's.
	Listen func() (wire.PacketConn, error)
	Now    func() time.Time
	Random io.Reader
	Logger *slog.Logger
}

// A Message is one entry of the user's timeline.
type Message struct {
	Seq   events.Seq
	Event events.Event
}

// A State is what the connection is doing.
type State uint8

// The states.
const (
	StateConnecting State = iota // logging in
	StateOnline                  // logged in
	StateOffline                 // waiting before the next try
	StateClosed                  // Close was called, or the login was denied for good
)

// A Result says what became of one send.
type Result struct {
	Message events.MessageID
	Err     error // nil: the message is durable
}

// The errors of the SDK.
var (
	ErrClosed  = errors.New("client is closed")
	ErrRefused = errors.New("send was refused")        // will never be stored: fix and send again
	ErrUnknown = errors.New("fate of send is unknown") // it may or may not be stored: ask the timeline
)

// A Client is one device's connection.
type Client struct{}

// Dial starts a client. It returns before the login; see OnState. Close it.
func Dial(address string, o Options) (*Client, error) { panic("client is being built") }

// Send puts a message into the outbox and returns its id once it is kept there.
// It waits while the outbox is full.
func (c *Client) Send(ctx context.Context, to events.User, body []byte) (events.MessageID, error) {
	panic("client is being built")
}

// Flush waits until every send so far is answered and every entry up to the
// known head was delivered.
func (c *Client) Flush(ctx context.Context) error { panic("client is being built") }

// Sync waits until the device has everything the timeline held when it asked.
func (c *Client) Sync(ctx context.Context) error { panic("client is being built") }

// Messages iterates over entries as they come, where OnMessage is nil.
func (c *Client) Messages(ctx context.Context) iter.Seq2[Message, error] {
	panic("client is being built")
}

// Close ends the session and waits until nothing of the client is left.
func (c *Client) Close() error { panic("client is being built") }

// A Store keeps what a device must not forget: outbox, session and cursor.
type Store interface{}
