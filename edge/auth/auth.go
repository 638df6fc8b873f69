package auth

import (
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"

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

	ID     string    // the token's own, to revoke it by; Sign: empty for none
	Issued time.Time // when the token was made; zero: it does not say
}

// claims is a token's content.
type claims struct {
	Device string `json:"dev"`
	jwt.RegisteredClaims
}

// Sign returns a token that says what the identity does. The error wraps
// events.ErrInvalid if a name is not of the required form.
func Sign(key ed25519.PrivateKey, id Identity) (string, error) {
	if err := errors.Join(id.User.Validate(), id.Device.Validate()); err != nil {
		return "", err
	}
	c := claims{
		Device: string(id.Device),
		RegisteredClaims: jwt.RegisteredClaims{
			Subject: string(id.User), ExpiresAt: jwt.NewNumericDate(id.Expires), ID: id.ID,
		},
	}
	if !id.Issued.IsZero() {
		c.IssuedAt = jwt.NewNumericDate(id.Issued)
	}
	text, err := jwt.NewWithClaims(jwt.SigningMethodEdDSA, c).SignedString(key)
	if err != nil {
		return "", fmt.Errorf("sign a token: %w", err)
	}
	return text, nil
}

// Peek returns whom a token names, and until when, without checking that it is
// true: for whoever holds the token. The error wraps ErrBadToken.
func Peek(token string) (Identity, error) {
	var c claims
	err := checkForm(token)
	if err == nil {
		_, _, err = jwt.NewParser(jwt.WithStrictDecoding()).ParseUnverified(token, &c)
	}
	if err != nil {
		return Identity{}, fmt.Errorf("%w: %w", ErrBadToken, err)
	}
	return c.identity(token)
}

// checkForm refuses the other ways to write a token: else whoever holds one could
// change its text, and with it the id that is made of the text. Decoders skip line
// breaks, even strict ones.
func checkForm(token string) error {
	if strings.ContainsAny(token, "\r\n") {
		return errors.New("a line break stands in it")
	}
	return nil
}

// identity returns whom the claims name. The error wraps ErrBadToken.
func (c *claims) identity(token string) (Identity, error) {
	id := Identity{User: events.User(c.Subject), Device: events.Device(c.Device), ID: c.ID}
	if c.ExpiresAt != nil {
		id.Expires = c.ExpiresAt.Time
	}
	if c.IssuedAt != nil {
		id.Issued = c.IssuedAt.Time
	}
	if CheckID(id.ID) != nil {
		id.ID = fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(token)))
	}
	if err := errors.Join(id.User.Validate(), id.Device.Validate()); err != nil {
		return Identity{}, fmt.Errorf("%w: %w", ErrBadToken, err)
	}
	return id, nil
}

// maxID is the longest id of a token, in bytes.
const maxID = 128

// CheckID finds what is wrong with the id of a token: it must fit into a line of
// the list of revocations. A token without such an id ("jti") goes by "sha256:" and
// the SHA-256 of its text in hexadecimal.
func CheckID(id string) error {
	switch {
	case strings.HasPrefix(id, "eyJ") && strings.Count(id, ".") == 2:
		return errors.New("it is a token itself, want its id (the claim jti)")
	case id == "" || len(id) > maxID:
		return fmt.Errorf("it has %d bytes, want 1 to %d", len(id), maxID)
	case strings.ContainsFunc(id, func(r rune) bool { return r == ' ' || r == '#' || !unicode.IsPrint(r) }):
		return errors.New("want characters that can be seen, and no #")
	}
	return nil
}
