package pebble

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"timberline/events"
)

// killed returns the folder of a store whose process was killed: of what it synced all is
// there, and the mark says so.
func killed(t *testing.T, fs *vfs.MemFS, write func(s *Store)) *specimen {
	t.Helper()
	s := openMem(t, Options{FS: fs})
	write(s)
	x := (&specimen{t, fs}).clone()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return x
}

// appendTo appends the records of a specimen.
func appendTo(t *testing.T, s *Store, from, upto events.Offset) {
	t.Helper()
	for at := from; at <= upto; at++ {
		if _, err := s.Append(t.Context(), "j:1", at, specimenRecord(at)); err != nil {
			t.Fatal(err)
		}
	}
}

func (x *specimen) wantDamage(file, how string) {
	x.t.Helper()
	n, err := x.records()
	if !errors.Is(err, events.ErrCorrupt) || !strings.Contains(err.Error(), file) || !strings.Contains(err.Error(), "restore the folder") || strings.Contains(err.Error(), "\n") {
		x.t.Errorf("%s, %s: %d records, %v; want ErrCorrupt that names it", file, how, n, err)
	}
}

// No crash takes what was synced, so a log that lacks it was cut off, wherever that is.
func TestLogThatWasCutOffIsFound(t *testing.T) {
	x := killed(t, vfs.NewMem(), func(s *Store) { appendTo(t, s, 1, 60) })
	log, chunks := x.lastLog()
	end := int(readMark(x.fs, "data").logs[0].durable)
	if end <= chunks[len(chunks)-1] {
		t.Fatalf("%s is marked up to %d, its last batch is at %d", log, end, chunks[len(chunks)-1])
	}
	for _, size := range append(slices.Clone(chunks), 0, 1, chunks[3]+5, tailBlock, end-1) {
		if size >= end {
			continue
		}
		short := x.clone()
		short.cut(log, size)
		short.wantDamage(log, fmt.Sprint("cut to ", size))
	}
	unmarked := x.clone() // as in a backup, or after a crash that has left an older mark
	unmarked.cut(log, chunks[30])
	if err := unmarked.fs.Remove("data/" + markFile); err != nil {
		t.Fatal(err)
	}
	if n, err := unmarked.records(); n == 0 || n >= 60 || err != nil {
		t.Errorf("without a mark: %d records, %v; a log that ends early is all that can be seen", n, err)
	}
}

// Behind the last batch of a log, and the last edit of a manifest, nothing stands that
// says they were whole.
func TestDamageToTheLastBatchAndTheLastEditIsFound(t *testing.T) {
	x := killed(t, vfs.NewMem(), func(s *Store) {
		appendTo(t, s, 1, 30)
		if err := s.db.Flush(); err != nil {
			t.Fatal(err)
		}
		appendTo(t, s, 31, 60)
	})
	known := readMark(x.fs, "data")
	log, chunks := x.lastLog()
	for at := chunks[len(chunks)-1]; at < int(known.logs[0].durable); at++ {
		damaged := x.clone()
		damaged.flip(log, 8*at+at%8)
		damaged.wantDamage(log, fmt.Sprintf("byte %d flipped", at))
	}
	manifest := fmt.Sprintf("MANIFEST-%06d", known.manifest.number)
	for at := range len(x.read(manifest)) {
		damaged := x.clone()
		damaged.flip(manifest, 8*at+at%8)
		damaged.wantDamage(manifest, fmt.Sprintf("byte %d flipped", at))
		damaged = x.clone()
		damaged.cut(manifest, at)
		damaged.wantDamage(manifest, fmt.Sprint("cut to ", at))
	}
}

// A slowFS makes no table until it may.
type slowFS struct {
	vfs.FS
	may chan struct{}
}

func (f *slowFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if strings.HasSuffix(name, ".sst") {
		<-f.may
	}
	return f.FS.Create(name, c)
}

// Two logs are needed while a memtable waits to be flushed. Pebble takes the end of the
// older one for its end, if that is between two batches.
func TestOlderLogThatWasCutOffIsFound(t *testing.T) {
	mem := vfs.NewMem()
	fs := &slowFS{FS: mem, may: make(chan struct{}, 1000)}
	fs.may <- struct{}{} // for the table of a new store
	s, err := Open("data", Options{FS: fs})
	if err != nil {
		t.Fatal(err)
	}
	appendTo(t, s, 1, 40)
	older, chunks := (&specimen{t, mem}).lastLog()
	if _, err := s.db.AsyncFlush(); err != nil {
		t.Fatal(err)
	}
	appendTo(t, s, 41, 60)
	x := (&specimen{t, mem}).clone()
	close(fs.may)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if newest, _ := x.lastLog(); newest == older {
		t.Fatal("there is only one log")
	}
	if n, err := x.clone().records(); n != 60 || err != nil {
		t.Fatalf("whole: %d records, %v", n, err)
	}
	for _, size := range append(slices.Clone(chunks), chunks[20]+5) {
		short := x.clone()
		short.cut(older, size)
		short.wantDamage(older, fmt.Sprint("cut to ", size))
	}
	for i, at := range chunks {
		damaged := x.clone()
		damaged.flip(older, 8*(at+7)) // of the log's number: it may look like an end
		damaged.wantDamage(older, fmt.Sprint("the number of chunk ", i, " flipped"))
	}
}

// A mark that is torn, or damaged, says nothing, and the store opens.
func TestMarkThatCannotBeReadSaysNothing(t *testing.T) {
	x := killed(t, vfs.NewMem(), func(s *Store) { appendTo(t, s, 1, 60) })
	for at := range markSize {
		damaged := x.clone()
		damaged.flip(markFile, 8*at+at%8)
		cut := x.clone()
		cut.cut(markFile, at)
		for _, y := range []*specimen{damaged, cut} {
			if m := readMark(y.fs, "data"); m != (mark{}) {
				t.Fatalf("byte %d: it says %+v", at, m)
			}
			if n, err := y.records(); n != 60 || err != nil {
				t.Fatalf("byte %d: %d records, %v", at, n, err)
			}
		}
	}
}

// FuzzMark reads whatever stands as a mark: it is written as it was, or says nothing.
func FuzzMark(f *testing.F) {
	m := mark{manifest: extent{1, 2}, logs: [4]extent{{7, 1 << 40}, {5, 9}}}
	f.Add(m.encode(), uint64(7), uint64(3), true)
	f.Add([]byte("short"), uint64(0), uint64(0), false)
	f.Fuzz(func(t *testing.T, data []byte, number, durable uint64, isLog bool) {
		m, whole := decodeMark(data)
		if whole != bytes.Equal(m.encode(), data) || !whole && m != (mark{}) {
			t.Fatalf("%x was read as %+v, %v", data, m, whole)
		}
		is := markedFile{isLog, number}
		m.note(is, durable)
		if m.durable(is) != durable {
			t.Fatalf("%+v does not say that %+v is durable up to %d", m, is, durable)
		}
		if m.forget(is); m.durable(is) != 0 {
			t.Fatalf("%+v still says something of %+v", m, is)
		}
	})
}

// A file whose name a crash has taken back is made again, with less in it: what the mark says
// of the one before does not count.
func TestMarkForgetsAFileThatIsMadeAgain(t *testing.T) {
	for _, name := range []string{"MANIFEST-000005", "000005.log"} {
		mem := vfs.NewCrashableMem()
		m := &markingFS{FS: mem, dir: "data"}
		if err := makeFolder(mem, "data"); err != nil {
			t.Fatal(err)
		}
		is, _ := markedName(name)
		m.note(is, 100)
		if err := m.file.Sync(); err != nil {
			t.Fatal(err)
		}
		if err := syncFolder(mem, "data"); err != nil {
			t.Fatal(err)
		}
		f, err := m.Create("data/"+name, vfs.WriteCategoryUnspecified)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		for how, mark := range map[string]mark{"now": m.known(), "after a crash": readMark(mem.CrashClone(vfs.CrashCloneCfg{}), "data")} {
			if n := mark.durable(is); n > 0 {
				t.Errorf("%s: %s is made again, and durable up to %d %s", name, name, n, how)
			}
		}
		m.Close()
	}
}
