package relay

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// metrics tell what a relay does. All names begin with timberline_relay_.
type metrics struct {
	shards           prometheus.Gauge
	pushes           prometheus.Counter
	skipped, trimmed prometheus.Counter
}

func newMetrics(r prometheus.Registerer) *metrics {
	f := promauto.With(r)
	counter := func(name, help string) prometheus.Counter {
		return f.NewCounter(prometheus.CounterOpts{Namespace: "timberline", Subsystem: "relay", Name: name, Help: help})
	}
	return &metrics{
		shards:  f.NewGauge(prometheus.GaugeOpts{Namespace: "timberline", Subsystem: "relay", Name: "shards", Help: "Shards of the stream that are read."}),
		pushes:  counter("pushes_total", "Pushes that the bus has confirmed."),
		skipped: counter("skipped_total", "Changes that were left out: too old, or damaged."),
		trimmed: counter("trimmed_total", "Times that the stream had lost what was to be read next."),
	}
}
