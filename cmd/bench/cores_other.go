//go:build !linux

package bench

import (
	"errors"
	"os/exec"
)

// StartOn starts a process. Only on Linux it can have cores of its own.
func StartOn(cores int, cmd *exec.Cmd) error {
	if cores != 0 {
		return errors.New("cores of its own for a server: on Linux only")
	}
	return cmd.Start()
}
