// Package node wires the roles of one process together: edge with ingest, projector,
// relay.
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
	"timberline/projections"
	"timberline/projections/lease"
	"timberline/projections/relay"
)

// An Engine is a storage engine with all that the roles need of it.
type Engine interface{ projections.Store }

// Config says what a process is made of.
type Config struct {
	Engine Engine
	Meta   projections.Meta
	Bus    bus.Bus

	// Sole says that the engine proves every older process dead, as the lock of
	// a data folder does: their journals are ended at once.
	Sole bool
	// Shared says that other processes use the store at the same time: each watches
	// over the journals of the others.
	Shared bool
	// Leases are what processes share shards by; nil: all are the process's own.
	Leases lease.Leases
	// Owner names the process in them: no two ever have the same.
	Owner string

	// Edge is how the edge serves; nil: the process has none. Run sets what the
	// other roles are to it: Writer, Settler, Timelines, Bus, Clock, Store, Random,
	// Now, Logger, Metrics.
	Edge *edge.Config
	// MaxPending bounds the bytes of sends that wait for the log; see ingest.Config.
	MaxPending int

	// Projector says whether the process has one.
	Projector bool
	// Publish is told of new, durable entries by the projector; nil: nobody is,
	// because a relay tells of them.
	Publish func([]bus.Push)

	// Retention is what of the store stays; nil: all does. Run sets Meta, Now, Random,
	// Logger, Metrics.
	Retention *projections.RetentionConfig

	// Relay is what a relay works with; nil: the process has none. Run sets Leases,
	// Owner, Store, Random, Logger, Metrics.
	Relay *relay.Config

	// Started is called when the process serves, if it is not nil, with whom to ask then.
	Started func(*Process)

	Now     func() time.Time
	Random  io.Reader
	Logger  *slog.Logger
	Metrics prometheus.Registerer // default: nobody is told
}

// stopWithin is how long a clean stop may take: longer only if the log cannot be
// written, and then nothing is gained by waiting.
const stopWithin = 10 * time.Second

// Run runs the roles until ctx ends, then stops them in order: no new sends, the last
// append settled and acknowledged, the journal ended, leases given back. It returns nil
// after a clean stop.
func Run(ctx context.Context, c Config) error {
	p, err := build(ctx, &c)
	if err != nil {
		if c.Edge != nil {
			for _, conn := range c.Edge.Sockets {
				conn.Close()
			}
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

// run runs the roles. The edge stops first and makes the writer stop; when both
// are done, so are the others.
func (p *Process) run(ctx, hard context.Context, cancel context.CancelCauseFunc, started func(*Process)) error {
	behind, stop := context.WithCancel(hard)
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
	if p.edge != nil {
		front.Go(func() error { return fail(p.writer.Run(hard)) })
		front.Go(func() error { return fail(p.edge.Run(serving, hard)) })
	} else {
		front.Go(func() error { return until(serving, hard) })
	}
	for _, role := range p.behind {
		back.Go(func() error { return fail(role(behind)) })
	}
	if started != nil {
		started(p)
	}
	err := front.Wait()
	stop()
	return errors.Join(err, back.Wait())
}

// until waits until the process is to stop, or is broken.
func until(ctx, hard context.Context) error {
	select {
	case <-ctx.Done():
	case <-hard.Done():
	}
	return nil
}

// Connected returns the devices of a user that are connected to the process, and how far an
// entry of the user's timeline has come to each; of a process that has no edge, none.
func (p *Process) Connected(ctx context.Context, u events.User, at events.Seq) ([]edge.Connected, error) {
	if p.edge == nil {
		return nil, nil
	}
	return p.edge.Connected(ctx, u, at)
}

// Alive returns nil if the process still serves: it asks the loops of its roles.
func (p *Process) Alive(ctx context.Context) error {
	for _, alive := range p.lives {
		if err := alive(); err != nil {
			return err
		}
	}
	if p.edge == nil {
		return nil
	}
	return p.edge.Alive(ctx)
}
