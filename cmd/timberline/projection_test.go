package main

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A projection of one's own beside a server that serves: it is killed again and again while
// messages come, and so is the server once; each message counts once.
func TestProjectionBesideAServerCountsEachMessageOnce(t *testing.T) {
	perday := filepath.Join(t.TempDir(), "perday")
	if out, err := exec.Command("go", "build", "-o", perday, "timberline/docs/examples/perday").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	p, flags := newServer(t, "--shards", "3")
	does := func(args ...string) string {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		out, err := exec.CommandContext(ctx, perday, append(args[:1:1], append([]string{"--data", p.Data}, args[1:]...)...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("perday %v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	r := rand.New(rand.NewPCG(1, 2))
	sent := 0
	send := func(n int) {
		t.Helper()
		var lines strings.Builder
		for range n {
			sent++
			fmt.Fprintf(&lines, "message %d\n", sent)
		}
		tlIn(t, lines.String(), with("send", flags, "--as", "alice", "--to", "bob")...).want(t, exitOK, "", "")
	}
	stderr, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	defer stderr.Close()
	says := func() string {
		all, err := os.ReadFile(stderr.Name())
		if err != nil {
			t.Fatal(err)
		}
		return string(all)
	}
	follows := func() *exec.Cmd {
		t.Helper()
		cmd := exec.Command(perday, "run", "--data", p.Data)
		cmd.Stderr = stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { cmd.Process.Kill() })
		if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || !strings.HasPrefix(line, "follows 3 shards") {
			t.Fatalf("perday says %q, %v\n%s", line, err, says())
		}
		return cmd
	}
	for range 15 {
		send(1 + r.IntN(20))
		cmd := follows()
		time.Sleep(time.Duration(r.IntN(20)) * time.Millisecond)
		cmd.Process.Kill()
		if cmd.Wait(); cmd.ProcessState.Exited() {
			t.Fatalf("perday has ended by itself: %v\n%s", cmd.ProcessState, says())
		}
	}
	cmd := follows()
	send(5)
	p.end(os.Kill)
	// In other words where a call was on its way as the server went.
	for end := time.Now().Add(20 * time.Second); !strings.Contains(says(), "again each second"); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("its server is away, and perday says nothing of it: %s", says())
		}
	}
	p = startProcess(t, "--data", p.Data, "--listen", p.Listen[0])
	send(5)
	tlUntil(t, sent, "message", with("inbox", flags, "--as", "bob")...)
	cmd.Process.Kill()
	if cmd.Wait(); cmd.ProcessState.Exited() {
		t.Errorf("perday has ended with its server: %v\n%s", cmd.ProcessState, says())
	}

	does("run", "--once")
	does("switch")
	counted := func(user string) (total int) {
		for line := range strings.Lines(does("show", user)) {
			var day string
			var n int
			if _, err := fmt.Sscanf(line, "%s\t%d\n", &day, &n); err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			total += n
		}
		return total
	}
	for _, user := range []string{"alice", "bob"} {
		if n := counted(user); n != sent {
			t.Errorf("beside the server %s has had %d messages, want %d", user, n, sent)
		}
	}
	p.end(os.Interrupt)
	for _, user := range []string{"alice", "bob"} {
		if n := counted(user); n != sent {
			t.Errorf("without a server %s has had %d messages, want %d", user, n, sent)
		}
	}
}
