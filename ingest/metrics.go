package ingest

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// metrics tell what becomes of sends on their way into the log. All names begin with
// timberline_ingest_.
type metrics struct {
	gather, append      prometheus.Histogram // seconds, of a record
	events, bytes       prometheus.Histogram // in a record
	unsettled, conflict prometheus.Counter
}

func newMetrics(r prometheus.Registerer, pending func() int) *metrics {
	f := promauto.With(r)
	histogram := func(name, help string, buckets []float64) prometheus.Histogram {
		return f.NewHistogram(prometheus.HistogramOpts{Namespace: "timberline", Subsystem: "ingest", Name: name, Help: help, Buckets: buckets})
	}
	counter := func(name, help string) prometheus.Counter {
		return f.NewCounter(prometheus.CounterOpts{Namespace: "timberline", Subsystem: "ingest", Name: name, Help: help})
	}
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: "timberline", Subsystem: "ingest", Name: "pending_bytes", Help: "Bytes of sends that wait for the next record.",
	}, func() float64 { return float64(pending()) })
	return &metrics{
		gather:    histogram("gather_seconds", "From the first send of a record until it is built.", seconds),
		append:    histogram("append_seconds", "From a record until it is durable.", seconds),
		events:    histogram("record_events", "Events in a record.", prometheus.ExponentialBuckets(1, 2, 13)),
		bytes:     histogram("record_bytes", "Bytes of a record.", prometheus.ExponentialBuckets(128, 2, 12)),
		unsettled: counter("appends_unsettled_total", "Appends that failed, and are tried again."),
		conflict:  counter("appends_conflict_total", "Appends that found another's record in their place."),
	}
}

// seconds are the bounds of histograms of what takes as long as a disk or a network:
// from 0.1 ms to 13 s.
var seconds = prometheus.ExponentialBuckets(0.0001, 2, 18)
