package pebble

import (
	"math"
	"syscall"

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
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: "timberline", Subsystem: "store", Name: "disk_bytes",
		Help: "Bytes that the files of the store take on the disk, logs that are kept to be used again among them.",
	}, s.diskBytes)
	for _, m := range []struct {
		name, help string
		value      func(*pebble.Metrics) float64
	}{
		{"memory_bytes", "Bytes of what was written and is not flushed yet.", func(m *pebble.Metrics) float64 { return float64(m.MemTable.Size) }},
		{"read_amplification", "Places that a read may have to look at.", func(m *pebble.Metrics) float64 { return float64(m.ReadAmp()) }},
		{"compaction_debt_bytes", "Bytes that wait to be compacted.", func(m *pebble.Metrics) float64 { return float64(m.Compact.EstimatedDebt) }},
	} {
		f.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "timberline", Subsystem: "store", Name: m.name, Help: m.help},
			func() float64 { return m.value(s.db.Metrics()) })
	}
}

// diskBytes returns what the files of the folder take on the disk. Pebble's own figure is the
// sum of their lengths, and a log has room allocated beyond its end.
func (s *Store) diskBytes() float64 {
	names, err := s.o.FS.List(s.dir)
	if err != nil {
		return math.NaN()
	}
	var sum int64
	for _, name := range names {
		info, err := s.o.FS.Stat(s.o.FS.PathJoin(s.dir, name))
		if err != nil {
			continue // deleted meanwhile
		}
		if stat, ok := info.Sys().(*syscall.Stat_t); ok {
			sum += int64(stat.Blocks) * 512
		} else {
			sum += info.Size()
		}
	}
	return float64(sum)
}
