package servers

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// endsWithUs has the system kill the process that cmd will start when this one has
// ended, be it by kill -9. An interrupt at the terminal is for this one alone: it
// stops its servers in order.
func endsWithUs(cmd *exec.Cmd) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = new(syscall.SysProcAttr)
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	cmd.SysProcAttr.Setpgid = true
}

// A network is one that a process has for itself: a loopback, and nothing else.
type network struct{ file *os.File }

// isolate starts a command in a network of its own. It returns errors.ErrUnsupported
// where we may not do that.
func isolate(cmd *exec.Cmd) (*process, *network, error) {
	if os.Geteuid() != 0 {
		return nil, nil, errors.ErrUnsupported
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET}
	p, err := run(cmd)
	if errors.Is(err, unix.EPERM) {
		return nil, nil, errors.ErrUnsupported // root in a container
	}
	if err != nil {
		return nil, nil, err
	}
	file, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", cmd.Process.Pid))
	if err != nil {
		p.kill()
		return nil, nil, err
	}
	n := &network{file}
	if err := n.raiseLoopback(); err != nil {
		n.close()
		p.kill()
		return nil, nil, err
	}
	return p, n, nil
}

func (n *network) close() { n.file.Close() }

// socket makes a socket there. Wherever it is used from, it stays there.
func (n *network) socket(kind int) (fd int, err error) {
	runtime.LockOSThread()
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		runtime.UnlockOSThread()
		return -1, err
	}
	defer home.Close()
	if err := unix.Setns(int(n.file.Fd()), unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return -1, fmt.Errorf("setns: %w", err)
	}
	fd, err = unix.Socket(unix.AF_INET, kind|unix.SOCK_CLOEXEC, 0)
	if back := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); back != nil {
		panic(fmt.Sprintf("servers: a thread cannot leave a server's network: %v", back))
	}
	runtime.UnlockOSThread()
	return fd, err
}

// raiseLoopback brings up the loopback, which is down in a new network.
func (n *network) raiseLoopback() error {
	fd, err := n.socket(unix.SOCK_DGRAM)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo)
}

// dialer returns how to connect to a port of the loopback there.
func (n *network) dialer(port int) func() (net.Conn, error) {
	return func() (net.Conn, error) {
		fd, err := n.socket(unix.SOCK_STREAM)
		if err != nil {
			return nil, err
		}
		file := os.NewFile(uintptr(fd), "tcp")
		defer file.Close() // the connection has a descriptor of its own
		if err := unix.Connect(fd, &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}); err != nil {
			return nil, err
		}
		return net.FileConn(file)
	}
}
