package rabbit

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"golang.org/x/sync/errgroup"

	"timberline/events"
)

// What a connection may take.
const (
	dialTime  = 5 * time.Second // until it is open
	heartbeat = 5 * time.Second // a dead one is noticed after two or three
	flushTime = 2 * time.Second // to publish what waits at the end
	closeTime = time.Second     // to say goodbye
)

// Causes why a session is over.
var (
	errStopped   = errors.New("stopped")
	errClosed    = errors.New("the connection was closed")
	errCancelled = errors.New("the broker has ended a consumer: was its queue deleted?")
)

// A session is what a bus has while it is connected. All of it ends together: whatever
// fails, both connections are closed and made again. There are two, for the broker may
// stop reading from those that publish.
type session struct {
	bus     *Bus
	in, out *connection
	life    context.Context // ends with the session
	group   *errgroup.Group
	ops     *amqp.Channel // declares and binds
	hints   bool          // come here
	pushes  bool          // come here, but for slots that are not bound
}

// serve connects and carries messages until stop ends or something fails. It reports
// whether it was connected, and why it is not any more.
func (b *Bus) serve(stop context.Context) (served bool, err error) {
	group, life := errgroup.WithContext(context.WithoutCancel(stop))
	s := &session{bus: b, life: life, group: group}
	if s.in, err = b.dial(stop, "in"); err != nil {
		return false, err
	}
	if s.out, err = b.dial(stop, "out"); err != nil {
		s.in.close()
		return false, err
	}
	group.Go(func() error {
		<-life.Done()
		s.in.close()
		s.out.close()
		return nil
	})
	group.Go(func() error { return s.run(stop) })
	err = group.Wait()
	return s.over(), err
}

// over takes back what the session promised.
func (s *session) over() (served bool) {
	b := s.bus
	b.mu.Lock()
	served = b.connected.Load()
	b.set(func() {
		b.connected.Store(false)
		clear(b.bound)
	})
	b.mu.Unlock()
	for _, m := range b.out.remove(func(m *message) bool { return m.waiting != nil }) {
		m.waiting.settle(ErrAway)
	}
	return served
}

// run does what the session is for; it ends with it.
func (s *session) run(stop context.Context) error {
	var err error
	if s.ops, err = s.channel(s.in); err != nil {
		return err
	}
	publish, err := s.channel(s.out)
	if err != nil {
		return err
	}
	if err := publish.Confirm(false); err != nil {
		return fmt.Errorf("ask for confirms: %w", err)
	}
	if err := s.declare(); err != nil {
		return err
	}
	flights := make(chan flight, window)
	flushed := make(chan struct{})
	s.group.Go(func() error { return s.publish(stop, publish, flights) })
	s.group.Go(func() error {
		defer close(flushed)
		s.settle(publish, flights)
		return nil
	})
	s.group.Go(s.keep)
	select {
	case <-s.life.Done():
		return nil
	case <-stop.Done():
	}
	late := time.NewTimer(flushTime)
	defer late.Stop()
	select {
	case <-flushed:
	case <-late.C:
	case <-s.life.Done():
	}
	return errStopped
}

// A connection is one to the broker, and the socket under it.
type connection struct {
	*amqp.Connection
	socket net.Conn
}

func (b *Bus) dial(ctx context.Context, way string) (*connection, error) {
	c := &connection{}
	properties := amqp.NewConnectionProperties()
	properties.SetClientConnectionName(fmt.Sprintf("%s %s %s", b.cfg.Prefix, b.cfg.Name, way))
	cancel := func() bool { return true }
	conn, err := amqp.DialConfig(b.cfg.URL, amqp.Config{
		Heartbeat:  heartbeat,
		Properties: properties,
		Dial: func(network, addr string) (net.Conn, error) {
			dialer := net.Dialer{Timeout: dialTime}
			socket, err := dialer.DialContext(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			c.socket = socket
			cancel = context.AfterFunc(ctx, func() { socket.Close() })
			return socket, socket.SetDeadline(time.Now().Add(dialTime)) // cleared when it is open
		},
	})
	if !cancel() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		if c.socket != nil {
			c.socket.Close()
		}
		return nil, fmt.Errorf("connect: %w", err)
	}
	c.Connection = conn
	return c, nil
}

// close ends a connection, also one that does not answer.
func (c *connection) close() {
	c.CloseDeadline(time.Now().Add(closeTime))
	c.socket.Close()
}

// channel opens a channel. The session is over when it is closed.
func (s *session) channel(c *connection) (*amqp.Channel, error) {
	ch, err := c.Channel()
	if err != nil {
		return nil, fmt.Errorf("open a channel: %w", err)
	}
	closed := ch.NotifyClose(make(chan *amqp.Error, 1))
	s.group.Go(func() error {
		if err := <-closed; err != nil {
			return err
		}
		return errClosed
	})
	return ch, nil
}

// The exchanges and queues, without their prefix; see the package's documentation.
const (
	pushesExchange  = ".pushes"
	offlineExchange = ".offline"
	hintsExchange   = ".hints"
	signalsExchange = ".signals"
	offlineQueue    = ".offline"
	edgeQueue       = ".edge."

	everybody = "all" // the key of signals for all
)

// What queues keep. An edge's messages grow old before their queue expires, for those
// in it then would not go to the offline queue; and a connection that is dead is
// noticed before messages grow old.
const (
	messageLife = 20 * time.Second
	queueLife   = 60 * time.Second // without a consumer
	ownLife     = 5 * time.Second  // of hints and signals
	ownLength   = 1000             // of each of their queues
)

// name returns the name of an exchange or queue.
func (b *Bus) name(what string) string { return b.cfg.Prefix + what }

// pushQueue returns the name of the process's queue of pushes.
func (b *Bus) pushQueue() string { return b.name(edgeQueue + b.cfg.Name) }

// declare makes the exchanges and the offline queue, or finds them.
func (s *session) declare() error {
	b := s.bus
	for _, exchange := range []struct {
		name, kind string
		args       amqp.Table
	}{
		{offlineExchange, amqp.ExchangeFanout, nil},
		{pushesExchange, amqp.ExchangeDirect, amqp.Table{"alternate-exchange": b.name(offlineExchange)}},
		{hintsExchange, amqp.ExchangeFanout, nil},
		{signalsExchange, amqp.ExchangeDirect, nil},
	} {
		if err := s.ops.ExchangeDeclare(b.name(exchange.name), exchange.kind, true, false, false, false, exchange.args); err != nil {
			return fmt.Errorf("declare exchange %s: %w", b.name(exchange.name), err)
		}
	}
	name := b.name(offlineQueue)
	if _, err := s.ops.QueueDeclare(name, true, false, false, false, amqp.Table{
		amqp.QueueMaxLenArg:      b.cfg.OfflineLength,
		amqp.QueueMaxLenBytesArg: offlineBytes,
	}); err != nil {
		return fmt.Errorf("declare queue %s (if its settings were changed delete it first): %w", name, err)
	}
	if err := s.ops.QueueBind(name, "", b.name(offlineExchange), false, nil); err != nil {
		return fmt.Errorf("bind queue %s: %w", name, err)
	}
	return nil
}

// keep makes come here what is wanted, first all at once and then whenever more is.
// Heads that were read before all of it did are not to be trusted: pushes went by.
func (s *session) keep() error {
	b := s.bus
	for told := false; s.life.Err() == nil; {
		b.mu.Lock()
		hints, pushes, slots := b.wanted.hints && !s.hints, b.wanted.pushes && !s.pushes, b.missing()
		more := hints || pushes || len(slots) > 0
		connected := b.connected.Load()
		if !more && told && !connected {
			b.set(func() { b.connected.Store(true) })
		}
		b.mu.Unlock()
		switch {
		case more:
			if err := s.listen(hints, pushes, slots); err != nil {
				return err
			}
			told = connected
		case !told:
			b.distrust()
			told = true
		case !connected:
			b.counts.connects.Inc()
			b.cfg.Logger.Info("the bus is connected")
		default:
			select {
			case <-b.changed:
			case <-s.life.Done():
			}
		}
	}
	return nil
}

// missing returns the slots that are wanted and not bound. The caller holds mu.
func (b *Bus) missing() (slots []events.Slot) {
	if len(b.bound) == len(b.wanted.slots) {
		return nil
	}
	for slot := range b.wanted.slots {
		if !b.bound[slot] {
			slots = append(slots, slot)
		}
	}
	return slots
}

// listen makes something more come here.
func (s *session) listen(hints, pushes bool, slots []events.Slot) error {
	if hints {
		if err := s.consumeOwn(hintsExchange, ""); err != nil {
			return err
		}
		s.hints = true
	}
	if pushes {
		if err := s.consumePushes(); err != nil {
			return err
		}
		if err := s.consumeOwn(signalsExchange, everybody); err != nil {
			return err
		}
		s.pushes = true
	}
	return s.bind(slots)
}

// bind makes pushes of slots come here. The broker does things in order: when it
// answers to the last one all are bound.
func (s *session) bind(slots []events.Slot) error {
	b := s.bus
	for i, slot := range slots {
		last := i == len(slots)-1
		if err := s.ops.QueueBind(b.pushQueue(), slotKey(slot), b.name(pushesExchange), !last, nil); err != nil {
			return fmt.Errorf("bind slot %d: %w", slot, err)
		}
	}
	late := false
	b.mu.Lock()
	b.set(func() {
		for _, slot := range slots {
			b.bound[slot] = true
			late = late || b.late[slot]
			delete(b.late, slot)
		}
	})
	b.mu.Unlock()
	if late {
		b.distrust()
	}
	return nil
}
