package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"timberline/cmd/bench"
)

// A childServer is a server in a process of its own, started by this one.
type childServer struct {
	data  string
	flags []string       // besides those that say where
	cores bench.Cores    // that it has for itself
	addr  netip.AddrPort // the same for every start
	plain netip.AddrPort // of its plain socket, if flags ask for one
	key   string         // the public one, likewise

	monitor string    // where it can be looked at
	log     string    // what it says
	cmd     *exec.Cmd // nil: it does not run
}

// startWithin is how long a server may take to start.
const startWithin = 30 * time.Second

// startChild starts a server on a port of its own.
func startChild(ctx context.Context, data string, cores bench.Cores, flags ...string) (*childServer, error) {
	s := &childServer{data: data, flags: flags, cores: cores, log: data + ".log", addr: netip.MustParseAddrPort("127.0.0.1:0")}
	if err := s.start(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("%w\n%s", err, s.lastWords()), s.stop())
	}
	return s, nil
}

// start starts the process and waits until it listens.
func (s *childServer) start(ctx context.Context) error {
	exe, err := os.Executable()
	if err != nil {
		return fmt.Errorf("start a server: %w", err)
	}
	log, err := os.OpenFile(s.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("start a server: %w", err)
	}
	defer log.Close() // the process has its own copy
	cmd := exec.Command(exe, append([]string{"serve", "--json", "--data", s.data, "--listen", s.addr.String()}, s.flags...)...)
	cmd.Env = []string{"HOME=" + filepath.Dir(s.data)} // no setting of somebody's own
	cmd.Stderr = log
	endsWithUs(cmd, syscall.SIGKILL)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("start a server: %w", err)
	}
	if err := s.cores.Start(cmd); err != nil {
		return fmt.Errorf("start a server: %w", err)
	}
	s.cmd = cmd
	return s.listening(ctx, out)
}

// listening waits until the server says where it listens.
func (s *childServer) listening(ctx context.Context, out io.Reader) error {
	said := make(chan error, 1)
	var at started
	go func() { // ends with the process, at the latest
		line, err := bufio.NewReader(out).ReadBytes('\n')
		if err == nil {
			err = json.Unmarshal(line, &at)
		}
		said <- err
	}()
	late := time.NewTimer(startWithin)
	defer late.Stop()
	select {
	case err := <-said:
		if err != nil {
			return fmt.Errorf("the server did not start: %w", err)
		}
		s.key, s.monitor = at.ServerKey, at.Monitor
		if len(at.ListenPlain) > 0 {
			s.plain, err = netip.ParseAddrPort(at.ListenPlain[0])
		}
		addr, err2 := netip.ParseAddrPort(at.Listen[0])
		s.addr = addr
		return errors.Join(err, err2)
	case <-late.C:
		return fmt.Errorf("the server did not start within %v", startWithin)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// kill kills the server as a crash does, and starts it again.
func (s *childServer) kill(ctx context.Context) error {
	if err := s.end(syscall.SIGKILL); err != nil {
		return err
	}
	return s.start(ctx)
}

// stop ends the server for good.
func (s *childServer) stop() error { return s.end(syscall.SIGKILL) }

// end ends the process with a signal. It is an error if it has ended before.
func (s *childServer) end(signal os.Signal) error {
	cmd := s.cmd
	if cmd == nil {
		return nil
	}
	s.cmd = nil
	if err := endProcess(cmd, signal, cmd.Wait); err != nil {
		return fmt.Errorf("the server %w", err)
	}
	return nil
}

// signal sends the process a signal that does not end it.
func (s *childServer) signal(signal os.Signal) error { return s.cmd.Process.Signal(signal) }

// endWithin is how long a process may take to end that was told to.
const endWithin = 30 * time.Second

// endProcess ends a process with a signal and calls wait for its end. It is an error
// if the process has ended before, or does so otherwise than it was told to.
func endProcess(cmd *exec.Cmd, signal os.Signal, wait func() error) error {
	if err := cmd.Process.Signal(signal); err != nil {
		return errors.Join(fmt.Errorf("has ended by itself: %w", err), wait())
	}
	late := time.AfterFunc(endWithin, func() { cmd.Process.Kill() })
	err := wait()
	if !late.Stop() {
		return fmt.Errorf("did not end within %v: %w", endWithin, err)
	}
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return err
	}
	if status, ok := exit.Sys().(syscall.WaitStatus); !ok || status.Signal() != signal {
		return fmt.Errorf("has ended by itself: %w", exit)
	}
	return nil
}

// lastWords returns the end of what the server has said.
func (s *childServer) lastWords() string {
	const most = 4 << 10
	said, err := os.ReadFile(s.log)
	if err != nil || len(said) == 0 {
		return "the server has said nothing"
	}
	return fmt.Sprintf("the server's last words:\n%s", said[max(0, len(said)-most):])
}
