package events

import "errors"

// What can go wrong, and what the caller does next.
var (
	ErrConflict = errors.New("offset is taken")        // take in what stands there, go on behind it
	ErrBusy     = errors.New("over capacity")          // back off, retry
	ErrInvalid  = errors.New("invalid event")          // fix the request
	ErrTooLarge = errors.New("too large")              // send less
	ErrNotFound = errors.New("not found")              // nothing is stored there
	ErrCorrupt  = errors.New("stored data is damaged") // stop, restore or verify
	ErrFatal    = errors.New("store refuses writes")   // stop the process, say what to do
)
