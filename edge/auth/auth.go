// Package auth makes and checks the tokens that a LOGIN carries: JWTs, signed
// with EdDSA by the server's own key, that name a user ("sub"), a device ("dev")
// and an expiry ("exp").
package auth

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"timberline/events"
)

// What can be wrong with a token.
var (
	ErrBadToken = errors.New("token is not valid here") // get another token
	ErrExpired  = errors.New("token has expired")       // get a fresh token
	ErrRevoked  = errors.New("token was revoked")       // ask whoever issues tokens
)

// An Identity is who a token speaks for, and until when.
type Identity struct {
	User    events.User
	Device  events.Device
	Expires time.Time
}

// claims is a token's content.
type claims struct {
	Device string `json:"dev"`
	jwt.RegisteredClaims
}

// Sign returns a token. The error wraps events.ErrInvalid if a name is not of the
// required form.
func Sign(key ed25519.PrivateKey, id Identity) (string, error) {
	if err := errors.Join(id.User.Validate(), id.Device.Validate()); err != nil {
		return "", err
	}
	token := jwt.NewWithClaims(jwt.SigningMethodEdDSA, claims{
		Device: string(id.Device),
		RegisteredClaims: jwt.RegisteredClaims{
			Subject: string(id.User), ExpiresAt: jwt.NewNumericDate(id.Expires),
		},
	})
	text, err := token.SignedString(key)
	if err != nil {
		return "", fmt.Errorf("sign a token: %w", err)
	}
	return text, nil
}

// A Verifier checks tokens. It is safe for concurrent use.
type Verifier struct{ key ed25519.PublicKey }

// NewVerifier returns a Verifier of tokens that were signed with the other half
// of a key.
func NewVerifier(key ed25519.PublicKey) *Verifier { return &Verifier{key} }

// Verify returns who a token speaks for. The error wraps ErrExpired for a token
// whose time is over, and ErrBadToken for any other fault.
func (v *Verifier) Verify(token string, now time.Time) (Identity, error) {
	var c claims
	_, err := jwt.ParseWithClaims(token, &c, func(*jwt.Token) (any, error) { return v.key, nil },
		jwt.WithValidMethods([]string{jwt.SigningMethodEdDSA.Alg()}),
		jwt.WithExpirationRequired(),
		jwt.WithTimeFunc(func() time.Time { return now }),
	)
	switch {
	case errors.Is(err, jwt.ErrTokenExpired):
		return Identity{}, ErrExpired
	case err != nil:
		return Identity{}, fmt.Errorf("%w: %w", ErrBadToken, err)
	}
	return c.identity()
}

// identity returns whom the claims name. The error wraps ErrBadToken.
func (c *claims) identity() (Identity, error) {
	id := Identity{User: events.User(c.Subject), Device: events.Device(c.Device)}
	if c.ExpiresAt != nil {
		id.Expires = c.ExpiresAt.Time
	}
	if err := errors.Join(id.User.Validate(), id.Device.Validate()); err != nil {
		return Identity{}, fmt.Errorf("%w: %w", ErrBadToken, err)
	}
	return id, nil
}

// Peek returns whom a token names, and until when, without checking that it is
// true: for the device that holds the token. The error wraps ErrBadToken.
func Peek(token string) (Identity, error) {
	var c claims
	if _, _, err := jwt.NewParser().ParseUnverified(token, &c); err != nil {
		return Identity{}, fmt.Errorf("%w: %w", ErrBadToken, err)
	}
	return c.identity()
}
