package main

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// An issuer is an app that makes tokens of its own.
type issuer struct {
	t      *testing.T
	folder string
	secret []byte
	rsa    *rsa.PrivateKey
	ed     ed25519.PrivateKey
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	i := &issuer{t: t, folder: t.TempDir(), secret: []byte(strings.Repeat("secret! ", 4))}
	var err error
	if i.rsa, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
		t.Fatal(err)
	}
	if _, i.ed, err = ed25519.GenerateKey(rand.Reader); err != nil {
		t.Fatal(err)
	}
	return i
}

// file writes a file for the server.
func (i *issuer) file(name string, data []byte) string {
	i.t.Helper()
	path := filepath.Join(i.folder, name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		i.t.Fatal(err)
	}
	return path
}

// public returns the RSA key as the server gets it.
func (i *issuer) public() []byte {
	i.t.Helper()
	der, err := x509.MarshalPKIXPublicKey(i.rsa.Public())
	if err != nil {
		i.t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

// set returns the Ed25519 key as a JWK set.
func (i *issuer) set(kid string) []byte {
	x := base64.RawURLEncoding.EncodeToString(i.ed.Public().(ed25519.PublicKey))
	return fmt.Appendf(nil, `{"keys":[{"kty":"EC","kid":"x"},{"kty":"OKP","crv":"Ed25519","kid":%q,"use":"sig","x":%q}]}`, kid, x)
}

// token returns one for Alice's phone.
func (i *issuer) token(m jwt.SigningMethod, key crypto.PrivateKey, kid string) string {
	i.t.Helper()
	token := jwt.NewWithClaims(m, jwt.MapClaims{"sub": "alice", "dev": "phone", "exp": time.Now().Add(time.Hour).Unix()})
	if kid != "" {
		token.Header["kid"] = kid
	}
	text, err := token.SignedString(key)
	if err != nil {
		i.t.Fatal(err)
	}
	return text
}

func TestTokensOfAnAppLogIn(t *testing.T) {
	i := newIssuer(t)
	p, flags := newServer(t, "--token-hs256", i.file("secret", i.secret), "--token-rs256", i.file("public.pem", i.public()),
		"--token-jwks", i.file("keys.json", i.set("one")))
	by := func(token string) []string { return with("inbox", flags, "--token", token) }
	hs := i.token(jwt.SigningMethodHS256, i.secret, "")
	tl(t, by(hs)...).want(t, exitOK, "", "")
	tl(t, by(i.token(jwt.SigningMethodRS256, i.rsa, "any"))...).want(t, exitOK, "", "")
	tl(t, by(i.token(jwt.SigningMethodEdDSA, i.ed, "one"))...).want(t, exitOK, "", "")
	tl(t, by(tokenOf(t, p.Data, "alice"))...).want(t, exitOK, "", "")
	tl(t, by(i.token(jwt.SigningMethodHS256, i.public(), ""))...).want(t, exitFailed, "", "bad_token")
	tl(t, by(i.token(jwt.SigningMethodEdDSA, i.ed, "two"))...).want(t, exitFailed, "", "bad_token")
	tl(t, by(i.token(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, ""))...).want(t, exitFailed, "", "bad_token")

	tl(t, "revoke", "--token", hs, "--data", p.Data).want(t, exitOK, "revoked: token sha256:", "")
	tl(t, by(hs)...).want(t, exitFailed, "", "revoked")

	i.file("keys.json", i.set("two"))
	two := i.token(jwt.SigningMethodEdDSA, i.ed, "two")
	for end := time.Now().Add(10 * time.Second); tl(t, by(two)...).status != exitOK; {
		if time.Now().After(end) {
			t.Fatal("the set was changed, and is not read again")
		}
	}
}

func TestWrongTokenKeysNameTheFlagAndTheFile(t *testing.T) {
	i := newIssuer(t)
	data := filepath.Join(t.TempDir(), "d")
	short, public, set := i.file("short", []byte("short")), i.file("public.pem", i.public()), i.file("set", []byte("{}"))
	for _, test := range []struct{ flag, path, want string }{
		{"--token-hs256", short, "the secret has 5 bytes, want at least 32"},
		{"--token-hs256", public, "this is a key in PEM"},
		{"--token-rs256", short, "not a PUBLIC KEY in PEM"},
		{"--token-jwks", set, `want {"keys": [...]}`},
		{"--token-jwks", set + "x", "there is no such file"},
	} {
		o := tl(t, "serve", "--data", data, "--listen", "127.0.0.1:0", test.flag, test.path)
		o.want(t, exitUsage, "", test.want).want(t, exitUsage, "", test.flag+" is of no use: "+test.path)
	}
}
