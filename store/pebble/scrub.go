package pebble

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"

	"timberline/events"
)

// Scrub implements projections.Scrubber: it reads each block of the tables from the disk,
// also those that no read of a key needs (indexes, filters), and what is durable of the logs
// and the manifest.
func (s *Store) Scrub(ctx context.Context, damaged func(file string, err error)) (files uint64, err error) {
	names, err := s.tables()
	if err != nil {
		return 0, fmt.Errorf("scrub the tables: %w", err)
	}
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return files, err
		}
		switch err := s.scrubTable(ctx, name); {
		case errors.Is(err, events.ErrCorrupt):
			damaged(name, err)
		case errors.Is(err, fs.ErrNotExist):
			if gone, err := s.gone(name); err != nil {
				return files, fmt.Errorf("scrub the tables: %w", err)
			} else if !gone {
				damaged(name, fmt.Errorf("%w: the file is missing", events.ErrCorrupt))
			}
			continue
		case err != nil:
			return files, fmt.Errorf("scrub %s: %w", name, err)
		}
		files++
	}
	n, err := s.scrubTails(damaged)
	return files + n, err
}

// tables returns the names of the files of tables that are in use.
func (s *Store) tables() (names []string, err error) {
	levels, err := s.db.SSTables()
	if err != nil {
		return nil, readError(err)
	}
	for _, level := range levels {
		for _, table := range level {
			names = append(names, fmt.Sprintf("%s.sst", table.BackingSSTNum))
		}
	}
	slices.Sort(names) // of a file several tables may be left
	return slices.Compact(names), nil
}

// Rewrite has the files written anew of which only a part is in use, behind EmptyTimelines. What
// is damaged in the other part is gone then. A table is written anew if it is merged with
// something that is newer: its first key, as it was.
func (s *Store) Rewrite(ctx context.Context) error {
	levels, err := s.db.SSTables()
	if err != nil {
		return readError(err)
	}
	for _, level := range levels {
		for _, table := range level {
			if !table.Virtual {
				continue
			}
			first, last := table.Smallest.UserKey, table.Largest.UserKey
			value, err := s.get(first)
			switch {
			case err == nil:
				err = s.db.Set(first, value, pebble.Sync)
			case errors.Is(err, events.ErrNotFound):
				err = s.db.Delete(first, pebble.Sync)
			}
			if err == nil {
				err = s.db.Compact(ctx, first, append(slices.Clone(last), 0), false)
			}
			if err != nil {
				return fmt.Errorf("rewrite table %s: %w", table.BackingSSTNum, readError(err))
			}
		}
	}
	return nil
}

// gone reports whether a table is not in use any more: a compaction was faster.
func (s *Store) gone(name string) (bool, error) {
	names, err := s.tables()
	return !slices.Contains(names, name), err
}

// scrubTable reads a table.
func (s *Store) scrubTable(ctx context.Context, name string) error {
	f, err := s.o.FS.Open(s.o.FS.PathJoin(s.dir, name), vfs.SequentialReadsOption)
	if err != nil {
		return err
	}
	from, err := sstable.NewSimpleReadable(f)
	if err != nil {
		return errors.Join(err, f.Close())
	}
	o := s.tableOptions
	if _, err := fmt.Sscanf(name, "%d.sst", &o.CacheOpts.FileNum); err != nil { // for what errors say
		return errors.Join(fmt.Errorf("%s: %w", name, err), from.Close())
	}
	r, err := sstable.NewReader(ctx, from, o)
	if err != nil {
		return errors.Join(tableError(err), from.Close())
	}
	if err := r.ValidateBlockChecksums(); err != nil {
		return errors.Join(tableError(err), r.Close())
	}
	return r.Close()
}

// tableError is what is wrong with a table. One that ends too early says so as any file.
func tableError(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return corrupt(err)
	}
	return readError(err)
}

// scrubTails reads the logs and the manifest. A log that Pebble needs no more may become
// another's meanwhile, so damage counts only if nothing new was begun; and if it is found
// again: what is written while it is read may be there from its middle on.
func (s *Store) scrubTails(damaged func(file string, err error)) (files uint64, err error) {
	found := ""
	for {
		before := s.marks.known()
		name, err := checkTails(s.o.FS, s.dir, before)
		after := s.marks.known()
		switch {
		case err != nil && (before.logs[0].number != after.logs[0].number || before.manifest.number != after.manifest.number):
			continue
		case errors.Is(err, events.ErrCorrupt) && err.Error() != found:
			found = err.Error()
			continue
		case errors.Is(err, events.ErrCorrupt):
			damaged(name, err)
			return 2, nil
		}
		return 2, err
	}
}
