package relay

import (
	"context"
	"errors"
	"time"

	"timberline/projections"
)

// A Shard is a part of a stream.
type Shard struct {
	Name   string
	Parent string // what it goes on from; empty, or no longer in the stream: nothing
}

// A Change is an item that was written.
type Change struct {
	projections.Stored
	At time.Time // when, roughly: engines round it down to as much as a minute
}

// A Page is what one read gives.
type Page struct {
	Changes []Change
	Place   string // of the last change; empty if there is none
	Next    string // where to read on; empty at the end of a shard that takes no more
}

// ErrTrimmed says that a shard does not hold the place asked for any more, nor perhaps
// what came behind it.
var ErrTrimmed = errors.New("the stream has lost what was to be read next")

// ErrExpired says that a read waited too long: seek again.
var ErrExpired = errors.New("the stream's iterator has expired")

// A Stream is what a storage engine tells of the changes of timelines. Each change is
// told once, those of a user in order. At most two readers may read a shard.
type Stream interface {
	// Shards returns the shards that stand, in any order.
	Shards(ctx context.Context) ([]Shard, error)
	// Seek returns where to read on behind a place, or from the oldest change on if
	// the place is empty. The error is ErrTrimmed if the place is gone.
	Seek(ctx context.Context, shard, place string) (next string, err error)
	// Read reads on. An empty page is no end. The error is ErrExpired or ErrTrimmed
	// where they apply.
	Read(ctx context.Context, next string) (Page, error)
}
