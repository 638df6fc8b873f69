package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"

	"golang.org/x/sync/errgroup"

	"timberline/edge/auth"
	"timberline/wire/sealed"
)

// A keyring is what a server reads again while it runs: its keys, those whose
// tokens it takes, and which tokens it takes no more.
type keyring struct {
	server  *auth.Watched[[]sealed.ServerKey]
	signing *auth.Watched[[]auth.Key]
	trusted []*auth.Watched[[]auth.Key]
	revoked *auth.Revocations
}

// A watched is something that is read again.
type watched interface {
	Run(ctx context.Context, logger *slog.Logger) error
	Reload(ctx context.Context) error
}

// openKeyring reads everything, and makes the keys of a new data folder.
func openKeyring(cfg *config) (*keyring, error) {
	k := new(keyring)
	folder := cmp.Or(cfg.keys, cfg.data)
	err := k.openOwn(folder)
	if err != nil {
		return nil, folderError(folder, err)
	}
	if k.trusted, err = cfg.trust.open(); err != nil {
		return nil, err
	}
	if k.revoked, err = auth.WatchRevocations(cfg.listPath(), cfg.revocations != ""); err != nil {
		return nil, wrong("revocations", "is of no use: %v", err)
	}
	return k, nil
}

// openOwn reads the server's own keys.
func (k *keyring) openOwn(folder string) error {
	_, err := auth.LoadOrCreateKey(keyPath(folder))
	_, err2 := auth.LoadOrCreateServerKey(serverKeyPath(folder))
	if err := errors.Join(err, err2); err != nil {
		return err
	}
	k.signing, err = auth.WatchKeys(keyPath(folder))
	k.server, err2 = auth.WatchServerKeys(serverKeyPath(folder), sealed.NewServerKey)
	return errors.Join(err, err2)
}

// open reads the keys of those whose tokens are taken. The error names the flag.
func (t *trust) open() (all []*auth.Watched[[]auth.Key], err error) {
	for _, file := range []struct {
		flag, path string
		watch      func(path string) (*auth.Watched[[]auth.Key], error)
	}{
		{"token-hs256", t.hs256, auth.WatchHS256}, {"token-rs256", t.rs256, auth.WatchRS256}, {"token-jwks", t.jwks, auth.WatchJWKS},
	} {
		if file.path == "" {
			continue
		}
		w, err := file.watch(file.path)
		if err != nil {
			return nil, wrong(file.flag, "is of no use: %v", err)
		}
		all = append(all, w)
	}
	return all, nil
}

// listPath returns where the list of revocations stands.
func (c *config) listPath() string {
	if c.revocations == "" {
		return revokedPath(c.data)
	}
	return c.revocations
}

// tokenKeys returns all keys that tokens may be signed with.
func (k *keyring) tokenKeys() []auth.Key {
	keys := k.signing.Get()
	for _, w := range k.trusted {
		keys = append(keys[:len(keys):len(keys)], w.Get()...)
	}
	return keys
}

// run reads again what changes, until ctx ends.
func (k *keyring) run(ctx context.Context, logger *slog.Logger) error {
	all := []watched{k.server, k.signing, k.revoked}
	for _, w := range k.trusted {
		all = append(all, w)
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, w := range all {
		g.Go(func() error { return w.Run(ctx, logger) })
	}
	return g.Wait()
}

// What a command can make a server read again.
const (
	serverKeys  = "server"
	tokenKeys   = "token"
	revocations = "revocations"
)

// reload is the admin socket's: a command has changed something.
func (k *keyring) reload(w http.ResponseWriter, r *http.Request) {
	what, known := map[string]watched{serverKeys: k.server, tokenKeys: k.signing, revocations: k.revoked}[r.URL.Query().Get("what")]
	if !known {
		http.Error(w, "nothing of that name is read again", http.StatusBadRequest)
		return
	}
	if err := what.Reload(r.Context()); err != nil {
		http.Error(w, err.Error(), http.StatusConflict)
	}
}

// tellList is the admin socket's: which list of revocations counts.
func (k *keyring) tellList(w http.ResponseWriter, _ *http.Request) {
	path, err := filepath.Abs(k.revoked.Path())
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	fmt.Fprint(w, path)
}
