package main

import (
	"os/exec"
	"syscall"
)

// endsWithUs has the system send a signal to a process that cmd will start, when this
// one has ended, be it by kill -9.
func endsWithUs(cmd *exec.Cmd, s syscall.Signal) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = new(syscall.SysProcAttr)
	}
	cmd.SysProcAttr.Pdeathsig = s
}
