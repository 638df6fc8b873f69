package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"timberline/events"
	"timberline/projections"
	"timberline/sim/servers"
	"timberline/store/dynamo"
)

// A cluster is a store in DynamoDB and what processes are told to find it and each other.
type cluster struct {
	flags []string
	keys  string // the folder of those that edges share
}

var clusters atomic.Int64

// newCluster makes a store.
func newCluster(t *testing.T) *cluster {
	t.Helper()
	t.Setenv("AWS_ACCESS_KEY_ID", "test")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "test")
	d := dynamoFlags{prefix: fmt.Sprintf("cluster-%d-%d", os.Getpid(), clusters.Add(1)), endpoint: servers.DynamoDB(t).URL(), region: "us-east-1"}
	o, err := d.options(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := dynamo.CreateTables(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	if _, err := dynamo.Create(t.Context(), o, projections.Meta{Store: events.StoreID{1}, Shards: 4}); err != nil {
		t.Fatal(err)
	}
	return &cluster{keys: t.TempDir(), flags: []string{
		"--dynamodb-prefix", d.prefix, "--dynamodb-endpoint", d.endpoint, "--dynamodb-region", d.region, "--bus", servers.RabbitMQ(t).URL(),
	}}
}

// edge starts an edge.
func (c *cluster) edge(t *testing.T) *process {
	t.Helper()
	return startRole(t, "edge", append(c.flags, "--data", filepath.Join(t.TempDir(), "data"), "--keys", c.keys, "--listen", "127.0.0.1:0")...)
}

// start starts another role.
func (c *cluster) start(t *testing.T, role string) *process {
	t.Helper()
	return startRole(t, role, c.flags...)
}

// at returns the flags that lead a client to an edge.
func (c *cluster) at(p *process) []string { return []string{"--server", p.Listen[0], "--data", c.keys} }

// follow starts to print an inbox, and returns its lines.
func follow(t *testing.T, flags []string, user string) <-chan string {
	t.Helper()
	cmd := exec.Command(binary, with("inbox", flags, "--as", user, "--follow", "--json")...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := make(chan string, 100)
	go func() {
		defer close(lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			lines <- s.Text()
		}
	}()
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	return lines
}

func TestMessageGoesThroughManyProcesses(t *testing.T) {
	c := newCluster(t)
	a, b := c.edge(t), c.edge(t)
	c.start(t, "projector")
	c.start(t, "projector")
	c.start(t, "relay")
	lines := follow(t, c.at(b), "bob")
	for i := range 5 {
		text := fmt.Sprint("hello ", i)
		began := time.Now()
		tl(t, with("send", c.at(a), "--as", "alice", "--to", "bob", text)...).want(t, exitOK, "", "")
		select {
		case line := <-lines:
			if !strings.Contains(line, text) || !json.Valid([]byte(line)) {
				t.Errorf("bob's inbox prints %s, want %q", line, text)
			}
			t.Logf("message %d was there after %v", i, time.Since(began))
		case <-time.After(30 * time.Second):
			t.Fatalf("message %d does not come\nedge a: %s\nedge b: %s", i, a.stderr, b.stderr)
		}
	}
	for _, p := range []*process{a, b} {
		tlUntil(t, 5, "hello", with("inbox", c.at(p), "--as", "alice", "--json")...)
	}
}
