package edge

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// counts say how often each thing has happened. The loop writes them, anybody reads
// them.
type counts struct {
	packets, malformed, oversized              atomic.Uint64
	unknownSession, wrongCodec                 atomic.Uint64
	forged, replayed, plainOnSealed            atomic.Uint64
	overSource, overSession, shed, noRoom      atomic.Uint64
	hellos, retries, challenges, moves, resets atomic.Uint64
	logins, denied, sends, refused, busy       atomic.Uint64
	unfollowed                                 atomic.Uint64
	acked                                      atomic.Uint64
	pushes, pushesDropped, pushesGivenUp, got  atomic.Uint64
	syncs, syncsBusy                           atomic.Uint64

	sessions, halfOpen, paced, pressure atomic.Int64 // how many there are now

	pushed prometheus.Histogram // seconds from a push, or what was acknowledged before it, until it is acknowledged
}

func newCounts(r prometheus.Registerer) *counts {
	c := &counts{pushed: promauto.With(r).NewHistogram(prometheus.HistogramOpts{
		Namespace: "timberline", Subsystem: "edge", Name: "push_got_seconds", Help: "From a push until the client has acknowledged it, repeated ones left out.",
		Buckets: prometheus.ExponentialBuckets(0.001, 2, 14), // 1 ms to 8 s
	})}
	c.register(promauto.With(r))
	return c
}

// A metric is one of the counts, as it is told.
type metric struct {
	name  string         // without its prefix
	cause string         // of a drop
	count *atomic.Uint64 // or
	gauge *atomic.Int64
	help  string
}

func (c *counts) metrics() []metric {
	const dropped, why = "packets_dropped_total", "Datagrams that were not taken in, by cause."
	return []metric{
		{"packets_total", "", &c.packets, nil, "Datagrams that came in."},
		{dropped, "malformed", &c.malformed, nil, why},
		{dropped, "oversized", &c.oversized, nil, why},
		{dropped, "forged", &c.forged, nil, why},
		{dropped, "replayed", &c.replayed, nil, why},
		{dropped, "plain_on_sealed", &c.plainOnSealed, nil, why},
		{dropped, "unknown_session", &c.unknownSession, nil, why},
		{dropped, "wrong_codec", &c.wrongCodec, nil, why},
		{dropped, "over_source_rate", &c.overSource, nil, why},
		{dropped, "over_session_rate", &c.overSession, nil, why},
		{dropped, "no_room", &c.noRoom, nil, why},
		{dropped, "shed", &c.shed, nil, why},
		{"hellos_total", "", &c.hellos, nil, "HELLOs of sealed sockets."},
		{"retries_total", "", &c.retries, nil, "HELLOs that were answered by a RETRY."},
		{"challenges_total", "", &c.challenges, nil, "New addresses of sessions that were asked to prove themselves."},
		{"moves_total", "", &c.moves, nil, "Sessions that went on from another address."},
		{"resets_total", "", &c.resets, nil, "Packets of unknown sessions that were answered."},
		{"logins_total", "", &c.logins, nil, "Logins that were looked at."},
		{"logins_denied_total", "", &c.denied, nil, "Logins that got no session."},
		{"logins_unfollowed_total", "", &c.unfollowed, nil, "Logins whose user's pushes could not be asked for in time: the bus is down or slow."},
		{"sends_total", "", &c.sends, nil, "Sends, and fragments of sends, that came in."},
		{"sends_refused_total", "", &c.refused, nil, "Sends that will never be in the log."},
		{"sends_busy_total", "", &c.busy, nil, "Times that sends were answered busy."},
		{"sends_acked_total", "", &c.acked, nil, "Sends that are durable and were acknowledged."},
		{"pushes_total", "", &c.pushes, nil, "Pushes that were sent, repeats included."},
		{"pushes_dropped_total", "", &c.pushesDropped, nil, "Pushes that were left out: too many were in flight, or the edge was pressed."},
		{"pushes_given_up_total", "", &c.pushesGivenUp, nil, "Pushes that were not acknowledged in time."},
		{"entries_got_total", "", &c.got, nil, "Entries that clients have acknowledged."},
		{"syncs_total", "", &c.syncs, nil, "Requests for entries."},
		{"syncs_busy_total", "", &c.syncsBusy, nil, "Requests for entries that were answered busy."},
		{"sessions", "", nil, &c.sessions, "Sessions that there are."},
		{"half_open_connections", "", nil, &c.halfOpen, "Connections that nobody has logged in on."},
		{"pressure", "", nil, &c.pressure, "What is shed: 1 the unproved; 2 some clients pause; 3 pushes, too; 4 sends, too."},
		{"sync_bytes", "", nil, &c.paced, "Bytes of answers to requests for entries on their way out."},
	}
}

// register makes the counts known as metrics, with the prefix timberline_edge_.
func (c *counts) register(f promauto.Factory) {
	for _, m := range c.metrics() {
		opts := prometheus.Opts{Namespace: "timberline", Subsystem: "edge", Name: m.name, Help: m.help}
		if m.cause != "" {
			opts.ConstLabels = prometheus.Labels{"cause": m.cause}
		}
		if m.gauge != nil {
			f.NewGaugeFunc(prometheus.GaugeOpts(opts), func() float64 { return float64(m.gauge.Load()) })
		} else {
			f.NewCounterFunc(prometheus.CounterOpts(opts), func() float64 { return float64(m.count.Load()) })
		}
	}
}
