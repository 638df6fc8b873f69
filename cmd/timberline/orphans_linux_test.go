package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// descendants returns the processes that a process has started, and those that they
// have.
func descendants(t *testing.T, pid int) (pids []int) {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	parents := make(map[int]int)
	for _, stat := range stats {
		text, err := os.ReadFile(stat)
		if err != nil {
			continue // it has ended
		}
		var child, parent int
		var state string
		fmt.Sscan(filepath.Base(filepath.Dir(stat)), &child)
		_, rest, _ := strings.Cut(string(text), ") ")
		if fmt.Sscan(rest, &state, &parent); state != "Z" {
			parents[child] = parent
		}
	}
	found := []int{pid}
	for i := 0; i < len(found); i++ {
		for child, parent := range parents {
			if parent == found[i] {
				found = append(found, child)
			}
		}
	}
	return found[1:]
}

// within waits until something is so.
func within(t *testing.T, what string, so func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !so(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within 30 s: %s", what)
		}
	}
}

func TestNoProcessIsLeftBehindHoweverACommandEnds(t *testing.T) {
	bench := []string{"--duration", "20s", "--sessions", "2"}
	for _, test := range []struct {
		args      []string
		processes int  // that it starts
		still     bool // they stand still when it ends
		signal    syscall.Signal
		cleans    bool // away its folder, too
	}{
		{with("bench", bench), 2, false, syscall.SIGKILL, false},
		{with("bench", bench), 2, false, syscall.SIGINT, true},
		{with("bench", bench, "all"), 3, false, syscall.SIGTERM, true},
		{with("bench", bench, "all"), 3, false, syscall.SIGKILL, false},
		{[]string{"soak", "--users", "2", "--every", "1h"}, 5, true, syscall.SIGKILL, false},
	} {
		name := strings.Join(test.args, " ")
		folder := shortFolder(t)
		cmd := exec.Command(binary, test.args...)
		cmd.Env = append(os.Environ(), "TMPDIR="+folder)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		var started []int
		within(t, name+" starts its processes", func() bool {
			started = descendants(t, cmd.Process.Pid)
			return len(started) == test.processes
		})
		for _, pid := range started {
			if !test.still {
				continue
			}
			syscall.Kill(pid, syscall.SIGSTOP)
			t.Cleanup(func() {
				if t.Failed() {
					syscall.Kill(pid, syscall.SIGKILL)
				}
			})
		}
		if err := cmd.Process.Signal(test.signal); err != nil {
			t.Fatal(err)
		}
		cmd.Wait()
		if code := cmd.ProcessState.ExitCode(); test.signal != syscall.SIGKILL && code != exitInterrupted {
			t.Errorf("%s and %v: exit status %d, want %d", name, test.signal, code, exitInterrupted)
		}
		within(t, fmt.Sprintf("what %s has started ends after %v", name, test.signal), func() bool {
			return !slices.ContainsFunc(started, func(pid int) bool { return syscall.Kill(pid, 0) == nil && !zombie(pid) })
		})
		if left, _ := os.ReadDir(folder); test.cleans && len(left) > 0 {
			t.Errorf("%s and %v: %v is left", name, test.signal, left)
		}
	}
}

// zombie reports whether a process has ended, though nobody has asked how.
func zombie(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || strings.Contains(string(text), ") Z ")
}
