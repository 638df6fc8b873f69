package auth

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"

	"timberline/events"
)

// Whatever is in a file of keys: what is read is a good key, what is not is named with
// its file.
func FuzzKeyFile(f *testing.F) {
	for _, private := range []any{newKey(f, 1), must(ecdh.X25519().NewPrivateKey(bytes.Repeat([]byte{1}, 32)))} {
		f.Add(pem.EncodeToMemory(&pem.Block{Type: pemType, Bytes: must(x509.MarshalPKCS8PrivateKey(private))}))
	}
	n := new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), minRSA), big.NewInt(1))
	public := must(x509.MarshalPKIXPublicKey(&rsa.PublicKey{N: n, E: 65537}))
	f.Add(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}))
	f.Add(bytes.Repeat([]byte("0f"), 32))
	f.Add(bytes.Repeat([]byte("0f"), 33))
	f.Fuzz(func(t *testing.T, data []byte) {
		const path = "some.key"
		signs, err := signing.parse(path, data)
		wantNamed(t, err, path)
		if err == nil && len(signs) != ed25519.PrivateKeySize {
			t.Errorf("a signing key of %d bytes", len(signs))
		}
		serves, err := static.parse(path, data)
		wantNamed(t, err, path)
		if err == nil && serves.Curve() != ecdh.X25519() {
			t.Errorf("a server key of %v", serves.Curve())
		}
		secret, err := parseSecret(path, data)
		wantNamed(t, err, path)
		if err != nil && secret != [32]byte{} {
			t.Error("a secret, and an error")
		}
		for _, read := range []func([]byte) ([]Key, error){parseHS256, parseRS256} {
			keys, err := read(data)
			if err == nil && len(keys) != 1 {
				t.Errorf("%d keys, want one or an error", len(keys))
			}
			for _, k := range keys {
				if key, ok := k.key.(*rsa.PublicKey); ok && key.N.BitLen() < minRSA {
					t.Errorf("an RSA key of %d bits", key.N.BitLen())
				}
				if key, ok := k.key.([]byte); ok && len(key) < minSecret {
					t.Errorf("a secret of %d bytes", len(key))
				}
			}
		}
	})
}

func wantNamed(t *testing.T, err error, path string) {
	t.Helper()
	if err != nil && !strings.Contains(err.Error(), path) {
		t.Errorf("%v, want the name of the file", err)
	}
}

func must[T any](x T, err error) T {
	if err != nil {
		panic(err)
	}
	return x
}

// Whatever its holder reads of a token, the names in it are names.
func FuzzPeek(f *testing.F) {
	token, err := Sign(newKey(f, 1), Identity{User: "alice", Device: "phone", Expires: now.Add(time.Hour), ID: "one"})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(token)
	f.Add(b64([]byte(`{"alg":"none"}`)) + "." + b64([]byte(`{"sub":"alice","dev":"a b","exp":1e30}`)) + ".")
	f.Fuzz(func(t *testing.T, text string) {
		id, err := Peek(text)
		if err != nil {
			if !errors.Is(err, ErrBadToken) && !errors.Is(err, events.ErrInvalid) {
				t.Errorf("%v, want ErrBadToken", err)
			}
			return
		}
		if id.User.Validate() != nil || id.Device.Validate() != nil {
			t.Errorf("%q speaks for %+v", text, id)
		}
	})
}
