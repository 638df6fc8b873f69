package projections

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// metrics tell what a projector does. All names begin with timberline_projections_.
type metrics struct {
	commit             prometheus.Histogram // seconds, of a checkpoint
	lag                prometheus.Histogram // seconds: from an event's id until its entries are durable
	entries, overtaken prometheus.Counter
	hinted, read       prometheus.Counter // records
	hintsDropped       prometheus.Counter
}

func newMetrics(r prometheus.Registerer) *metrics {
	f := promauto.With(r)
	histogram := func(name, help string) prometheus.Histogram {
		return f.NewHistogram(prometheus.HistogramOpts{
			Namespace: "timberline", Subsystem: "projections", Name: name, Help: help,
			Buckets: prometheus.ExponentialBuckets(0.0001, 2, 18), // 0.1 ms to 13 s
		})
	}
	counter := func(name, help string) prometheus.Counter {
		return f.NewCounter(prometheus.CounterOpts{Namespace: "timberline", Subsystem: "projections", Name: name, Help: help})
	}
	return &metrics{
		commit:       histogram("commit_seconds", "From a checkpoint and its items until they are durable."),
		lag:          histogram("lag_seconds", "From the newest event of a checkpoint until its entries are durable."),
		entries:      counter("entries_total", "Entries put into timelines."),
		overtaken:    counter("overtaken_total", "Times that another projector was ahead."),
		hinted:       counter("records_hinted_total", "Records that came with a hint."),
		read:         counter("records_read_total", "Records that were read from the log."),
		hintsDropped: counter("hints_dropped_total", "Times that too many hints waited, and the log is read instead."),
	}
}
