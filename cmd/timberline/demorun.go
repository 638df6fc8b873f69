package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"timberline/events"
	"timberline/sim/check"
	"timberline/sim/proxy"
)

// A demoRun is one demo under way.
type demoRun struct {
	*demo
	*trial
	devices []*demoDevice
	release []chan struct{} // release[i] is closed when part i of the messages may be sent
}

// run does it, and leaves nothing behind.
func (d *demo) run(ctx context.Context) (report *check.Report, err error) {
	t, err := newTrial(d.c)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(t.folder)) }()
	r := &demoRun{demo: d, trial: t}
	t.tellEvery, t.progress = time.Second, r.progress
	if err := t.play(ctx, proxy.Config{Up: d.faults, Down: d.faults, Seed: d.seed, MaxClients: 4 * maxDemoUsers}, r.live); err != nil {
		return nil, err
	}
	d.seconds = t.seconds()
	return t.history.Check(), nil
}

// live sends everything and reads it back.
func (r *demoRun) live(ctx context.Context) (err error) {
	defer func() {
		if err = errors.Join(err, r.closeDevices()); err != nil {
			err = fmt.Errorf("%w\n%s", err, r.edges[0].lastWords())
		}
	}()
	return inOrder(ctx, r.openDevices, r.chat, r.readBack)
}

// openDevices starts a device for every user who sends or is sent something.
func (r *demoRun) openDevices(context.Context) error {
	queues := make(map[events.User][]int)
	for i := range r.messages {
		from := r.messages[i].From
		queues[from] = append(queues[from], i)
	}
	codecs := demoCodecs[r.codec]
	for n, u := range everybody(r.messages) {
		d := &demoDevice{run: r, user: u, codec: codecs[n%len(codecs)], queue: queues[u]}
		if err := d.open(); err != nil {
			return err
		}
		r.devices = append(r.devices, d)
	}
	return nil
}

func (r *demoRun) closeDevices() (err error) {
	var g errgroup.Group
	for _, d := range r.devices {
		g.Go(d.client.Close)
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
	for _, d := range r.devices {
		g.Go(func() error { return d.send(sending) })
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
		if err := renew(ctx, r.edges[0], syscall.SIGKILL, 0); err != nil {
			return err
		}
		r.tally.killed()
	}
	return nil
}

// readBack waits until every device has its whole timeline, and reads all once more.
func (r *demoRun) readBack(ctx context.Context) error {
	return r.trial.readBack(ctx,
		func(ctx context.Context) error { return each(ctx, r.devices, (*demoDevice).complete) },
		func(ctx context.Context) error { return each(ctx, r.devices, (*demoDevice).again) })
}

// progress tells how far it has come.
func (r *demoRun) progress(c counts) string {
	s := fmt.Sprintf("%d of %d sent, %d acked; %d entries read; %d of %d kills", c.sent, len(r.messages), c.acked, c.read, c.kills, r.kills)
	if c.away > 0 { // for up to half a minute, after several in vain
		s += fmt.Sprintf("; %s to connect again", counted(c.away, "device waits", "devices wait"))
	}
	return s
}
