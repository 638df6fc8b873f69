package events

import (
	"encoding/binary"
	"fmt"

	"timberline/events/fields"
)

// A Row is what the store knows of an edge's journal besides its records.
type Row struct {
	Number  uint64   // from 1, without gaps
	Writer  [16]byte // random: tells a row of one's own from another's after a lost answer
	Edge    EdgeTag  // of the edge process that owns the journal
	Counter uint64   // raised by the owner while it lives
	Ended   Offset   // where "journal ended" stands; 0 while unknown. A hint: the log is the truth
	Trimmed bool     // its records were removed, as no timeline had an entry of them any more
}

// Journal returns the journal's name.
func (r Row) Journal() Journal { return JournalNumbered(r.Number) }

// RowVersion is the format written. Every later version reads it.
const RowVersion = 1

// storedRow is a Row as stored.
type storedRow struct{ Row }

// Fields lists the stored fields.
func (r *storedRow) Fields(v fields.Visitor) {
	fields.Uint(v, 1, "number", &r.Number)
	fields.ID(v, 2, "writer", &r.Writer)
	tag := uint64(binary.BigEndian.Uint32(r.Edge[:]))
	fields.Uint(v, 3, "edge", &tag)
	binary.BigEndian.PutUint32(r.Edge[:], uint32(tag))
	fields.Uint(v, 4, "counter", &r.Counter)
	fields.Uint(v, 5, "ended", &r.Ended)
	fields.Bool(v, 6, "trimmed", &r.Trimmed)
}

// Seal encodes the row for storage.
func (r Row) Seal() []byte {
	return fields.Seal(RowVersion, rowPlace(r.Number), &storedRow{r})
}

// UnsealRow decodes what Seal made of the row of that number. The error wraps ErrCorrupt
// or ErrFormat.
func UnsealRow(number uint64, sealed []byte) (Row, error) {
	var r storedRow
	if err := fields.Unseal(RowVersion, rowPlace(number), sealed, &r); err != nil {
		return Row{}, Unreadable(fmt.Sprintf("row of journal %d", number), err)
	}
	return r.Row, nil
}

func rowPlace(number uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte("j"), number)
}
