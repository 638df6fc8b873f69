package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"timberline/client"
	"timberline/cmd/bench"
	"timberline/edge/auth"
	"timberline/events"
	"timberline/sim/check"
	"timberline/sim/proxy"
)

// A soakRun is one soak under way.
type soakRun struct {
	*soak
	folder  string
	server  *childServer
	proxy   *proxy.Proxy
	history *check.History
	devices map[events.User][]*soakDevice
	tally   *tally
}

// run does it. It leaves nothing behind, unless something went wrong.
func (s *soak) run(ctx context.Context) (report *soakReport, err error) {
	folder, err := os.MkdirTemp("", "timberline-soak-")
	if err != nil {
		return nil, fmt.Errorf("folder of the soak: %w", err)
	}
	r := &soakRun{soak: s, folder: folder, history: check.NewHistory(), tally: newTally()}
	begun := time.Now()
	fmt.Fprintf(s.c.stderr, "seed %d\n", s.seed)
	err = r.play(ctx)
	if err == nil {
		report = newSoakReport(r.history.Check(), r.tally.counts())
		report.Seed, report.Seconds = s.seed, math.Round(time.Since(begun).Seconds()*100)/100
	}
	if ctx.Err() == nil && (err != nil || report.err() != nil) {
		fmt.Fprintf(s.c.stderr, "seed %d; what the processes have left is in %s\n", s.seed, folder)
		return report, err
	}
	return report, errors.Join(err, os.RemoveAll(folder))
}

// play starts the processes, disturbs them and reads everything back.
func (r *soakRun) play(ctx context.Context) (err error) {
	if r.server, err = startChild(ctx, filepath.Join(r.folder, "data"), bench.Cores{}); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.server.stop()) }()
	r.proxy, err = proxy.New(proxy.Config{Server: r.server.addr, Up: r.faults, Down: r.faults, Seed: r.seed})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	var g errgroup.Group
	defer func() {
		cancel(nil)
		err = errors.Join(err, g.Wait())
	}()
	g.Go(func() error { return r.proxy.Run(ctx) })
	g.Go(func() error {
		r.watch(ctx, cancel)
		return nil
	})
	defer func() { err = errors.Join(err, r.stopDevices()) }()
	for _, step := range []func(context.Context) error{r.startDevices, r.disturbAll, r.readBack} {
		if err := step(ctx); err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return err
		}
	}
	return r.complaints()
}

// startDevices starts two devices for every user who sends or is sent something.
func (r *soakRun) startDevices(ctx context.Context) error {
	r.devices = make(map[events.User][]*soakDevice)
	for i := range r.messages {
		for _, u := range []events.User{r.messages[i].From, r.messages[i].To} {
			if r.devices[u] == nil {
				r.devices[u] = []*soakDevice{
					newSoakDevice(r, auth.Identity{User: u, Device: "phone"}, "protobuf"),
					newSoakDevice(r, auth.Identity{User: u, Device: "desk"}, "json"),
				}
			}
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

// disturbAll has the devices send, and disturbs them and the server, until the time
// is over. Then all run.
func (r *soakRun) disturbAll(ctx context.Context) error {
	now, cancel := context.WithTimeout(ctx, r.lasts)
	defer cancel()
	g, now := errgroup.WithContext(now)
	g.Go(func() error {
		r.chat(now)
		return nil
	})
	// Half of it hits the server: it is one of many processes, and the one that counts.
	g.Go(func() error { return r.disturb(ctx, now, r.server, r.draw(0), 2*r.every, true) })
	all := r.all()
	for i, d := range all {
		every := 2 * r.every * time.Duration(len(all))
		g.Go(func() error { return r.disturb(ctx, now, d, r.draw(uint64(i+1)), every, false) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return ctx.Err()
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

// A victim is a process that is disturbed.
type victim interface {
	start(context.Context) error
	signal(os.Signal) error // one that does not end it
	end(os.Signal) error    // an error if it has ended before
}

// How long a process that was killed stays away, and one that was stopped stands
// still, at most.
const (
	maxAway = 2 * time.Second
	maxStop = 5 * time.Second
)

// disturb kills, stops and restarts a process now and then, for as long as now lasts.
// Then it runs.
func (r *soakRun) disturb(ctx, now context.Context, v victim, draw *rand.Rand, every time.Duration, server bool) error {
	for {
		deeds := []func() error{
			func() error { return r.kill(ctx, v, draw, server) },
			func() error { return r.kill(ctx, v, draw, server) },
			func() error { return r.kill(ctx, v, draw, server) },
			func() error { return r.halt(ctx, v, draw) },
			func() error { return r.restart(ctx, v) },
		}
		draw.Shuffle(len(deeds), func(i, j int) { deeds[i], deeds[j] = deeds[j], deeds[i] })
		for _, do := range deeds {
			if rest(now, every/2+upTo(draw, every)) != nil {
				return nil
			}
			if err := do(); err != nil {
				return err
			}
		}
	}
}

func (r *soakRun) kill(ctx context.Context, v victim, draw *rand.Rand, server bool) error {
	if err := v.end(syscall.SIGKILL); err != nil {
		return err
	}
	r.tally.count(func(c *counts) {
		c.kills++
		if server {
			c.serverKills++
		}
	})
	if err := rest(ctx, upTo(draw, maxAway)); err != nil {
		return err
	}
	return v.start(ctx)
}

func (r *soakRun) halt(ctx context.Context, v victim, draw *rand.Rand) error {
	if err := v.signal(syscall.SIGSTOP); err != nil {
		return err
	}
	err := rest(ctx, upTo(draw, maxStop))
	if err := v.signal(syscall.SIGCONT); err != nil {
		return err
	}
	r.tally.count(func(c *counts) { c.stops++ })
	return err
}

func (r *soakRun) restart(ctx context.Context, v victim) error {
	if err := v.end(syscall.SIGTERM); err != nil {
		return err
	}
	r.tally.count(func(c *counts) { c.restarts++ })
	return v.start(ctx)
}

func upTo(draw *rand.Rand, most time.Duration) time.Duration {
	return time.Duration(draw.Int64N(int64(most)))
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

// readBack waits until every device has everything, and reads all timelines once
// more with new devices, over a network without faults. What is missing after a while
// the report calls lost.
func (r *soakRun) readBack(ctx context.Context) error {
	for late := time.Now().Add(converge); ; {
		var g sync.WaitGroup
		errs := make(chan error, 2*len(r.devices))
		for _, d := range r.all() {
			g.Go(func() { errs <- d.settle(ctx) })
		}
		g.Wait()
		close(errs)
		for err := range errs {
			if err != nil {
				return err
			}
		}
		if r.history.Check().OK() || time.Now().After(late) {
			break
		}
		if err := rest(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
	g, ctx := errgroup.WithContext(ctx)
	for u := range r.devices {
		g.Go(func() error { return r.again(ctx, u) })
	}
	return g.Wait()
}

// again reads the whole timeline of a user with a new device.
func (r *soakRun) again(ctx context.Context, u events.User) (err error) {
	key, err := signingKey(r.server.data)
	if err != nil {
		return err
	}
	reader := r.history.Reader(u, "reader")
	c, err := client.Dial(r.server.addr.String(), client.Options{
		ServerKey: r.server.key,
		Token: func(context.Context) (string, error) {
			return auth.Sign(key, fresh(auth.Identity{User: u, Device: "reader"}, tokenLife))
		},
		OnMessage: func(m client.Message) error {
			reader.Entry(m.Seq, &m.Event)
			r.tally.read()
			return nil
		},
		OnReset: reader.Reset,
	})
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

// complaints returns what the server has called an error: nothing that was done to it
// is one.
func (r *soakRun) complaints() error {
	said, err := os.ReadFile(r.server.log)
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(said)) {
		if strings.Contains(line, "level=ERROR") {
			return fmt.Errorf("the server has said: %s", line)
		}
	}
	return nil
}

// soakTellEvery is how often a soak tells of its progress.
const soakTellEvery = 5 * time.Second

// watch tells of the progress, and gives up when there is none.
func (r *soakRun) watch(ctx context.Context, giveUp context.CancelCauseFunc) {
	begun := time.Now()
	moved, at := 0, begun
	tick := time.NewTicker(soakTellEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			c := r.tally.counts()
			fmt.Fprintf(r.c.stderr, "%4.0f s: %d sent, %d acked, %d entries read; %d kills, %d of the server, %d stops, %d restarts\n",
				now.Sub(begun).Seconds(), c.sent, c.acked, c.read, c.kills, c.serverKills, c.stops, c.restarts)
			if c.acked+c.read != moved {
				moved, at = c.acked+c.read, now
			}
			if now.Sub(at) >= patience {
				giveUp(fmt.Errorf("nothing has moved for %v", patience))
			}
		}
	}
}
