package main

import (
	"context"
	"errors"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestProcessThatEndsByItselfIsNoted(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c := &child{name: "the server", cmd: exec.Command("sh", "-c", "exit 3"), heard: make(chan error)}
	close(c.heard)
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for c.cmd.Process.Signal(syscall.Signal(0)) == nil && ctx.Err() == nil {
		var status syscall.WaitStatus
		syscall.Wait4(c.cmd.Process.Pid, &status, syscall.WNOHANG, nil)
	}
	if err := c.end(syscall.SIGKILL); err == nil || !strings.Contains(err.Error(), "the server has ended by itself") {
		t.Errorf("kill: %v", err)
	}
}

func TestWhatAProcessHasToldWrongIsNotedWhenItIsKilled(t *testing.T) {
	c := &child{name: "a device", cmd: exec.Command("sleep", "60"), heard: make(chan error, 1)}
	c.heard <- errors.New("what it tells: nonsense")
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := c.end(syscall.SIGKILL); err == nil || err.Error() != "a device: what it tells: nonsense" {
		t.Errorf("kill: %v", err)
	}
}
