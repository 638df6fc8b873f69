//go:build unix && !solaris && !aix

package client

import (
	"errors"
	"os"
	"syscall"
)

// lock makes the file this process's own until it is closed.
func lock(f *os.File) error {
	err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return ErrInUse
	}
	return err
}
