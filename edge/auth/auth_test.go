package auth

import (
	"crypto/ed25519"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

var now = time.Unix(1_800_000_000, 0)

func newKey(t testing.TB, seed byte) ed25519.PrivateKey {
	t.Helper()
	s := make([]byte, ed25519.SeedSize)
	s[0] = seed
	return ed25519.NewKeyFromSeed(s)
}

func verifier(key ed25519.PrivateKey) *Verifier { return NewVerifier(key.Public().(ed25519.PublicKey)) }

func TestSignedTokenSpeaksForItsDevice(t *testing.T) {
	key := newKey(t, 1)
	want := Identity{User: "alice", Device: "phone", Expires: now.Add(time.Hour)}
	token, err := Sign(key, want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := verifier(key).Verify(token, now)
	if err != nil || got.User != want.User || got.Device != want.Device || !got.Expires.Equal(want.Expires) {
		t.Errorf("Verify = %+v, %v, want %+v", got, err, want)
	}
	if _, err := verifier(key).Verify(token, now.Add(2*time.Hour)); !errors.Is(err, ErrExpired) {
		t.Errorf("an hour too late: %v, want ErrExpired", err)
	}
	if _, err := verifier(newKey(t, 2)).Verify(token, now); !errors.Is(err, ErrBadToken) {
		t.Errorf("another server's token: %v, want ErrBadToken", err)
	}
}

func TestNamesOfTheWrongFormAreNotSigned(t *testing.T) {
	for _, id := range []Identity{{User: "no spaces", Device: "d"}, {User: "alice"}, {Device: "d"}} {
		if _, err := Sign(newKey(t, 1), id); err == nil {
			t.Errorf("%+v was signed", id)
		}
	}
}

func TestForgedTokensAreRefused(t *testing.T) {
	key := newKey(t, 1)
	public := key.Public().(ed25519.PublicKey)
	good := jwt.MapClaims{"sub": "alice", "dev": "phone", "exp": now.Add(time.Hour).Unix()}
	with := func(name string, value any) jwt.MapClaims {
		c := jwt.MapClaims{name: value}
		for k, v := range good {
			if k != name {
				c[k] = v
			}
		}
		if value == nil {
			delete(c, name)
		}
		return c
	}
	sign := func(m jwt.SigningMethod, key any, c jwt.MapClaims) string {
		text, err := jwt.NewWithClaims(m, c).SignedString(key)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	for name, token := range map[string]string{
		"no signature at all":          sign(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, good),
		"the public key as HMAC's":     sign(jwt.SigningMethodHS256, []byte(public), good),
		"no expiry":                    sign(jwt.SigningMethodEdDSA, key, with("exp", nil)),
		"not valid yet":                sign(jwt.SigningMethodEdDSA, key, with("nbf", now.Add(time.Minute).Unix())),
		"no device":                    sign(jwt.SigningMethodEdDSA, key, with("dev", nil)),
		"a user's name that is none":   sign(jwt.SigningMethodEdDSA, key, with("sub", "a,b")),
		"a device's name that is none": sign(jwt.SigningMethodEdDSA, key, with("dev", strings.Repeat("d", 65))),
		"nonsense":                     "a.b.c",
		"nothing":                      "",
	} {
		if id, err := verifier(key).Verify(token, now); !errors.Is(err, ErrBadToken) {
			t.Errorf("%s: %+v, %v, want ErrBadToken", name, id, err)
		}
	}
	if _, err := verifier(key).Verify(sign(jwt.SigningMethodEdDSA, key, good), now); err != nil {
		t.Errorf("the good one: %v", err)
	}
}

func TestKeyIsMadeOnceAndForItsOwnerOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "signing.key")
	first, err := LoadOrCreateKey(path)
	if err != nil {
		t.Fatal(err)
	}
	again, err := LoadOrCreateKey(path)
	if err != nil || !first.Equal(again) {
		t.Errorf("a second start found another key (%v)", err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v (%v), want 0600", info.Mode(), err)
	}
	if err := os.WriteFile(path, []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadOrCreateKey(path); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("a damaged key: %v, want an error that names the file", err)
	}
}

func FuzzVerify(f *testing.F) {
	key := newKey(f, 1)
	token, err := Sign(key, Identity{User: "alice", Device: "phone", Expires: now.Add(time.Hour)})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(token)
	f.Add("e30.e30.")
	v := verifier(key)
	f.Fuzz(func(t *testing.T, text string) {
		id, err := v.Verify(text, now)
		if (err == nil) != (text == token) {
			t.Errorf("%q speaks for %+v, %v; only %q is a token", text, id, err, token)
		}
	})
}

func TestTokenTellsItsHolderWhomItNames(t *testing.T) {
	want := Identity{User: "alice", Device: "phone", Expires: now.Add(-time.Hour)}
	token, err := Sign(newKey(t, 1), want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Peek(token)
	if err != nil || got.User != want.User || got.Device != want.Device || !got.Expires.Equal(want.Expires) {
		t.Errorf("token of %+v: %+v, %v; want the same, expired or not", want, got, err)
	}
	for _, bad := range []string{"", "x", "a.b.c", token[:20]} {
		if _, err := Peek(bad); !errors.Is(err, ErrBadToken) {
			t.Errorf("token %q: %v, want ErrBadToken", bad, err)
		}
	}
}

func TestDamagedSecretIsNamed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "edge.secret")
	for _, text := range []string{"", "nonsense", strings.Repeat("0f", 31), strings.Repeat("0f", 33), strings.Repeat("0", 63)} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := LoadOrCreateSecret(path); err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "restore the file") {
			t.Errorf("%.10q…: %v, want an error that names the file and says what to do", text, err)
		}
	}
}
