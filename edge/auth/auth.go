// Package auth makes and checks the tokens that a LOGIN carries: JWTs that name
// a user ("sub"), a device ("dev") and an expiry ("exp").
package auth

import (
	"errors"
	"time"

	"timberline/events"
)

// What can be wrong with a token.
var (
	ErrBadToken = errors.New("token is not valid") // get another token
	ErrExpired  = errors.New("token has expired")  // get a fresh token
)

// An Identity is who a token speaks for, and until when.
type Identity struct {
	User    events.User
	Device  events.Device
	Expires time.Time
}
