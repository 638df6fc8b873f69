package servers

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"
)

// How long a server may take.
const (
	startTime = 90 * time.Second
	stopTime  = 30 * time.Second
	startTry  = 50 * time.Millisecond // between two looks whether it answers
	maxStarts = 3                     // somebody may take its port before it does
)

// A Server is one that was started here, one that was named by the environment, or a
// way to either. It is safe for concurrent use. One that was named is there for its
// URL: all else fails or panics.
type Server struct {
	url     string
	program program
	folder  string
	ours    bool // folder ends with the server
	forward *forwarder

	mu      sync.Mutex
	running *running // nil: it is stopped
	closed  bool
}

// A program is a kind of server.
type program struct {
	name   string
	url    func(addr string) string
	answer func(net.Conn) error // whether it serves
	launch func(folder string) (*running, error)
	folder bool // it needs one
}

// A running is a server that was launched.
type running struct {
	main    *process
	aside   []*process // end with it
	network *network   // nil: that of everybody
	dial    func() (net.Conn, error)
}

// missing says that a program is not there, and what to do.
func missing(what string) error {
	return fmt.Errorf(`%s is missing: "make servers" installs it, or says what to do`, what)
}

func start(p program, folder string) (s *Server, err error) {
	s = &Server{program: p, folder: folder}
	if p.folder && folder == "" {
		s.ours = true
		if s.folder, err = os.MkdirTemp("", "timberline-server-"); err != nil {
			return nil, err
		}
	}
	if s.forward, err = newForwarder(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	s.url = p.url(s.Addr())
	if err := s.Start(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// URL names the server for its clients; it stays the same over restarts.
func (s *Server) URL() string { return s.url }

// Addr returns host and port of a server that was started here.
func (s *Server) Addr() string { return s.owned().addr() }

// owned returns the forwarder of a server that was started here.
func (s *Server) owned() *forwarder {
	if s.forward == nil {
		panic("servers: " + s.url + " was named by the environment, and is not ours to touch: start one")
	}
	return s.forward
}

// Start starts the server again after Stop or Kill, with what it had. It returns when
// the server answers.
func (s *Server) Start() (err error) {
	s.owned()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.running != nil {
		return errors.New("the server runs already, or is not to be started any more")
	}
	for range maxStarts {
		if s.running, err = s.launch(); err == nil {
			s.forward.to(s.running.dial)
			return nil
		}
	}
	return fmt.Errorf("start %s: %w", s.program.name, err)
}

// launch starts the server once and waits until it answers.
func (s *Server) launch() (*running, error) {
	r, err := s.program.launch(s.folder)
	if err != nil {
		return nil, err
	}
	err = errors.New("no answer")
	for end := time.Now().Add(startTime); time.Now().Before(end) && !r.main.ended(); time.Sleep(startTry) {
		if err = s.ask(r); err == nil {
			return r, nil
		}
	}
	r.main.kill()
	r.clean()
	return nil, fmt.Errorf("%w; it said last:\n%s", err, r.main.said)
}

// ask looks whether the server answers.
func (s *Server) ask(r *running) error {
	conn, err := r.dial()
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(5 * time.Second))
	return s.program.answer(conn)
}

// clean ends what belongs to a server that has ended.
func (r *running) clean() {
	for _, p := range r.aside {
		p.kill()
	}
	if r.network != nil {
		r.network.close()
	}
}

// Stop ends the server in order (SIGTERM). It does nothing if the server is stopped.
func (s *Server) Stop() error { return s.end((*process).stop) }

// Kill ends the server at once (SIGKILL).
func (s *Server) Kill() error {
	return s.end(func(p *process) error { p.kill(); return nil })
}

func (s *Server) end(how func(*process) error) error {
	s.owned()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running == nil {
		return nil
	}
	s.forward.to(nil)
	err := how(s.running.main)
	s.running.clean()
	s.running = nil
	if err != nil {
		return fmt.Errorf("stop %s: %w", s.program.name, err)
	}
	return nil
}

// Away cuts all connections and refuses new ones until Back.
func (s *Server) Away() { s.owned().set(refusing) }

// Hang lets all connections stand, new ones too, and passes nothing on until Back.
func (s *Server) Hang() { s.owned().set(hanging) }

// Back ends Away and Hang. What hung passes now.
func (s *Server) Back() { s.owned().set(passing) }

// Cut ends all connections; new ones are served.
func (s *Server) Cut() {
	f := s.owned()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cut()
}

// Close stops the server for good.
func (s *Server) Close() (err error) {
	if s.forward != nil {
		err = s.Stop()
		s.forward.close()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if s.ours {
		err = errors.Join(err, os.RemoveAll(s.folder))
	}
	return err
}
