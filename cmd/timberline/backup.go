package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"timberline/store/pebble"
)

var backupCommand = &command{
	name:    "backup",
	args:    "FOLDER",
	summary: "copy the store of a data folder, also while a server uses it",
	about: `
FOLDER, which does not exist yet or has what an interrupted backup has left, in one that does, becomes a data folder with the store as it is at one
moment: what was acknowledged before is in it. Files that do not change are linked, so on
the same disk it takes a moment, and little room at first; copy it to another disk then.
Keys are not in it: keep token.key and server.key (and token.key.old and server.key.old, which
are there during a rotation), edge.secret and revoked apart. It is not read while it is
made: damage is copied, too. timberline verify --data FOLDER reads all of it.

To restore, put the keys beside the store in the copy, run

  timberline migrate restored --data FOLDER

which gives it an id of its own, and serve it. Clients read their timelines anew then, and
lose nothing that the copy has. Before that nobody can serve it by mistake.

Tables of DynamoDB are backed up by AWS: see docs/operations.md.`,
	example: "timberline backup /var/backups/timberline-2026-01-31",
	run: func(ctx context.Context, c *call) error {
		var w worker
		var do backupWork
		w.c, w.engine = c, enginePebble
		c.flags.StringVar(&w.data, "data", defaultData, "the server's data `folder`")
		c.flags.BoolVar(&w.json, "json", false, "print a line of JSON")
		words, err := c.parseWords(1)
		if err != nil {
			return err
		}
		if len(words) != 1 {
			return &usageError{errors.New("want one folder, which does not exist yet")}
		}
		if do.Folder, err = filepath.Abs(words[0]); err != nil {
			return err
		}
		if isWithin(do.Folder, w.data) {
			return fmt.Errorf("%s is in the data folder %s, and would be lost with it: name a folder elsewhere, best on another disk", do.Folder, w.data)
		}
		return w.run(ctx, "backup", &do, nil)
	},
}

// A backupWork is where the copy goes.
type backupWork struct {
	Folder string `json:"folder"` // absolute
}

// A backedUp is a copy that was made.
type backedUp struct {
	Folder  string  `json:"folder"`
	Seconds float64 `json:"seconds"`
}

// String is the copy for people.
func (b *backedUp) String() string {
	return fmt.Sprintf("%s is a copy, made in %.1f s; timberline verify --data %s reads all of it, and to serve it run timberline migrate restored --data %s", b.Folder, b.Seconds, quoted(b.Folder), quoted(b.Folder))
}

// isWithin reports whether a folder that may not exist yet is in another, or is that.
func isWithin(path, folder string) bool {
	folder, err := filepath.Abs(folder)
	if err != nil {
		return false
	}
	rest, err := filepath.Rel(resolved(folder), resolved(path))
	return err == nil && rest != ".." && !strings.HasPrefix(rest, ".."+string(filepath.Separator))
}

// resolved returns an absolute path without symbolic links, as far as there is something.
func resolved(path string) string {
	if real, err := filepath.EvalSymlinks(path); err == nil || path == filepath.Dir(path) {
		return real
	}
	return filepath.Join(resolved(filepath.Dir(path)), filepath.Base(path))
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func (w *backupWork) do(_ context.Context, s wholeStore, tell func(report)) error {
	folder, ok := s.(interface{ Backup(dir string) error })
	if !ok {
		return errors.New("tables of DynamoDB are backed up by AWS: see docs/operations.md")
	}
	store := storePath(w.Folder)
	if exists(w.Folder) && (exists(store) || !exists(store+pebble.Unfinished)) {
		return fmt.Errorf("%s exists: name a folder that does not", w.Folder)
	}
	if above := filepath.Dir(w.Folder); !exists(above) {
		return fmt.Errorf("there is no folder %s: make it, or see whether its disk is mounted", above)
	}
	began := time.Now()
	if err := folder.Backup(store); err != nil {
		return err
	}
	tell(report{BackedUp: &backedUp{w.Folder, time.Since(began).Seconds()}})
	return nil
}
