package bench

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"timberline/events"
	"timberline/wire"
	"timberline/wire/sealed"
)

// A Machine is what a bench runs on besides its server.
type Machine struct {
	PID    int            // of the server
	Echo   netip.AddrPort // where Echo answers, in another process
	Folder string         // on the server's disk, to write a file in

	// During is called when the measured part begins, if it is not nil: to write profiles
	// of it, or to have the server do something else meanwhile. It blocks for that long.
	During func(d time.Duration) error
}

// A Report is what one load has led to.
type Report struct {
	Sessions  int     `json:"sessions"`
	Sockets   int     `json:"sockets"`
	Window    int     `json:"window"`
	Payload   string  `json:"payload"`
	Rate      float64 `json:"rate"`
	Codec     string  `json:"codec"`
	Plain     bool    `json:"plain"`
	Receivers string  `json:"receivers"`
	Seconds   float64 `json:"seconds"`

	AckedPerS     float64 `json:"acked_per_s"`
	Ack           Times   `json:"ack_ms"`
	DeliveredPerS float64 `json:"delivered_per_s"`
	Delivery      *Times  `json:"delivery_ms"` // nil: receivers are offline
	Busy          int     `json:"busy"`
	Unsent        int     `json:"unsent"` // was due, and found no room in its window
	Server        Usage   `json:"server"`

	Limits Limits  `json:"limits"` // the mean of what follows
	Before Limits  `json:"limits_before"`
	After  Limits  `json:"limits_after"`
	Ratio  float64 `json:"ratio"` // of AckedPerS to Limits.EchoPerS

	Verified Verified `json:"verified"`
}

// Usage is what a server has used.
type Usage struct {
	CPU     float64 `json:"cpu_s"`          // seconds, in the measured part
	PeakRSS int64   `json:"peak_rss_bytes"` // since it began
}

// ErrBroken says that what was acknowledged does not stand in the timelines as it
// should.
var ErrBroken = errors.New("a promise is broken")

// Run puts a load on a server and reports. The error wraps ErrBroken if a promise is
// broken; the report is whole then.
func Run(ctx context.Context, cfg Config, m Machine) (*Report, error) {
	r := &Report{
		Sessions: cfg.Sessions, Sockets: cfg.Sockets, Window: cfg.Window, Payload: cfg.Payload.Name, Rate: cfg.Rate,
		Codec: cfg.Codec.String(), Plain: cfg.Plain, Receivers: "offline", Seconds: cfg.Duration.Seconds(),
	}
	if cfg.Online {
		r.Receivers = "online"
	}
	var err error
	if r.Before, err = measure(ctx, &cfg, m); err != nil {
		return nil, err
	}
	acked, err := r.load(ctx, cfg, m)
	if err != nil {
		return nil, err
	}
	if r.Verified, err = verify(ctx, cfg, acked); err != nil {
		return nil, err
	}
	if r.After, err = measure(ctx, &cfg, m); err != nil {
		return nil, err
	}
	r.Limits = r.Before.mean(r.After)
	r.Ratio = r.AckedPerS / r.Limits.EchoPerS
	if !r.Verified.OK() {
		return r, fmt.Errorf("%w: %+v", ErrBroken, r.Verified)
	}
	return r, nil
}

// measure finds out what the machine can do.
func measure(ctx context.Context, cfg *Config, m Machine) (l Limits, err error) {
	if cfg.Progress != nil {
		cfg.Progress("the machine's limits")
	}
	if l.EchoPerS, err = measureEcho(ctx, m.Echo, cfg.Sockets, cfg.packetSize(), cfg.aside()); err != nil {
		return l, err
	}
	l.FsyncPerS, l.Fsync, err = measureFsync(ctx, m.Folder, cfg.aside())
	return l, err
}

// packetSize returns the mean size of a packet with a send.
func (c *Config) packetSize() int {
	f := &wire.Send{
		Number: 1000, Low: 1000, To: "u00000", Message: messageID(time.Hour), Body: make([]byte, c.Payload.Mean()),
	}
	if c.Plain {
		p := wire.Packet{Codec: c.Codec, Session: events.SessionID{1}, Frames: []wire.Frame{f}}
		return len(p.Encode())
	}
	return sealed.DataSize + len(wire.AppendFrame(nil, c.Codec, events.SessionID{}, f))
}

// load runs the fleet and fills in what it measured.
func (r *Report) load(ctx context.Context, cfg Config, m Machine) (acked []events.Number, err error) {
	f, err := newSenders(cfg)
	if err != nil {
		return nil, err
	}
	f.start(ctx)
	if err = f.connect(); err == nil {
		err = r.watch(f, m)
	}
	if stopped := f.stop(); stopped != nil {
		return nil, stopped
	}
	if err != nil {
		return nil, err
	}
	r.Server.PeakRSS, _ = process(m.PID).memory("VmHWM") // 0 where there is no /proc
	total, acked := f.sum()
	r.AckedPerS = float64(total.acked) / cfg.Duration.Seconds()
	r.Ack, r.Busy, r.Unsent = timesOf(total.ack), total.busy, total.unsent
	if cfg.Online {
		t := timesOf(total.delivery)
		r.Delivery, r.DeliveredPerS = &t, float64(total.delivered)/cfg.Duration.Seconds()
	}
	return acked, nil
}

// watch has the fleet send, and looks at the server meanwhile.
func (r *Report) watch(f *fleet, m Machine) error {
	var profiling errgroup.Group
	err := f.load(func() func() {
		if m.During != nil {
			profiling.Go(func() error { return m.During(f.cfg.Duration) })
		}
		before, failed := process(m.PID).cpu()
		return func() {
			after, err := process(m.PID).cpu()
			if errors.Join(failed, err) == nil {
				r.Server.CPU = after - before
			}
		}
	})
	return errors.Join(err, profiling.Wait())
}

// An IdleReport is what sessions cost that do nothing.
type IdleReport struct {
	Sessions        int     `json:"sessions"`
	LoginsPerS      float64 `json:"logins_per_s"`
	BytesPerSession float64 `json:"bytes_per_session"`
	RSS0            int64   `json:"rss_before_bytes"`
	RSS             int64   `json:"rss_bytes"`
}

// Idle opens sessions, leaves them alone for a while, and measures what they cost the
// server, after collect has made it return to the system what it does not need.
func Idle(ctx context.Context, cfg Config, m Machine, rest time.Duration, collect func() error) (*IdleReport, error) {
	cfg.Online, cfg.Window, cfg.Duration = false, 1, time.Second
	r := &IdleReport{Sessions: cfg.Sessions}
	var err error
	if r.RSS0, err = settled(m, collect); err != nil {
		return nil, err
	}
	f, err := newSenders(cfg)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	f.start(ctx)
	if err = f.connect(); err == nil {
		r.LoginsPerS = float64(cfg.Sessions) / time.Since(began).Seconds()
		f.tell("all are open; waiting for them to settle")
		if err = f.wait(time.Since(f.began) + rest); err == nil {
			r.RSS, err = settled(m, collect)
		}
	}
	if stopped := f.stop(); err == nil {
		err = stopped
	}
	r.BytesPerSession = float64(r.RSS-r.RSS0) / float64(cfg.Sessions)
	return r, err
}

// settled returns the server's memory after it has given back what it can.
func settled(m Machine, collect func() error) (int64, error) {
	if err := collect(); err != nil {
		return 0, err
	}
	return process(m.PID).memory("VmRSS")
}

// A SyncReport is how a device catches up.
type SyncReport struct {
	Entries     int     `json:"entries"`
	Ms          float64 `json:"ms"` // from its first request until it has everything; the median
	EntriesPerS float64 `json:"entries_per_s"`
	Runs        int     `json:"runs"`
}

// Sync fills a timeline and measures how long devices take that have none of it.
func Sync(ctx context.Context, cfg Config, entries int) (*SyncReport, error) {
	cfg.Online, cfg.Rate, cfg.Sockets, cfg.Sessions, cfg.Duration = false, 0, 1, 1, time.Second
	f, err := newFleet(cfg)
	if err != nil {
		return nil, err
	}
	user, to := cfg.sender(0)
	f.loops[0].add(0, user, to, cfg.Token(user, "bench")).most = entries
	f.start(ctx)
	if err = f.connect(); err == nil {
		f.order(load)
		err = f.until("messages", func(l *loop) *atomic.Int64 { return &l.sent }, entries, time.Minute)
		f.order(drain)
	}
	if err == nil {
		err = f.until("answers", func(l *loop) *atomic.Int64 { return &l.quiet }, 1, drainPatience)
	}
	if stopped := f.stop(); err == nil {
		err = stopped
	}
	if err != nil {
		return nil, err
	}
	return catchUp(ctx, cfg, user, to, entries)
}

// syncRuns is how many devices catch up, one after the other.
const syncRuns = 7

func catchUp(ctx context.Context, cfg Config, from, user string, entries int) (*SyncReport, error) {
	r := &SyncReport{Entries: entries, Runs: syncRuns}
	took := newResults().ack
	for i := range syncRuns {
		f, err := newFleet(cfg)
		if err != nil {
			return nil, err
		}
		l := f.loops[0]
		l.onEntry = (*session).read
		s := l.add(0, user, from, cfg.Token(user, fmt.Sprint("reader-", i)))
		s.readBack(from, entries, &cfg.Payload)
		f.start(ctx)
		if err = f.connect(); err == nil {
			err = f.until("entries", func(l *loop) *atomic.Int64 { return &l.quiet }, 1, drainPatience)
		}
		if stopped := f.stop(); err == nil {
			err = stopped
		}
		if err != nil {
			return nil, err
		}
		took.RecordValue((s.complete - s.asked).Microseconds())
	}
	r.Ms = timesOf(took).P50
	r.EntriesPerS = float64(entries) / r.Ms * 1000
	return r, nil
}
