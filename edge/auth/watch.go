package auth

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync/atomic"
	"time"
)

// watchEvery is how often files are looked at.
const watchEvery = 2 * time.Second

// A Watched is a value that files hold: Run reads them again when they change. As
// long as they are wrong it is what they held before.
type Watched[T any] struct {
	paths []string
	parse func(files [][]byte) (T, error)
	value atomic.Pointer[T]
	ask   chan chan<- error // to Run: read now

	// Of Run, once it runs.
	seen [sha256.Size]byte // what was read last
	err  error             // what is wrong with it
}

// Watch reads a value for the first time. The function that parses it gets what the
// files hold, read in the order of their paths: nil for a file that does not exist.
func Watch[T any](parse func(files [][]byte) (T, error), paths ...string) (*Watched[T], error) {
	w := &Watched[T]{paths: paths, parse: parse, ask: make(chan chan<- error)}
	if _, err := w.read(); err != nil {
		return nil, err
	}
	return w, nil
}

// watchOne watches a file that must exist.
func watchOne[T any](path string, parse func(data []byte) (T, error)) (*Watched[T], error) {
	return Watch(func(files [][]byte) (value T, err error) {
		if files[0] == nil {
			return value, fmt.Errorf("%s: there is no such file", path)
		}
		if value, err = parse(files[0]); err != nil {
			return value, fmt.Errorf("%s: %w", path, err)
		}
		return value, nil
	}, path)
}

// Get returns the value.
func (w *Watched[T]) Get() T { return *w.value.Load() }

// Run looks at the files every few seconds until ctx ends. What is wrong with them
// is logged once for each change.
func (w *Watched[T]) Run(ctx context.Context, logger *slog.Logger) error {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case answer := <-w.ask:
			changed, err := w.read()
			answer <- err // there is room
			w.tell(logger, changed, nil)
		case <-tick.C:
			changed, err := w.read()
			w.tell(logger, changed, err)
		}
	}
}

// tell logs a change, and what is wrong with it if nobody else is told.
func (w *Watched[T]) tell(logger *slog.Logger, changed bool, err error) {
	switch {
	case !changed:
	case err != nil:
		logger.Error("file was changed and is wrong: what it held before stays in force", "err", err)
	case w.err == nil:
		logger.Info("file was changed and read again", "path", w.paths[0])
	}
}

// Reload makes Run read the files now. Nil means that the value is what they hold;
// any other error than that of ctx says what is wrong with them.
func (w *Watched[T]) Reload(ctx context.Context) error {
	answer := make(chan error, 1)
	select {
	case w.ask <- answer:
		return <-answer
	case <-ctx.Done():
		return ctx.Err()
	}
}

// read reads the files, and the value if they are not as they were. The error is
// what is wrong with them, changed or not.
func (w *Watched[T]) read() (changed bool, err error) {
	files, sum, err := readFiles(w.paths)
	if sum == w.seen {
		return false, w.err
	}
	w.seen = sum
	var value T
	if err == nil {
		value, err = w.parse(files)
	}
	if w.err = err; err == nil {
		w.value.Store(&value)
	}
	return true, err
}

// readFiles returns what files hold, nil for those that do not exist, and a sum
// that is another one when anything has changed, the error included.
func readFiles(paths []string) (files [][]byte, sum [sha256.Size]byte, err error) {
	h := sha256.New()
	for _, path := range paths {
		data, err2 := os.ReadFile(path)
		if errors.Is(err2, fs.ErrNotExist) {
			data, err2 = nil, nil
		}
		fmt.Fprintf(h, "%t %d %v\n", data == nil, len(data), err2)
		h.Write(data)
		files, err = append(files, data), errors.Join(err, err2)
	}
	h.Sum(sum[:0])
	return files, sum, err
}
