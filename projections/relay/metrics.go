package relay

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"timberline/bus"
)

// metrics tell what a relay does. All names begin with timberline_relay_.
type metrics struct {
	shards           prometheus.Gauge
	pushes           prometheus.Counter
	age, confirm     prometheus.Histogram // seconds
	skipped, trimmed prometheus.Counter
}

func newMetrics(r prometheus.Registerer) *metrics {
	f := promauto.With(r)
	counter := func(name, help string) prometheus.Counter {
		return f.NewCounter(prometheus.CounterOpts{Namespace: "timberline", Subsystem: "relay", Name: name, Help: help})
	}
	histogram := func(name, help string) prometheus.Histogram {
		return f.NewHistogram(prometheus.HistogramOpts{
			Namespace: "timberline", Subsystem: "relay", Name: name, Help: help,
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 16), // 1 ms to 33 s
		})
	}
	return &metrics{
		age:     histogram("age_seconds", "From the newest event of an item until the stream has told of the item."),
		confirm: histogram("confirm_seconds", "From there until the bus has confirmed the push."),
		shards:  f.NewGauge(prometheus.GaugeOpts{Namespace: "timberline", Subsystem: "relay", Name: "shards", Help: "Shards of the stream that are read."}),
		pushes:  counter("pushes_total", "Pushes that the bus has confirmed."),
		skipped: counter("skipped_total", "Changes that were left out: too old, or damaged."),
		trimmed: counter("trimmed_total", "Times that the stream had lost what was to be read next."),
	}
}

// passed counts pushes that were given to the bus at a time, and are confirmed.
func (m *metrics) passed(began time.Time, pushes []bus.Push) {
	m.pushes.Add(float64(len(pushes)))
	for i := range pushes {
		m.age.Observe(max(began.Sub(pushes[i].Newest.Time()).Seconds(), 0))
		m.confirm.Observe(time.Since(began).Seconds())
	}
}
