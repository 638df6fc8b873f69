package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"timberline/bus"
	"timberline/bus/local"
	"timberline/bus/rabbit"
	"timberline/events"
	"timberline/migrations"
	"timberline/projections"
	"timberline/projections/lease"
	"timberline/projections/relay"
	"timberline/store/dynamo"
	"timberline/store/pebble"
)

// storage says which store a process works on, and how it reaches the others that do.
type storage struct {
	engine string
	shards uint // of a store of Pebble that is created
	dynamo dynamoFlags
	bus    string // local, or the URL of a RabbitMQ
}

// localBus is the bus of a process that is alone.
const localBus = "local"

// define adds the fields to a set of flags, with their defaults. A process that is one
// of many has no choice of the store.
func (s *storage) define(fs *flag.FlagSet, many bool) {
	s.dynamo.define(fs)
	if many {
		s.engine = engineDynamoDB
		fs.StringVar(&s.bus, "bus", "amqp://guest:guest@127.0.0.1", "`URL` of the RabbitMQ by which processes tell each other what is new: amqp://user:password@host, amqps://…")
		return
	}
	defineEngine(fs, &s.engine)
	fs.UintVar(&s.shards, "shards", 1, fmt.Sprintf("shards of a store that is created in the data folder, 1 to %d; it keeps them for ever", events.Slots))
	fs.StringVar(&s.bus, "bus", localBus, "how processes tell each other what is new: the `URL` of a RabbitMQ (amqp://user:password@host), or local: there is one process only")
}

// check finds what is wrong. The error names the flag.
func (s *storage) check() error {
	if err := checkEngine(s.engine); err != nil {
		return err
	}
	remote := strings.HasPrefix(s.bus, "amqp://") || strings.HasPrefix(s.bus, "amqps://")
	switch {
	case s.engine == enginePebble && (s.shards < 1 || s.shards > events.Slots):
		return wrong("shards", "is %d, want 1 to %d", s.shards, events.Slots)
	case s.bus != localBus && !remote:
		return wrong("bus", "is not local, and no URL that begins with amqp:// or amqps://")
	case s.engine == enginePebble && remote:
		return wrong("bus", "names a RabbitMQ, but a store of Pebble is one process's alone: leave --bus out, or add --store dynamodb")
	case s.engine == engineDynamoDB:
		return s.dynamo.check()
	}
	return nil
}

// checkShared finds what keeps a process from being one of many.
func (s *storage) checkShared() error {
	if s.bus == localBus {
		return wrong("bus", "is local, but a process that is one of many needs the others: name a RabbitMQ, such as amqp://user:password@host")
	}
	return nil
}

// A backend is a store as a process has it.
type backend struct {
	wholeStore
	meta   projections.Meta
	tag    events.EdgeTag // of Pebble's edge; else zero
	isNew  bool           // it was made when it was opened
	leases lease.Leases   // nil: no other process uses the store
	stream relay.Stream   // nil: the projector tells of what is new
	clock  func() error   // says if the process's clock is off, as far as the store proves it
	close  func() error
	advise func(error) error // adds to an error what to do about it
}

// open opens the store.
func (s *storage) open(ctx context.Context, c *call, data string, logger *slog.Logger, metrics prometheus.Registerer) (*backend, error) {
	if s.engine == enginePebble {
		return s.openPebble(c, data, logger, metrics)
	}
	return s.openDynamo(ctx, logger, metrics)
}

func (s *storage) openPebble(c *call, data string, logger *slog.Logger, metrics prometheus.Registerer) (*backend, error) {
	store, err := pebble.Open(storePath(data), pebble.Options{Shards: uint32(s.shards), Logger: logger, Metrics: metrics})
	if err != nil {
		return nil, notWhole(err, "--data "+quoted(data))
	}
	if has := uint(store.Meta().Shards); c.given["shards"] && has != s.shards {
		return nil, errors.Join(wrong("shards", "is %d, but the store in %s was created with %d, which it keeps", s.shards, data, has), store.Close())
	}
	return &backend{
		wholeStore: store, meta: store.Meta(), tag: store.Tag(), isNew: store.New(),
		clock: func() error { return nil }, // there is no other
		close: store.Close,
		advise: func(err error) error {
			if errors.Is(err, syscall.ENOSPC) || events.Final(err) {
				return folderError(data, err)
			}
			return err
		},
	}, nil
}

// openStore opens the store of a data folder, which has to be there.
func openStore(data string, o pebble.Options) (*pebble.Store, error) {
	o.MustExist = true
	s, err := pebble.Open(storePath(data), o)
	if errors.Is(err, pebble.ErrNoStore) {
		return nil, fmt.Errorf("there is no store in %s: name the folder of a server with --data (%w)", data, err)
	}
	return s, notWhole(err, "--data "+quoted(data))
}

// notWhole adds to the error of a store that has to be made whole first the command that
// does it, with the flags that name the store.
func notWhole(err error, flags string) error {
	if errors.Is(err, migrations.ErrRestoring) {
		return fmt.Errorf("%w: run `timberline migrate restored %s` until it has ended", err, flags)
	}
	return err
}

func (s *storage) openDynamo(ctx context.Context, logger *slog.Logger, metrics prometheus.Registerer) (*backend, error) {
	store, err := s.dynamo.open(ctx, logger, metrics)
	if err != nil {
		return nil, err
	}
	return &backend{
		wholeStore: store, meta: store.Meta(), leases: store, stream: dynamo.NewStream(store),
		clock: func() error { return clockError(store) }, close: store.Close, advise: s.dynamo.advise,
	}, nil
}

// clockError says that the process's clock is off, if the store proves it (R4).
func clockError(store *dynamo.Store) error {
	if !store.ClockIsOff() {
		return nil
	}
	skew, bound, _ := store.Clock()
	return fmt.Errorf("this machine's clock is off: DynamoDB's is ahead by %v, give or take %v, and ids would be wrong by as much: set the clock (chrony, ntpd), then start again", skew, bound)
}

// clockEvery is how often a process looks at its clock.
const clockEvery = 10 * time.Second

// watchClock ends, with an error, when the clock is off, or else with ctx.
func (b *backend) watchClock(ctx context.Context) error {
	look := time.NewTicker(clockEvery)
	defer look.Stop()
	for {
		select {
		case <-look.C:
			if err := b.clock(); err != nil {
				return err
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// A busLine is how a process reaches the others.
type busLine struct {
	bus.Bus
	publisher relay.Publisher // nil: no relay is needed
	run       func(context.Context) error
}

// openBus returns a bus for a store.
func (s *storage) openBus(m projections.Meta, name string, logger *slog.Logger, metrics prometheus.Registerer) (*busLine, error) {
	if s.bus == localBus {
		return &busLine{Bus: new(local.Bus), run: func(ctx context.Context) error { <-ctx.Done(); return nil }}, nil
	}
	b, err := rabbit.New(rabbit.Config{
		URL: s.bus, Store: m.Store, Prefix: s.dynamo.prefix, Name: name, Logger: logger, Metrics: metrics,
	})
	if err != nil {
		return nil, wrong("bus", "is of no use: %v", err)
	}
	return &busLine{Bus: b, publisher: b, run: b.Run}, nil
}
