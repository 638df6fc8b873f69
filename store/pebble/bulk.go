package pebble

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2/objstorage/objstorageprovider"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"

	"timberline/events"
	"timberline/projections"
)

// The sizes of puts in bulk.
const (
	// putBytes is what whoever has more should put at a time: the larger tables are, the
	// less often Pebble merges them. It is held twice in memory, and sorted.
	putBytes = 64 << 20
	// tableBytes is from where on a table is worth its two syncs.
	tableBytes = 16 << 20
	// maxTables above each other may wait to be merged: who reads the timelines looks into
	// each. From maxSublevels on Pebble holds up all who write: what others put has room in
	// between.
	maxTables    = 32
	maxSublevels = 48
)

// bulkFile is a table that is being written, and not the store's yet. What a crash leaves of
// one is removed when the store is opened.
const bulkFile = "BULK"

// BulkBytes implements projections.BulkWriter.
func (s *Store) BulkBytes() int { return putBytes }

// putTable puts items that nobody waits for as a table, which becomes one of the store's:
// through the log and through memory they would be written twice, and be in the way of those
// who wait for a sync. They are durable before they are visible.
func (s *Store) putTable(ctx context.Context, items []projections.Stored) error {
	select {
	case s.bulk <- struct{}{}:
		defer func() { <-s.bulk }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := s.roomForTable(ctx); err != nil {
		return err
	}
	path := s.o.FS.PathJoin(s.dir, bulkFile)
	err := s.writeTable(path, items)
	if err == nil {
		err = s.db.Ingest(ctx, []string{path})
	}
	if err != nil {
		return errors.Join(err, removeFile(s.o.FS, path))
	}
	return nil
}

// roomForTable waits until one more table has room above those that stand.
func (s *Store) roomForTable(ctx context.Context) error {
	for s.db.Metrics().Levels[0].Sublevels >= maxTables {
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// writeTable writes a table, durably.
func (s *Store) writeTable(path string, items []projections.Stored) error {
	f, err := s.o.FS.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	f = vfs.NewSyncingFile(f, vfs.SyncingFileOptions{BytesPerSync: 512 << 10}) // or all of it is waited for at the end
	w := sstable.NewWriter(objstorageprovider.NewFileWritable(f), s.tableWriter)
	sorted := inOrder(items)
	var key []byte
	for n, at := range sorted {
		if n%lookAhead == 0 {
			lookAt(items, sorted[n:min(n+lookAhead, len(sorted))])
		}
		i := &items[at.n]
		if n+1 < len(sorted) {
			next := sorted[n+1]
			if at.last == next.last && at.name == next.name && i.Timeline == items[next.n].Timeline {
				continue // the one that was put last counts
			}
		}
		key = appendItemKey(key[:0], i.Timeline, i.Last)
		if err := w.Set(key, i.Data); err != nil {
			return errors.Join(err, w.Close())
		}
	}
	return w.Close()
}

// lookAhead is how many items are brought into the cache together.
const lookAhead = 32

// lookAt looks at items that are far from each other, so that to wait for one is to wait for
// all. What it returns is of no use, but to the compiler.
//
//go:noinline
func lookAt(items []projections.Stored, sorted []sortable) (sum int) {
	for _, at := range sorted {
		sum += len(items[at.n].Data)
	}
	for _, at := range sorted {
		i := &items[at.n]
		if i.User != "" {
			sum += int(i.User[0])
		}
		for b := 0; b < len(i.Data); b += 64 {
			sum += int(i.Data[b])
		}
	}
	return sum
}

// A sortable is what of an item most are in order by, and its place among others: to look
// at an item, or at a name, is a miss of the cache.
type sortable struct {
	name [2]uint64 // the first 16 bytes of the user's
	last events.Seq
	n    int
}

// inOrder returns the places of items in the order of their keys.
func inOrder(items []projections.Stored) []sortable {
	sorted, versions := make([]sortable, len(items)), false
	for n := range items {
		i := &items[n]
		var begin [16]byte
		copy(begin[:], i.User)
		sorted[n] = sortable{[2]uint64{binary.BigEndian.Uint64(begin[:]), binary.BigEndian.Uint64(begin[8:])}, i.Last, n}
		versions = versions || i.Version != items[0].Version
	}
	slices.SortFunc(sorted, func(x, y sortable) int {
		if versions {
			if c := bytes.Compare(versionPrefix(items[x.n].Version), versionPrefix(items[y.n].Version)); c != 0 {
				return c
			}
		}
		switch {
		case x.name[0] != y.name[0]:
			return cmp.Compare(x.name[0], y.name[0])
		case x.name[1] != y.name[1]:
			return cmp.Compare(x.name[1], y.name[1])
		case byte(x.name[1]) != 0: // longer names
			if c := cmp.Compare(items[x.n].User, items[y.n].User); c != 0 {
				return c
			}
		}
		if x.last != y.last {
			return cmp.Compare(x.last, y.last)
		}
		return cmp.Compare(x.n, y.n)
	})
	return sorted
}
