package servers

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// A process is one that was started here.
type process struct {
	cmd  *exec.Cmd
	said *tail
	done chan struct{} // closed when it has ended
}

// run starts a command. Its output is kept for when it fails.
func run(cmd *exec.Cmd) (*process, error) {
	p := &process{cmd: cmd, said: new(tail), done: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = p.said, p.said
	cmd.WaitDelay = time.Second // what it has started may hold its output
	endsWithUs(cmd)
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// stop asks the process to end, and kills it if that takes too long.
func (p *process) stop() error {
	p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
		return nil
	case <-time.After(stopTime):
		p.kill()
		return fmt.Errorf("had not ended %v after SIGTERM and was killed; it said last:\n%s", stopTime, p.said)
	}
}

// kill ends the process at once.
func (p *process) kill() {
	p.cmd.Process.Kill()
	<-p.done
}

// maxTail bounds what is kept of a process's output, in bytes.
const maxTail = 8 << 10

// A tail keeps the end of what is written to it.
type tail struct {
	mu   sync.Mutex
	text []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	t.text = t.text[max(len(t.text)-maxTail, 0):]
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(string(t.text))
}

// freePort returns a port of the loopback that nobody listens on. It is below those
// that systems give to outgoing connections, which could take it meanwhile.
func freePort() int {
	for {
		port := 20_000 + rand.IntN(12_000)
		listener, err := net.Listen("tcp", loopback(port))
		if err == nil {
			listener.Close()
			return port
		}
	}
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// dialer returns how to connect to a port of the loopback.
func dialer(port int) func() (net.Conn, error) {
	return func() (net.Conn, error) { return net.DialTimeout("tcp", loopback(port), time.Second) }
}
