package pebble

import (
	"errors"
	"strings"
	"syscall"
)

// isLocked reports whether an error of opening says that another process has the
// folder open.
func isLocked(err error) bool {
	return errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EACCES) && strings.Contains(err.Error(), "lock") ||
		strings.Contains(err.Error(), "lock held")
}

// isFull reports whether an error says that the disk is full, or that a file may not
// get larger.
func isFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EFBIG)
}
