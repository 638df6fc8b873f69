package client

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"timberline/events/fields"
	"timberline/wire"
)

// A file begins with fileHeader, the last byte of which is the format's version.
// Records follow:
//
//	0          4                8             12
//	+----------+----------------+-------------+--------------------+
//	| length   | CRC-32C of the | CRC-32C of  | protobuf:          |
//	|          | length         | the changes | repeated change = 1|
//	+----------+----------------+-------------+--------------------+
//
// The length has a checksum of its own: without it a damaged length would look
// like the end of a record that was cut off, and what follows would be lost in
// silence.
const (
	fileHeader   = "timberline device\n\x01"
	recordHeader = 12
)

// errDamaged says that a file is not what this package wrote.
var errDamaged = errors.New("damaged: restore it, or move it away to begin anew (unsent messages in it are lost)")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// changeList is the message in a record.
type changeList struct{ changes []Change }

// Fields lists the one field of a record.
func (l *changeList) Fields(v fields.Visitor) { fields.List(v, 1, "change", &l.changes) }

// appendRecord appends one record with changes.
func appendRecord(b []byte, changes []Change) []byte {
	at := len(b)
	b = fields.Append(append(b, make([]byte, recordHeader)...), &changeList{changes})
	h := b[at : at+recordHeader]
	payload := b[at+recordHeader:]
	binary.BigEndian.PutUint32(h, uint32(len(payload)))
	binary.BigEndian.PutUint32(h[4:], crc32.Checksum(h[:4], castagnoli))
	binary.BigEndian.PutUint32(h[8:], crc32.Checksum(payload, castagnoli))
	return b
}

// replay applies a file's changes to s. It returns how much of the file is good:
// less than all if the last record was cut off, 0 for an empty file. The error
// wraps errDamaged.
func replay(data []byte, s *Saved) (good int, err error) {
	if len(data) < len(fileHeader) && string(data) == fileHeader[:len(data)] {
		return 0, nil
	}
	if kind := len(fileHeader) - 1; len(data) > kind && string(data[:kind]) == fileHeader[:kind] && data[kind] != fileHeader[kind] {
		return 0, fmt.Errorf("format version %d, this program reads %d: use the version that wrote it, or a newer one; if none has, it is %w", data[kind], fileHeader[kind], errDamaged)
	}
	if !bytes.HasPrefix(data, []byte(fileHeader)) {
		return 0, fmt.Errorf("header is not that of a device's store: %w", errDamaged)
	}
	for at := len(fileHeader); at < len(data); {
		changes, n, err := readRecord(data[at:])
		if err != nil {
			return 0, fmt.Errorf("record at byte %d: %w", at, err)
		}
		if n == 0 {
			return at, nil
		}
		for _, c := range changes {
			s.Apply(c)
		}
		at += n
	}
	return len(data), nil
}

// readRecord returns the changes of the first record and its size; size 0 means
// that it was cut off: the file ends in it, or it is the last and was not filled,
// or not from its start, before the machine died.
func readRecord(b []byte) (changes []Change, size int, err error) {
	if len(b) < recordHeader || zeros(b[recordHeader:]) || zeros(b[:recordHeader]) && !hasRecord(b) {
		return nil, 0, nil
	}
	if crc32.Checksum(b[:4], castagnoli) != binary.BigEndian.Uint32(b[4:]) {
		return nil, 0, fmt.Errorf("length: %w", errDamaged)
	}
	size = recordHeader + int(binary.BigEndian.Uint32(b))
	if size > len(b) {
		return nil, 0, nil
	}
	payload := b[recordHeader:size]
	if crc32.Checksum(payload, castagnoli) != binary.BigEndian.Uint32(b[8:]) {
		if size == len(b) {
			return nil, 0, nil
		}
		return nil, 0, errDamaged
	}
	var l changeList
	if err := fields.Unmarshal(payload, &l); err != nil {
		return nil, 0, fmt.Errorf("%w: %w", errDamaged, err)
	}
	return l.changes, size, nil
}

// hasRecord reports whether a whole record begins anywhere in b.
func hasRecord(b []byte) bool {
	for ; len(b) >= recordHeader; b = b[1:] {
		if crc32.Checksum(b[:4], castagnoli) != binary.BigEndian.Uint32(b[4:]) {
			continue
		}
		size := recordHeader + int(binary.BigEndian.Uint32(b))
		if size <= len(b) && crc32.Checksum(b[recordHeader:size], castagnoli) == binary.BigEndian.Uint32(b[8:]) {
			return true
		}
	}
	return false
}

func zeros(b []byte) bool { return len(bytes.Trim(b, "\x00")) == 0 }

// changes returns the changes that lead from nothing to s.
func (s *Saved) changes() []Change {
	all := []Change{{Cursor: &s.Cursor}}
	if s.Session != (wire.OldSession{}) {
		all = append(all, Change{Session: &SavedBegin{Session: s.Session}})
	}
	for i := range s.Sends {
		all = append(all, Change{Send: &s.Sends[i]})
	}
	return all
}
