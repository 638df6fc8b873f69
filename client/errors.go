package client

import (
	"errors"
	"fmt"

	"timberline/events"
	"timberline/wire"
)

// The errors of the SDK.
var (
	ErrClosed   = errors.New("client is closed")
	ErrRefused  = errors.New("send was refused")        // will never be stored: fix and send again
	ErrUnknown  = errors.New("fate of send is unknown") // it may or may not be stored: ask the timeline
	ErrDenied   = errors.New("login was denied")        // for good: get another token, or another version
	ErrReplaced = errors.New("device was replaced")     // again and again: another client is this device, stop one
	ErrStore    = errors.New("device store failed")     // nothing was kept: make room, try again

	// ErrInUse says that another process has the device's File open.
	ErrInUse = errors.New("in use by another client of the same device: stop that one first, or use another device")
)

// refusal returns the error of a send that the server refused. It wraps
// ErrRefused and, where one fits, the error of package events.
func refusal(r wire.Reason) error {
	switch r {
	case wire.ReasonTooLarge:
		return fmt.Errorf("%w: %w", ErrRefused, events.ErrTooLarge)
	case wire.ReasonRecipient, wire.ReasonMalformed:
		return fmt.Errorf("%w: %v: %w", ErrRefused, r, events.ErrInvalid)
	}
	return fmt.Errorf("%w: %v", ErrRefused, r)
}
