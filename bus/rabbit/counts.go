package rabbit

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// counts say how often each thing has happened. All names begin with timberline_bus_.
type counts struct {
	published, received *prometheus.CounterVec // messages, by kind
	dropped             *prometheus.CounterVec // by kind: hints, pushes, missed
	ignored             *prometheus.CounterVec // messages that came, by cause
	rejected            prometheus.Counter     // messages
	connects, distrusts prometheus.Counter
}

// causes why a message that came is ignored.
const (
	causeMalformed = "malformed"
	causeStore     = "other_store"
	causeKind      = "unknown_type"
)

func newCounts(r prometheus.Registerer, connected, waiting, slots func() float64) *counts {
	f := promauto.With(r)
	opts := func(name, help string) prometheus.Opts {
		return prometheus.Opts{Namespace: "timberline", Subsystem: "bus", Name: name, Help: help}
	}
	vector := func(label, name, help string) *prometheus.CounterVec {
		return f.NewCounterVec(prometheus.CounterOpts(opts(name, help)), []string{label})
	}
	counter := func(name, help string) prometheus.Counter {
		return f.NewCounter(prometheus.CounterOpts(opts(name, help)))
	}
	f.NewGaugeFunc(prometheus.GaugeOpts(opts("connected", "1 while messages come and go.")), connected)
	f.NewGaugeFunc(prometheus.GaugeOpts(opts("waiting_bytes", "What waits to be published.")), waiting)
	f.NewGaugeFunc(prometheus.GaugeOpts(opts("slots", "Slots whose pushes come here.")), slots)
	return &counts{
		published: vector("type", "published_total", "Messages that the broker has confirmed, by type."),
		received:  vector("type", "received_total", "Messages that came and were taken in, by type."),
		dropped:   vector("what", "dropped_total", "What was not published: the broker was away, or too slow."),
		ignored:   vector("cause", "ignored_total", "Messages that came and were not taken in, by cause."),
		rejected:  counter("rejected_total", "Messages that the broker refused: a queue was full."),
		connects:  counter("connects_total", "Times that the broker was connected to."),
		distrusts: counter("distrusts_total", "Times that pushes may have been lost on their way here."),
	}
}
