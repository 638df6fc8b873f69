package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// largest returns the size of the largest file of a folder.
func largest(t *testing.T, folder string) (most int64) {
	t.Helper()
	files, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if info, err := file.Info(); err == nil { // else it has just been removed
			most = max(most, info.Size())
		}
	}
	return most
}

// fails waits for a process to end by itself, and wants it to say what to do.
func fails(t *testing.T, cmd *exec.Cmd, stderr fmt.Stringer, texts ...string) {
	t.Helper()
	late := time.AfterFunc(30*time.Second, func() {
		t.Error("the process does not end")
		cmd.Process.Kill()
	})
	defer late.Stop()
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != exitFailed {
		t.Errorf("%v, want exit status %d\n%s", err, exitFailed, stderr)
	}
	for _, text := range texts {
		if !strings.Contains(stderr.String(), text) {
			t.Errorf("it does not say %q:\n%s", text, stderr)
		}
	}
	if strings.Contains(stderr.String(), "goroutine ") {
		t.Errorf("it ends by a crash:\n%s", stderr)
	}
}

// A disk is full for a process that may not make its files larger: that needs no rights
// and no disk.
func TestServerWhoseDiskFillsLosesNothingThatWasAcknowledged(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	p := startProcess(t, "--data", data, "--listen", "127.0.0.1:0")
	flags := []string{"--server", p.Listen[0], "--data", data}
	acked := 0
	send := func(lines int) {
		var text strings.Builder
		for i := range lines {
			fmt.Fprintf(&text, "message %d %s\n", acked+i, strings.Repeat("x", 3000))
		}
		o := tlIn(t, text.String(), with("send", flags, "--as", "alice", "--to", "bob", "--timeout", "3s")...)
		acked += strings.Count(o.out, "\n") // ids of those that are durable, in the order sent
	}
	send(20)
	if acked != 20 {
		t.Fatalf("%d messages were acknowledged before the disk is full, want 20", acked)
	}
	tlUntil(t, 20, "alice → bob\tmessage", with("inbox", flags, "--as", "bob")...) // and nothing more is written
	room := largest(t, storePath(data)) + 64<<10
	full := &unix.Rlimit{Cur: uint64(room), Max: unix.RLIM_INFINITY}
	if err := unix.Prlimit(p.cmd.Process.Pid, unix.RLIMIT_FSIZE, full, nil); err != nil {
		t.Fatal(err)
	}
	for before := 0; before < acked && acked < 1000; { // until one is not
		before = acked
		send(5)
	}
	if acked <= 20 || acked >= 1000 {
		t.Errorf("%d messages were acknowledged in all, want some more, and not all", acked)
	}
	fails(t, p.cmd, p.stderr, "data folder "+data, "acknowledged", "the disk", "start again")

	// The disk is full still: what was written cannot be put in order.
	var stderr strings.Builder
	again := exec.Command("sh", "-c", `ulimit -f 8; exec "$0" "$@"`, binary, "serve", "--data", data, "--listen", "127.0.0.1:0")
	again.Stderr = &stderr
	if err := again.Start(); err != nil {
		t.Fatal(err)
	}
	fails(t, again, &stderr, "data folder", "disk")

	restarted := startProcess(t, "--data", data, "--listen", p.Listen[0])
	lines := tl(t, with("inbox", flags, "--as", "bob")...).lines()
	for end := time.Now().Add(20 * time.Second); len(lines) < acked && time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		lines = tl(t, with("inbox", flags, "--as", "bob")...).lines()
	}
	if len(lines) < acked {
		t.Errorf("%d messages are there, %d were acknowledged", len(lines), acked)
	}
	for i, line := range lines { // some may have got there whose acknowledgement did not get out
		if want := fmt.Sprintf("message %d x", i); !strings.Contains(line, want) {
			t.Fatalf("entry %d is %.80q, want %s", i+1, line, want)
		}
	}
	if err := restarted.end(os.Interrupt); err != nil {
		t.Errorf("%v\n%s", err, restarted.stderr)
	}
}
