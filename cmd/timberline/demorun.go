package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"timberline/cmd/bench"
	"timberline/edge/auth"
	"timberline/events"
	"timberline/sim/check"
	"timberline/sim/proxy"
)

// A demoRun is one demo under way.
type demoRun struct {
	*demo
	folder  string
	server  *childServer
	proxy   *proxy.Proxy
	history *check.History
	devices map[events.User]*demoDevice
	tally   *tally
	release []chan struct{} // release[i] is closed when part i of the messages may be sent
}

// run does it, and leaves nothing behind.
func (d *demo) run(ctx context.Context) (report *check.Report, err error) {
	folder, err := os.MkdirTemp("", "timberline-demo-")
	if err != nil {
		return nil, fmt.Errorf("folder of the demo: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	begun := time.Now()
	r := &demoRun{demo: d, folder: folder, history: check.NewHistory(), tally: newTally()}
	r.server, err = startChild(ctx, filepath.Join(folder, "data"), bench.Cores{})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.server.stop()) }()
	if err := r.play(ctx); err != nil {
		return nil, fmt.Errorf("%w\n%s", err, r.server.lastWords())
	}
	d.seconds = math.Round(time.Since(begun).Seconds()*100) / 100
	return r.history.Check(), nil
}

// play sends everything and reads it back.
func (r *demoRun) play(ctx context.Context) (err error) {
	r.proxy, err = proxy.New(proxy.Config{
		Server: r.server.addr, Up: r.faults, Down: r.faults, Seed: r.seed, MaxClients: 4 * maxDemoUsers,
	})
	if err != nil {
		return err
	}
	var g errgroup.Group
	ctx, cancel := context.WithCancelCause(ctx)
	defer func() {
		cancel(nil)
		err = errors.Join(err, g.Wait())
	}()
	g.Go(func() error { return r.proxy.Run(ctx) })
	g.Go(func() error {
		r.watch(ctx, cancel)
		return nil
	})
	defer func() { err = errors.Join(err, r.closeDevices()) }()
	err = r.openDevices()
	if err == nil {
		err = r.chat(ctx)
	}
	if err == nil {
		err = r.readBack(ctx)
	}
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// openDevices starts a device for every user who sends or is sent something.
func (r *demoRun) openDevices() error {
	key, err := signingKey(r.server.data)
	if err != nil {
		return err
	}
	r.devices = make(map[events.User]*demoDevice)
	for i := range r.messages {
		m := &r.messages[i]
		for _, u := range []events.User{m.From, m.To} {
			if r.devices[u] == nil {
				r.devices[u] = &demoDevice{run: r, id: auth.Identity{User: u, Device: "phone"}, key: key}
			}
		}
		r.devices[m.From].queue = append(r.devices[m.From].queue, i)
	}
	for n, u := range r.users() {
		if err := r.devices[u].open(r.codecOf(n)); err != nil {
			return err
		}
	}
	return nil
}

// users returns them in order.
func (r *demoRun) users() []events.User {
	var list []events.User
	for u := range r.devices {
		list = append(list, u)
	}
	slices.Sort(list)
	return list
}

// codecOf returns the codec of the user with that number.
func (r *demoRun) codecOf(n int) string {
	if r.codec != "both" {
		return r.codec
	}
	return []string{"protobuf", "json"}[n%2]
}

func (r *demoRun) closeDevices() (err error) {
	var g errgroup.Group
	for _, d := range r.devices {
		g.Go(d.close)
	}
	return g.Wait()
}

// part returns which part of the run a message belongs to: the server is killed
// between two parts.
func (r *demoRun) part(message int) int { return message * (r.kills + 1) / len(r.messages) }

// chat lets the devices send everything, and kills the server meanwhile. A part
// may be sent as soon as the server was killed in the one before the last: so
// whenever it is killed, some messages were just acknowledged and others are on
// their way.
func (r *demoRun) chat(ctx context.Context) error {
	for range r.kills + 1 {
		r.release = append(r.release, make(chan struct{}))
	}
	g, sending := errgroup.WithContext(ctx)
	for _, u := range r.users() {
		g.Go(func() error { return r.devices[u].send(sending) })
	}
	g.Go(func() error { return r.killServer(sending) })
	if err := g.Wait(); err != nil {
		return err
	}
	return r.tally.reached(ctx, len(r.messages))
}

func (r *demoRun) killServer(ctx context.Context) error {
	close(r.release[0])
	for kill := 1; kill <= r.kills; kill++ {
		close(r.release[kill])
		if err := r.tally.reached(ctx, len(r.messages)*kill/(r.kills+1)); err != nil {
			return err
		}
		if err := r.server.end(syscall.SIGKILL); err != nil {
			return err
		}
		if err := r.server.start(ctx); err != nil {
			return err
		}
		r.tally.killed()
	}
	return nil
}

// converge is how long the way from an ack to the timelines may take at most.
const converge = 30 * time.Second

// readBack waits until every device has its whole timeline, and reads all
// timelines once more with new devices, over a network without faults.
//
// An ack says that a message is in the log. So devices sync until they have all
// that was acknowledged; what they do not get in time the report calls lost.
func (r *demoRun) readBack(ctx context.Context) error {
	for late := time.Now().Add(converge); ; {
		if err := r.each(ctx, (*demoDevice).complete); err != nil {
			return err
		}
		if r.history.Check().OK() || time.Now().After(late) {
			return r.each(ctx, (*demoDevice).again)
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// each does something for all devices, some at a time.
func (r *demoRun) each(ctx context.Context, do func(*demoDevice, context.Context) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(32)
	for _, u := range r.users() {
		g.Go(func() error { return do(r.devices[u], ctx) })
	}
	return g.Wait()
}

// The progress of a demo.
const (
	tellEvery = time.Second
	patience  = 60 * time.Second // without any progress
)

// watch tells of the progress, and gives up when there is none.
func (r *demoRun) watch(ctx context.Context, giveUp context.CancelCauseFunc) {
	begun := time.Now()
	last, at := r.tally.counts(), begun
	tick := time.NewTicker(tellEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			c := r.tally.counts()
			fmt.Fprintf(r.c.stderr, "%4.0f s: %d of %d sent, %d acked; %d entries read; %d of %d kills\n",
				now.Sub(begun).Seconds(), c.sent, len(r.messages), c.acked, c.read, c.kills, r.kills)
			if c != last {
				last, at = c, now
			}
			if now.Sub(at) >= patience {
				giveUp(fmt.Errorf("nothing has moved for %v: %d of %d messages sent, %d acked, %d entries read", patience, c.sent, len(r.messages), c.acked, c.read))
			}
		}
	}
}
