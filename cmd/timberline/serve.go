package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"timberline/cmd/node"
	"timberline/edge"
	"timberline/edge/auth"
	"timberline/events"
	"timberline/projections/relay"
	"timberline/wire/udp"
)

var serveCommand = &command{
	name:    "serve",
	summary: "run a server: edge, projector and push in one process",
	about: `
Everything it stores is in one data folder, with its keys. It takes tokens that it
signed itself, and those of the keys in the --token files. All these files, and the
list of revocations, are read again when they change. It listens on the loopback
unless told otherwise. SIGINT and SIGTERM stop it cleanly; nothing that was
acknowledged is lost however it ends.`,
	example: "timberline serve --data ./timberline-data --listen '127.0.0.1:4747,[::1]:4747'",
	run: func(ctx context.Context, c *call) error {
		cfg := config{roles: allRoles}
		cfg.define(c.flags)
		print := c.flags.Bool("print-config", false, "print the configuration, in the form that --config reads, and end")
		asJSON := c.flags.Bool("json", false, "say where it listens as one line of JSON")
		if err := c.parse(0); err != nil {
			return err
		}
		if err := cfg.check(); err != nil {
			return err
		}
		if *print {
			printConfig(c.stdout, c.flags)
			return nil
		}
		return serve(ctx, c, &cfg, asJSON)
	},
}

// The files in a data folder.
func storePath(data string) string     { return filepath.Join(data, "store") }
func keyPath(data string) string       { return filepath.Join(data, "token.key") }
func serverKeyPath(data string) string { return filepath.Join(data, "server.key") }
func secretPath(data string) string    { return filepath.Join(data, "edge.secret") }
func revokedPath(data string) string   { return filepath.Join(data, "revoked") }
func adminPath(data string) string     { return filepath.Join(data, "admin.sock") }
func devicesPath(data string) string   { return filepath.Join(data, "devices") }

// serve runs the roles of a process until ctx ends. Who looks at its monitor gets an answer
// from before the store is opened until all is over.
func serve(ctx context.Context, c *call, cfg *config, asJSON *bool) error {
	signal.Ignore(syscall.SIGPIPE) // whoever reads what it says may end before it does
	logger := slog.New(slog.NewTextHandler(c.stderr, nil))
	watch, err := newMonitor(cfg.monitor)
	if err != nil {
		return err
	}
	defer watch.close()
	asked := ctx // ends when somebody asks the process to stop
	g, ctx := errgroup.WithContext(ctx)
	defer context.AfterFunc(ctx, watch.stops)()
	watched, leave := context.WithCancel(context.WithoutCancel(ctx)) // as long as the roles
	g.Go(func() error {
		select {
		case <-asked.Done():
			logger.Info("stops: ends what is under way")
		case <-watched.Done():
		}
		return nil
	})
	g.Go(func() error { return watch.run(watched, logger) })
	g.Go(func() error {
		defer leave()
		return serveRoles(ctx, c, cfg, watch, logger, *asJSON)
	})
	if err := g.Wait(); err != nil {
		return err
	}
	logger.Info("has stopped")
	return nil
}

// serveRoles runs the roles of a process until ctx ends.
func serveRoles(ctx context.Context, c *call, cfg *config, watch *monitor, logger *slog.Logger, asJSON bool) (err error) {
	hadKeys := cfg.hasKeys()
	var front *front
	if cfg.edge {
		if front, err = openFront(cfg); err != nil {
			return err
		}
	}
	back, err := cfg.storage.open(ctx, c, cfg.data, logger, watch.registry)
	if err != nil {
		if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
			return nil // stopped before it served
		}
		return err
	}
	defer func() { err = back.advise(errors.Join(err, back.close())) }()
	if back.isNew && hadKeys {
		logger.Warn("the store is new, but there were keys: if it should be one that there was, stop, and see whether its disk is mounted; clients take this one for the beginning", "data", cfg.data, "store", back.meta.Store)
	}
	if err := back.clock(); err != nil {
		return err
	}
	owner := rand.Text()
	line, err := cfg.openBus(back.meta, owner, logger, watch.registry)
	if err != nil {
		return err
	}
	nc := node.Config{
		Engine: back, Meta: back.meta, Sole: back.leases == nil, Shared: back.leases != nil,
		Bus: line, Leases: back.leases, Owner: owner, Projector: cfg.projector,
		Now: time.Now, Random: rand.Reader, Logger: logger, Metrics: watch.registry,
	}
	if cfg.projector {
		nc.Retention = cfg.retention.of(back)
	}
	switch {
	case back.stream == nil || line.publisher == nil:
		nc.Publish = line.PublishPushes
	case cfg.relay:
		nc.Relay = &relay.Config{Stream: back.stream, Publisher: line.publisher}
	}
	if front != nil {
		if err := front.listen(cfg, back.tag); err != nil {
			return err
		}
		nc.Edge = front.edge
	}
	nc.Started = func(p *node.Process) {
		watch.started(p.Alive)
		if front != nil {
			front.process.Store(p)
		}
		announce(c, cfg, back, nc.Edge, watch.address(), asJSON)
	}
	g, ctx := errgroup.WithContext(ctx)
	connected, hangUp := context.WithCancel(context.WithoutCancel(ctx)) // as long as the roles
	g.Go(func() error { return line.run(connected) })
	g.Go(func() error { return back.watchClock(ctx) })
	if front != nil {
		g.Go(func() error { return front.run(ctx, cfg.data, back.wholeStore, logger) })
	}
	g.Go(func() error {
		defer hangUp()
		return node.Run(ctx, nc)
	})
	return g.Wait()
}

// hasKeys reports whether there are keys before a server makes them.
func (c *config) hasKeys() bool {
	folder := cmp.Or(c.keys, c.data)
	return exists(serverKeyPath(folder)) || exists(keyPath(folder)) || exists(secretPath(c.data))
}

// A front is what an edge has besides the store: keys, sockets, and the socket by which
// other commands reach it.
type front struct {
	keys  *keyring
	edge  *edge.Config
	admin net.Listener
	// process is asked by other commands, once it serves.
	process atomic.Pointer[node.Process]
}

// openFront makes the folders and reads the keys in them.
func openFront(cfg *config) (*front, error) {
	for _, folder := range []string{cfg.data, cmp.Or(cfg.keys, cfg.data)} {
		if err := os.MkdirAll(folder, 0o700); err != nil {
			return nil, folderError(folder, err)
		}
	}
	keys, err := openKeyring(cfg)
	return &front{keys: keys}, err
}

// listen opens the sockets.
func (f *front) listen(cfg *config, tag events.EdgeTag) error {
	ec, err := edgeConfig(cfg, tag, f.keys)
	if err != nil {
		return folderError(cfg.data, err)
	}
	if ec.Sockets, err = listen(cfg); err != nil {
		return err
	}
	if f.admin, err = listenAdmin(cfg.data); err != nil {
		closeAll(ec.Sockets)
		return err
	}
	f.edge = &ec
	return nil
}

// run does what the edge itself does not, until ctx ends.
func (f *front) run(ctx context.Context, data string, store wholeStore, logger *slog.Logger) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return serveAdmin(ctx, f.admin, data, store, f.connected, f.keys, logger) })
	g.Go(func() error { return f.keys.run(ctx, logger) })
	return g.Wait()
}

// connected implements askConnected.
func (f *front) connected(ctx context.Context, u events.User, at events.Seq) ([]edge.Connected, error) {
	p := f.process.Load()
	if p == nil {
		return nil, nil
	}
	all, err := p.Connected(ctx, u, at)
	return append([]edge.Connected{}, all...), err
}

// edgeConfig returns how the edge serves, with the secret in the data folder. Where the
// store knows no tag of the edge the secret has one.
func edgeConfig(cfg *config, tag events.EdgeTag, keys *keyring) (edge.Config, error) {
	secret, err := auth.LoadOrCreateSecret(secretPath(cfg.data))
	if err != nil {
		return edge.Config{}, err
	}
	if tag == (events.EdgeTag{}) {
		sum := sha256.Sum256(append([]byte("edge tag"), secret[:]...))
		tag = events.EdgeTag(sum[:len(tag)])
	}
	return edge.Config{
		Tag: tag, Verify: auth.NewVerifierOf(keys.tokenKeys).Verify,
		Keys: keys.server.Get, Secret: secret, Revocations: keys.revoked,
		Address: cfg.advertise, Handover: cfg.handover, Heartbeat: cfg.heartbeat, MaxHeartbeat: cfg.maxHeartbeat, MaxBody: cfg.maxBody,
		MaxSessions: cfg.maxSessions, UserSessions: cfg.userSessions, HalfOpen: cfg.halfOpen,
		SessionRate: cfg.sessionRate, SourceRate: cfg.sourceRate,
	}, nil
}

// folderError says what to do about an error of the data folder.
func folderError(data string, err error) error {
	switch {
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return fmt.Errorf("data folder %s: give this user the right to write there, or choose another with --data (%w)", data, err)
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT), errors.Is(err, syscall.EFBIG):
		return fmt.Errorf("data folder %s: the disk is full, nothing acknowledged is lost: make room and start again (%w)", data, err)
	case errors.Is(err, events.ErrFormat):
		return fmt.Errorf("data folder %s: %w: use the version of timberline that wrote it, or a newer one", data, err)
	case errors.Is(err, events.ErrCorrupt):
		return fmt.Errorf("data folder %s: %w: check the disk, and restore the folder from a copy", data, err)
	}
	return fmt.Errorf("data folder %s: %w", data, err)
}

// listen opens the sockets, the sealed ones first, several on each address: each
// has a reader of its own.
func listen(cfg *config) (sockets []edge.Socket, err error) {
	open := func(flag, address string, n int, plain bool) error {
		group, err := udp.ListenGroup(address, n)
		if err != nil {
			return fmt.Errorf("--%s: %w", flag, err)
		}
		for _, conn := range group {
			sockets = append(sockets, edge.Socket{PacketConn: conn, Backlog: conn.Backlog, Plain: plain})
		}
		if plain {
			return cfg.allowPlain(group[0].LocalAddr())
		}
		return nil
	}
	for _, address := range addresses(cfg.listen) {
		err = errors.Join(err, open("listen", address, cmp.Or(cfg.sockets, runtime.GOMAXPROCS(0)), false))
	}
	for _, address := range addresses(cfg.listenPlain) {
		err = errors.Join(err, open("listen-plain", address, 1, true))
	}
	if err != nil {
		closeAll(sockets)
		return nil, err
	}
	return sockets, nil
}

func closeAll(sockets []edge.Socket) {
	for _, socket := range sockets {
		socket.Close()
	}
}

// allowPlain refuses plain sockets that strangers can reach (R9).
func (c *config) allowPlain(a netip.AddrPort) error {
	if a.Addr().Unmap().IsLoopback() || c.plainAnywhere {
		return nil
	}
	return wrong("listen-plain", "has %v, which is not on the loopback: nothing is encrypted there, so whoever is on the way can read and forge everything; if you want that, say so with --plain-anywhere", a)
}

// started is what a program may want to know of a process.
type started struct {
	Listen      []string `json:"listen,omitempty"`
	ListenPlain []string `json:"listen_plain,omitempty"`
	ServerKey   string   `json:"server_key,omitempty"`
	Monitor     string   `json:"monitor,omitempty"`
	Data        string   `json:"data,omitempty"`
	Store       string   `json:"store"`
	NewStore    bool     `json:"new_store,omitempty"` // it was made now, and is empty
	PID         int      `json:"pid"`
}

// announce says that a process runs, where, and how to talk to it. If nobody reads
// that, it runs all the same.
func announce(c *call, cfg *config, back *backend, ec *edge.Config, monitor string, asJSON bool) {
	s := started{Monitor: monitor, Data: cfg.data, Store: back.meta.Store.String(), NewStore: back.isNew, PID: os.Getpid()}
	if ec != nil {
		s.listens(ec)
	}
	if asJSON {
		c.printJSON(s)
		return
	}
	w := c.stdout
	fmt.Fprintf(w, "Timberline %s, %s\n", currentVersion().Version, c.cmd.name)
	if len(s.Listen) > 0 {
		fmt.Fprintf(w, "listens on %s, server key %s\n", strings.Join(s.Listen, ", "), s.ServerKey)
	}
	if len(s.ListenPlain) > 0 {
		fmt.Fprintf(w, "listens on %s in plain mode: nothing is encrypted there\n", strings.Join(s.ListenPlain, ", "))
	}
	if monitor != "" {
		fmt.Fprintf(w, "monitor: http://%s/metrics, /healthz, /readyz, /debug/pprof/\n", monitor)
	}
	fmt.Fprintf(w, "%sstore %s%s\n", where(cfg), s.Store, map[bool]string{true: ", made now and empty"}[s.NewStore])
	if ec != nil {
		fmt.Fprintf(w, "\nTo chat, paste these into two more terminals:\n  %s\n  %s\n", chatLine(cfg, &s, "alice", "bob"), chatLine(cfg, &s, "bob", "alice"))
	}
	fmt.Fprint(w, "\nCtrl-C stops it.\n")
}

// where says where a process keeps what it has for itself.
func where(cfg *config) string {
	if cfg.data == "" {
		return ""
	}
	return "data: " + cfg.data + ", "
}

// listens notes where an edge does.
func (s *started) listens(ec *edge.Config) {
	s.ServerKey = ec.Keys()[0].Public.String()
	for _, socket := range ec.Sockets {
		if at := socket.LocalAddr().String(); socket.Plain {
			s.ListenPlain = append(s.ListenPlain, at)
		} else if !slices.Contains(s.Listen, at) { // by several sockets
			s.Listen = append(s.Listen, at)
		}
	}
}

// chatLine returns a command for one user to chat with another.
func chatLine(cfg *config, s *started, as, to string) string {
	line := fmt.Sprintf("%s chat --as %s --to %s", program(), as, to)
	plain := len(s.Listen) == 0
	address := append(s.Listen, s.ListenPlain...)[0]
	if cfg.advertise != "" {
		address = cfg.advertise
	}
	if address != defaultServer {
		line += " --server " + quoted(address)
	}
	if plain {
		line += " --plain"
	}
	return line + dataFlag(cmp.Or(cfg.keys, cfg.data))
}

// dataFlag returns the flag that names a data folder, where it is needed.
func dataFlag(data string) string {
	if data == defaultData {
		return ""
	}
	return " --data " + quoted(data)
}

// program returns what to type to run this program again.
func program() string {
	if exe, err := os.Executable(); err == nil && builtByRun(exe) {
		return "go run ./cmd/timberline"
	}
	return quoted(os.Args[0])
}

// builtByRun reports whether a program was made by go run: in a temporary folder,
// or in the build cache.
func builtByRun(exe string) bool {
	return strings.Contains(exe, string(filepath.Separator)+"go-build") ||
		regexp.MustCompile(`^[0-9a-f]{64}-d$`).MatchString(filepath.Base(filepath.Dir(exe)))
}

// quoted returns a word as a shell takes it.
func quoted(s string) string {
	if !strings.ContainsAny(s, " \t\n'\"\\$`*?[]{}()<>|&;#~!") {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
