package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// A monitor is what operators and their programs look at, by HTTP:
//
//	GET /metrics       Prometheus
//	GET /healthz       200: the process lives, and its loop does what it has to do
//	GET /readyz        200: it serves, too; not while it starts or stops
//	GET /debug/pprof/  profiles, on the loopback only
type monitor struct {
	registry *prometheus.Registry
	listener net.Listener // nil: nobody can look
	alive    atomic.Pointer[func(context.Context) error]
	stopping atomic.Bool
}

// newMonitor opens the socket.
func newMonitor(address string) (*monitor, error) {
	m := &monitor{registry: prometheus.NewRegistry()}
	m.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if address == "" {
		return m, nil
	}
	var err error
	if m.listener, err = net.Listen("tcp", address); err != nil {
		return nil, monitorError(address, err)
	}
	return m, nil
}

// monitorError says what to do about a socket that cannot be opened.
func monitorError(address string, err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("--monitor: %s: the port is in use: stop whoever has it, choose another, or none with --monitor '' (%w)", address, err)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("--monitor: %s: this machine does not have that address (%w)", address, err)
	}
	return fmt.Errorf("--monitor: %w", err)
}

// close closes the socket, if it is open still.
func (m *monitor) close() {
	if m.listener != nil {
		m.listener.Close()
	}
}

// address returns where it can be looked at; empty: nowhere.
func (m *monitor) address() string {
	if m.listener == nil {
		return ""
	}
	return m.listener.Addr().String()
}

// started notes that the server serves, and how to ask it whether it still does.
func (m *monitor) started(alive func(context.Context) error) { m.alive.Store(&alive) }

// stops notes that the server stops.
func (m *monitor) stops() { m.stopping.Store(true) }

// run answers until ctx ends.
func (m *monitor) run(ctx context.Context, logger *slog.Logger) error {
	if m.listener == nil {
		return nil
	}
	return serveHTTP(ctx, m.listener, m.mux(), logger)
}

func (m *monitor) mux() *http.ServeMux {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", answering(m.healthy))
	mux.HandleFunc("GET /readyz", answering(m.ready))
	if a, ok := m.listener.Addr().(*net.TCPAddr); ok && a.IP.IsLoopback() {
		mux.HandleFunc("GET /debug/pprof/", pprof.Index)
		mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	}
	return mux
}

// answering answers 200 and "ok", or 503 and what is wrong.
func answering(check func(context.Context) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), healthyWithin)
		defer cancel()
		if err := check(ctx); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	}
}

// healthyWithin is how long a server that is well may take to answer.
const healthyWithin = 2 * time.Second

// healthy finds what is wrong with a server, a starting or stopping one included.
func (m *monitor) healthy(ctx context.Context) error {
	alive := m.alive.Load()
	if alive == nil || m.stopping.Load() {
		return nil
	}
	return (*alive)(ctx)
}

var (
	errStarting = errors.New("the server is starting")
	errStopping = errors.New("the server is stopping")
)

// ready finds why a server does not serve.
func (m *monitor) ready(ctx context.Context) error {
	switch {
	case m.stopping.Load():
		return errStopping
	case m.alive.Load() == nil:
		return errStarting
	}
	return m.healthy(ctx)
}
