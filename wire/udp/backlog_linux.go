package udp

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A queue is what waits in a socket, as the system tells it.
type queue struct {
	raw   syscall.RawConn
	ask   func(fd uintptr) // getsockopt, bound once
	info  meminfo
	errno syscall.Errno
}

// meminfo is what SO_MEMINFO fills in (linux/sock_diag.h).
type meminfo struct {
	allocated, room uint32 // bytes of what waits to be read, and the most of them
	_               [6]uint32
	drops           uint32
}

func newQueue(raw syscall.RawConn) *queue {
	q := &queue{raw: raw}
	q.ask = q.getsockopt
	return q
}

func (q *queue) getsockopt(fd uintptr) {
	size := uint32(unsafe.Sizeof(q.info))
	_, _, q.errno = unix.Syscall6(unix.SYS_GETSOCKOPT, fd, unix.SOL_SOCKET, unix.SO_MEMINFO,
		uintptr(unsafe.Pointer(&q.info)), uintptr(unsafe.Pointer(&size)), 0)
}

// backlog implements transfer.
func (q *queue) backlog() (full float64, lost uint32) {
	if q.raw.Control(q.ask) != nil || q.errno != 0 || q.info.room == 0 {
		return 0, 0
	}
	return min(float64(q.info.allocated)/float64(q.info.room), 1), q.info.drops
}
