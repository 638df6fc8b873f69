package main

import (
	"context"
	"flag"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"timberline/client"
)

// pathFor is how long messages are sent: go test ./cmd/timberline -run PathOfAMessage -v -path 20s
var pathFor = flag.Duration("path", 2*time.Second, "how long the path of messages is measured")

// pathEvery is how often one is sent.
const pathEvery = 50 * time.Millisecond

// What a message from one edge to another takes, in all and in its parts: as clients see it,
// and as the processes on its way tell. Parts are differences of medians.
func TestPathOfAMessageIsToldInItsParts(t *testing.T) {
	c := newCluster(t)
	a, b := c.edge(t), c.edge(t)
	projector, relay := c.start(t, projectorRole), c.start(t, relayRole)
	sent := make(map[string]time.Time)
	came := make(chan string, 1000)
	alice := c.dial(t, a, "alice", func(client.Message) error { return nil })
	c.dial(t, b, "bob", func(m client.Message) error {
		came <- string(m.Event.Body)
		return nil
	})
	var took []float64
	for i := range int(*pathFor / pathEvery) {
		text := strconv.Itoa(i)
		sent[text] = time.Now()
		if _, err := alice.Send(t.Context(), "bob", []byte(text)); err != nil {
			t.Fatal(err)
		}
		for next := time.After(pathEvery); ; {
			select {
			case text := <-came:
				took = append(took, time.Since(sent[text]).Seconds())
				continue
			case <-next:
			}
			break
		}
	}
	for len(took) < len(sent) {
		select {
		case text := <-came:
			took = append(took, time.Since(sent[text]).Seconds())
		case <-time.After(20 * time.Second):
			t.Fatalf("%d of %d messages came", len(took), len(sent))
		}
	}
	slices.Sort(took)
	all := took[len(took)/2]
	appended := a.median(t, "timberline_ingest_append_seconds")
	commit := projector.median(t, "timberline_projections_commit_seconds")
	lag := projector.median(t, "timberline_projections_lag_seconds")
	age, confirm := relay.median(t, "timberline_relay_age_seconds"), relay.median(t, "timberline_relay_confirm_seconds")
	for _, part := range []struct {
		name    string
		seconds float64
	}{
		{"append: DynamoDB", appended}, {"hint, and reading the log", lag - appended - commit}, {"checkpoint and items: DynamoDB", commit},
		{"stream, and the wait between two reads of it", age - lag}, {"confirm: RabbitMQ", confirm}, {"push, and what comes before the append", all - age},
		{"in all", all},
	} {
		t.Logf("%-45s %6.1f ms", part.name, 1000*part.seconds)
		if math.IsNaN(part.seconds) {
			t.Errorf("nothing tells of %s", part.name)
		}
	}
}

// dial connects a user's device to an edge.
func (c *testCluster) dial(t *testing.T, p *process, user string, onMessage func(client.Message) error) *client.Client {
	t.Helper()
	token := strings.TrimSpace(tl(t, "token", "--data", c.keys, "--user", user, "--device", "phone").want(t, exitOK, "", "").out)
	cl, err := client.Dial(p.Listen[0], client.Options{
		ServerKey: p.ServerKey, OnMessage: onMessage,
		Token: func(context.Context) (string, error) { return token, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cl.Close() })
	return cl
}

// median returns the median of a histogram, taken to be even within its bucket; NaN if it
// has nothing.
func (p *process) median(t *testing.T, name string) float64 {
	t.Helper()
	_, text := p.get(t, "/metrics")
	var bounds, counts []float64
	for line := range strings.Lines(text) {
		rest, ok := strings.CutPrefix(line, name+`_bucket{le="`)
		if !ok {
			continue
		}
		bound, count, _ := strings.Cut(rest, `"} `)
		le, err := strconv.ParseFloat(bound, 64)
		if err != nil {
			t.Fatal(err)
		}
		n, err := strconv.ParseFloat(strings.TrimSpace(count), 64)
		if err != nil {
			t.Fatal(err)
		}
		bounds, counts = append(bounds, le), append(counts, n)
	}
	if len(counts) == 0 || counts[len(counts)-1] == 0 {
		return math.NaN()
	}
	half := counts[len(counts)-1] / 2
	i := slices.IndexFunc(counts, func(n float64) bool { return n >= half })
	low, below := 0.0, 0.0
	if i > 0 {
		low, below = bounds[i-1], counts[i-1]
	}
	return low + (bounds[i]-low)*(half-below)/(counts[i]-below)
}
