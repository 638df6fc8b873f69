package auth

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rsa"
	"errors"
	"fmt"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// The algorithms of tokens.
const (
	algEdDSA = "EdDSA"
	algRS256 = "RS256"
	algHS256 = "HS256"
)

// A Key is one that tokens may be signed with. It knows its algorithm, and serves
// for no other.
type Key struct {
	id  string // what tokens call it ("kid"); empty: it has no name
	alg string
	key any // ed25519.PublicKey, *rsa.PublicKey, or the []byte of a secret
}

// Algorithm returns what tokens must be signed with: EdDSA, RS256 or HS256.
func (k Key) Algorithm() string { return k.alg }

// NewEdDSAKey returns a Key for tokens signed with the other half of a key.
func NewEdDSAKey(key ed25519.PublicKey) Key { return Key{alg: algEdDSA, key: key} }

// minRSA is the shortest modulus of an RSA key, in bits.
const minRSA = 2048

func newRS256Key(key *rsa.PublicKey) (Key, error) {
	if n := key.N.BitLen(); n < minRSA {
		return Key{}, fmt.Errorf("the RSA key has %d bits, want at least %d", n, minRSA)
	}
	return Key{alg: algRS256, key: key}, nil
}

// minSecret is the shortest secret of HS256, in bytes (RFC 7518, 3.2).
const minSecret = 32

func newHS256Key(secret []byte) (Key, error) {
	switch {
	case bytes.Contains(secret, []byte("-----BEGIN ")): // whoever has a public key could make tokens with it
		return Key{}, errors.New("this is a key in PEM and no secret: a public key is for RS256")
	case len(secret) < minSecret:
		return Key{}, fmt.Errorf("the secret has %d bytes, want at least %d", len(secret), minSecret)
	}
	return Key{alg: algHS256, key: secret}, nil
}

// A Verifier checks tokens. It is safe for concurrent use.
type Verifier struct{ keys func() []Key }

// NewVerifier returns a Verifier of tokens that were signed with the other half
// of a key.
func NewVerifier(key ed25519.PublicKey) *Verifier {
	keys := []Key{NewEdDSAKey(key)}
	return NewVerifierOf(func() []Key { return keys })
}

// NewVerifierOf returns a Verifier of tokens that were signed with any of some
// keys. They may change: it asks for them each time.
func NewVerifierOf(keys func() []Key) *Verifier { return &Verifier{keys} }

// Verify returns who a token speaks for. The error wraps ErrExpired for a token
// whose time is over, and ErrBadToken for any other fault.
func (v *Verifier) Verify(token string, now time.Time) (Identity, error) {
	var c claims
	err := checkForm(token)
	if err == nil {
		_, err = jwt.ParseWithClaims(token, &c, v.choose,
			jwt.WithValidMethods([]string{algEdDSA, algRS256, algHS256}),
			jwt.WithStrictDecoding(),
			jwt.WithExpirationRequired(),
			jwt.WithTimeFunc(func() time.Time { return now }),
		)
	}
	switch {
	case errors.Is(err, jwt.ErrTokenExpired):
		return Identity{}, ErrExpired
	case err != nil:
		return Identity{}, fmt.Errorf("%w: %w", ErrBadToken, err)
	}
	return c.identity(token)
}

// choose returns the keys that a token may be signed with: those for its algorithm
// that go by the name it gives, or by none. A key for another algorithm is never
// among them, whatever the token says.
func (v *Verifier) choose(t *jwt.Token) (any, error) {
	if _, has := t.Header["crit"]; has { // RFC 7515, 4.1.11: it wants what we do not know
		return nil, errors.New("its header has crit")
	}
	kid, _ := t.Header["kid"].(string)
	var set jwt.VerificationKeySet
	for _, k := range v.keys() {
		if k.alg == t.Method.Alg() && (kid == "" || k.id == "" || k.id == kid) {
			set.Keys = append(set.Keys, k.key)
		}
	}
	if len(set.Keys) == 0 {
		return nil, fmt.Errorf("there is no key for its %s here", t.Method.Alg())
	}
	return set, nil
}
