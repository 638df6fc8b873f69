package events

import (
	"errors"
	"fmt"

	"timberline/events/fields"
)

// What can go wrong, and what the caller does next.
var (
	ErrConflict = errors.New("offset is taken")                          // take in what stands there, go on behind it
	ErrBusy     = errors.New("over capacity")                            // back off, retry
	ErrInvalid  = errors.New("invalid")                                  // fix the request
	ErrTooLarge = errors.New("too large")                                // send less
	ErrNotFound = errors.New("not found")                                // nothing is stored there
	ErrCorrupt  = errors.New("stored data is damaged")                   // stop, restore or verify
	ErrFormat   = errors.New("stored by another version of the program") // stop, run that one or a newer one
	ErrFatal    = errors.New("the store cannot go on")                   // stop the process, say what to do
)

// Unreadable returns the error of what stands at a place and fields.Unseal does not
// take: it wraps ErrFormat if the bytes are whole, else ErrCorrupt.
func Unreadable(place string, err error) error {
	if errors.Is(err, fields.ErrVersion) {
		return fmt.Errorf("%w: %s: %w", ErrFormat, place, err)
	}
	return fmt.Errorf("%w: %s: %w", ErrCorrupt, place, err)
}

// Final reports whether trying again will not help: the process has to end, and
// somebody to do something.
func Final(err error) bool {
	return errors.Is(err, ErrCorrupt) || errors.Is(err, ErrFormat) || errors.Is(err, ErrFatal)
}
