package main

import (
	"context"
	"crypto/ed25519"
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
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"timberline/bus/local"
	"timberline/cmd/node"
	"timberline/edge"
	"timberline/edge/auth"
	"timberline/store/pebble"
	"timberline/wire"
	"timberline/wire/udp"
)

var serveCommand = &command{
	name:    "serve",
	summary: "run a server: edge, projector and push in one process",
	about: `
Everything it stores is in one data folder, with the key that signs tokens. It
listens on the loopback unless told otherwise. SIGINT and SIGTERM stop it cleanly;
nothing that was acknowledged is lost however it ends.`,
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
func storePath(data string) string   { return filepath.Join(data, "store") }
func keyPath(data string) string     { return filepath.Join(data, "token.key") }
func adminPath(data string) string   { return filepath.Join(data, "admin.sock") }
func devicesPath(data string) string { return filepath.Join(data, "devices") }

func serve(ctx context.Context, c *call, cfg *config, asJSON bool) (err error) {
	logger := slog.New(slog.NewTextHandler(c.stderr, nil))
	if err := os.MkdirAll(cfg.data, 0o700); err != nil {
		return folderError(cfg.data, err)
	}
	store, err := openStore(c, cfg, logger)
	if err != nil {
		return err
	}
	defer func() {
		if err = errors.Join(err, store.Close()); errors.Is(err, syscall.ENOSPC) {
			err = folderError(cfg.data, err)
		}
	}()
	key, err := auth.LoadOrCreateKey(keyPath(cfg.data))
	if err != nil {
		return folderError(cfg.data, err)
	}
	conns, err := listen(cfg)
	if err != nil {
		return err
	}
	admin, err := listenAdmin(cfg.data)
	if err != nil {
		for _, conn := range conns {
			conn.Close()
		}
		return err
	}
	sockets := make([]edge.Socket, len(conns))
	for i, conn := range conns {
		sockets[i] = edge.Socket{PacketConn: conn, Plain: true}
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return serveAdmin(ctx, admin, store, logger) })
	g.Go(func() error {
		return node.Run(ctx, node.Config{
			Engine: store, Meta: store.Meta(), Sole: true, Bus: new(local.Bus),
			Edge: edge.Config{
				Sockets: sockets, Tag: store.Tag(), Verify: auth.NewVerifier(key.Public().(ed25519.PublicKey)).Verify,
				Address: cfg.advertise, Heartbeat: cfg.heartbeat, MaxBody: cfg.maxBody, MaxSessions: cfg.maxSessions,
			},
			Started: func() { announce(c.stdout, cfg, store, conns, asJSON) },
			Now:     time.Now, Random: rand.Reader, Logger: logger,
		})
	})
	return g.Wait()
}

func openStore(c *call, cfg *config, logger *slog.Logger) (*pebble.Store, error) {
	store, err := pebble.Open(storePath(cfg.data), pebble.Options{Shards: uint32(cfg.shards), Logger: logger})
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
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("data folder %s: the disk is full, nothing acknowledged is lost: make room and start again (%w)", data, err)
	}
	return fmt.Errorf("data folder %s: %w", data, err)
}

// listen opens the sockets.
func listen(cfg *config) (conns []wire.PacketConn, err error) {
	for _, address := range cfg.addresses() {
		conn, err := udp.Listen(address)
		if err == nil {
			conns = append(conns, conn)
			err = cfg.allow(conn.LocalAddr())
		} else {
			err = fmt.Errorf("--listen: %w", err)
		}
		if err != nil {
			for _, conn := range conns {
				conn.Close()
			}
			return nil, err
		}
	}
	return conns, nil
}

// allow refuses plain sockets that strangers can reach (R9).
func (c *config) allow(a netip.AddrPort) error {
	if a.Addr().Unmap().IsLoopback() || c.plainAnywhere {
		return nil
	}
	return wrong("listen", "has %v, which is not on the loopback: nothing is encrypted yet, so whoever is on the way can read and forge everything; if you want that, say so with --plain-anywhere", a)
}

// started is what a program may want to know of a server.
type started struct {
	Listen []string `json:"listen"`
	Data   string   `json:"data"`
	Store  string   `json:"store"`
	PID    int      `json:"pid"`
}

// announce says where the server is and how to talk to it.
func announce(w io.Writer, cfg *config, store *pebble.Store, conns []wire.PacketConn, asJSON bool) {
	s := started{Data: cfg.data, Store: store.Meta().Store.String(), PID: os.Getpid()}
	for _, conn := range conns {
		s.Listen = append(s.Listen, conn.LocalAddr().String())
	}
	if asJSON {
		(&call{stdout: w}).printJSON(s) // if nobody reads it, the server serves all the same
		return
	}
	fmt.Fprintf(w, `Timberline %s listens on %s (plain: nothing is encrypted)
data: %s, store %s

To chat, paste these into two more terminals:
  %s
  %s

Ctrl-C stops it.
`, currentVersion().Version, strings.Join(s.Listen, ", "), s.Data, s.Store,
		chatLine(cfg, s.Listen[0], "alice", "bob"), chatLine(cfg, s.Listen[0], "bob", "alice"))
}

// chatLine returns a command for one user to chat with another.
func chatLine(cfg *config, address, as, to string) string {
	line := fmt.Sprintf("%s chat --as %s --to %s", program(), as, to)
	if cfg.advertise != "" {
		address = cfg.advertise
	}
	if address != defaultServer {
		line += " --server " + quoted(address)
	}
	if cfg.data != defaultData {
		line += " --data " + quoted(cfg.data)
	}
	return line
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
