package rabbit

import (
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"
	amqp "github.com/rabbitmq/amqp091-go"

	"timberline/events"
)

// Config says where a bus is. Zero fields have the defaults named.
type Config struct {
	URL   string // amqp:// or amqps://, with user, password and virtual host
	Store events.StoreID
	// Prefix begins the names of all exchanges and queues; default: timberline. It is
	// the same in all processes of a store, and in no other's.
	Prefix string
	// Name is that of the process's queue of pushes; default: random. No two processes
	// that live have the same.
	Name string

	QueueLength   int // messages in the queue of pushes; further ones go to the offline queue; default: 10,000
	OfflineLength int // messages in the offline queue; the oldest are dropped; default: 100,000
	MaxWaiting    int // bytes that wait to be published; default: 16 MiB

	Logger  *slog.Logger
	Metrics prometheus.Registerer // default: nobody is told
}

// The broker keeps at most so many bytes of a queue, however few messages they are.
const (
	queueBytes   = 64 << 20
	offlineBytes = 1 << 30
)

// check sets defaults and finds what is wrong. The error names the field.
func (c *Config) check() error {
	if _, err := amqp.ParseURI(c.URL); err != nil { // which repeats the URL, and so its password
		return errors.New("bus config: URL cannot be read, want amqp://USER:PASSWORD@HOST:PORT/VHOST or amqps://…")
	}
	if c.Store == (events.StoreID{}) {
		return errors.New("bus config: Store is missing")
	}
	if c.Prefix == "" {
		c.Prefix = "timberline"
	}
	if c.Name == "" {
		c.Name = rand.Text()
	}
	if len(c.Prefix)+len(c.Name) > 200 {
		return fmt.Errorf("bus config: Prefix and Name have %d bytes, want at most 200", len(c.Prefix)+len(c.Name))
	}
	for _, field := range []struct {
		name  string
		value *int
		zero  int
	}{{"QueueLength", &c.QueueLength, 10_000}, {"OfflineLength", &c.OfflineLength, 100_000}, {"MaxWaiting", &c.MaxWaiting, 16 << 20}} {
		if *field.value == 0 {
			*field.value = field.zero
		}
		if *field.value < 1 {
			return fmt.Errorf("bus config: %s is %d, want at least 1", field.name, *field.value)
		}
	}
	return nil
}
