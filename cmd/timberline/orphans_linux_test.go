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

func TestBenchLeavesNoProcessBehindHoweverItEnds(t *testing.T) {
	for _, test := range []struct {
		mode      string
		processes int // that it starts
		signal    syscall.Signal
		cleans    bool // away its folder, too
	}{
		{"", 2, syscall.SIGKILL, false},
		{"", 2, syscall.SIGINT, true},
		{"all", 3, syscall.SIGTERM, true},
		{"all", 3, syscall.SIGKILL, false},
	} {
		folder := shortFolder(t)
		cmd := exec.Command(binary, "bench", "--duration", "20s", "--sessions", "2", "--folder", folder, test.mode)
		if test.mode == "" {
			cmd.Args = cmd.Args[:len(cmd.Args)-1]
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		var started []int
		within(t, "it starts a server and an echo", func() bool {
			started = descendants(t, cmd.Process.Pid)
			return len(started) == test.processes
		})
		if err := cmd.Process.Signal(test.signal); err != nil {
			t.Fatal(err)
		}
		cmd.Wait()
		if code := cmd.ProcessState.ExitCode(); test.signal != syscall.SIGKILL && code != exitInterrupted {
			t.Errorf("bench %s and %v: exit status %d, want %d", test.mode, test.signal, code, exitInterrupted)
		}
		within(t, fmt.Sprintf("what bench %s has started ends after %v", test.mode, test.signal), func() bool {
			return !slices.ContainsFunc(started, func(pid int) bool { return syscall.Kill(pid, 0) == nil && !zombie(pid) })
		})
		if left, _ := os.ReadDir(folder); test.cleans && len(left) > 0 {
			t.Errorf("bench %s and %v: %v is left", test.mode, test.signal, left)
		}
	}
}

// zombie reports whether a process has ended, though nobody has asked how.
func zombie(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || strings.Contains(string(text), ") Z ")
}
