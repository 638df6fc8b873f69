package auth

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// create writes a file that does not exist yet, whole or not at all, for its
// owner only.
func create(path string, data []byte) error {
	return write(path, data, func(made string) error {
		if err := os.Link(made, path); !errors.Is(err, fs.ErrExist) {
			return err
		}
		return nil
	})
}

// replace writes a file in the place of the one that is there, whole or not at all,
// for its owner only.
func replace(path string, data []byte) error {
	return write(path, data, func(made string) error { return os.Rename(made, path) })
}

// write makes a file beside path, and puts it into its place.
func write(path string, data []byte, put func(made string) error) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".key-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := put(f.Name()); err != nil {
		return err
	}
	return syncFolder(path)
}

// syncFolder makes the names in a file's folder durable.
func syncFolder(path string) error {
	folder, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}

// alone does something while no other process does so with files of the same
// folder.
func alone(path string, do func() error) error {
	folder, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer folder.Close() // and so the lock is gone
	if err := syscall.Flock(int(folder.Fd()), syscall.LOCK_EX); err != nil {
		return &fs.PathError{Op: "lock", Path: folder.Name(), Err: err}
	}
	return do()
}
