package auth

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

const pemType = "PRIVATE KEY"

// LoadKey reads a signing key: an Ed25519 key in PEM (PKCS 8). The error wraps
// fs.ErrNotExist if there is no such file.
func LoadKey(path string) (ed25519.PrivateKey, error) {
	return load[ed25519.PrivateKey](path, "signing key")
}

// LoadOrCreateKey reads a signing key, and makes one that only its owner can read
// if there is none.
func LoadOrCreateKey(path string) (ed25519.PrivateKey, error) {
	return loadOrCreate(path, "signing key", func() (ed25519.PrivateKey, error) {
		_, key, err := ed25519.GenerateKey(rand.Reader)
		return key, err
	})
}

// LoadServerKey reads the static key of a server's sealed sockets: an X25519 key in
// PEM (PKCS 8). The error wraps fs.ErrNotExist if there is no such file.
func LoadServerKey(path string) (*ecdh.PrivateKey, error) {
	return load[*ecdh.PrivateKey](path, "server key")
}

// LoadOrCreateServerKey reads the static key of a server, and makes one that only
// its owner can read if there is none.
func LoadOrCreateServerKey(path string) (*ecdh.PrivateKey, error) {
	return loadOrCreate(path, "server key", func() (*ecdh.PrivateKey, error) {
		return ecdh.X25519().GenerateKey(rand.Reader)
	})
}

// load reads a key of one kind.
func load[K any](path, what string) (key K, err error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return key, fmt.Errorf("%s: %w", what, err)
	}
	block, _ := pem.Decode(data)
	if block == nil || block.Type != pemType {
		return key, fmt.Errorf("%s %s: not a %s in PEM", what, path, pemType)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return key, fmt.Errorf("%s %s: %w", what, path, err)
	}
	key, ok := parsed.(K)
	if !ok {
		return key, fmt.Errorf("%s %s: a %T, want a %T", what, path, parsed, key)
	}
	return key, nil
}

func loadOrCreate[K any](path, what string, generate func() (K, error)) (K, error) {
	key, err := load[K](path, what)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	if key, err = generate(); err != nil {
		return key, fmt.Errorf("make a %s: %w", what, err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return key, fmt.Errorf("make a %s: %w", what, err)
	}
	if err := create(path, pem.EncodeToMemory(&pem.Block{Type: pemType, Bytes: der})); err != nil {
		return key, fmt.Errorf("store the %s: %w", what, err)
	}
	return load[K](path, what) // somebody else's, if two were made at once
}

// LoadOrCreateSecret reads the secret of an edge, 32 bytes in hexadecimal, and
// makes one that only its owner can read if there is none.
func LoadOrCreateSecret(path string) (secret [32]byte, err error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		rand.Read(secret[:]) // never fails
		if err := create(path, fmt.Appendf(nil, "%x\n", secret)); err != nil {
			return secret, fmt.Errorf("store the edge's secret: %w", err)
		}
		text, err = os.ReadFile(path) // somebody else's, if two were made at once
	}
	if err != nil {
		return secret, fmt.Errorf("secret of the edge: %w", err)
	}
	if n, err := hex.Decode(secret[:], bytes.TrimSpace(text)); err != nil || n != len(secret) || len(bytes.TrimSpace(text)) != 2*len(secret) {
		return secret, fmt.Errorf("secret of the edge %s: want %d bytes in hexadecimal", path, len(secret))
	}
	return secret, nil
}

// create writes a file that does not exist yet, whole or not at all, for its
// owner only.
func create(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".key-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Link(f.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}
