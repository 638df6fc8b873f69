package pebble

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"timberline/events"
	"timberline/projections"
)

// A row of each kind is found by who opens the store, and no kind that there is not.
func TestRowsOfAllKindsAreFound(t *testing.T) {
	spaces := []string{"a", "a!b", "a/x", "a/y", "ab", "/days.1/ann", "trim/ann", "trim/bob", "z"}
	fs := vfs.NewMem()
	put := openMem(t, Options{FS: fs})
	for _, space := range spaces {
		if err := put.PutRows(t.Context(), []projections.Row{{Space: space, Key: "k", Checkpoint: 1}}); err != nil {
			t.Fatal(err)
		}
	}
	closed := func(s *Store) {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	closed(put)
	got := openMem(t, Options{FS: fs})
	defer closed(got)
	for _, space := range spaces {
		if row, err := got.GetRow(t.Context(), space, "k"); err != nil || row.Checkpoint != 1 {
			t.Errorf("row of %q: %+v, %v, want the one put", space, row, err)
		}
		if _, err := got.GetRow(t.Context(), space, "l"); !errors.Is(err, events.ErrNotFound) {
			t.Errorf("row of %q that was not put: %v, want ErrNotFound", space, err)
		}
	}
	for space, want := range map[string]bool{"a": true, "a!b": true, "ab/c": true, "": true, "trim": true, "aa": false, "tri": false, "rebuild": false, "zz": false} {
		if got.rowKinds.may(space) != want {
			t.Errorf("there may be rows in %q: %v, want %v", space, !want, want)
		}
	}
}

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

// A row that cannot be read is not one that is not there, also of a kind of which no other
// row says that there is any.
func TestDamagedRowIsNotTakenForNone(t *testing.T) {
	fs := vfs.NewMem()
	s := openMem(t, Options{FS: fs, OnFatal: func(error) {}})
	defer s.Close()
	if err := s.PutRows(t.Context(), []projections.Row{{Space: "trim/ann", Key: "first", Checkpoint: 7}}); err != nil {
		t.Fatal(err)
	}
	if err := s.db.Compact(t.Context(), []byte{0}, []byte{0xff}, false); err != nil { // so nothing is moved behind our back
		t.Fatal(err)
	}
	tables, err := s.tables()
	if err != nil {
		t.Fatal(err)
	}
	x := &specimen{t, fs}
	for _, table := range tables {
		x.flip(table, 8*20)
	}
	s.rowKinds = rowKinds{}
	s.rowKinds.read(s) // as it does when it is opened
	if row, err := s.GetRow(t.Context(), "trim/ann", "first"); !errors.Is(err, events.ErrCorrupt) {
		t.Errorf("%+v, %v; want ErrCorrupt", row, err)
	}
}
