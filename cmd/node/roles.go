package node

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"timberline/edge"
	"timberline/events"
	"timberline/ingest"
	"timberline/projections"
	"timberline/projections/lease"
	"timberline/projections/relay"
)

// A Process is the roles, wired.
type Process struct {
	writer *ingest.Writer // both nil if there is no edge
	edge   *edge.Edge
	behind []func(context.Context) error // the others: they run until their context ends
	lives  []func() error                // of the others: what is wrong with them
}

func build(ctx context.Context, c *Config) (*Process, error) {
	p := &Process{}
	var edged, projected, relayed, retained error
	if c.Edge != nil {
		edged = p.addEdge(ctx, c)
	}
	if c.Projector && edged == nil {
		projected = p.addProjector(c)
	}
	if c.Relay != nil {
		relayed = p.addRelay(c)
	}
	if c.Retention != nil {
		retained = p.addRetention(c)
	}
	return p, errors.Join(edged, projected, relayed, retained)
}

// addEdge adds an edge with what writes its journal.
func (p *Process) addEdge(ctx context.Context, c *Config) error {
	clock, err := events.NewClock(c.Now, c.Random)
	if err != nil {
		return err
	}
	if c.Sole {
		n, err := ingest.EndJournals(ctx, c.Engine, c.Engine, clock, c.Logger)
		if err != nil {
			return err
		}
		if n > 0 {
			c.Logger.Info("ended journals of stopped processes", "count", n)
		}
	}
	p.writer = ingest.NewWriter(ingest.Config{
		Log: c.Engine, Journals: c.Engine, Clock: clock, Store: c.Meta.Store, Tag: c.Edge.Tag, Random: c.Random, Logger: c.Logger, Metrics: c.Metrics,
		Appended: c.Bus.PublishHint, MaxPending: c.MaxPending,
		Report: func(r ingest.Report) { p.edge.Report(r) },
	})
	if err := p.writer.Open(ctx); err != nil {
		return err
	}
	if c.Shared {
		p.addWatch(c, clock)
	}
	p.edge, err = edge.New(p.edgeConfig(c, clock))
	return err
}

// workersAfar is how many tasks an edge does at a time whose store is another machine's: they
// wait for it most of the time. When pushes may have been lost all its sessions have their
// heads read within a heartbeat, and logins wait in the same line.
const workersAfar = 32

// edgeConfig returns the edge's configuration with what the other roles are to it.
func (p *Process) edgeConfig(c *Config, clock *events.Clock) edge.Config {
	ec := *c.Edge
	ec.Writer, ec.Bus, ec.Clock, ec.Store = p.writer, c.Bus, clock, c.Meta.Store
	ec.Random, ec.Now, ec.Logger, ec.Metrics = c.Random, c.Now, c.Logger, c.Metrics
	if c.Shared && ec.Workers == 0 {
		ec.Workers = workersAfar
	}
	ec.Timelines = projections.NewReader(c.Engine, c.Meta)
	ec.Settler = &ingest.Settler{
		Log: c.Engine, Journals: c.Engine, Clock: clock, Logger: c.Logger, Close: p.writer.CloseSession,
	}
	return ec
}

// addWatch adds what tells others that the process lives, and ends the journals of
// those that do not.
func (p *Process) addWatch(c *Config, clock *events.Clock) {
	mine := func() events.Journal {
		j, _ := p.writer.Position()
		return j
	}
	w := &ingest.Watch{Log: c.Engine, Journals: c.Engine, Clock: clock, Mine: mine, Logger: c.Logger}
	p.behind = append(p.behind, func(ctx context.Context) error {
		w.Run(ctx)
		return nil
	})
}

// addProjector adds a projector, of the shards whose leases it holds.
func (p *Process) addProjector(c *Config) error {
	pc := projections.Config{
		Log: c.Engine, Journals: c.Engine, Checkpoints: c.Engine, Items: c.Engine,
		Meta: c.Meta, Bus: c.Bus, Publish: c.Publish, Random: c.Random, Logger: c.Logger, Metrics: c.Metrics,
	}
	if c.Leases != nil {
		pc.Shards = []projections.Shard{}
	}
	projector, err := projections.NewProjector(pc)
	if err != nil {
		return err
	}
	p.behind, p.lives = append(p.behind, projector.Run), append(p.lives, projector.Alive)
	if c.Leases == nil {
		return nil
	}
	return p.addShards(c, projector)
}

// addShards adds what decides which shards are the projector's.
func (p *Process) addShards(c *Config, projector *projections.Projector) error {
	var names []string
	for s := range c.Meta.Shards {
		names = append(names, strconv.FormatUint(uint64(s), 10))
	}
	keeper, err := lease.NewKeeper(lease.Config{
		Leases: c.Leases, Kind: "shard", Owner: c.Owner, Random: c.Random, Logger: c.Logger,
		Names: func(context.Context, []lease.Lease) ([]string, error) { return names, nil },
	})
	if err != nil {
		return err
	}
	p.lives = append(p.lives, keeper.Alive)
	p.behind = append(p.behind, func(ctx context.Context) error {
		keeper.Run(ctx, func(held []lease.Lease) { projector.Own(shardsOf(held)) })
		return nil
	})
	return nil
}

// shardsOf returns the shards that leases are for.
func shardsOf(held []lease.Lease) []projections.Shard {
	shards := make([]projections.Shard, len(held))
	for i, l := range held {
		n, err := strconv.ParseUint(l.Name, 10, 32)
		if err != nil {
			panic(fmt.Sprintf("a lease %q of a shard is held, which nobody named", l.Name))
		}
		shards[i] = projections.Shard(n)
	}
	return shards
}

// addRetention adds what trims the store.
func (p *Process) addRetention(c *Config) error {
	rc := *c.Retention
	rc.Meta, rc.Now, rc.Random, rc.Logger, rc.Metrics = c.Meta, c.Now, c.Random, c.Logger, c.Metrics
	r, err := projections.NewRetention(rc)
	if err != nil {
		return err
	}
	p.behind = append(p.behind, r.Run)
	return nil
}

// addRelay adds a relay.
func (p *Process) addRelay(c *Config) error {
	rc := *c.Relay
	rc.Leases, rc.Owner, rc.Store = c.Leases, c.Owner, c.Meta.Store
	rc.Random, rc.Logger, rc.Metrics = c.Random, c.Logger, c.Metrics
	r, err := relay.New(rc)
	if err != nil {
		return err
	}
	p.lives = append(p.lives, r.Alive)
	p.behind = append(p.behind, func(ctx context.Context) error {
		r.Run(ctx)
		return nil
	})
	return nil
}
