package auth

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
)

// WatchHS256 returns the Key of a file with a secret that is shared with whoever
// signs tokens: its bytes, without a line break at the end.
func WatchHS256(path string) (*Watched[[]Key], error) { return watchOne(path, parseHS256) }

// WatchRS256 returns the Key of a file with an RSA public key in PEM.
func WatchRS256(path string) (*Watched[[]Key], error) { return watchOne(path, parseRS256) }

// WatchJWKS returns the Keys of a file with a JWK set (RFC 7517).
func WatchJWKS(path string) (*Watched[[]Key], error) { return watchOne(path, parseJWKS) }

func parseHS256(data []byte) ([]Key, error) {
	secret := bytes.TrimSuffix(bytes.TrimSuffix(data, []byte("\n")), []byte("\r"))
	key, err := newHS256Key(secret)
	if err != nil {
		return nil, fmt.Errorf("%w; openssl rand -hex 32 makes a good one", err)
	}
	return []Key{key}, nil
}

func parseRS256(data []byte) ([]Key, error) {
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, errors.New("not a PUBLIC KEY in PEM")
	}
	public, err := parsePublic(block)
	if err != nil {
		return nil, err
	}
	rsaKey, ok := public.(*rsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("a %T, want an RSA key", public)
	}
	key, err := newRS256Key(rsaKey)
	if err != nil {
		return nil, err
	}
	return []Key{key}, nil
}

func parsePublic(block *pem.Block) (any, error) {
	switch block.Type {
	case "PUBLIC KEY":
		return x509.ParsePKIXPublicKey(block.Bytes)
	case "RSA PUBLIC KEY":
		return x509.ParsePKCS1PublicKey(block.Bytes)
	}
	return nil, fmt.Errorf("a %s, want a PUBLIC KEY; openssl pkey -pubout (of a certificate: openssl x509 -pubkey -noout) makes one", block.Type)
}
