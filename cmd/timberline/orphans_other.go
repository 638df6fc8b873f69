//go:build !linux

package main

import (
	"os/exec"
	"syscall"
)

// endsWithUs does nothing: only Linux ends the processes of one that was killed.
func endsWithUs(*exec.Cmd, syscall.Signal) {}
