package rabbit

import (
	"errors"
	"fmt"

	amqp "github.com/rabbitmq/amqp091-go"

	"timberline/events"
)

// The broker sends so many messages ahead of their acknowledgements, which go out for
// some at a time.
const (
	prefetch = 256
	ackEvery = 64
)

// consumePushes begins to take in the pushes of the slots that are bound.
func (s *session) consumePushes() error {
	return s.consume(func(ch *amqp.Channel) (amqp.Queue, error) {
		return ch.QueueDeclare(s.bus.pushQueue(), true, false, false, false, amqp.Table{
			amqp.QueueMaxLenArg:      s.bus.cfg.QueueLength,
			amqp.QueueMaxLenBytesArg: queueBytes,
			amqp.QueueOverflowArg:    amqp.QueueOverflowRejectPublishDLX, // so who publishes learns of it
			amqp.QueueMessageTTLArg:  messageLife.Milliseconds(),
			amqp.QueueTTLArg:         queueLife.Milliseconds(),
			"x-dead-letter-exchange": s.bus.name(offlineExchange),
		})
	})
}

// consumeOwn begins to take in what comes to an exchange with a key, by a queue that
// ends with the connection. Its oldest messages are dropped if there are too many.
func (s *session) consumeOwn(exchange, key string) error {
	return s.consume(func(ch *amqp.Channel) (amqp.Queue, error) {
		queue, err := ch.QueueDeclare("", false, true, true, false, amqp.Table{
			amqp.QueueMaxLenArg:     ownLength,
			amqp.QueueMessageTTLArg: ownLife.Milliseconds(),
		})
		if err != nil {
			return queue, err
		}
		return queue, ch.QueueBind(queue.Name, key, s.bus.name(exchange), false, nil)
	})
}

// consume begins to take in the messages of a queue. Nobody else may: a second process
// with the same name would get every other one.
func (s *session) consume(declare func(ch *amqp.Channel) (amqp.Queue, error)) error {
	ch, err := s.channel(s.in)
	if err != nil {
		return err
	}
	if err := ch.Qos(prefetch, 0, false); err != nil {
		return fmt.Errorf("bound what comes ahead: %w", err)
	}
	queue, err := declare(ch)
	if err != nil {
		return fmt.Errorf("declare a queue: %w", err)
	}
	const exclusive = true
	messages, err := ch.Consume(queue.Name, "", false, exclusive, false, false, nil)
	if err != nil {
		return fmt.Errorf("consume queue %s: %w", queue.Name, err)
	}
	s.group.Go(func() error { return s.bus.takeAll(messages) })
	return nil
}

// takeAll takes in messages until there are no more.
func (b *Bus) takeAll(messages <-chan amqp.Delivery) error {
	var last amqp.Delivery // that was taken in
	taken := 0             // and not acknowledged
	ack := func() error {
		if taken == 0 {
			return nil
		}
		taken = 0
		return last.Ack(true)
	}
	for {
		var ok bool
		select {
		case last, ok = <-messages:
		default: // nothing to do: acknowledge first
			if err := ack(); err != nil {
				return fmt.Errorf("acknowledge: %w", err)
			}
			last, ok = <-messages
		}
		if !ok {
			return errCancelled
		}
		b.take(kind(last.Type), last.Body)
		if taken++; taken == ackEvery {
			if err := ack(); err != nil {
				return fmt.Errorf("acknowledge: %w", err)
			}
		}
	}
}

// take takes in a message. One that is of no use is counted, and that is all.
func (b *Bus) take(k kind, body []byte) {
	store, deliver, err := b.read(k, body)
	switch {
	case errors.Is(err, errKind):
		b.counts.ignored.WithLabelValues(causeKind).Inc()
	case err != nil:
		b.counts.ignored.WithLabelValues(causeMalformed).Inc()
	case store != b.cfg.Store:
		b.counts.ignored.WithLabelValues(causeStore).Inc()
	default:
		b.counts.received.WithLabelValues(string(k)).Inc()
		deliver()
	}
}

var errKind = errors.New("unknown type of message")

// read returns the store of a message, and how to hand it to who listens.
func (b *Bus) read(k kind, body []byte) (store events.StoreID, deliver func(), err error) {
	switch k {
	case kindPushes:
		store, ps, err := decodePushes(body)
		return store, func() {
			for _, handle := range b.pushes.all() {
				(*handle)(ps)
			}
		}, err
	case kindHint:
		h, err := decodeHint(body)
		return h.Store, func() {
			for _, handle := range b.hints.all() {
				(*handle)(h)
			}
		}, err
	case kindDistrust:
		store, err := decodeDistrust(body)
		return store, b.distrust, err
	}
	return events.StoreID{}, nil, errKind
}
