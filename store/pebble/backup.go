package pebble

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"

	"timberline/sim/planted"
)

// Backup copies the store as it is at one moment into a folder that does not exist, while
// it is in use. The copy is marked: nobody opens it but migrations.Restore, which gives it
// an id of its own. Files that do not change are linked, so on the same disk it takes
// little time and room. What was acknowledged before Backup was called is in the copy.
func (s *Store) Backup(dir string) error {
	if err := s.backup(dir); err != nil {
		return fmt.Errorf("back up to %s: %w", dir, err)
	}
	return nil
}

// Unfinished ends the name of the folder that a backup has until it is whole.
const Unfinished = ".part"

// errUnfinished says that there is no store but half a backup. An empty one in its place
// would be taken for what was backed up.
var errUnfinished = errors.New("it has a backup that was interrupted, and no store: make the backup again, or remove the folder")

func (s *Store) backup(dir string) error {
	s.backingUp <- struct{}{} // one that goes on though its command has ended is not disturbed by the next
	defer func() { <-s.backingUp }()
	disk := s.o.FS
	if _, err := disk.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		return errors.Join(errors.New("it exists: name a folder that does not"), err)
	}
	part := dir + Unfinished // of an earlier try, perhaps
	if err := disk.RemoveAll(part); err != nil {
		return err
	}
	if err := makeFolder(disk, filepath.Dir(dir)); err != nil {
		return err
	}
	err := s.checkpoint(part)
	if planted.Is(planted.BackupWithoutLog) {
		names, _ := disk.List(part)
		for _, name := range names {
			if strings.HasSuffix(name, ".log") {
				err = errors.Join(err, disk.Remove(disk.PathJoin(part, name)))
			}
		}
	}
	if err == nil {
		err = markCopy(disk, part)
	}
	if err != nil {
		return errors.Join(foundError(err), disk.RemoveAll(part))
	}
	if err := disk.Rename(part, dir); err != nil {
		return err
	}
	return syncFolder(disk, filepath.Dir(dir))
}

// checkpoint copies the store as it is at one moment. Until its first change of tables since
// it was opened, Pebble (2.1.7) has begun no manifest, and copies as much of the one before:
// nothing. That change comes soon after, but maybe not soon enough.
func (s *Store) checkpoint(dir string) error {
	if err := s.flushLog(); err != nil {
		return err
	}
	err := s.db.Checkpoint(dir)
	if err != nil {
		return err
	}
	whole, err := hasManifest(s.o.FS, dir)
	if err != nil || whole {
		return err
	}
	err = s.putMeta(s.db.NewBatch(), s.meta) // or there may be nothing to flush
	if err == nil {
		err = s.db.Flush()
	}
	if err == nil {
		err = s.o.FS.RemoveAll(dir)
	}
	if err != nil {
		return err
	}
	return s.db.Checkpoint(dir)
}

// flushLog makes all durable that was written, by one of the batches that may be on their way.
func (s *Store) flushLog() error {
	b := s.db.NewBatch()
	if err := b.LogData(nil, nil); err != nil {
		return errors.Join(err, b.Close())
	}
	return s.write(b)
}

// hasManifest reports whether a copy has a manifest that is not empty.
func hasManifest(disk vfs.FS, dir string) (bool, error) {
	names, err := disk.List(dir)
	if err != nil {
		return false, err
	}
	for _, name := range names {
		if !strings.HasPrefix(name, "MANIFEST-") {
			continue
		}
		if info, err := disk.Stat(disk.PathJoin(dir, name)); err != nil || info.Size() > 0 {
			return err == nil, err
		}
	}
	return false, nil
}

// copyFile is the name of a file that marks a copy: until it has an id of its own.
const copyFile = "COPY"

// markCopy marks a folder as a copy. That is done without opening the store in it: its disk may
// be full, and a store that opens would try again and again.
func markCopy(disk vfs.FS, dir string) error {
	return writeFile(disk, disk.PathJoin(dir, copyFile),
		"This is a copy of a store. Before it is served: timberline migrate restored --data FOLDER, with the folder that this one is in.\n")
}

// isCopy reports whether the store's folder is marked.
func (s *Store) isCopy() (bool, error) {
	_, err := s.o.FS.Stat(s.o.FS.PathJoin(s.dir, copyFile))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// unmark takes the mark away, if there is one.
func (s *Store) unmark() error { return removeFile(s.o.FS, s.o.FS.PathJoin(s.dir, copyFile)) }

// makeFolder makes a folder and those above it where they are missing, durably.
func makeFolder(disk vfs.FS, dir string) error {
	if _, err := disk.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	above := filepath.Dir(dir)
	if err := makeFolder(disk, above); err != nil {
		return err
	}
	if err := disk.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return syncFolder(disk, above)
}

// syncFolder makes durable what was made in a folder.
func syncFolder(disk vfs.FS, dir string) error {
	f, err := disk.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
