package main

import (
	"crypto/rand"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/prometheus/client_golang/prometheus"
	"go.yaml.in/yaml/v2"

	"timberline/bus/rabbit"
	"timberline/edge/auth"
	"timberline/events"
	"timberline/projections"
	"timberline/projections/relay"
	"timberline/store/dynamo"
)

// metricNames is told of metrics and keeps their names, also of those that have no value
// yet.
type metricNames []string

var fqName = regexp.MustCompile(`fqName: "(\w+)"`)

// Register implements prometheus.Registerer.
func (n *metricNames) Register(c prometheus.Collector) error {
	all := make(chan *prometheus.Desc)
	go func() {
		defer close(all)
		c.Describe(all)
	}()
	for d := range all {
		*n = append(*n, fqName.FindStringSubmatch(d.String())[1])
	}
	return nil
}

// MustRegister implements prometheus.Registerer.
func (n *metricNames) MustRegister(all ...prometheus.Collector) {
	for _, c := range all {
		n.Register(c)
	}
}

// Unregister implements prometheus.Registerer.
func (n *metricNames) Unregister(prometheus.Collector) bool { return false }

// namesOfMany returns the metrics that only a process of many has, or one that trims the store.
func namesOfMany(t *testing.T) (names metricNames) {
	t.Helper()
	m, err := dynamo.NewMigrations(dynamo.Options{AWS: aws.Config{Region: "us-east-1"}, Metrics: &names}, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if _, err := relay.New(relay.Config{Random: rand.Reader, Metrics: &names}); err != nil {
		t.Fatal(err)
	}
	if _, err := rabbit.New(rabbit.Config{URL: "amqp://127.0.0.1", Store: events.StoreID{1}, Prefix: "timberline", Name: "me", Metrics: &names}); err != nil {
		t.Fatal(err)
	}
	if _, err := projections.NewRetention(projections.RetentionConfig{Keep: 1, Random: rand.Reader, Metrics: &names}); err != nil {
		t.Fatal(err)
	}
	if len(names) < 15 {
		t.Fatalf("only %v", names)
	}
	return names
}

// The page of operations tells of each metric that only a process of many has, and of none
// that there is not.
func TestOperationsPageTellsOfMetricsOfManyMachines(t *testing.T) {
	names := namesOfMany(t)
	page, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if !strings.Contains(string(page), "`"+name) {
			t.Errorf("docs/operations.md does not say what %s tells", name)
		}
	}
	p, _ := newServer(t)
	names = append(names, p.names(t)...)
	for _, name := range regexp.MustCompile(`timberline_\w+`).FindAllString(string(page), -1) {
		if !slices.Contains(names, name) {
			t.Errorf("docs/operations.md: there is no metric %s", name)
		}
	}
}

// What the page copies beside a backup is all that a restored server needs, also in the middle
// of a rotation.
func TestOperationsPageCopiesAllKeys(t *testing.T) {
	page, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	var copied []string
	for _, pattern := range regexp.MustCompile(`timberline-data/(\S*\*\S*)`).FindAllStringSubmatch(string(page), -1) {
		copied = append(copied, pattern[1])
	}
	key, serverKey := keyPath(""), serverKeyPath("")
	for _, file := range []string{key, auth.OldPath(key), serverKey, auth.OldPath(serverKey), secretPath("")} {
		if !slices.ContainsFunc(copied, func(pattern string) bool { ok, _ := filepath.Match(pattern, file); return ok }) {
			t.Errorf("docs/operations.md copies %q, and not %s", copied, file)
		}
	}
}

// An alertsFile is as much of Prometheus's rules as deploy/alerts.yaml uses.
type alertsFile struct {
	Groups []struct {
		Name  string
		Rules []struct {
			Alert, Expr, For string
			Annotations      struct{ Summary string }
		}
	}
}

func TestAlertsAskForMetricsThatExist(t *testing.T) {
	file, err := os.ReadFile("../../deploy/alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var alerts alertsFile
	if err := yaml.UnmarshalStrict(file, &alerts); err != nil {
		t.Fatal(err)
	}
	p, _ := newServer(t)
	names := slices.Concat(p.names(t), namesOfMany(t))
	seen := make(map[string]bool)
	for _, group := range alerts.Groups {
		for _, rule := range group.Rules {
			asked := regexp.MustCompile(`timberline_\w+`).FindAllString(rule.Expr, -1)
			if seen[rule.Alert] || rule.Alert == "" || rule.Annotations.Summary == "" || len(asked) == 0 || strings.Count(rule.Expr, "(") != strings.Count(rule.Expr, ")") {
				t.Errorf("%+v: want a name of its own, an expression, and what it means", rule)
			}
			if _, err := time.ParseDuration(rule.For); rule.For != "" && err != nil {
				t.Errorf("%s: %v", rule.Alert, err)
			}
			for _, name := range asked {
				if !slices.Contains(names, name) && !slices.Contains(names, ofHistogram.ReplaceAllString(name, "")) {
					t.Errorf("%s: there is no metric %s", rule.Alert, name)
				}
			}
			seen[rule.Alert] = true
		}
	}
	if len(seen) < 10 {
		t.Errorf("%d alerts", len(seen))
	}
}
