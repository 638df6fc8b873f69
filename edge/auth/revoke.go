package auth

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// Revoke adds a revocation to the list at path. Nil means that it is on stable
// storage. A list that is wrong stays as it is: the revocation would have no effect.
func Revoke(path string, r Revocation, now time.Time) error {
	if err := r.Validate(); err != nil {
		return err
	}
	line := fmt.Sprintf("%v # %s\n", r, now.UTC().Format(time.RFC3339))
	return alone(path, func() error { return appendLine(path, line) })
}

func appendLine(path, line string) (err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	data, err := io.ReadAll(f)
	if err != nil {
		return err
	}
	if _, err := ParseRevocations(data); err != nil {
		return fmt.Errorf("%s, %w: mend the list first, nothing was added", path, err)
	}
	if n := len(data); n > 0 && data[n-1] != '\n' {
		line = "\n" + line
	}
	if _, err := f.WriteString(line); err != nil {
		return errors.Join(err, f.Truncate(int64(len(data)))) // no half a line
	}
	return errors.Join(f.Sync(), syncFolder(path))
}
