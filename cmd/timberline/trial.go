package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"timberline/client"
	"timberline/cmd/bench"
	"timberline/events"
	"timberline/sim/check"
	"timberline/sim/corpus"
	"timberline/sim/proxy"
)

// A trial is a server in a process of its own, or a cluster, behind a bad network, and
// the record of what devices did and saw there, to be held against the promises.
type trial struct {
	folder    string
	begun     time.Time
	stderr    io.Writer // told of the progress
	tellEvery time.Duration
	progress  func(counts) string
	patience  time.Duration // how long it may go without any progress
	converge  time.Duration // how long the way from an ack to the timelines may take at most

	cluster *cluster       // nil: one server is everything
	edges   []*entrance    // that devices connect to
	behind  []*childServer // the other roles of a cluster
	history *check.History
	tally   *tally
}

// An entrance is an edge, and the network before it.
type entrance struct {
	*childServer
	proxy *proxy.Proxy
}

// servers returns all processes but devices.
func (t *trial) servers() (all []*childServer) {
	for _, e := range t.edges {
		all = append(all, e.childServer)
	}
	return append(all, t.behind...)
}

// newTrial prepares one for a command, with a folder for all that it keeps.
func newTrial(c *call) (*trial, error) {
	folder, err := os.MkdirTemp("", "timberline-"+c.cmd.name+"-")
	if err != nil {
		return nil, fmt.Errorf("folder of the %s: %w", c.cmd.name, err)
	}
	return &trial{
		folder: folder, begun: time.Now(), stderr: c.stderr, patience: time.Minute, converge: 30 * time.Second,
		history: check.NewHistory(), tally: newTally(),
	}, nil
}

// seconds returns how long it has taken so far.
func (t *trial) seconds() float64 { return math.Round(time.Since(t.begun).Seconds()*100) / 100 }

// play starts the servers and the network, and ends both when live returns. The context
// of live ends when nothing moves.
func (t *trial) play(ctx context.Context, network proxy.Config, live func(context.Context) error) (err error) {
	defer func() {
		for _, s := range t.servers() {
			err = errors.Join(err, s.stop())
		}
	}()
	if err := t.startServers(ctx); err != nil {
		return err
	}
	for _, e := range t.edges {
		network.Server = e.addr
		if e.proxy, err = proxy.New(network); err != nil {
			return err
		}
		network.Seed++
	}
	ctx, cancel := context.WithCancelCause(ctx)
	var g errgroup.Group
	defer func() {
		cancel(nil)
		err = errors.Join(err, g.Wait())
	}()
	for _, e := range t.edges {
		g.Go(func() error { return e.proxy.Run(ctx) })
	}
	g.Go(func() error {
		t.watch(ctx, cancel)
		return nil
	})
	return live(ctx)
}

// startServers starts the cluster, or the one server.
func (t *trial) startServers(ctx context.Context) error {
	if t.cluster != nil {
		return t.startCluster(ctx)
	}
	s, err := startChild(ctx, filepath.Join(t.folder, "data"), bench.Cores{})
	if err == nil {
		t.edges = []*entrance{{childServer: s}}
	}
	return err
}

// watch tells of the progress, and gives up when there is none: when nothing is
// acknowledged or read.
func (t *trial) watch(ctx context.Context, giveUp context.CancelCauseFunc) {
	begun := time.Now()
	moved, at := 0, begun
	tick := time.NewTicker(t.tellEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			c := t.tally.counts()
			fmt.Fprintf(t.stderr, "%4.0f s: %s\n", now.Sub(begun).Seconds(), t.progress(c))
			if c.acked+c.read != moved {
				moved, at = c.acked+c.read, now
			}
			if now.Sub(at) >= t.patience {
				giveUp(fmt.Errorf("nothing has moved for %v: %s", t.patience, t.progress(c)))
			}
		}
	}
}

// readBack has all devices complete their timelines, and has new ones read all again.
//
// An ack says that a message is in the log. So devices sync until they have all
// that was acknowledged; what they do not get in time the report calls lost.
func (t *trial) readBack(ctx context.Context, complete, again func(context.Context) error) error {
	for late := time.Now().Add(t.converge); ; {
		if err := complete(ctx); err != nil {
			return err
		}
		if t.history.Check().OK() || time.Now().After(late) {
			return again(ctx)
		}
		if err := rest(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
}

// again reads the whole timeline of a user with a new device, over a network without
// faults.
func (t *trial) again(ctx context.Context, at *entrance, u events.User, codec string) (err error) {
	o, reader, err := t.device(u, "reader", codec)
	if err != nil {
		return err
	}
	c, err := client.Dial(at.addr.String(), o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	if err := c.Sync(ctx); err != nil {
		return fmt.Errorf("a new device of %s syncs: %w", u, err)
	}
	reader.Complete()
	return nil
}

// device returns the options of a device, and the record of what it is shown.
func (t *trial) device(u events.User, device events.Device, codec string) (client.Options, *check.Reader, error) {
	cfg := deviceConfig{
		server: t.edges[0].addr.String(), serverKey: t.edges[0].key, data: t.edges[0].keys,
		as: string(u), device: string(device), codec: codec,
	}
	o, _, err := cfg.options("")
	reader := t.history.Reader(u, device)
	o.OnMessage = func(m client.Message) error {
		reader.Entry(m.Seq, &m.Event)
		t.tally.read()
		return nil
	}
	o.OnReset = reader.Reset
	return o, reader, err
}

// everybody returns who sends or is sent something, in order.
func everybody(messages []corpus.Message) []events.User {
	found := make(map[events.User]bool)
	for i := range messages {
		found[messages[i].From], found[messages[i].To] = true, true
	}
	return slices.Sorted(maps.Keys(found))
}

// inOrder takes one step after the other, until one fails. If ctx has ended the error
// says why.
func inOrder(ctx context.Context, steps ...func(context.Context) error) error {
	for _, step := range steps {
		if err := step(ctx); err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return err
		}
	}
	return nil
}

// each does something for all, some at a time.
func each[T any](ctx context.Context, all []T, do func(T, context.Context) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(32)
	for _, x := range all {
		g.Go(func() error { return do(x, ctx) })
	}
	return g.Wait()
}

// rest waits; an error says that ctx has ended before.
func rest(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
