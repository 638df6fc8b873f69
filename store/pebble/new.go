package pebble

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"timberline/events"
	"timberline/migrations"
)

// Pebble takes a folder without a manifest's marker, an empty file, for one that is new,
// and deletes the tables in it. A copy that was interrupted may be such a folder. So here a
// folder is new if nothing is in it, or while the file NEW is:
//
//	NEW  marker  description  the folder
//	-    -       -            is new if it is empty; else what is in it is no store, or part of one
//	yes  any     -            a store is being made: nothing was acknowledged, so it is made again
//	yes  yes     yes          it was made, and a crash came before NEW was taken away
//	-    yes     -            is damaged
//	-    yes     yes          has a store
//
// NEW is durable before anything else is in the folder, and is taken away when what the
// store is is durable (Store.Record).
const newFile = "NEW"

// ErrNoStore says that a folder has no store, where one is asked for by Options.MustExist.
var ErrNoStore = errors.New("there is no store")

var (
	errPieces      = fmt.Errorf("%w: what is in it is no whole store: the marker of its manifest is missing", events.ErrCorrupt)
	errUndescribed = fmt.Errorf("%w: the description of the store is missing", events.ErrCorrupt)
)

// A content is what is in a store's folder.
type content uint8

const (
	empty  content = iota
	making         // a store that is not made yet, perhaps
	pieces         // of a store, or of anything else
	store
)

// lookInto tells what is in the folder, and whether it can be locked without putting a file
// there.
func (s *Store) lookInto() (c content, lockable bool, err error) {
	names, err := s.o.FS.List(s.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return empty, false, nil
	}
	if err != nil {
		return empty, false, err
	}
	lockable = slices.Contains(names, lockFile)
	marked := slices.ContainsFunc(names, func(n string) bool { return strings.HasPrefix(n, manifestMarker) })
	switch {
	case slices.Contains(names, newFile):
		c = making
	case marked:
		c = store
	case len(names) == 0, lockable && len(names) == 1:
		c = empty
	default:
		c = pieces
	}
	return c, lockable, nil
}

const (
	lockFile       = "LOCK"
	manifestMarker = "marker.manifest."
)

// enter locks the folder if it has a store, or if one is to be made there. Where there is
// neither it leaves it as it is.
func (s *Store) enter() (c content, err error) {
	c, lockable, err := s.lookInto()
	if err != nil {
		return c, err
	}
	if c == empty && !lockable {
		switch _, err := s.o.FS.Stat(s.dir + Unfinished); {
		case err == nil:
			return c, errUnfinished
		case s.o.MustExist:
			return c, ErrNoStore
		}
		if err := makeFolder(s.o.FS, s.dir); err != nil {
			return c, err
		}
	}
	if c == pieces && !lockable {
		return c, errPieces
	}
	if s.lock, err = pebble.LockDirectory(s.dir, s.o.FS); err != nil {
		return c, err
	}
	c, _, err = s.lookInto() // until now another process may have worked on it
	switch {
	case err != nil:
		return c, err
	case c == pieces:
		return c, errPieces
	case c != empty:
		return c, nil
	case s.o.MustExist:
		return c, ErrNoStore
	}
	return making, writeFile(s.o.FS, s.o.FS.PathJoin(s.dir, newFile), "A store is being made here; nothing is in it yet.\n")
}

// check holds what the store says of itself against what was in the folder.
func (s *Store) check(c content) error {
	described := s.meta.format > 0
	switch {
	case c == making && described:
		return s.made()
	case c == making && s.o.MustExist:
		return ErrNoStore
	case c == store && !described:
		return errUndescribed
	}
	return nil
}

// made says that the store is made: what it is is durable.
func (s *Store) made() error { return removeFile(s.o.FS, s.o.FS.PathJoin(s.dir, newFile)) }

// Phase tells how far the restore of the store is, of one that is opened to be restored.
func (s *Store) Phase() migrations.Phase { return s.meta.phase }

// New reports whether the store was made when it was opened.
func (s *Store) New() bool { return s.isNew }

// writeFile makes a file, durably.
func writeFile(disk vfs.FS, path, text string) error {
	f, err := disk.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = io.WriteString(f, text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return syncFolder(disk, disk.PathDir(path))
}

// removeFile removes a file, durably, if there is one.
func removeFile(disk vfs.FS, path string) error {
	err := disk.Remove(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return errors.Join(err, syncFolder(disk, disk.PathDir(path)))
}
