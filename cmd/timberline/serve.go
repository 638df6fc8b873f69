package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"timberline/bus/local"
	"timberline/cmd/node"
	"timberline/edge"
	"timberline/edge/auth"
	"timberline/events"
	"timberline/store/pebble"
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
	example: "timberline serve --data ./timberline-data --listen 127.0.0.1:4747,[::1]:4747",
	run: func(ctx context.Context, c *call) error {
		var cfg config
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
		return serve(ctx, c, &cfg, *asJSON)
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

func serve(ctx context.Context, c *call, cfg *config, asJSON bool) (err error) {
	logger := slog.New(slog.NewTextHandler(c.stderr, nil))
	if err := os.MkdirAll(cfg.data, 0o700); err != nil {
		return folderError(cfg.data, err)
	}
	watch, err := newMonitor(cfg.monitor)
	if err != nil {
		return err
	}
	defer watch.close()
	store, err := openStore(c, cfg, logger, watch.registry)
	if err != nil {
		return err
	}
	defer func() {
		if err = errors.Join(err, store.Close()); errors.Is(err, syscall.ENOSPC) || events.Final(err) {
			err = folderError(cfg.data, err)
		}
	}()
	keys, err := openKeyring(cfg)
	if err != nil {
		return err
	}
	ec, err := edgeConfig(cfg, store, keys)
	if err != nil {
		return folderError(cfg.data, err)
	}
	if ec.Sockets, err = listen(cfg); err != nil {
		return err
	}
	admin, err := listenAdmin(cfg.data)
	if err != nil {
		closeAll(ec.Sockets)
		return err
	}
	b := new(local.Bus)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return watch.run(ctx, logger) })
	g.Go(func() error { return serveAdmin(ctx, admin, cfg.data, store, keys, logger) })
	g.Go(func() error { return keys.run(ctx, logger) })
	g.Go(func() error {
		return node.Run(ctx, node.Config{
			Engine: store, Meta: store.Meta(), Sole: true, Bus: b, Projector: true, Publish: b.PublishPushes,
			Edge: &ec,
			Started: func(alive func(context.Context) error) {
				watch.started(alive)
				announce(c.stdout, cfg, store, &ec, watch.address(), asJSON)
			},
			Now: time.Now, Random: rand.Reader, Logger: logger, Metrics: watch.registry,
		})
	})
	return g.Wait()
}

// edgeConfig returns how the edge serves, with the secret in the data folder.
func edgeConfig(cfg *config, store *pebble.Store, keys *keyring) (edge.Config, error) {
	secret, err := auth.LoadOrCreateSecret(secretPath(cfg.data))
	if err != nil {
		return edge.Config{}, err
	}
	return edge.Config{
		Tag: store.Tag(), Verify: auth.NewVerifierOf(keys.tokenKeys).Verify,
		Keys: keys.server.Get, Secret: secret, Revocations: keys.revoked,
		Address: cfg.advertise, Heartbeat: cfg.heartbeat, MaxHeartbeat: cfg.maxHeartbeat, MaxBody: cfg.maxBody,
		MaxSessions: cfg.maxSessions, UserSessions: cfg.userSessions, HalfOpen: cfg.halfOpen,
		SessionRate: cfg.sessionRate, SourceRate: cfg.sourceRate,
	}, nil
}

func openStore(c *call, cfg *config, logger *slog.Logger, metrics prometheus.Registerer) (*pebble.Store, error) {
	store, err := pebble.Open(storePath(cfg.data), pebble.Options{Shards: uint32(cfg.shards), Logger: logger, Metrics: metrics})
	if err != nil {
		return nil, err
	}
	if has := uint(store.Meta().Shards); c.given["shards"] && has != cfg.shards {
		return nil, errors.Join(wrong("shards", "is %d, but the store in %s was created with %d, which it keeps", cfg.shards, cfg.data, has), store.Close())
	}
	return store, nil
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

// started is what a program may want to know of a server.
type started struct {
	Listen      []string `json:"listen"`
	ListenPlain []string `json:"listen_plain,omitempty"`
	ServerKey   string   `json:"server_key"`
	Monitor     string   `json:"monitor,omitempty"`
	Data        string   `json:"data"`
	Store       string   `json:"store"`
	PID         int      `json:"pid"`
}

// announce says where the server is and how to talk to it.
func announce(w io.Writer, cfg *config, store *pebble.Store, ec *edge.Config, monitor string, asJSON bool) {
	s := started{Monitor: monitor, Data: cfg.data, Store: store.Meta().Store.String(), PID: os.Getpid(), ServerKey: ec.Keys()[0].Public.String()}
	for _, socket := range ec.Sockets {
		if at := socket.LocalAddr().String(); socket.Plain {
			s.ListenPlain = append(s.ListenPlain, at)
		} else if !slices.Contains(s.Listen, at) { // by several sockets
			s.Listen = append(s.Listen, at)
		}
	}
	if asJSON {
		(&call{stdout: w}).printJSON(s) // if nobody reads it, the server serves all the same
		return
	}
	fmt.Fprintf(w, "Timberline %s\n", currentVersion().Version)
	if len(s.Listen) > 0 {
		fmt.Fprintf(w, "listens on %s, server key %s\n", strings.Join(s.Listen, ", "), s.ServerKey)
	}
	if len(s.ListenPlain) > 0 {
		fmt.Fprintf(w, "listens on %s in plain mode: nothing is encrypted there\n", strings.Join(s.ListenPlain, ", "))
	}
	if monitor != "" {
		fmt.Fprintf(w, "monitor: http://%s/metrics, /healthz, /readyz, /debug/pprof/\n", monitor)
	}
	fmt.Fprintf(w, `data: %s, store %s

To chat, paste these into two more terminals:
  %s
  %s

Ctrl-C stops it.
`, s.Data, s.Store, chatLine(cfg, &s, "alice", "bob"), chatLine(cfg, &s, "bob", "alice"))
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
	return line + dataFlag(cfg.data)
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
