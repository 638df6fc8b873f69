package pebble

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What is said of a damaged table has its number, and no other.
func TestDamagedTableIsNamedByItsNumber(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	s, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.db.Compact(t.Context(), []byte{0}, []byte{0xff}, false); err != nil { // then nothing else reads it
		t.Fatal(err)
	}
	names, err := s.tables()
	if err != nil || len(names) == 0 {
		t.Fatalf("%v, %v", names, err)
	}
	f, err := os.OpenFile(filepath.Join(dir, names[0]), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 1)
	_, err = f.ReadAt(b, 5)
	if err == nil {
		_, err = f.WriteAt([]byte{b[0] ^ 1}, 5)
	}
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	var found []string
	if _, err := s.Scrub(t.Context(), func(file string, err error) { found = append(found, file+" "+err.Error()) }); err != nil {
		t.Fatal(err)
	}
	if number := strings.TrimSuffix(names[0], ".sst"); len(found) != 1 || !strings.Contains(found[0], "pebble: file "+number) || strings.Contains(found[0], "000000") {
		t.Errorf("%q, want the damage in file %s", found, number)
	}
}
