// Package node wires the roles of one process together: edge, ingest, projector
// and push.
package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"timberline/bus"
	"timberline/edge"
	"timberline/events"
	"timberline/ingest"
	"timberline/projections"
)

// An Engine is a storage engine with all that the roles need of it.
type Engine interface {
	events.Log
	events.Journals
	projections.Checkpoints
	projections.Items
}

// Config says what a process is made of.
type Config struct {
	Engine Engine
	Meta   projections.Meta
	// Sole says that the engine proves every older process dead, as the lock of
	// a data folder does: their journals are ended at once.
	Sole bool
	Bus  bus.Bus
	// Edge is how the edge serves. Run sets what the other roles are to it:
	// Writer, Settler, Timelines, Bus, Clock, Store, Random, Now, Logger.
	Edge edge.Config

	// MaxPending bounds the bytes of sends that wait for the log; see ingest.Config.
	MaxPending int

	// Started is called when the process serves, if it is not nil, with what tells
	// whether it still does: it asks the edge's loop.
	Started func(alive func(context.Context) error)

	Now     func() time.Time
	Random  io.Reader
	Logger  *slog.Logger
	Metrics prometheus.Registerer // default: nobody is told
}

// stopWithin is how long a clean stop may take: longer only if the log cannot be
// written, and then nothing is gained by waiting.
const stopWithin = 10 * time.Second

// Run runs edge, ingest, projector and push until ctx ends, then stops them in
// order: no new sends, the last append settled and acknowledged, the journal
// ended. It returns nil after a clean stop.
func Run(ctx context.Context, c Config) error {
	p, err := build(ctx, &c)
	if err != nil {
		for _, conn := range c.Edge.Sockets {
			conn.Close()
		}
		if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
			return nil // stopped before it served
		}
		return err
	}
	hard, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	defer context.AfterFunc(ctx, func() {
		late := time.NewTimer(stopWithin)
		defer late.Stop()
		select {
		case <-late.C:
			cancel(errSlow)
		case <-hard.Done():
		}
	})()
	err = p.run(ctx, hard, cancel, c.Started)
	if cause := context.Cause(hard); err == nil && errors.Is(cause, errSlow) {
		return cause
	}
	return err
}

var errSlow = fmt.Errorf("stopped without ending the journal: the log could not be written within %v; nothing acknowledged is lost", stopWithin)

// A process is the roles, wired.
type process struct {
	writer    *ingest.Writer
	edge      *edge.Edge
	projector *projections.Projector
}

func build(ctx context.Context, c *Config) (*process, error) {
	clock, err := events.NewClock(c.Now, c.Random)
	if err != nil {
		return nil, err
	}
	if c.Sole {
		n, err := ingest.EndJournals(ctx, c.Engine, c.Engine, clock, c.Logger)
		if err != nil {
			return nil, err
		}
		if n > 0 {
			c.Logger.Info("ended journals of stopped processes", "count", n)
		}
	}
	p := &process{}
	p.writer = ingest.NewWriter(ingest.Config{
		Log: c.Engine, Journals: c.Engine, Clock: clock, Store: c.Meta.Store, Tag: c.Edge.Tag, Random: c.Random, Logger: c.Logger, Metrics: c.Metrics,
		Appended: c.Bus.PublishHint, MaxPending: c.MaxPending,
		Report: func(r ingest.Report) { p.edge.Report(r) },
	})
	if err := p.writer.Open(ctx); err != nil {
		return nil, err
	}
	p.projector, err = projections.NewProjector(projections.Config{
		Log: c.Engine, Journals: c.Engine, Checkpoints: c.Engine, Items: c.Engine,
		Meta: c.Meta, Bus: c.Bus, Publish: c.Bus.PublishPushes, Random: c.Random, Logger: c.Logger, Metrics: c.Metrics,
	})
	if err != nil {
		return nil, err
	}
	p.edge, err = edge.New(p.edgeConfig(c, clock))
	return p, err
}

// edgeConfig returns the edge's configuration with what the other roles are to it.
func (p *process) edgeConfig(c *Config, clock *events.Clock) edge.Config {
	ec := c.Edge
	ec.Writer, ec.Bus, ec.Clock, ec.Store = p.writer, c.Bus, clock, c.Meta.Store
	ec.Random, ec.Now, ec.Logger, ec.Metrics = c.Random, c.Now, c.Logger, c.Metrics
	ec.Timelines = projections.NewReader(c.Engine)
	ec.Settler = &ingest.Settler{
		Log: c.Engine, Journals: c.Engine, Clock: clock, Logger: c.Logger, Close: p.writer.CloseSession,
	}
	return ec
}

// run runs the roles. The edge stops first and makes the writer stop; when both
// are done, so is the projector.
func (p *process) run(ctx, hard context.Context, cancel context.CancelCauseFunc, started func(func(context.Context) error)) error {
	projecting, stop := context.WithCancel(hard)
	defer stop()
	serving, abandon := context.WithCancel(ctx)
	defer abandon()

	var front, back errgroup.Group
	fail := func(err error) error {
		if err != nil {
			cancel(err) // one role is broken: the process is
		}
		return err
	}
	front.Go(func() error { return fail(p.writer.Run(hard)) })
	front.Go(func() error { return fail(p.edge.Run(serving, hard)) })
	back.Go(func() error { return fail(p.projector.Run(projecting)) })
	if started != nil {
		started(p.edge.Alive)
	}
	err := front.Wait()
	stop()
	return errors.Join(err, back.Wait())
}
