package units

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/sync/errgroup"

	"timberline/bus"
	"timberline/bus/local"
	"timberline/events"
	"timberline/ingest"
	"timberline/projections"
	"timberline/store/pebble"
)

// Run puts a load on a store of its own, in memory, and reports what it has cost.
func Run(ctx context.Context, c Config) (r *Report, err error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	store, err := pebble.Open("units", pebble.Options{FS: vfs.NewMem(), Shards: c.Shards})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	l, err := newLoad(c, store)
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return l.writer.Run(ctx) })
	g.Go(func() error { return l.projector.Run(ctx) })
	g.Go(func() (err error) {
		defer stop()
		r, err = l.measure(ctx)
		return err
	})
	return r, g.Wait()
}

// A load is messages on their way to timelines.
type load struct {
	cfg       Config
	meter     *meter
	writer    *ingest.Writer
	projector *projections.Projector
	entries   atomic.Int64 // that are durable
	moved     chan struct{}
	sent      []events.Number // by sender
	next      int             // body
}

// A line is a bus of which hints carry no records, as those of RabbitMQ do not.
type line struct{ local.Bus }

// PublishHint implements bus.Bus.
func (l *line) PublishHint(h bus.Hint) {
	h.Record = nil
	l.Bus.PublishHint(h)
}

func newLoad(c Config, store *pebble.Store) (*load, error) {
	clock, err := events.NewClock(time.Now, rand.Reader)
	if err != nil {
		return nil, err
	}
	quiet := slog.New(slog.DiscardHandler)
	l := &load{cfg: c, meter: &meter{Store: store}, moved: make(chan struct{}, 1), sent: make([]events.Number, c.Users)}
	b := new(line)
	l.writer = ingest.NewWriter(ingest.Config{
		Log: l.meter, Journals: l.meter, Clock: clock, Store: store.Meta().Store, Tag: store.Tag(), Random: rand.Reader, Logger: quiet,
		Appended: b.PublishHint, Report: func(ingest.Report) {},
	})
	if err := l.writer.Open(context.Background()); err != nil {
		return nil, err
	}
	l.projector, err = projections.NewProjector(projections.Config{
		Log: l.meter, Journals: l.meter, Checkpoints: l.meter, Items: l.meter, Meta: store.Meta(), Bus: b,
		Publish: l.published, Random: rand.Reader, Logger: quiet,
	})
	return l, err
}

// published counts entries that are durable.
func (l *load) published(ps []bus.Push) {
	for _, p := range ps {
		l.entries.Add(int64(len(p.Events)))
	}
	select {
	case l.moved <- struct{}{}:
	default: // whoever waits has not looked yet
	}
}

// arrived waits until so many messages are in both timelines, and counted: a projector that
// looks by itself sees a record as soon as it stands.
func (l *load) arrived(ctx context.Context, messages int) error {
	for l.entries.Load() < 2*int64(messages) {
		select {
		case <-l.moved:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	l.meter.appends.Wait()
	return nil
}

// measure warms up, by a message of each pair, and measures.
func (l *load) measure(ctx context.Context) (*Report, error) {
	for i := range l.cfg.Users / 2 {
		if err := l.send(2 * i); err != nil {
			return nil, err
		}
		if i%1000 == 999 {
			l.writer.Commit()
			if err := l.arrived(ctx, i+1); err != nil {
				return nil, err
			}
		}
	}
	l.writer.Commit()
	if err := l.arrived(ctx, l.cfg.Users/2); err != nil {
		return nil, err
	}
	l.entries.Store(0)
	slower := func(d time.Duration) time.Duration { return time.Duration(float64(d) * l.cfg.Slower) }
	l.meter.begin(slower(l.cfg.Write), slower(l.cfg.Read))
	sent, err := l.run(ctx)
	if err != nil {
		return nil, err
	}
	if err := l.arrived(ctx, sent); err != nil {
		return nil, err
	}
	return l.report(sent), nil
}

// tick is how often what is due is sent.
const tick = time.Millisecond

// run sends at the rate, whatever becomes of it, and returns how many it has sent.
func (l *load) run(ctx context.Context) (sent int, err error) {
	ticks := time.NewTicker(tick)
	defer ticks.Stop()
	for began := time.Now(); time.Since(began) < l.cfg.Duration; {
		select {
		case <-ticks.C:
		case <-ctx.Done():
			return sent, ctx.Err()
		}
		due := int(time.Since(began).Seconds() * l.cfg.Rate / l.cfg.Slower)
		for ; sent < due; sent++ {
			if err := l.send(mathrand.IntN(l.cfg.Users)); err != nil {
				return sent, err
			}
		}
		l.writer.Commit()
	}
	return sent, nil
}

// send submits a message of a user to its neighbour.
func (l *load) send(user int) error {
	j, _ := l.writer.Position()
	l.sent[user]++
	e := events.Event{
		Kind: events.KindMessage, Conversation: events.Direct(name(user), name(user^1)), Sender: name(user), Device: "phone",
		Session: session(user), Number: l.sent[user], Body: l.cfg.Bodies[l.next],
	}
	rand.Read(e.Message[:])
	l.next = (l.next + 1) % len(l.cfg.Bodies)
	if err := l.writer.Submit(j, e); err != nil {
		return fmt.Errorf("the log does not keep up with the load; try --slower: %w", err)
	}
	return nil
}

func name(user int) events.User { return events.User(fmt.Sprintf("u%05d", user)) }

// session returns the id of a user's session.
func session(user int) (id events.SessionID) {
	for i := range id {
		id[i] = byte(user>>(8*(i%4))) ^ byte(i*37)
	}
	return id
}

func (l *load) report(messages int) *Report {
	c, m := &l.cfg, l.meter
	m.mu.Lock()
	defer m.mu.Unlock()
	r := &Report{
		Rate: c.Rate, Messages: messages, Users: c.Users, Shards: c.Shards, Slower: c.Slower, WriteMs: ms(c.Write), ReadMs: ms(c.Read),
		Log: m.log, Checkpoints: m.checkpoints, Timelines: m.timelines, Entries: int(l.entries.Load()),
		AppendMs: ms(m.appending) / float64(max(1, m.log.Items)) / c.Slower,
	}
	each := func(n float64) float64 { return n / float64(max(1, messages)) }
	p := &r.PerMessage
	p.LogWrite = each(float64(m.log.WriteUnits))
	p.CheckpointWrite = each(float64(m.checkpoints.WriteUnits))
	p.TimelineWrite = each(float64(m.timelines.WriteUnits))
	p.LogRead = each(m.log.ReadUnits)
	p.EntryWrite = float64(m.timelines.WriteUnits) / float64(max(1, r.Entries))
	r.LogBytes = each(float64(m.log.Bytes))
	return r
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
