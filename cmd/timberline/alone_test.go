package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
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

// runAlone runs the program in a process of its own, with a folder for temporary files.
// Afterwards that must be empty, and no process may know of it.
func runAlone(t *testing.T, args ...string) outcome {
	t.Helper()
	return interruptAlone(t, "", args...)
}

// interruptAlone does so, and interrupts it when it has told of something.
func interruptAlone(t *testing.T, when string, args ...string) outcome {
	t.Helper()
	temporary := shortFolder(t)
	cmd := exec.Command(binary, args...)
	cmd.Env = append(os.Environ(), "TMPDIR="+temporary)
	var out bytes.Buffer
	stderr := listener{when: when, then: func() {
		if has, _ := os.ReadDir(temporary); len(has) != 1 {
			t.Errorf("%s has %v while it runs, want one folder", args[0], has)
		}
		cmd.Process.Signal(syscall.SIGINT)
	}}
	cmd.Stdout, cmd.Stderr = &out, &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	late := time.AfterFunc(2*time.Minute, func() { cmd.Process.Signal(os.Interrupt) })
	defer late.Stop()
	cmd.Wait() // for all processes that have its standard error
	if left, err := os.ReadDir(temporary); err != nil || len(left) > 0 {
		t.Errorf("%s leaves %v behind, %v", args[0], left, err)
	}
	lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range lines {
		if line, _ := os.ReadFile(file); bytes.Contains(line, []byte(temporary)) {
			t.Errorf("%s leaves a process behind: %q", args[0], line)
		}
	}
	return outcome{cmd.ProcessState.ExitCode(), out.String(), stderr.said.String()}
}

// A listener keeps what is written, and does something when it has a text in it.
type listener struct {
	said bytes.Buffer
	when string // empty: never
	then func()
}

// Write implements io.Writer.
func (l *listener) Write(p []byte) (int, error) {
	l.said.Write(p)
	if l.when != "" && strings.Contains(l.said.String(), l.when) {
		l.when = ""
		l.then()
	}
	return len(p), nil
}
