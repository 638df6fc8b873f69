package sim

import (
	"fmt"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are what a process tells of itself: a registry from which single values
// are read, often.
type metrics struct {
	mu     sync.Mutex
	byName map[string]prometheus.Collector
	single map[string]*prometheus.Registry // of each that was asked for
}

func newMetrics() *metrics {
	return &metrics{byName: make(map[string]prometheus.Collector), single: make(map[string]*prometheus.Registry)}
}

// Register implements prometheus.Registerer.
func (m *metrics) Register(c prometheus.Collector) error {
	descs := make(chan *prometheus.Desc, 1) // each of ours has one
	c.Describe(descs)
	var name string
	if _, err := fmt.Sscanf((<-descs).String(), "Desc{fqName: %q,", &name); err != nil {
		return fmt.Errorf("a metric without a name: %w", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.byName[name] = c
	return nil
}

// MustRegister implements prometheus.Registerer.
func (m *metrics) MustRegister(cs ...prometheus.Collector) {
	for _, c := range cs {
		if err := m.Register(c); err != nil {
			panic(err)
		}
	}
}

// Unregister implements prometheus.Registerer.
func (m *metrics) Unregister(prometheus.Collector) bool { return false }

// value returns a counter or a gauge; 0 if there is none of that name yet.
func (m *metrics) value(name string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := m.byName[name]
	if c == nil {
		return 0
	}
	r := m.single[name]
	if r == nil {
		r = prometheus.NewRegistry()
		r.MustRegister(c)
		m.single[name] = r
	}
	families, err := r.Gather()
	if err != nil {
		panic(fmt.Sprintf("metric %s: %v", name, err)) // it was registered
	}
	value := families[0].GetMetric()[0]
	return int(value.GetCounter().GetValue() + value.GetGauge().GetValue())
}
