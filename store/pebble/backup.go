package pebble

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/cockroachdb/pebble/v2"

	"timberline/migrations"
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

func (s *Store) backup(dir string) error {
	disk := s.o.FS
	if _, err := disk.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		return errors.Join(errors.New("it exists: name a folder that does not"), err)
	}
	part := dir + ".part" // of an earlier try, perhaps
	if err := disk.RemoveAll(part); err != nil {
		return err
	}
	if err := disk.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return err
	}
	if err := s.db.Checkpoint(part, pebble.WithFlushedWAL()); err != nil {
		return foundError(err)
	}
	copied, err := Open(part, Options{FS: disk, Restored: true, Logger: s.o.Logger})
	if err == nil {
		err = copied.SetPhase(context.Background(), migrations.Copied)
		err = errors.Join(err, copied.Close())
	}
	if err != nil {
		return err
	}
	if err := disk.Rename(part, dir); err != nil {
		return err
	}
	parent, err := disk.OpenDir(filepath.Dir(dir))
	if err != nil {
		return err
	}
	return errors.Join(parent.Sync(), parent.Close())
}
