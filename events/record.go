package events

import (
	"encoding/binary"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"

	"timberline/events/fields"
)

// A Record is one stored item of a journal: a batch of events, sealed (see
// fields.Seal) for the journal and offset where it stands.
type Record []byte

// RecordVersion is the format written. Every later version reads it.
const RecordVersion = 1

// The limits of a record.
const (
	MaxRecordBytes      = 128 << 10
	MaxRecordRecipients = 5000
)

// batch is the message in a record.
type batch struct{ events [][]byte }

// Fields lists the record's fields.
func (b *batch) Fields(v fields.Visitor) {
	b.events = v.RawList(1, "events", b.events, func() fields.Message { return new(Event) })
}

// NewRecord returns the record that holds events, each a Raw, at that place.
func NewRecord(j Journal, at Offset, raws [][]byte) Record {
	return fields.Seal(RecordVersion, recordPlace(j, at), &batch{raws})
}

// RecordSize returns the bytes that an event takes in a record.
func RecordSize(raw []byte) int { return 1 + protowire.SizeBytes(len(raw)) }

func recordPlace(j Journal, at Offset) []byte {
	return binary.BigEndian.AppendUint64(append([]byte("r"), j...), uint64(at))
}

// Events returns the record's events, each a Raw, after checking that the record
// is whole and stands where it belongs. The events alias the record. The error
// wraps ErrCorrupt or ErrFormat and names the place.
func (rec Record) Events(j Journal, at Offset) ([][]byte, error) {
	var b batch
	if err := fields.Unseal(RecordVersion, recordPlace(j, at), rec, &b); err != nil {
		return nil, Unreadable(fmt.Sprintf("record %d of journal %s", at, j), err)
	}
	return b.events, nil
}
