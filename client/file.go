package client

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
)

// FileOptions say how a File keeps what it is given.
type FileOptions struct {
	// Sync makes Save wait until the changes are on stable storage, so that they
	// survive the death of the machine too, not only of the process.
	Sync bool
}

// A File is a Store in one file: a log of changes, written anew when most of it
// is of no use any more. It belongs to one process at a time.
//
// What Save returned nil for survives the death of the process at any moment.
// OpenFile takes a last record that was cut off for one that was never kept; any
// other damage is an error, since leaving out a change could send a message
// twice.
type File struct {
	path string
	sync bool

	mu    sync.Mutex
	f     *os.File // nil once closed
	size  int64    // of the good part
	base  int64    // size when the file was last written anew
	saved Saved
	err   error // the file cannot be trusted any more
}

// compactAt is the least size at which a file is written anew.
const compactAt = 256 << 10

// OpenFile opens the store in the file at path, which it creates if there is
// none. The folder must exist. It fails if another process has the file open.
func OpenFile(path string, o FileOptions) (*File, error) {
	s := &File{path: path, sync: o.Sync}
	if err := s.open(); err != nil {
		if s.f != nil {
			s.f.Close()
		}
		return nil, fmt.Errorf("device store %s: %w", path, err)
	}
	return s, nil
}

func (s *File) open() (err error) {
	if s.f, err = os.OpenFile(s.path, os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return err
	}
	if err := lock(s.f); err != nil {
		return err
	}
	if err := s.stillThere(); err != nil {
		return err
	}
	data, err := io.ReadAll(s.f)
	if err != nil {
		return err
	}
	good, err := replay(data, &s.saved)
	if err != nil {
		return err
	}
	if good < len(data) {
		if err := s.f.Truncate(int64(good)); err != nil {
			return err
		}
	}
	s.size, s.base = int64(good), int64(good)
	if good == 0 {
		return s.begin()
	}
	return nil
}

// stillThere fails if another process has put a new file in the place of the one
// that was opened.
func (s *File) stillThere() error {
	mine, err := s.f.Stat()
	if err != nil {
		return err
	}
	now, err := os.Stat(s.path)
	if err != nil {
		return err
	}
	if !os.SameFile(mine, now) {
		return ErrInUse
	}
	return nil
}

// begin writes the header of an empty file.
func (s *File) begin() error {
	if _, err := s.f.WriteAt([]byte(fileHeader), 0); err != nil {
		return err
	}
	s.size, s.base = int64(len(fileHeader)), int64(len(fileHeader))
	if !s.sync {
		return nil
	}
	if err := s.f.Sync(); err != nil {
		return err
	}
	return syncFolder(s.path)
}

// Load implements Store.
func (s *File) Load() (Saved, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.saved.clone(), nil
}

// errFileClosed says that a File is used after Close.
var errFileClosed = errors.New("is closed")

// Save implements Store. After an error that leaves it unknown what the file
// holds, every later Save fails, too.
func (s *File) Save(changes []Change) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.save(changes); err != nil {
		return fmt.Errorf("device store %s: %w", s.path, err)
	}
	return nil
}

func (s *File) save(changes []Change) error {
	switch {
	case s.f == nil:
		return errFileClosed
	case s.err != nil:
		return s.err
	}
	record := appendRecord(nil, changes)
	if _, err := s.f.WriteAt(record, s.size); err != nil {
		s.err = s.f.Truncate(s.size) // of what was written in part; nil: all is as it was
		return err
	}
	if s.sync {
		if err := s.f.Sync(); err != nil {
			s.err = fmt.Errorf("cannot tell what is on the disk: %w", err)
			return errors.Join(s.err, s.f.Truncate(s.size)) // so that it is not found there after all
		}
	}
	s.size += int64(len(record))
	for _, c := range changes {
		s.saved.Apply(c)
	}
	if s.size > compactAt && s.size > 4*s.base {
		s.compact()
	}
	return nil
}

// compact writes the file anew with what is still of use, and puts it in the
// place of the old one. If that fails the old one goes on being used.
func (s *File) compact() {
	s.base = s.size // even if it fails: do not try with every Save
	data := appendRecord([]byte(fileHeader), s.saved.changes())
	temp := s.path + ".new"
	f, err := os.OpenFile(temp, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return
	}
	if err := replaceFile(f, data, temp, s.path); err != nil {
		f.Close()
		os.Remove(temp)
		return
	}
	s.f.Close()
	s.f = f
	s.size, s.base = int64(len(data)), int64(len(data))
	if s.sync {
		s.err = syncFolder(s.path) // else the old file could come back
	}
}

// replaceFile fills f, which is at temp, and renames it. It takes the lock first,
// so that nobody else can between.
func replaceFile(f *os.File, data []byte, temp, path string) error {
	if err := lock(f); err != nil {
		return err
	}
	if _, err := f.Write(data); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return os.Rename(temp, path)
}

func syncFolder(path string) error {
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// Close implements Store. It may be called more than once.
func (s *File) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.f == nil {
		return nil
	}
	err := s.f.Close()
	s.f = nil
	return err
}
