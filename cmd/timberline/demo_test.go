package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"timberline/sim/check"
)

// shortFolder returns a folder for sockets, whose paths may not be long.
func shortFolder(t *testing.T) string {
	t.Helper()
	folder, err := os.MkdirTemp("", "tl")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(folder) })
	return folder
}

// runDemo runs a demo, see runAlone.
func runDemo(t *testing.T, args ...string) outcome {
	t.Helper()
	return runAlone(t, "demo", args...)
}

// runAlone runs a command in the program itself, with a folder for temporary files
// that must be empty afterwards.
func runAlone(t *testing.T, name string, args ...string) outcome {
	t.Helper()
	temporary := shortFolder(t)
	cmd := exec.Command(binary, append([]string{name}, args...)...)
	cmd.Env = append(os.Environ(), "TMPDIR="+temporary)
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	late := time.AfterFunc(2*time.Minute, func() { cmd.Process.Signal(os.Interrupt) })
	defer late.Stop()
	cmd.Run()
	if left, err := os.ReadDir(temporary); err != nil || len(left) > 0 {
		t.Errorf("%s leaves %v behind, %v", name, left, err)
	}
	return outcome{cmd.ProcessState.ExitCode(), out.String(), stderr.String()}
}

func TestDemoKeepsEveryPromiseUnderLossAndKills(t *testing.T) {
	o := runDemo(t, "--kills", "4", "--loss", "0.1", "--messages", "600", "--codec", "both", "--json").want(t, exitOK, "", "acked")
	got := map[string]float64{}
	if err := json.Unmarshal([]byte(o.out), &got); err != nil || got["seconds"] <= 0 {
		t.Fatalf("%q: %v", o.out, err)
	}
	delete(got, "seconds")
	want := map[string]float64{"sent": 600, "acked": 600, "delivered": 600, "lost": 0, "doubled": 0, "out_of_order": 0, "kills": 4}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("report (-want +got):\n%s", d)
	}
}

func TestDemoTakesACorpusOfOnesOwn(t *testing.T) {
	file := filepath.Join(t.TempDir(), "corpus.tsv")
	if err := os.WriteFile(file, []byte("2016-01-01T00:00\tann\tben: hi\n2016-01-01T00:01\tben\thello\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	o := runDemo(t, "--corpus", file, "--messages", "7", "--kills", "0", "--loss", "0", "--duplicate", "0", "--reorder", "0", "--users", "50")
	o.want(t, exitOK, "delivered     7", "")
	if err := os.WriteFile(file, []byte("no tabs\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	runDemo(t, "--corpus", file).want(t, exitFailed, "", file)
	runDemo(t, "--corpus", file+".missing").want(t, exitFailed, "", file+".missing")
}

func TestDemoThatIsInterruptedLeavesNothing(t *testing.T) {
	cmd := exec.Command(binary, "demo", "--messages", "100000")
	temporary := shortFolder(t)
	cmd.Env = append(os.Environ(), "TMPDIR="+temporary)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	for buf := make([]byte, 1024); !strings.Contains(said.String(), "acked"); {
		n, err := stderr.Read(buf)
		if err != nil {
			t.Fatalf("%v after %q", err, &said)
		}
		said.Write(buf[:n])
	}
	servers, _ := filepath.Glob(filepath.Join(temporary, "timberline-demo-*", "data", "admin.sock"))
	if len(servers) != 1 {
		t.Errorf("%d servers run, want 1", len(servers))
	}
	cmd.Process.Signal(syscall.SIGINT)
	said.ReadFrom(stderr)
	cmd.Wait()
	if status := cmd.ProcessState.ExitCode(); status != exitInterrupted || !strings.HasSuffix(said.String(), "timberline demo: interrupted\n") {
		t.Errorf("status %d, it says:\n%s", status, &said)
	}
	if left, err := os.ReadDir(temporary); err != nil || len(left) > 0 {
		t.Errorf("the demo leaves %v behind, %v", left, err)
	}
}

func TestDemoFailsWhenAPromiseIsBroken(t *testing.T) {
	h := check.NewHistory()
	alice, bob := h.Reader("alice", "phone"), h.Reader("bob", "phone")
	sending := alice.Send("bob", []byte("lost"))
	id := [16]byte{1}
	sending.Kept(id)
	h.Acked(id)
	alice.Complete()
	bob.Complete()
	var out, stderr bytes.Buffer
	d := demo{c: newCall(demoCommand, nil, nil, &out, &stderr)}
	status := status(t.Context(), demoCommand, d.report(h.Check(), true), &stderr)
	if status != exitFailed || !strings.Contains(out.String(), `"lost":2`) || !strings.Contains(stderr.String(), "a promise is broken") {
		t.Errorf("status %d\n%s%s", status, &out, &stderr)
	}
}
