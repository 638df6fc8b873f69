package remote

import (
	"errors"

	"timberline/events"
	"timberline/projections"
)

// storeHeader names the store that a caller has opened; before it has there is none.
const storeHeader = "Timberline-Store"

// The arguments of the methods.
type (
	none    bool // always false
	readLog struct {
		Journal events.Journal
		From    events.Offset
		Size    int
	}
	listJournals    struct{ After uint64 }
	lastCheckpoint  struct{ Shard projections.Shard }
	readCheckpoints struct {
		Shard projections.Shard
		From  projections.CheckpointNumber
		Size  int
	}
	rowsOf struct {
		Space, From string // the key of the first
		Size        int
	}
)

// A checkpoint is the last one of a shard.
type checkpoint struct {
	Number projections.CheckpointNumber
	Data   []byte
}

// An answer is what a call comes to.
type answer[T any] struct {
	Result T
	Failed *failure
}

// A failure is an error on its way: its text, and which of causes it wraps.
type failure struct {
	Text   string
	Causes []int
}

// causes are those on which callers act, by their numbers on the wire.
var causes = []error{
	events.ErrNotFound, events.ErrConflict, events.ErrCorrupt, events.ErrFormat, events.ErrFatal, events.ErrBusy, events.ErrInvalid, events.ErrTooLarge,
	projections.ErrRow,
}

// failureOf returns nil for nil.
func failureOf(err error) *failure {
	if err == nil {
		return nil
	}
	f := &failure{Text: err.Error()}
	for i, cause := range causes {
		if errors.Is(err, cause) {
			f.Causes = append(f.Causes, i)
		}
	}
	return f
}

// Error implements error.
func (f *failure) Error() string { return f.Text }

// Unwrap returns the causes.
func (f *failure) Unwrap() (all []error) {
	for _, i := range f.Causes {
		if i >= 0 && i < len(causes) {
			all = append(all, causes[i])
		}
	}
	return all
}
