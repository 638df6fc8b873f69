package pebble

import (
	"github.com/cockroachdb/pebble/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// measure tells what the engine does. All names begin with timberline_store_.
func (s *Store) measure(r prometheus.Registerer) {
	if r == nil {
		return
	}
	f := promauto.With(r)
	for _, m := range []struct {
		name, help string
		value      func(*pebble.Metrics) float64
	}{
		{"disk_bytes", "Bytes on the disk.", func(m *pebble.Metrics) float64 { return float64(m.DiskSpaceUsage()) }},
		{"memory_bytes", "Bytes of what was written and is not flushed yet.", func(m *pebble.Metrics) float64 { return float64(m.MemTable.Size) }},
		{"read_amplification", "Places that a read may have to look at.", func(m *pebble.Metrics) float64 { return float64(m.ReadAmp()) }},
		{"compaction_debt_bytes", "Bytes that wait to be compacted.", func(m *pebble.Metrics) float64 { return float64(m.Compact.EstimatedDebt) }},
	} {
		f.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "timberline", Subsystem: "store", Name: m.name, Help: m.help},
			func() float64 { return m.value(s.db.Metrics()) })
	}
}
