package sealed

import (
	"crypto/ecdh"
	"encoding/base64"
	"fmt"

	"github.com/flynn/noise"
)

// A PublicKey is the static key of a server, as clients know it: X25519.
type PublicKey [dhSize]byte

// A KeyID tells which of a server's keys is meant: its first bytes.
type KeyID [keyIDSize]byte

// ParseKey reads a public key in its text form: 43 characters of unpadded base64
// for URLs. A point of small order is no key.
func ParseKey(text string) (PublicKey, error) {
	raw, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || len(raw) != dhSize {
		return PublicKey{}, fmt.Errorf("server key %q: want %d bytes in base64 for URLs, %d characters of A-Z a-z 0-9 - _", text, dhSize, base64.RawURLEncoding.EncodedLen(dhSize))
	}
	if _, err := suite.DH(raw, raw); err != nil { // with whatever private key
		return PublicKey{}, fmt.Errorf("server key %q: it would keep nothing secret, so no server has it", text)
	}
	return PublicKey(raw), nil
}

// String returns the key's text form.
func (k PublicKey) String() string { return base64.RawURLEncoding.EncodeToString(k[:]) }

// ID returns how a HELLO names the key.
func (k PublicKey) ID() KeyID { return KeyID(k[:]) }

// A ServerKey is a static key of a server, both halves.
type ServerKey struct {
	Public PublicKey
	pair   noise.DHKey
}

// NewServerKey returns an X25519 key for the handshake.
func NewServerKey(k *ecdh.PrivateKey) ServerKey {
	public := PublicKey(k.PublicKey().Bytes())
	return ServerKey{Public: public, pair: noise.DHKey{Private: k.Bytes(), Public: public[:]}}
}
