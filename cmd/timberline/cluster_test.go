package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"timberline/sim/servers"
)

// servedBy returns a cluster for a DynamoDB and a RabbitMQ, without a store so far.
func servedBy(db, broker *servers.Server) cluster {
	return cluster{nodes: 2, storage: storage{
		engine: engineDynamoDB, bus: broker.URL(), dynamo: dynamoFlags{prefix: "test", endpoint: db.URL(), region: "us-east-1"},
	}}
}

// A testCluster is a cluster whose processes the test starts.
type testCluster struct {
	cluster
	keys string // the folder of those that edges share
}

// newCluster makes a store.
func newCluster(t *testing.T) *testCluster {
	t.Helper()
	c := &testCluster{cluster: servedBy(servers.DynamoDB(t), servers.RabbitMQ(t)), keys: t.TempDir()}
	if err := c.create(t.Context()); err != nil {
		t.Fatal(err)
	}
	return c
}

// edge starts an edge.
func (c *testCluster) edge(t *testing.T, flags ...string) *process {
	t.Helper()
	return startRole(t, edgeRole, append(append(c.flags(), flags...), "--data", filepath.Join(t.TempDir(), "data"), "--keys", c.keys, "--listen", "127.0.0.1:0")...)
}

// start starts another role.
func (c *testCluster) start(t *testing.T, role string) *process {
	t.Helper()
	return startRole(t, role, c.flags()...)
}

// at returns the flags that lead a client to an edge.
func (c *testCluster) at(p *process) []string {
	return []string{"--server", p.Listen[0], "--data", c.keys}
}

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

// Nobody asks for messages meanwhile: they are pushed.
func TestMessageGoesThroughManyProcesses(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	a, b := c.edge(t, "--heartbeat", "1h"), c.edge(t, "--heartbeat", "1h")
	c.start(t, projectorRole)
	c.start(t, projectorRole)
	c.start(t, relayRole)
	lines := follow(t, c.at(b), "bob")
	var last struct{ Event struct{ ID string } }
	for i := range 5 {
		text := fmt.Sprint("hello ", i)
		began := time.Now()
		tl(t, with("send", c.at(a), "--as", "alice", "--to", "bob", text)...).want(t, exitOK, "", "")
		select {
		case line := <-lines:
			if err := json.Unmarshal([]byte(line), &last); err != nil || !strings.Contains(line, text) {
				t.Errorf("bob's inbox prints %s, want %q (%v)", line, text, err)
			}
			t.Logf("message %d was there after %v", i, time.Since(began))
		case <-time.After(30 * time.Second):
			t.Fatalf("message %d does not come\nedge a: %s\nedge b: %s", i, a.stderr, b.stderr)
		}
	}
	for _, p := range []*process{a, b} {
		tlUntil(t, 5, "hello", with("inbox", c.at(p), "--as", "alice", "--json")...)
	}
	// An edge tells of the devices that are connected to it.
	tlUntil(t, 1, " has it", "trace", "--data", b.Data, last.Event.ID)
	tl(t, "trace", "--data", a.Data, last.Event.ID).want(t, exitOK, "bob       seq 5, by checkpoint", "").want(t, exitOK, "no device of theirs is connected here", "")
}
