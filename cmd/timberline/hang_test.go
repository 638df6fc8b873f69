package main

import (
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"timberline/sim/servers"
)

// stopsWithin is how long an edge may take to stop whose store does not answer.
const stopsWithin = 15 * time.Second

// roleFlags returns what a process of a role is told, the first time.
func (c *testCluster) roleFlags(t *testing.T, role string) []string {
	t.Helper()
	if role != edgeRole {
		return c.flags()
	}
	return append(c.flags(), "--data", filepath.Join(t.TempDir(), "data"), "--keys", c.keys, "--listen", "127.0.0.1:0")
}

// A process whose store does not answer says so to who looks at its monitor, while it starts
// and while it stops, and is gone in time when it is told to.
func TestProcessWithoutAnAnswerOfItsStoreTellsAndStops(t *testing.T) {
	t.Parallel()
	way := servers.Way(t, servers.DynamoDB(t))
	c := &testCluster{cluster: servedBy(way, servers.RabbitMQ(t)), keys: t.TempDir()}
	if err := c.create(t.Context()); err != nil {
		t.Fatal(err)
	}
	serves := c.edge(t)
	way.Hang()
	for _, role := range []string{edgeRole, projectorRole, relayRole} {
		p := &process{started: started{Monitor: "127.0.0.1:" + freePort(t, "tcp")}}
		p.cmd = exec.Command(binary, with(role, c.roleFlags(t, role), "--monitor", p.Monitor)...)
		if err := p.cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { p.end(syscall.SIGKILL) })
		p.answers(t, role, errStarting)
		began := time.Now()
		if err := p.end(syscall.SIGTERM); err != nil || time.Since(began) > 5*time.Second {
			t.Errorf("%s was stopped before it served, after %v: %v", role, time.Since(began), err)
		}
	}
	began := time.Now()
	serves.cmd.Process.Signal(syscall.SIGTERM)
	serves.answers(t, edgeRole, errStopping)
	serves.cmd.Wait()
	if took := time.Since(began); took > stopsWithin || !strings.Contains(serves.stderr.String(), "nothing acknowledged is lost") {
		t.Errorf("the edge took %v to stop, and says\n%s", took, serves.stderr)
	}
}

// answers waits until a process's monitor says that it lives, and why it is not ready.
func (p *process) answers(t *testing.T, role string, why error) {
	t.Helper()
	client := http.Client{Timeout: time.Second}
	var last error
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		var alive *http.Response
		if alive, last = client.Get("http://" + p.Monitor + "/healthz"); last != nil {
			continue
		}
		alive.Body.Close()
		if last = askHealth(t.Context(), p.Monitor); alive.StatusCode == http.StatusOK && last != nil && last.Error() == why.Error() {
			return
		}
	}
	t.Errorf("%s says %v, want %v", role, last, why)
}
