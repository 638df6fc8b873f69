package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"timberline/client"
	"timberline/events"
)

var sendCommand = &command{
	name:    "send",
	args:    "[text]",
	summary: "send messages and wait until they are durable",
	about: `
Without a text every line of the standard input is a message. It prints the id of
each message once the message is on stable storage, in the order sent, and fails if
one of them is not. With --read it says, instead, that the conversation was read.`,
	example: "timberline send --as alice --to bob 'see you at nine'",
	run: func(ctx context.Context, c *call) error {
		var d deviceConfig
		d.define(c)
		c.flags.StringVar(&d.device, "device", "", "`name` of the device (default: a new one)")
		to := c.flags.String("to", "", "`user` to send to (required)")
		timeout := c.flags.Duration("timeout", 10*time.Second, "how long to wait for the server while nothing is stored")
		var read eventID
		c.flags.Var(&read, "read", "send no text, but that --as has read what --to wrote, up to the event with this `id`: that of inbox --json, not the one that send prints")
		asJSON := c.flags.Bool("json", false, "print a line of JSON for each message")
		if err := c.parse(-1); err != nil {
			return err
		}
		if err := c.noFlagsBehind(); err != nil {
			return err
		}
		if read != (eventID{}) && len(c.args) > 0 {
			return wrong("read", "leaves no room for a text, and there is %q", strings.Join(c.args, " "))
		}
		if err := checkPeer(*to); err != nil {
			return err
		}
		if *timeout <= 0 {
			return wrong("timeout", "is %v, want more than 0", *timeout)
		}
		o, _, err := d.options(passing("send"))
		if err != nil {
			return err
		}
		s := &sender{c: c, to: events.User(*to), read: events.ID(read), json: *asJSON, timeout: *timeout, server: d.server}
		return s.run(ctx, o)
	},
}

// An eventID is an event's id given as a flag: zero if it was not.
type eventID events.ID

// String implements flag.Value.
func (id *eventID) String() string {
	if *id == (eventID{}) {
		return ""
	}
	return events.ID(*id).String()
}

// Set implements flag.Value.
func (id *eventID) Set(text string) error {
	parsed, err := parseID(text)
	if at := parsed.Timestamp(); err == nil && time.Until(at) > 24*time.Hour { // whatever clocks say
		return fmt.Errorf("the id of an event has its time in it, and this one would be of %s: want what inbox --json has as \"id\" of an event", at.UTC().Format(time.RFC3339))
	}
	*id = eventID(parsed)
	return err
}

// A sender sends messages and prints what became of them.
type sender struct {
	c       *call
	to      events.User
	read    events.ID // to be said in place of messages; zero: nothing
	json    bool
	timeout time.Duration
	server  string

	client  *client.Client
	online  atomic.Bool // it was, once: before, nothing that it sends can be stored
	results chan client.Result
	ended   chan struct{}      // closed when the connection has ended for good
	waiting []events.MessageID // sent, not told of yet, in the order sent
	done    map[events.MessageID]error
	sent    int
	failed  int
}

func (s *sender) run(ctx context.Context, o client.Options) (err error) {
	if _, err := net.ResolveUDPAddr("udp", s.server); err != nil {
		return fmt.Errorf("server %s: %w", s.server, err)
	}
	s.results = make(chan client.Result)
	s.ended = make(chan struct{})
	s.done = make(map[events.MessageID]error)
	ctx, cancel := context.WithCancel(ctx)
	o.OnResult = func(r client.Result) {
		select {
		case s.results <- r:
		case <-ctx.Done():
		}
	}
	o.OnMessage = func(client.Message) error { return nil }
	o.OnState = func(st client.State) {
		switch st {
		case client.StateOnline:
			s.online.Store(true)
		case client.StateClosed:
			close(s.ended)
		}
	}
	s.client, err = client.Dial(s.server, o)
	if err != nil {
		cancel()
		return err
	}
	defer func() {
		cancel() // nobody listens to results any more
		err = errors.Join(err, s.client.Close())
	}()
	if err := s.sendAll(ctx); err != nil {
		return err
	}
	if s.failed > 0 {
		return fmt.Errorf("not stored: %d of %d messages", s.failed, s.sent)
	}
	return nil
}

// sendAll sends every line of the input, and waits until all are over.
func (s *sender) sendAll(ctx context.Context) error {
	lines := s.lines(ctx)
	patience := time.NewTimer(s.timeout)
	defer patience.Stop()
	for lines != nil || len(s.waiting) > 0 {
		next := lines
		if len(s.waiting) >= maxWaiting {
			next = nil
		}
		if len(s.waiting) == 0 {
			patience.Reset(s.timeout) // nothing is expected of the server
		}
		select {
		case l, ok := <-next:
			if !ok {
				lines = nil
				continue
			}
			if err := s.send(ctx, l); err != nil {
				return err
			}
		case r := <-s.results:
			patience.Reset(s.timeout)
			s.done[r.Message] = r.Err
			if err := s.print(); err != nil {
				return err
			}
		case <-s.ended:
			return explain(s.client, s.client.Err(), s.server)
		case <-patience.C:
			if !s.online.Load() {
				return fmt.Errorf("%s not stored, as there was no login within %v: %w", counted(s.sent, "message is", "messages are"), s.timeout, late(s.client, s.server))
			}
			return fmt.Errorf("%d of %d messages are not answered within %v, and may be stored or not: %w", len(s.waiting), s.sent, s.timeout, late(s.client, s.server))
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func (s *sender) send(ctx context.Context, l line) error {
	if l.err != nil {
		return l.err
	}
	id, err := s.hand(ctx, l.line)
	if errors.Is(err, client.ErrClosed) {
		return explain(s.client, err, s.server)
	}
	if err != nil {
		return fmt.Errorf("message %q: %w", short(l.line), withLimit(err))
	}
	s.waiting = append(s.waiting, id)
	s.sent++
	return nil
}

// hand gives the client what is to be sent.
func (s *sender) hand(ctx context.Context, text string) (events.MessageID, error) {
	if s.read != (events.ID{}) {
		return s.client.MarkRead(ctx, s.to, s.read)
	}
	return s.client.Send(ctx, s.to, []byte(text))
}

// withLimit says who decides how large a message may be. The client knows once it
// has logged in, the server in any case.
func withLimit(err error) error {
	if errors.Is(err, events.ErrTooLarge) {
		return fmt.Errorf("%w (the server's --max-body is the limit)", err)
	}
	return err
}

// maxWaiting bounds the messages under way, below the outbox's own bound so that
// Send never waits.
const maxWaiting = 512

// print tells of the messages that are done, in the order sent.
func (s *sender) print() error {
	for len(s.waiting) > 0 {
		id := s.waiting[0]
		fate, done := s.done[id]
		if !done {
			return nil
		}
		delete(s.done, id)
		s.waiting = s.waiting[1:]
		if fate != nil {
			s.failed++
		}
		if err := s.tell(id, withLimit(fate)); err != nil {
			return err
		}
	}
	return nil
}

func (s *sender) tell(id events.MessageID, fate error) error {
	if s.json {
		line := struct {
			Message string      `json:"message"`
			To      events.User `json:"to"`
			Stored  bool        `json:"stored"`
			Error   string      `json:"error,omitempty"`
		}{Message: id.String(), To: s.to, Stored: fate == nil}
		if fate != nil {
			line.Error = fate.Error()
		}
		return s.c.printJSON(line)
	}
	if fate != nil {
		fmt.Fprintf(s.c.stderr, "%v: %v\n", id, fate)
		return nil
	}
	return s.c.print("%v\n", id)
}

// A line is one line of input, or why there are no more.
type line struct {
	line string
	err  error
}

// lines returns the texts to send: the arguments, or the lines of the standard
// input. The channel is closed after the last one.
func (s *sender) lines(ctx context.Context) <-chan line {
	if len(s.c.args) > 0 || s.read != (events.ID{}) {
		one := make(chan line, 1)
		one <- line{line: strings.Join(s.c.args, " ")}
		close(one)
		return one
	}
	return readLines(ctx, s.c)
}

// readLines returns the lines of the standard input, until ctx ends. A read under
// way cannot be interrupted: it ends with the process.
func readLines(ctx context.Context, c *call) <-chan line {
	lines := make(chan line)
	go func() {
		defer close(lines)
		in := bufio.NewScanner(c.stdin)
		in.Buffer(nil, events.HardMaxBody+1)
		for in.Scan() {
			if !pass(ctx, lines, line{line: in.Text()}) {
				return
			}
		}
		if err := in.Err(); err != nil {
			pass(ctx, lines, line{err: fmt.Errorf("read the standard input: %w (a message has at most %d bytes)", err, events.HardMaxBody)})
		}
	}()
	return lines
}

// pass hands on a line. It reports false if ctx has ended.
func pass(ctx context.Context, lines chan<- line, l line) bool {
	select {
	case lines <- l:
		return true
	case <-ctx.Done():
		return false
	}
}

// short returns the beginning of a text.
func short(s string) string {
	const most = 40
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
