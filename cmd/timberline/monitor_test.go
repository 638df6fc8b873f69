package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// get asks a monitor.
func (p *process) get(t *testing.T, path string) (status int, body string) {
	t.Helper()
	r, err := http.Get("http://" + p.Monitor + path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r.StatusCode, string(text)
}

// metric returns a metric's value.
func (p *process) metric(t *testing.T, name string) (value float64) {
	t.Helper()
	_, text := p.get(t, "/metrics")
	for line := range strings.Lines(text) {
		if _, err := fmt.Sscanf(line, name+" %g", &value); err == nil {
			return value
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}

func TestMonitorTellsOfEachStepOfAMessage(t *testing.T) {
	p, flags := newServer(t)
	for _, path := range []string{"/healthz", "/readyz"} {
		if status, body := p.get(t, path); status != http.StatusOK || body != "ok\n" {
			t.Errorf("%s: %d %q", path, status, body)
		}
	}
	if status, _ := p.get(t, "/debug/pprof/heap"); status != http.StatusOK {
		t.Errorf("a profile: %d", status)
	}
	tl(t, with("send", flags, "--as", "alice", "--to", "bob", "one")...).want(t, exitOK, "", "")
	tl(t, with("send", flags, "--as", "alice", "--to", "no such name", "two")...)
	tlUntil(t, 1, "one", with("inbox", flags, "--as", "bob")...)
	for _, name := range []string{
		"timberline_edge_packets_total", "timberline_edge_hellos_total", "timberline_edge_logins_total",
		"timberline_edge_sends_total", "timberline_ingest_gather_seconds_count", "timberline_ingest_append_seconds_sum",
		"timberline_ingest_record_events_sum", "timberline_edge_sends_acked_total",
		"timberline_projections_commit_seconds_count", "timberline_projections_lag_seconds_count",
		"timberline_edge_syncs_total", "timberline_store_disk_bytes",
	} {
		if p.metric(t, name) <= 0 {
			t.Errorf("%s is 0 after a message went all its way", name)
		}
	}
	if n := p.metric(t, "timberline_projections_entries_total"); n != 2 {
		t.Errorf("%v entries, want bob's and alice's", n)
	}
}

func TestMonitorCountsWhatIsDroppedByItsCause(t *testing.T) {
	p, _ := newServer(t)
	conn, err := net.Dial("udp", p.Listen[0])
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write(make([]byte, 300)); err != nil {
		t.Fatal(err)
	}
	for p.metric(t, "timberline_edge_packets_total") < 1 { // it is on its way
	}
	if n := p.metric(t, `timberline_edge_packets_dropped_total{cause="malformed"}`); n != 1 {
		t.Errorf("%v packets were dropped as malformed, want 1", n)
	}
}

func TestServerThatStopsIsNotReady(t *testing.T) {
	m, err := newMonitor("")
	if err != nil {
		t.Fatal(err)
	}
	if err := m.ready(t.Context()); !errors.Is(err, errStarting) {
		t.Errorf("before it serves: %v", err)
	}
	stuck := errors.New("stuck")
	m.started(func(context.Context) error { return stuck })
	if err, err2 := m.ready(t.Context()), m.healthy(t.Context()); !errors.Is(err, stuck) || !errors.Is(err2, stuck) {
		t.Errorf("while its loop is stuck: %v, %v", err, err2)
	}
	m.stops()
	if err := m.ready(t.Context()); !errors.Is(err, errStopping) || m.healthy(t.Context()) != nil {
		t.Errorf("while it stops: %v", err)
	}
}

func TestMonitorCanBeElsewhereOrNowhere(t *testing.T) {
	p, _ := newServer(t, "--monitor", "")
	if p.Monitor != "" {
		t.Errorf("it is at %s", p.Monitor)
	}
	p, _ = newServer(t)
	tl(t, "serve", "--data", t.TempDir(), "--listen", "127.0.0.1:0", "--monitor", p.Monitor).want(t, exitFailed, "", "--monitor")
	tl(t, "serve", "--monitor", "nowhere").want(t, exitUsage, "", "--monitor is")
	if err := p.end(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
}

// names returns the metrics of a server, without what belongs to the parts of
// histograms.
func (p *process) names(t *testing.T) (names []string) {
	t.Helper()
	_, text := p.get(t, "/metrics")
	for line := range strings.Lines(text) {
		if words := strings.Fields(line); len(words) > 2 && words[1] == "TYPE" && strings.HasPrefix(words[2], "timberline_") {
			names = append(names, words[2])
		}
	}
	return names
}

var ofHistogram = regexp.MustCompile("_(bucket|count|sum)$")

func TestDashboardShowsMetricsThatExistAndEachOfThem(t *testing.T) {
	p, _ := newServer(t)
	ofOne := p.names(t)
	names := slices.Concat(ofOne, namesOfMany(t))
	file, err := os.ReadFile("../../deploy/grafana.json")
	if err != nil {
		t.Fatal(err)
	}
	var dashboard struct {
		Panels []struct{ Targets []struct{ Expr string } }
	}
	if err := json.Unmarshal(file, &dashboard); err != nil {
		t.Fatal(err)
	}
	shown := make(map[string]bool)
	for _, panel := range dashboard.Panels {
		for _, target := range panel.Targets {
			for _, name := range regexp.MustCompile(`timberline_\w+`).FindAllString(target.Expr, -1) {
				if !slices.Contains(names, name) {
					name = ofHistogram.ReplaceAllString(name, "")
				}
				if shown[name] = true; !slices.Contains(names, name) {
					t.Errorf("%s: there is no metric %s", target.Expr, name)
				}
			}
		}
	}
	page, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if !shown[name] {
			t.Errorf("the dashboard does not show %s", name)
		}
	}
	for _, name := range ofOne {
		if !strings.Contains(string(page), "`"+name+"`") {
			t.Errorf("docs/operations.md does not say what %s tells", name)
		}
	}
}

func TestAddressOfTheMonitorIsRefusedForWhatIsWrongWithIt(t *testing.T) {
	taken, err := newMonitor("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.close()
	for address, want := range map[string]string{
		taken.address():    "the port is in use: stop whoever has it, choose another, or none with --monitor ''",
		"203.0.113.1:9100": "this machine does not have that address",
	} {
		if m, err := newMonitor(address); err == nil || !strings.Contains(err.Error(), "--monitor: ") || !strings.Contains(err.Error(), want) {
			if err == nil {
				m.close()
			}
			t.Errorf("%s: %v, want %q", address, err, want)
		}
	}
}
