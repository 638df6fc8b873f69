package pebble

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"timberline/events"
)

// FuzzStoredRow reads whatever stands where rows do: it is damage, or what a row is
// written as.
func FuzzStoredRow(f *testing.F) {
	f.Add([]byte("p/days.1/ann\x002026-01-01"), append(make([]byte, 7), "\x09data"...))
	f.Add([]byte("without"), make([]byte, 8))
	f.Add([]byte("s\x00"), make([]byte, 7))
	f.Fuzz(func(t *testing.T, key, value []byte) {
		key = append([]byte{'p'}, key...)
		row, err := rowOf(key, value)
		if err != nil {
			if !errors.Is(err, events.ErrCorrupt) {
				t.Fatalf("%v, want ErrCorrupt", err)
			}
			return
		}
		again := append(binary.BigEndian.AppendUint64(nil, uint64(row.Checkpoint)), row.Data...)
		if !bytes.Equal(rowKey(row.Space, row.Key), key) || !bytes.Equal(again, value) {
			t.Fatalf("%x: %x was read as %+v", key, value, row)
		}
	})
}
