package main

import (
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

// executable returns the program that processes are started of: a seam of tests.
var executable = os.Executable

// A child is a process of this program that is started by this one, ended by a signal,
// and started again.
type child struct {
	name  string      // in errors
	log   string      // the file that gets what it says, in a folder that it takes for its home
	cores bench.Cores // that it has for itself

	cmd   *exec.Cmd  // nil: it does not run
	heard chan error // why there is nothing more to hear of the process
}

// launch starts the process. What it prints is heard to its end; in is its input.
func (c *child) launch(hear func(out io.Reader) error, args ...string) (in io.Writer, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("start %s: %w", c.name, err)
		}
	}()
	exe, err := executable()
	if err != nil {
		return nil, err
	}
	log, err := os.OpenFile(c.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close() // the process has its own copy
	cmd := exec.Command(exe, args...)
	cmd.Env = append(awsSettings(), "HOME="+filepath.Dir(c.log)) // no other setting of somebody's own
	cmd.Stderr = log
	endsWithUs(cmd, syscall.SIGKILL)
	if in, err = cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := c.cores.Start(cmd); err != nil {
		return nil, err
	}
	heard := make(chan error, 1)
	c.cmd, c.heard = cmd, heard
	go func() { heard <- hear(out) }() // ends with the process
	return in, nil
}

// signal sends the process a signal that does not end it.
func (c *child) signal(signal os.Signal) error { return c.cmd.Process.Signal(signal) }

// end ends the process with a signal. It is an error if it has ended before, or what it
// printed was of no use.
func (c *child) end(signal os.Signal) error {
	cmd := c.cmd
	if cmd == nil {
		return nil
	}
	c.cmd = nil
	var told error
	err := endProcess(cmd, signal, func() error {
		told = <-c.heard
		return cmd.Wait()
	})
	if err != nil {
		err = fmt.Errorf("%s %w", c.name, err)
	}
	if told != nil {
		err = errors.Join(err, fmt.Errorf("%s: %w", c.name, told))
	}
	return err
}

// lastWords returns the end of what the processes have said.
func (c *child) lastWords() string {
	const most = 4 << 10
	said, err := os.ReadFile(c.log)
	if err != nil || len(said) == 0 {
		return c.name + " has said nothing"
	}
	return fmt.Sprintf("%s's last words:\n%s", c.name, said[max(0, len(said)-most):])
}

// A childServer is a server in a process of its own, or one role of a cluster.
type childServer struct {
	child
	role  string         // the command
	data  string         // empty: the role has no folder, and does not listen
	keys  string         // the folder of its keys
	flags []string       // besides those that say where
	addr  netip.AddrPort // the same for every start
	plain netip.AddrPort // of its plain socket, if flags ask for one
	key   string         // the public one, likewise

	monitor string // where it can be looked at
}

// startWithin is how long a server may take to start.
const startWithin = 30 * time.Second

// startChild starts a server on a port of its own.
func startChild(ctx context.Context, data string, cores bench.Cores, flags ...string) (*childServer, error) {
	s := &childServer{
		child: child{name: "the server", log: data + ".log", cores: cores},
		role:  "serve", data: data, keys: data, flags: flags,
	}
	return s, s.begin(ctx)
}

// begin starts the process for the first time.
func (s *childServer) begin(ctx context.Context) error {
	s.addr = netip.MustParseAddrPort("127.0.0.1:0")
	if err := s.start(ctx); err != nil {
		return errors.Join(fmt.Errorf("%w\n%s", err, s.lastWords()), s.stop())
	}
	return nil
}

// start starts the process and waits until it says where it listens.
func (s *childServer) start(ctx context.Context) error {
	said := make(chan error, 1)
	var at started
	hear := func(out io.Reader) error {
		said <- json.NewDecoder(out).Decode(&at)
		_, err := io.Copy(io.Discard, out)
		return err
	}
	args := append([]string{s.role, "--json"}, s.flags...)
	if s.data != "" {
		args = append(args, "--data", s.data, "--listen", s.addr.String())
	}
	if _, err := s.launch(hear, args...); err != nil {
		return err
	}
	late := time.NewTimer(startWithin)
	defer late.Stop()
	select {
	case err := <-said:
		if err != nil {
			return fmt.Errorf("%s did not start: %w", s.name, err)
		}
	case <-late.C:
		return fmt.Errorf("%s did not start within %v", s.name, startWithin)
	case <-ctx.Done():
		return ctx.Err()
	}
	s.key, s.monitor = at.ServerKey, at.Monitor
	if s.data == "" {
		return nil
	}
	var err error
	s.addr, err = netip.ParseAddrPort(at.Listen[0])
	if err == nil && len(at.ListenPlain) > 0 {
		s.plain, err = netip.ParseAddrPort(at.ListenPlain[0])
	}
	return err
}

// stop ends the server for good.
func (s *childServer) stop() error { return s.end(syscall.SIGKILL) }

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
