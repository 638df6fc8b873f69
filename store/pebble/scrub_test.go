package pebble

import (
	"context"
	"crypto/rand"
	"errors"
	"io/fs"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"timberline/events"
	"timberline/projections"
)

// A hastyFS has something done before a table is opened, once.
type hastyFS struct {
	vfs.FS
	before func(path string)
}

func (f *hastyFS) Open(path string, o ...vfs.OpenOption) (vfs.File, error) {
	if do := f.before; do != nil && strings.HasSuffix(path, ".sst") {
		f.before = nil
		do(path)
	}
	return f.FS.Open(path, o...)
}

// A table that is not there is damage, unless a compaction has made others of it since.
func TestScrubNamesTablesThatAreMissing(t *testing.T) {
	disk := &hastyFS{FS: vfs.NewMem()}
	s := openMem(t, Options{FS: disk, OnFatal: func(error) {}})
	defer s.Close()
	compact := func() (tables []string) {
		row := projections.Row{Space: "p/per-day.1/ann", Key: rand.Text(), Checkpoint: 1}
		if err := s.PutRows(t.Context(), []projections.Row{row}); err != nil {
			t.Fatal(err)
		}
		if err := s.db.Compact(context.Background(), []byte{0}, []byte{0xff}, false); err != nil {
			t.Fatal(err)
		}
		tables, err := s.tables()
		if err != nil || len(tables) == 0 {
			t.Fatal(tables, err)
		}
		return tables
	}
	scrub := func() (named []string) {
		_, err := s.Scrub(t.Context(), func(file string, err error) {
			if named = append(named, file); !errors.Is(err, events.ErrCorrupt) {
				t.Errorf("%s: %v, want ErrCorrupt", file, err)
			}
		})
		if err != nil {
			t.Error(err)
		}
		return named
	}
	remove := func(path string) {
		if err := disk.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Error(err)
		}
	}
	compact()
	disk.before = func(path string) { compact(); remove(path) }
	if named := scrub(); len(named) > 0 {
		t.Errorf("%q are named, which were compacted meanwhile", named)
	}
	table := compact()[0]
	remove("data/" + table)
	if named := scrub(); len(named) != 1 || named[0] != table {
		t.Errorf("%q are named, want %s, which is missing", named, table)
	}
}

// A tornFS gives who reads the log first what was there before some of it was written, with
// what was written behind that meanwhile, as a disk may: a read is no moment.
type tornFS struct {
	vfs.FS
	write func() (from uint64) // nil: no more
}

func (f *tornFS) Open(path string, o ...vfs.OpenOption) (vfs.File, error) {
	file, err := f.FS.Open(path, o...)
	if write := f.write; err == nil && write != nil && strings.HasSuffix(path, ".log") {
		f.write = nil
		return &tornFile{file, int(write())}, nil
	}
	return file, err
}

type tornFile struct {
	vfs.File
	from int
}

func (f *tornFile) Read(p []byte) (int, error) {
	n, err := f.File.Read(p)
	for i := max(f.from, 0); i < min(f.from+2, n); i++ {
		p[i] ^= 0xff
	}
	f.from -= n
	return n, err
}

// What is written while it is read is no damage.
func TestScrubIsNoMoment(t *testing.T) {
	disk := &tornFS{FS: vfs.NewMem()}
	s := openMem(t, Options{FS: disk})
	defer s.Close()
	appendTo(t, s, 1, 5)
	disk.write = func() uint64 {
		known := s.marks.known()
		appendTo(t, s, 6, 6+2*maxUnsynced)
		return known.logs[0].durable + logChunk // behind the header of the next
	}
	if _, err := s.Scrub(t.Context(), func(file string, err error) { t.Errorf("%s: %v", file, err) }); err != nil {
		t.Error(err)
	}
	if disk.write != nil {
		t.Error("the log was not read")
	}
}
