package auth

import (
	"crypto/ecdh"
	"crypto/ed25519"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// A ring is the signing keys of a folder.
type ring struct {
	t    *testing.T
	path string
	v    *Verifier
	w    *Watched[[]Key]
}

func newRing(t *testing.T) *ring {
	t.Helper()
	r := &ring{t: t, path: filepath.Join(t.TempDir(), "token.key")}
	if _, err := LoadOrCreateKey(r.path); err != nil {
		t.Fatal(err)
	}
	w, err := WatchKeys(r.path)
	if err != nil {
		t.Fatal(err)
	}
	r.w, r.v = w, NewVerifierOf(w.Get)
	return r
}

// token returns one signed with the current key.
func (r *ring) token() string {
	r.t.Helper()
	key, err := LoadKey(r.path)
	if err != nil {
		r.t.Fatal(err)
	}
	token, err := Sign(key, Identity{User: "alice", Device: "phone", Expires: now.Add(time.Hour)})
	if err != nil {
		r.t.Fatal(err)
	}
	return token
}

// want checks whether a token is accepted once the files were read.
func (r *ring) want(reason, token string, want error) {
	r.t.Helper()
	if _, err := r.w.read(); err != nil {
		r.t.Errorf("%s: %v", reason, err)
	}
	if _, err := r.v.Verify(token, now); !errors.Is(err, want) {
		r.t.Errorf("%s: %v, want %v", reason, err, want)
	}
}

// do checks what a change of the keys says, and that there is a current key that
// others cannot read.
func (r *ring) do(change func(string) error, want error) {
	r.t.Helper()
	if err := change(r.path); !errors.Is(err, want) {
		r.t.Errorf("%v, want %v", err, want)
	}
	if info, err := os.Stat(r.path); err != nil || info.Mode().Perm() != 0o600 {
		r.t.Errorf("the current key: %v, %v, want mode 0600", info, err)
	}
}

func TestTokensOfTheOldKeyAreAcceptedUntilItIsRetired(t *testing.T) {
	r := newRing(t)
	first := r.token()
	r.do(RetireKey, ErrNoOldKey)
	r.do(RotateKey, nil)
	second := r.token()
	r.want("the old key's", first, nil)
	r.want("the new key's", second, nil)
	r.do(RotateKey, ErrOldKey)
	r.want("a rotation was refused", first, nil)
	r.do(RetireKey, nil)
	r.want("the old key is retired", first, ErrBadToken)
	r.want("the new one is not", second, nil)
	r.do(RotateKey, nil)
	r.want("retired for good", first, ErrBadToken)
	r.want("old now", second, nil)
	if files, err := filepath.Glob(filepath.Join(filepath.Dir(r.path), ".*")); err != nil || len(files) > 0 {
		t.Errorf("left behind: %v, %v", files, err)
	}
}

func TestRotationThatWasCutOffGoesOn(t *testing.T) {
	r := newRing(t)
	first := r.token()
	if err := keep(r.path); err != nil { // and then the machine stopped
		t.Fatal(err)
	}
	r.want("one key by two names", first, nil)
	r.do(RotateKey, nil)
	r.want("the old key's", first, nil)
	r.want("the new key's", r.token(), nil)
	r.do(RotateKey, ErrOldKey)
}

func TestCutOffRotationCanBeRetired(t *testing.T) {
	r := newRing(t)
	if err := keep(r.path); err != nil {
		t.Fatal(err)
	}
	r.do(RetireKey, nil)
	r.want("the current key has lost its second name only", r.token(), nil)
}

func TestRotationsAtOnceMakeOneKey(t *testing.T) {
	r := newRing(t)
	first := r.token()
	done := make(chan error)
	for range 8 {
		go func() { done <- RotateKey(r.path) }()
	}
	good := 0
	for range 8 {
		switch err := <-done; {
		case err == nil:
			good++
		case !errors.Is(err, ErrOldKey):
			t.Error(err)
		}
	}
	if good != 1 {
		t.Errorf("%d rotations, want one", good)
	}
	r.want("the old key's", first, nil)
	r.want("the new key's", r.token(), nil)
}

func TestServerKeysAreReadTheCurrentOneFirst(t *testing.T) {
	path := filepath.Join(t.TempDir(), "server.key")
	if err := RotateServerKey(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no key: %v", err)
	}
	first, err := LoadOrCreateServerKey(path)
	if err != nil {
		t.Fatal(err)
	}
	w, err := WatchServerKeys(path, func(k *ecdh.PrivateKey) *ecdh.PrivateKey { return k })
	if err != nil {
		t.Fatal(err)
	}
	if err := RotateServerKey(path); err != nil {
		t.Fatal(err)
	}
	second, err := LoadServerKey(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.read(); err != nil {
		t.Fatal(err)
	}
	if got := w.Get(); len(got) != 2 || !got[0].Equal(second) || !got[1].Equal(first) {
		t.Errorf("%d keys, want the new one and the old one", len(got))
	}
	os.Remove(path)
	if _, err := w.read(); err == nil || len(w.Get()) != 2 {
		t.Errorf("a lost key: %v, %d keys, want an error and what was there before", err, len(w.Get()))
	}
	if _, err := WatchServerKeys(path, func(*ecdh.PrivateKey) int { return 0 }); err == nil {
		t.Error("no key is no error")
	}
}

func TestWrongKindOfOldKeyIsAnError(t *testing.T) {
	r := newRing(t)
	if _, err := LoadOrCreateServerKey(OldPath(r.path)); err != nil {
		t.Fatal(err)
	}
	if _, err := WatchKeys(r.path); err == nil {
		t.Errorf("an X25519 key was taken for an %T", ed25519.PrivateKey{})
	}
}
