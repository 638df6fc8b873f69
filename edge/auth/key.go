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
)

const pemType = "PRIVATE KEY"

// A kind is what keys of one type are for, and how one is made.
type kind[K any] struct {
	what     string
	generate func() (K, error)
}

var signing = kind[ed25519.PrivateKey]{"signing key", func() (ed25519.PrivateKey, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	return key, err
}}

var static = kind[*ecdh.PrivateKey]{"server key", func() (*ecdh.PrivateKey, error) {
	return ecdh.X25519().GenerateKey(rand.Reader)
}}

// LoadKey reads a signing key: an Ed25519 key in PEM (PKCS 8). The error wraps
// fs.ErrNotExist if there is no such file.
func LoadKey(path string) (ed25519.PrivateKey, error) { return signing.load(path) }

// LoadOrCreateKey reads a signing key, and makes one that only its owner can read
// if there is none.
func LoadOrCreateKey(path string) (ed25519.PrivateKey, error) { return signing.loadOrCreate(path) }

// LoadServerKey reads the static key of a server's sealed sockets: an X25519 key in
// PEM (PKCS 8). The error wraps fs.ErrNotExist if there is no such file.
func LoadServerKey(path string) (*ecdh.PrivateKey, error) { return static.load(path) }

// LoadOrCreateServerKey reads the static key of a server, and makes one that only
// its owner can read if there is none.
func LoadOrCreateServerKey(path string) (*ecdh.PrivateKey, error) { return static.loadOrCreate(path) }

func (kd kind[K]) load(path string) (key K, err error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return key, fmt.Errorf("%s: %w", kd.what, err)
	}
	return kd.parse(path, data)
}

// parse reads what the file at path holds.
func (kd kind[K]) parse(path string, data []byte) (key K, err error) {
	block, _ := pem.Decode(data)
	if block == nil || block.Type != pemType {
		return key, fmt.Errorf("%s %s: not a %s in PEM", kd.what, path, pemType)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return key, fmt.Errorf("%s %s: %w", kd.what, path, err)
	}
	key, ok := parsed.(K)
	if !ok {
		return key, fmt.Errorf("%s %s: a %T, want a %T", kd.what, path, parsed, key)
	}
	return key, nil
}

func (kd kind[K]) loadOrCreate(path string) (K, error) {
	key, err := kd.load(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	data, err := kd.make()
	if err != nil {
		return key, err
	}
	if err := create(path, data); err != nil {
		return key, fmt.Errorf("store the %s: %w", kd.what, err)
	}
	return kd.load(path) // somebody else's, if two were made at once
}

// make returns what the file of a new key holds.
func (kd kind[K]) make() ([]byte, error) {
	key, err := kd.generate()
	if err != nil {
		return nil, fmt.Errorf("make a %s: %w", kd.what, err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("make a %s: %w", kd.what, err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: pemType, Bytes: der}), nil
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
	return parseSecret(path, text)
}

// parseSecret reads what the file at path holds.
func parseSecret(path string, text []byte) (secret [32]byte, err error) {
	b, err := hex.DecodeString(string(bytes.TrimSpace(text)))
	if err != nil || len(b) != len(secret) {
		return secret, fmt.Errorf("secret of the edge %s: want %d bytes in hexadecimal: restore the file, or remove it (clients log in again then)", path, len(secret))
	}
	return [32]byte(b), nil
}
