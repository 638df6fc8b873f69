package auth

import (
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/big"
	"slices"
)

// A jwk is a key of a JWK set (RFC 7517, 4) of the types read here.
type jwk struct {
	Type      string   `json:"kty"`
	ID        string   `json:"kid"`
	Use       string   `json:"use"`
	Ops       []string `json:"key_ops"`
	Algorithm string   `json:"alg"`

	Curve    string `json:"crv"` // OKP (RFC 8037)
	X        string `json:"x"`
	Modulus  string `json:"n"` // RSA (RFC 7518, 6.3)
	Exponent string `json:"e"`
	Secret   string `json:"k"` // oct (RFC 7518, 6.4)
}

// parseJWKS reads a JWK set. Keys of other types, for other algorithms and for
// other uses than to check signatures are skipped.
func parseJWKS(data []byte) ([]Key, error) {
	var set struct {
		Keys *[]json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(data, &set); err != nil {
		return nil, fmt.Errorf("not a JWK set: %w", err)
	}
	if set.Keys == nil {
		return nil, errors.New(`not a JWK set: want {"keys": [...]}`)
	}
	keys := make([]Key, 0, len(*set.Keys))
	for i, raw := range *set.Keys {
		var k jwk
		err := json.Unmarshal(raw, &k)
		if err == nil && !k.serves() {
			continue
		}
		var key Key
		if err == nil {
			key, err = k.key()
		}
		if err != nil {
			return nil, fmt.Errorf("key %d of the set (kid %q): %w", i+1, k.ID, err)
		}
		key.id = k.ID
		keys = append(keys, key)
	}
	if len(keys) == 0 && len(*set.Keys) > 0 {
		return nil, errors.New("no key of the set is for signatures by EdDSA (Ed25519), RS256 or HS256")
	}
	return keys, nil
}

// serves reports whether the key is one to check tokens with.
func (k *jwk) serves() bool {
	alg := k.algorithm()
	return alg != "" && (k.Algorithm == "" || k.Algorithm == alg) && (k.Use == "" || k.Use == "sig") &&
		(k.Ops == nil || slices.Contains(k.Ops, "verify"))
}

// algorithm returns what the key's type is for here; empty if for nothing.
func (k *jwk) algorithm() string {
	switch {
	case k.Type == "OKP" && k.Curve == "Ed25519":
		return algEdDSA
	case k.Type == "RSA":
		return algRS256
	case k.Type == "oct":
		return algHS256
	}
	return ""
}

// key returns the key that it describes.
func (k *jwk) key() (Key, error) {
	switch k.algorithm() {
	case algEdDSA:
		return k.ed25519()
	case algRS256:
		return k.rsa()
	}
	secret, err := decode("k", k.Secret)
	if err != nil {
		return Key{}, err
	}
	return newHS256Key(secret)
}

func (k *jwk) ed25519() (Key, error) {
	x, err := decode("x", k.X)
	if err != nil {
		return Key{}, err
	}
	if len(x) != ed25519.PublicKeySize {
		return Key{}, fmt.Errorf("x has %d bytes, want %d", len(x), ed25519.PublicKeySize)
	}
	return NewEdDSAKey(x), nil
}

func (k *jwk) rsa() (Key, error) {
	n, err := decode("n", k.Modulus)
	e, err2 := decode("e", k.Exponent)
	if err := errors.Join(err, err2); err != nil {
		return Key{}, err
	}
	exponent := new(big.Int).SetBytes(e)
	if exponent.Cmp(big.NewInt(3)) < 0 || exponent.Cmp(big.NewInt(math.MaxInt32)) > 0 || exponent.Bit(0) == 0 {
		return Key{}, errors.New("e is not the exponent of an RSA key: want an odd number from 3 to 2147483647")
	}
	return newRS256Key(&rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(exponent.Int64())})
}

// decode reads a member that holds bytes.
func decode(name, text string) ([]byte, error) {
	data, err := base64.RawURLEncoding.DecodeString(text)
	switch {
	case text == "":
		return nil, fmt.Errorf("%s is missing", name)
	case err != nil:
		return nil, fmt.Errorf("%s is not base64url without padding: %w", name, err)
	}
	return data, nil
}
