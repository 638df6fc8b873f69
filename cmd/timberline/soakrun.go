package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"timberline/edge/auth"
	"timberline/events"
	"timberline/sim/proxy"
)

// A soakRun is one soak under way.
type soakRun struct {
	*soak
	*trial
	devices map[events.User][]*soakDevice
}

// run does it. It leaves nothing behind, unless something went wrong.
func (s *soak) run(ctx context.Context) (report *soakReport, err error) {
	t, err := newTrial(s.c)
	if err != nil {
		return nil, err
	}
	r := &soakRun{soak: s, trial: t}
	if s.nodes > 0 {
		t.cluster, t.converge = &s.cluster, 2*t.converge
	}
	t.patience += s.outage
	t.tellEvery, t.progress = 5*time.Second, r.progress
	fmt.Fprintf(t.stderr, "seed %d\n", s.seed)
	err = t.play(ctx, proxy.Config{Up: s.faults, Down: s.faults, Seed: s.seed}, r.live)
	if err == nil {
		report = newSoakReport(t.history.Check(), t.tally.counts())
		report.Seed, report.Seconds = s.seed, t.seconds()
	}
	if ctx.Err() == nil && (err != nil || report.err() != nil) {
		fmt.Fprintf(t.stderr, "seed %d; what the processes have left is in %s\n", s.seed, t.folder)
		return report, err
	}
	return report, errors.Join(err, os.RemoveAll(t.folder))
}

// live starts the devices, disturbs all processes and reads everything back.
func (r *soakRun) live(ctx context.Context) (err error) {
	defer func() { err = errors.Join(err, r.stopDevices()) }()
	return inOrder(ctx, r.startDevices, r.disturb, r.readBack, r.complaints)
}

// startDevices starts two devices for every user who sends or is sent something.
func (r *soakRun) startDevices(ctx context.Context) error {
	r.devices = make(map[events.User][]*soakDevice)
	for _, u := range everybody(r.messages) {
		r.devices[u] = []*soakDevice{
			newSoakDevice(r, auth.Identity{User: u, Device: "phone"}, "protobuf"),
			newSoakDevice(r, auth.Identity{User: u, Device: "desk"}, "json"),
		}
	}
	for _, d := range r.all() {
		if err := d.start(ctx); err != nil {
			return err
		}
	}
	return nil
}

// all returns the devices in order.
func (r *soakRun) all() (list []*soakDevice) {
	for _, ds := range r.devices {
		list = append(list, ds...)
	}
	slices.SortFunc(list, func(a, b *soakDevice) int { return strings.Compare(a.name, b.name) })
	return list
}

func (r *soakRun) stopDevices() error {
	var errs []error
	for _, d := range r.all() {
		errs = append(errs, d.end(syscall.SIGKILL))
	}
	return errors.Join(errs...)
}

// disturb has the devices send, and disturbs them and the server, until the time is
// over. Then all run.
func (r *soakRun) disturb(ctx context.Context) error {
	now, cancel := context.WithTimeout(ctx, r.lasts)
	defer cancel()
	g, now := errgroup.WithContext(now)
	g.Go(func() error {
		r.chat(now)
		return nil
	})
	if r.deeds != nil {
		g.Go(func() error {
			defer cancel()
			return r.deeds(now, r)
		})
	} else {
		r.atRandom(ctx, now, g)
	}
	if r.kills > 0 {
		g.Go(func() error {
			defer cancel()
			r.tally.until(now, func(c counts) bool { return c.serverKills >= r.kills })
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return ctx.Err()
}

// atRandom disturbs all processes for as long as now lasts.
func (r *soakRun) atRandom(ctx, now context.Context, g *errgroup.Group) {
	// Half of it hits the servers: they are few of many processes, and those that count.
	devices, servers := r.all(), r.servers()
	var disturbers []*disturber
	for _, s := range servers {
		d := &disturber{victim: s, role: s.role, every: 2 * r.every * time.Duration(len(servers)), stop: maxStop}
		if r.nodes > 0 {
			d.stop = maxRoleStop
		}
		disturbers = append(disturbers, d)
	}
	for _, d := range devices {
		disturbers = append(disturbers, &disturber{victim: d, every: 2 * r.every * time.Duration(len(devices)), stop: maxStop})
	}
	for i, d := range disturbers {
		d.draw, d.tally = r.draw(uint64(i)), r.tally
		g.Go(func() error { return d.run(ctx, now) })
	}
}

// draw returns the draws of one process, or of the chat.
func (r *soakRun) draw(of uint64) *rand.Rand { return rand.New(rand.NewPCG(r.seed, of)) }

// ofChat are the draws of the chat.
const ofChat = 1 << 32

// The long messages: they need several packets.
const (
	longEvery = 50
	longBody  = 4 << 10 // bytes, at least
)

// chat has the devices say what the corpus says, until ctx ends.
func (r *soakRun) chat(ctx context.Context) {
	draw := r.draw(ofChat)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	begun := time.Now()
	for n := 0; ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for due := int(time.Since(begun).Seconds() * float64(r.rate)); n < due; n++ {
			m := &r.messages[n%len(r.messages)]
			body := []byte(m.Text)
			if n%longEvery == 0 && len(body) > 0 {
				body = []byte(strings.Repeat(m.Text, longBody/len(body)+1))
			}
			ds := r.devices[m.From]
			ds[draw.IntN(len(ds))].order(order{To: m.To, Body: body})
		}
	}
}

// readBack waits until every device has everything, and reads all timelines once more,
// through every edge.
func (r *soakRun) readBack(ctx context.Context) error {
	settle := func(ctx context.Context) error { return each(ctx, r.all(), (*soakDevice).settle) }
	return r.trial.readBack(ctx, settle, func(ctx context.Context) error {
		for _, at := range r.edges {
			if err := r.move(ctx, at); err != nil {
				return err
			}
			if err := settle(ctx); err != nil {
				return err
			}
			again := func(u events.User, ctx context.Context) error { return r.again(ctx, at, u, "protobuf") }
			if err := each(ctx, everybody(r.messages), again); err != nil {
				return err
			}
		}
		return nil
	})
}

// move has the devices of a cluster connect to one edge, with the cursors they have.
func (r *soakRun) move(ctx context.Context, to *entrance) error {
	if r.nodes == 0 {
		return nil
	}
	for _, d := range r.all() {
		d.at = []*entrance{to}
		if err := renew(ctx, d, syscall.SIGTERM, 0); err != nil {
			return err
		}
	}
	return nil
}

// complaints returns what a server has called an error: nothing that was done to it
// is one.
func (r *soakRun) complaints(context.Context) error {
	for _, s := range r.servers() {
		said, err := os.ReadFile(s.log)
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(said)) {
			if strings.Contains(line, "level=ERROR") {
				return fmt.Errorf("%s has said: %s", s.name, line)
			}
		}
	}
	return nil
}

// progress tells how far it has come.
func (r *soakRun) progress(c counts) string {
	return fmt.Sprintf("%d sent, %d acked, %d entries read; %d kills, %d of servers, %d stops, %d restarts",
		c.sent, c.acked, c.read, c.kills, c.serverKills, c.stops, c.restarts)
}
