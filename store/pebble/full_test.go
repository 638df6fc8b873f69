package pebble

import (
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"timberline/events"
)

// A narrow disk has room for so many bytes more in logs. Of a write that finds less, what there
// is room for is written.
type narrow struct {
	vfs.FS
	room atomic.Int64
}

func (d *narrow) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := d.FS.Create(name, c)
	if err != nil || !strings.HasSuffix(name, ".log") {
		return f, err
	}
	return narrowFile{f, d}, nil
}

func (d *narrow) ReuseForWrite(from, to string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := d.FS.ReuseForWrite(from, to, c)
	if err != nil {
		return nil, err
	}
	return narrowFile{f, d}, nil
}

type narrowFile struct {
	vfs.File
	disk *narrow
}

func (f narrowFile) Write(b []byte) (int, error) {
	left := f.disk.room.Add(-int64(len(b)))
	if left >= 0 {
		return f.File.Write(b)
	}
	n, err := f.File.Write(b[:max(int64(len(b))+left, 0)])
	return n, errors.Join(err, syscall.ENOSPC)
}

// What a full disk has left of a write is no damage: it was not acknowledged.
func TestFullDiskLeavesAFolderThatOpens(t *testing.T) {
	for name, end := range map[string]func(*Store, *vfs.MemFS) *vfs.MemFS{
		"as the store is closed": func(s *Store, fs *vfs.MemFS) *vfs.MemFS {
			if err := s.Close(); !errors.Is(err, syscall.ENOSPC) {
				t.Errorf("close: %v, want that there is no room", err)
			}
			return fs
		},
		"as a record is appended": func(s *Store, fs *vfs.MemFS) *vfs.MemFS {
			if _, err := s.Append(t.Context(), "j:1", 11, events.Record(strings.Repeat("x", 300))); err == nil {
				t.Error("an append without room succeeds")
			}
			return fs
		},
	} {
		for _, before := range []events.Offset{0, 5, 10} { // in the log that was there as the store was opened
			for room := int64(0); room < 120; room += 7 {
				mem := vfs.NewMem()
				disk := &narrow{FS: mem}
				disk.room.Store(1 << 30)
				o := Options{FS: disk, OnFatal: func(error) {}}
				s := openMem(t, o)
				appendTo(t, s, 1, before)
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				s = openMem(t, o)
				appendTo(t, s, before+1, 10)
				disk.room.Store(room)
				if n, err := (&specimen{t, end(s, mem)}).clone().records(); n != 10 || err != nil {
					t.Errorf("%s, %d records after %d, with room for %d bytes: %d records, %v, want all 10", name, 10-before, before, room, n, err)
				}
			}
		}
	}
}

// Who waits for what others wrote learns, too, that it will never be durable: the process ends.
func TestReaderDoesNotWaitForASyncThatFailed(t *testing.T) {
	fatal := make(chan error, 10)
	disk := &narrow{FS: vfs.NewMem()}
	disk.room.Store(1 << 30)
	s := openMem(t, Options{FS: disk, OnFatal: func(err error) { fatal <- err }})
	defer s.Close()
	disk.room.Store(0)
	if _, err := s.Append(t.Context(), "j:1", 1, events.Record("x")); !errors.Is(err, events.ErrFatal) {
		t.Errorf("append: %v, want ErrFatal", err)
	}
	if len(fatal) == 0 {
		t.Fatal("the process goes on: who reads what it can see waits for ever")
	}
	if err := <-fatal; !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("the process ends with %v, want that there is no room", err)
	}
}

// Whoever comes first to see that the log has failed says why.
func TestProcessEndsWithTheCauseWhoeverFindsIt(t *testing.T) {
	for room := range int64(200) {
		fatal := make(chan error, 100)
		disk := &narrow{FS: vfs.NewMem()}
		disk.room.Store(1 << 30)
		s := openMem(t, Options{FS: disk, OnFatal: func(err error) { fatal <- err }})
		disk.room.Store(2000 + room)
		var writers sync.WaitGroup
		for w := range 12 {
			writers.Go(func() {
				for at := events.Offset(1); ; at++ {
					if _, err := s.Append(t.Context(), crashJournal(w), at, events.Record("x")); err != nil {
						return
					}
				}
			})
		}
		writers.Wait()
		s.Close()
		if err := <-fatal; !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("the process ends with %v, want that there is no room", err)
		}
	}
}
