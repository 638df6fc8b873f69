package relay

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"timberline/bus"
	"timberline/events"
	"timberline/projections/lease"
)

// A Publisher is a bus that tells when it has what it was given.
type Publisher interface {
	// Confirm publishes pushes and waits until the bus has them all. After an
	// error some may have been published.
	Confirm(ctx context.Context, ps []bus.Push) error
	// Distrust tells all edges that pushes were left out, and waits until the bus
	// has that.
	Distrust(ctx context.Context) error
}

// Config says what a Relay works with. Zero fields have the defaults named.
type Config struct {
	Stream    Stream
	Leases    lease.Leases
	Owner     string // see lease.Config
	Publisher Publisher
	Store     events.StoreID

	Poll    time.Duration // between reads of a shard that has nothing new; default: 250 ms
	MaxAge  time.Duration // of changes that are still passed on; default: 5 min
	Length  time.Duration // of a lease; default: lease.Config's
	Random  io.Reader     // for the leases' jitter
	Logger  *slog.Logger
	Metrics prometheus.Registerer // default: nobody is told
}

// A Relay passes on what its share of the stream's shards tells.
type Relay struct {
	cfg     Config
	metrics *metrics
	keeper  *lease.Keeper
	readers map[string]*reader // by shard
}

// leaseKind is the kind of the leases of stream shards.
const leaseKind = "stream"

// end is the place of a shard that was read to its end.
const end = "end"

// New returns a relay for Run.
func New(c Config) (*Relay, error) {
	if c.Poll == 0 {
		c.Poll = 250 * time.Millisecond
	}
	if c.MaxAge == 0 {
		c.MaxAge = 5 * time.Minute
	}
	r := &Relay{cfg: c, metrics: newMetrics(c.Metrics), readers: make(map[string]*reader)}
	var err error
	r.keeper, err = lease.NewKeeper(lease.Config{
		Leases: c.Leases, Kind: leaseKind, Owner: c.Owner, Length: c.Length, Names: r.names,
		Random: c.Random, Logger: c.Logger,
	})
	return r, err
}

// Alive says what is wrong if the relay does nothing any more.
func (r *Relay) Alive() error { return r.keeper.Alive() }

// Run relays until ctx ends, then gives its shards back, each with its place.
func (r *Relay) Run(ctx context.Context) {
	r.keeper.Run(ctx, func(held []lease.Lease) { r.hold(context.WithoutCancel(ctx), held) })
}

// names returns the shards that may be read: those that are not done, and whose
// parents are. It deletes the leases of shards that are gone.
func (r *Relay) names(ctx context.Context, stand []lease.Lease) ([]string, error) {
	shards, err := r.cfg.Stream.Shards(ctx)
	if err != nil {
		return nil, fmt.Errorf("list the stream's shards: %w", err)
	}
	open := make(map[string]bool, len(shards)) // not read to the end
	for _, s := range shards {
		open[s.Name] = true
	}
	for _, l := range stand {
		if _, stands := open[l.Name]; !stands {
			if err := r.cfg.Leases.PutLease(ctx, l, lease.Lease{Kind: l.Kind, Name: l.Name}); err != nil {
				r.cfg.Logger.Warn("lease of a shard that is gone cannot be deleted; trying again", "shard", l.Name, "err", err)
			}
		}
		if l.Place == end {
			open[l.Name] = false
		}
	}
	var names []string
	for _, s := range shards {
		if open[s.Name] && !open[s.Parent] {
			names = append(names, s.Name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// hold reads the shards held, and those alone.
func (r *Relay) hold(ctx context.Context, held []lease.Lease) {
	var lost sync.WaitGroup
	for name, reading := range r.readers {
		if !slices.ContainsFunc(held, func(l lease.Lease) bool { return l.Name == name }) {
			delete(r.readers, name)
			lost.Go(reading.stop)
		}
	}
	lost.Wait()
	for _, l := range held {
		if r.readers[l.Name] == nil {
			r.readers[l.Name] = r.read(ctx, l)
		}
	}
	r.metrics.shards.Set(float64(len(r.readers)))
}

// read starts to read a shard.
func (r *Relay) read(ctx context.Context, l lease.Lease) *reader {
	ctx, cancel := context.WithCancel(ctx)
	rd := &reader{relay: r, shard: l.Name, place: l.Place, cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(rd.done)
		rd.run(ctx)
	}()
	return rd
}
