package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"timberline/store/remote"
)

// While a server runs, its store is open in that process and nowhere else. So
// commands that read the store ask the server, by a socket in the data folder
// that only the folder's owner can use.
//
//	GET /revocations                            the path of the list of revocations
//	POST /reload?what=server|token|revocations  read again what a command has changed
//	POST /collect                               give memory that is not used back to the system
//	POST /store/METHOD                          what a projection of one's own needs of the store: see store/remote
//	POST /log, /trace, /verify, /rebuild, /trim, /backup   a work, as JSON; reports, a line of JSON each

// maxSocketPath is the longest path of a Unix socket, in bytes.
const maxSocketPath = 107

// listenAdmin opens the socket. One that is there already was left behind, unless somebody
// answers: an edge on the same folder, which no lock of a store in it keeps out.
func listenAdmin(data string) (net.Listener, error) {
	path := adminPath(data)
	if n := len(path); n > maxSocketPath {
		return nil, wrong("data", "is %s: %s has %d bytes, but a socket's path has at most %d: choose a shorter path", data, path, n, maxSocketPath)
	}
	if conn, err := net.Dial("unix", path); err == nil {
		conn.Close()
		return nil, fmt.Errorf("data folder %s is in use by another process: stop that one first, or choose another folder with --data", data)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, folderError(data, err)
	}
	// At no moment others can use it, not even between bind and chmod. What the
	// process makes meanwhile is for its owner only, too.
	before := syscall.Umask(0o077)
	l, err := net.Listen("unix", path)
	syscall.Umask(before)
	if err != nil {
		return nil, folderError(data, err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, folderError(data, errors.Join(err, l.Close()))
	}
	return l, nil
}

// serveAdmin answers other commands until ctx ends.
func serveAdmin(ctx context.Context, l net.Listener, data string, store wholeStore, connected askConnected, keys *keyring, logger *slog.Logger) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /revocations", keys.tellList)
	mux.HandleFunc("POST /reload", keys.reload)
	mux.HandleFunc("POST /collect", func(http.ResponseWriter, *http.Request) { debug.FreeOSMemory() })
	mux.HandleFunc("POST /log", serveWork[logWork](store, data))
	mux.HandleFunc("POST /trace", serveWork[traceWork](servedStore{store, connected}, data))
	mux.HandleFunc("POST /verify", serveWork[verifyWork](store, data))
	mux.HandleFunc("POST /rebuild", serveWork[rebuildWork](store, data))
	mux.HandleFunc("POST /trim", serveWork[trimWork](store, data))
	mux.HandleFunc("POST /backup", serveWork[backupWork](store, data))
	mux.Handle("POST /store/", remote.Handler(store))
	return serveHTTP(ctx, l, mux, logger)
}

// serveHTTP answers requests until ctx ends. When it returns none is under way: what they
// work with may be closed.
func serveHTTP(ctx context.Context, l net.Listener, handler http.Handler, logger *slog.Logger) error {
	var busy sync.RWMutex // by each request; whoever has it alone lets none begin
	defer busy.Lock()
	server := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !busy.TryRLock() {
				http.Error(w, "the server stops", http.StatusServiceUnavailable)
				return
			}
			defer busy.RUnlock()
			handler.ServeHTTP(w, r)
		}),
		ReadHeaderTimeout: 10 * time.Second,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ErrorLog:          slog.NewLogLogger(logger.Handler(), slog.LevelWarn),
	}
	var g errgroup.Group
	g.Go(func() error {
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("%s: %w", l.Addr(), err)
		}
		return nil
	})
	g.Go(func() error {
		<-ctx.Done()
		patience, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		if server.Shutdown(patience) == nil {
			return nil
		}
		return server.Close()
	})
	return g.Wait()
}

// errorLine begins a line that tells of an error in the middle of an answer.
const errorLine = "error: "

// errNoServer says that no server runs on a data folder.
var errNoServer = errors.New("no server runs here")

// askAdmin asks the server that runs on a data folder. The error is errNoServer
// if there is none. The caller closes the answer.
func askAdmin(ctx context.Context, method, data, path string, q url.Values, body io.Reader) (io.ReadCloser, error) {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", adminPath(data))
	}
	client := http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}
	r, err := http.NewRequestWithContext(ctx, method, "http://admin"+path+"?"+q.Encode(), body)
	if err != nil {
		return nil, err
	}
	answer, err := client.Do(r)
	switch {
	case errors.Is(err, os.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return nil, errNoServer
	case errors.Is(err, syscall.ENOTDIR):
		return nil, wrong("data", "is %s, which is no folder: name a server's data folder", data)
	case err != nil:
		return nil, fmt.Errorf("the server of %s does not answer; if it has ended, run the command again: %w", data, err)
	case answer.StatusCode != http.StatusOK:
		defer answer.Body.Close()
		text, _ := io.ReadAll(io.LimitReader(answer.Body, 1<<10))
		return nil, fmt.Errorf("the server of %s answers %s: %s", data, answer.Status, text)
	}
	return answer.Body, nil
}

// tellServer makes the server that runs on a data folder read something again, so
// that it counts at once. It reports whether there is one.
func tellServer(ctx context.Context, data, what string) (bool, error) {
	answer, err := askAdmin(ctx, http.MethodPost, data, "/reload", url.Values{"what": {what}}, nil)
	switch {
	case errors.Is(err, errNoServer):
		return false, nil
	case err != nil:
		return false, err
	}
	return true, answer.Close()
}
