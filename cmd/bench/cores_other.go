//go:build !linux

package bench

import (
	"errors"
	"os/exec"
)

// Cores are those of the processes that are measured, and those of this one: all are
// everybody's.
type Cores struct{}

// Start starts a process.
func (*Cores) Start(cmd *exec.Cmd) error { return cmd.Start() }

// SplitCores gives cores away: only Linux can.
func SplitCores(n int) (c Cores, err error) {
	if n != 0 {
		err = errors.New("cores of its own for a server: on Linux only")
	}
	return c, err
}
