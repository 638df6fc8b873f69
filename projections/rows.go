package projections

import (
	"context"
	"errors"
)

// EmptyRows removes all rows that follow from checkpoints: what projections keep, and how
// far rebuilds are. Which version of a projection is read stays, and so does where timelines
// begin.
func EmptyRows(ctx context.Context, rows Rows) error {
	return errors.Join(rows.DeleteRows(ctx, rowsOfProjections), rows.DeleteRows(ctx, placesOfRebuilds))
}

// A Row is what a projection keeps besides timelines, at a key of a space. It follows from
// a checkpoint, and those before it.
type Row struct {
	Space, Key string // 1 to 500 bytes each, without NUL
	Checkpoint CheckpointNumber
	Data       []byte // bytes to the engine; at most 256 KiB
}

// Rows is where a storage engine keeps rows, ordered by space and key.
type Rows interface {
	// GetRow returns a row as a strong read. The error is events.ErrNotFound if there is
	// none.
	GetRow(ctx context.Context, space, key string) (Row, error)

	// ReadRows returns the rows of a space whose keys are at least from, in order, as a
	// strong read: as many as fit into about size bytes, and at least one if there is one.
	ReadRows(ctx context.Context, space, from string, size int) ([]Row, error)

	// PutRows writes each row in whose place nothing stands, or something that follows
	// from an older checkpoint; it leaves the others as they are. So whoever was overtaken
	// overwrites nothing (R7). No place is named twice. nil means durable; after an error
	// some may be written, now or later.
	PutRows(ctx context.Context, rows []Row) error

	// DeleteRows removes the rows of all spaces whose names begin with a text.
	DeleteRows(ctx context.Context, prefix string) error
}
