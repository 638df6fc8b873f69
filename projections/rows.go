package projections

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
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
	Space, Key string // 1 to 500 bytes of UTF-8 each, without NUL
	Checkpoint CheckpointNumber
	Data       []byte // bytes to the engine; at most MaxRow
}

// MaxRow is how many bytes a row's Data has at most.
const MaxRow = 256 << 10

// ErrRow says that a row cannot be kept.
var ErrRow = errors.New("invalid row")

// Validate says what is wrong with the row; the error wraps ErrRow.
func (r *Row) Validate() error {
	for _, part := range []struct{ is, text string }{{"space", r.Space}, {"key", r.Key}} {
		if n := len(part.text); n == 0 || n > 500 || strings.Contains(part.text, "\x00") || !utf8.ValidString(part.text) {
			return fmt.Errorf("%w: row %.40q of %.40q: its %s has %d bytes, want 1 to 500 of UTF-8 without NUL", ErrRow, r.Key, r.Space, part.is, n)
		}
	}
	if len(r.Data) > MaxRow {
		return fmt.Errorf("%w: row %q of %q has %d bytes, want at most %d", ErrRow, r.Key, r.Space, len(r.Data), MaxRow)
	}
	return nil
}

// ValidateRows says what is wrong with the first row with which something is: engines put
// none of them.
func ValidateRows(rows []Row) error {
	for i := range rows {
		if err := rows[i].Validate(); err != nil {
			return err
		}
	}
	return nil
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
	// some may be written, now or later, but none if one is not valid: ErrRow.
	PutRows(ctx context.Context, rows []Row) error

	// DeleteRows removes the rows of all spaces whose names begin with a text.
	DeleteRows(ctx context.Context, prefix string) error
}
