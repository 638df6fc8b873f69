package rabbit

import (
	"context"
	"errors"
	"fmt"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

const (
	window        = 128         // messages on their way that are not confirmed
	maxTries      = 3           // of a message; then it is what breaks connections
	distrustEvery = time.Second // at most
)

// A flight is a message on its way and its confirm.
type flight struct {
	*message
	confirm *amqp.DeferredConfirmation
}

// publish publishes what waits until the session is over; when stop has ended, until
// nothing waits.
func (s *session) publish(stop context.Context, ch *amqp.Channel, flights chan<- flight) error {
	defer close(flights)
	b := s.bus
	tell := time.NewTicker(distrustEvery)
	defer tell.Stop()
	if err := s.tellDistrust(ch, flights); err != nil {
		return err
	}
	for {
		select {
		case <-tell.C:
			if err := s.tellDistrust(ch, flights); err != nil {
				return err
			}
		default:
		}
		if m := b.out.take(); m != nil {
			if err := s.send(ch, m, flights); err != nil {
				return err
			}
			continue
		}
		if stop.Err() != nil {
			return nil
		}
		select {
		case <-b.out.ready:
		case <-tell.C:
			if err := s.tellDistrust(ch, flights); err != nil {
				return err
			}
		case <-stop.Done():
		case <-s.life.Done():
			return nil
		}
	}
}

// tellDistrust has all edges read heads again, if a push was lost.
func (s *session) tellDistrust(ch *amqp.Channel, flights chan<- flight) error {
	if !s.bus.lossy.Swap(false) {
		return nil
	}
	return s.send(ch, distrustMessage(s.bus.cfg.Store), flights)
}

// send publishes a message. It waits while too many are in flight.
func (s *session) send(ch *amqp.Channel, m *message, flights chan<- flight) error {
	publishing := amqp.Publishing{Type: string(m.kind), Body: m.body, DeliveryMode: amqp.Transient}
	if m.lasts {
		publishing.DeliveryMode = amqp.Persistent
	}
	confirm, err := ch.PublishWithDeferredConfirm(s.bus.name(m.exchange), m.key, false, false, publishing)
	if err != nil {
		s.bus.again([]*message{m})
		return fmt.Errorf("publish: %w", err)
	}
	flights <- flight{m, confirm}
	return nil
}

// settle takes in the confirms in the order of the messages, until publish has ended
// and none is left.
func (s *session) settle(ch *amqp.Channel, flights <-chan flight) {
	var lost []*message
	for f := range flights {
		select {
		case <-f.confirm.Done():
		case <-s.life.Done():
		}
		switch {
		case f.confirm.Acked():
			s.bus.settled(f.message, nil)
		case ch.IsClosed() || s.life.Err() != nil: // all that was in flight looks refused
			lost = append(lost, f.message)
		default:
			s.bus.settled(f.message, errRejected)
		}
	}
	s.bus.again(lost)
}

// settled tells of a message that the broker has confirmed or refused.
func (b *Bus) settled(m *message, err error) {
	switch {
	case err == nil:
		b.counts.published.WithLabelValues(string(m.kind)).Inc()
	case errors.Is(err, errRejected):
		b.counts.rejected.Inc()
		if m.waiting == nil && m.exchange != offlineExchange && m.kind != kindHint {
			b.lossy.Store(true) // a queue was full: its edge does not know
		}
	}
	if m.waiting != nil {
		m.waiting.settle(err)
	}
}

// again takes in messages of which nobody knows whether they came: they will be
// published again, or whoever waits is told.
func (b *Bus) again(ms []*message) {
	var back []*message
	for _, m := range ms {
		m.tries++
		switch {
		case m.waiting != nil:
			m.waiting.settle(ErrAway)
		case m.kind == kindHint || m.kind == kindDistrust || m.tries == maxTries:
			b.drop(m)
		default:
			back = append(back, m)
		}
	}
	b.out.putBack(back)
}
