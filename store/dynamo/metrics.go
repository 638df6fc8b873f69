package dynamo

import (
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// metrics tell what the engine does. All names begin with timberline_store_.
type metrics struct {
	seconds *prometheus.HistogramVec // by operation
	errors  *prometheus.CounterVec   // by operation and cause
	retries *prometheus.CounterVec   // by operation
	written *prometheus.CounterVec   // by table
	writes  *prometheus.CounterVec   // by table
	reads   *prometheus.CounterVec   // by table
}

func newMetrics(r prometheus.Registerer) metrics {
	f := promauto.With(r)
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return f.NewCounterVec(prometheus.CounterOpts{Namespace: "timberline", Subsystem: "store", Name: name, Help: help}, labels)
	}
	return metrics{
		seconds: f.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "timberline", Subsystem: "store", Name: "call_seconds",
			Help:    "What calls took, with all their attempts.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 15),
		}, []string{"operation"}),
		errors:  counter("errors_total", "Calls that failed after all attempts, by cause: taken, throttled, refused, unanswered.", "operation", "cause"),
		retries: counter("retries_total", "Attempts behind the first of a call.", "operation"),
		written: counter("written_bytes_total", "Bytes written, names and keys included.", "table"),
		writes:  counter("write_units_total", "Write units, computed from the sizes written.", "table"),
		reads:   counter("read_units_total", "Read units, computed from the sizes read.", "table"),
	}
}

func (m *metrics) call(operation string, took time.Duration, err error) {
	m.seconds.WithLabelValues(operation).Observe(took.Seconds())
	if err != nil {
		m.errors.WithLabelValues(operation, cause(err)).Inc()
	}
}

// cause sorts errors of calls.
func cause(err error) string {
	c := code(err)
	_, final := advice[c]
	switch {
	case c == "ConditionalCheckFailedException":
		return "taken"
	case strings.Contains(c, "Throttling"), strings.Contains(c, "Exceeded"):
		return "throttled"
	case final:
		return "refused"
	}
	return "unanswered"
}

// attempt counts a request if it repeats one of the same call.
func (m *metrics) attempt(r *http.Request) {
	if !strings.HasPrefix(r.Header.Get("Amz-Sdk-Request"), "attempt=1;") {
		_, operation, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
		m.retries.WithLabelValues(operation).Inc()
	}
}

// wrote counts an item written.
func (m *metrics) wrote(t *table, size int) {
	m.written.WithLabelValues(t.suffix).Add(float64(size))
	m.writes.WithLabelValues(t.suffix).Add(float64(WriteUnits(size)))
}

// refused counts a write that was refused because of what stands there, which is charged
// by the size of that.
func (m *metrics) refused(t *table, stands int) {
	m.writes.WithLabelValues(t.suffix).Add(float64(WriteUnits(stands)))
}

// read counts a read of items of a size together.
func (m *metrics) read(t *table, size int, consistent bool) {
	m.reads.WithLabelValues(t.suffix).Add(ReadUnits(size, consistent))
}

// wroteBatch counts the items of a batch but those that are left of it.
func (m *metrics) wroteBatch(batch, left []types.WriteRequest) {
	bytes, units := tally(batch)
	notBytes, notUnits := tally(left)
	m.written.WithLabelValues(timelinesTable.suffix).Add(float64(bytes - notBytes))
	m.writes.WithLabelValues(timelinesTable.suffix).Add(float64(units - notUnits))
}

func tally(batch []types.WriteRequest) (bytes, units int) {
	for _, w := range batch {
		if w.PutRequest == nil { // how large what it deletes is DynamoDB does not tell
			units++
			continue
		}
		size := ItemSize(w.PutRequest.Item)
		bytes += size
		units += WriteUnits(size)
	}
	return bytes, units
}
