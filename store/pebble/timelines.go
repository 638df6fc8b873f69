package pebble

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cockroachdb/pebble/v2"

	"timberline/events"
	"timberline/projections"
	"timberline/sim/planted"
)

// LastCheckpoint implements projections.Checkpoints.
func (s *Store) LastCheckpoint(ctx context.Context, shard projections.Shard, c events.Consistency) (projections.CheckpointNumber, []byte, error) {
	key, value, err := s.last(shardPrefix(shard))
	if errors.Is(err, events.ErrNotFound) {
		return 0, nil, s.reveal(ctx, c)
	}
	if err == nil {
		err = s.reveal(ctx, c)
	}
	if err != nil {
		return 0, nil, fmt.Errorf("last checkpoint of shard %d: %w", shard, err)
	}
	return projections.CheckpointNumber(number(key)), value, nil
}

// ReadCheckpoints implements projections.Checkpoints.
func (s *Store) ReadCheckpoints(ctx context.Context, shard projections.Shard, from projections.CheckpointNumber, size int) ([][]byte, error) {
	var all [][]byte
	err := s.scan(checkpointKey(shard, from), after(shardPrefix(shard)), func(key, value []byte) bool {
		if number(key) != uint64(from)+uint64(len(all)) {
			return false
		}
		if size -= len(value); size < 0 && len(all) > 0 {
			return false
		}
		all = append(all, append([]byte(nil), value...))
		return true
	})
	if err == nil {
		err = s.settled(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("checkpoints of shard %d from %d: %w", shard, from, err)
	}
	return all, nil
}

// Commit implements projections.Checkpoints: the checkpoint and its items are one
// batch.
func (s *Store) Commit(ctx context.Context, shard projections.Shard, n projections.CheckpointNumber, checkpoint []byte, items []projections.Stored) ([]byte, error) {
	key := checkpointKey(shard, n)
	b, err := s.items(items)
	if err == nil {
		err = b.Set(key, checkpoint, nil)
	}
	if err != nil {
		return nil, fmt.Errorf("commit checkpoint %d of shard %d: %w", n, shard, err)
	}
	if planted.Is(planted.CheckpointOverwrite) {
		return nil, s.write(b)
	}
	stands, err := s.put(ctx, key, b)
	if err != nil {
		err = fmt.Errorf("commit checkpoint %d of shard %d: %w", n, shard, err)
	}
	return stands, err
}

// items returns a batch that writes items, in about the order of their keys: so each finds
// its place near that of the one before, which for a large batch halves what it takes.
func (s *Store) items(items []projections.Stored) (*pebble.Batch, error) {
	sorted, size := make([]*projections.Stored, len(items)), 256
	for i := range items {
		sorted[i] = &items[i]
		size += len(items[i].User) + len(items[i].Data) + 32
	}
	slices.SortFunc(sorted, func(x, y *projections.Stored) int {
		if x.User != y.User {
			return strings.Compare(string(x.User), string(y.User))
		}
		return cmp.Compare(x.Last, y.Last)
	})
	b := s.db.NewBatchWithSize(size)
	var key []byte
	for _, i := range sorted {
		key = appendItemKey(key[:0], i.Timeline, i.Last)
		if err := b.Set(key, i.Data, nil); err != nil { // which copies both
			return nil, errors.Join(err, b.Close())
		}
	}
	return b, nil
}

// PutItems implements projections.Items.
func (s *Store) PutItems(ctx context.Context, items []projections.Stored) error {
	if err := s.putItems(ctx, items); err != nil {
		return fmt.Errorf("put %d items: %w", len(items), err)
	}
	return nil
}

func (s *Store) putItems(ctx context.Context, items []projections.Stored) error {
	size, quiet := 0, true
	for i := range items {
		size += len(items[i].Data)
		quiet = quiet && items[i].Quiet
	}
	if quiet && size >= s.o.TableBytes {
		return s.putTable(ctx, items)
	}
	b, err := s.items(items)
	if err != nil {
		return err
	}
	if quiet {
		return s.writeBehind(b)
	}
	return s.write(b)
}

// NewestItem implements projections.Items.
func (s *Store) NewestItem(ctx context.Context, t projections.Timeline, c events.Consistency) (projections.Stored, error) {
	key, value, err := s.last(timelinePrefix(t))
	if reveal := s.reveal(ctx, c); reveal != nil {
		err = reveal
	}
	if err != nil {
		return projections.Stored{}, fmt.Errorf("newest item of %s: %w", t, err)
	}
	return projections.Stored{Timeline: t, Last: events.Seq(number(key)), Data: value}, nil
}

// ReadItems implements projections.Items.
func (s *Store) ReadItems(ctx context.Context, t projections.Timeline, from events.Seq, size int, c events.Consistency) ([]projections.Stored, error) {
	var items []projections.Stored
	err := s.scan(itemKey(t, from), after(timelinePrefix(t)), func(key, value []byte) bool {
		if size -= len(value); size < 0 && len(items) > 0 {
			return false
		}
		items = append(items, projections.Stored{Timeline: t, Last: events.Seq(number(key)), Data: append([]byte(nil), value...)})
		return true
	})
	if err == nil {
		err = s.reveal(ctx, c)
	}
	if err != nil {
		return nil, fmt.Errorf("items of %s from %d: %w", t, from, err)
	}
	return items, nil
}

// ScanItems implements projections.Items, in the order of the users' names. What is at a
// place of the disk is looked for only once in a while, so that nothing is kept from being
// cleaned up for the time of a long scan.
func (s *Store) ScanItems(ctx context.Context, v projections.Version, visit func(projections.Stored) error) error {
	prefix := versionPrefix(v)
	from, end := prefix, after(prefix)
	at := projections.Timeline{Version: v}
	var items []projections.Stored
	data := make([]byte, 0, scanBytes) // of all of them
	for from != nil {
		items, data = items[:0], data[:0]
		start := from
		from = nil
		err := s.scan(start, end, func(key, value []byte) bool {
			if len(data)+len(value) > cap(data) && len(items) > 0 {
				from = append([]byte(nil), key...)
				return false
			}
			user, last := itemOf(prefix, key)
			if string(user) != string(at.User) { // else it is the same string
				at.User = events.User(user)
			}
			n := len(data)
			data = append(data, value...)
			items = append(items, projections.Stored{Timeline: at, Last: last, Data: slices.Clip(data[n:])})
			return true
		})
		if err == nil {
			err = s.settled(ctx)
		}
		if err != nil {
			return fmt.Errorf("scan the timelines: %w", err)
		}
		for _, item := range items {
			if err := visit(item); err != nil {
				return err
			}
		}
	}
	return nil
}

// scanBytes is how many bytes of items are read at a time.
const scanBytes = 4 << 20

// JournalEnds implements projections.Upkeep.
func (s *Store) JournalEnds(ctx context.Context) (map[uint64]events.Offset, error) {
	ends := make(map[uint64]events.Offset)
	for from := []byte("l"); ; {
		var found []byte
		err := s.scan(from, []byte("m"), func(key, _ []byte) bool {
			found = append(found, key...)
			return false
		})
		if err != nil {
			return nil, fmt.Errorf("ends of the journals: %w", err)
		}
		if found == nil {
			return ends, s.settled(ctx)
		}
		prefix := found[:len(found)-8]
		last, _, err := s.last(prefix)
		if err != nil {
			return nil, fmt.Errorf("ends of the journals: %w", err)
		}
		if n, ok := events.Journal(prefix[2:]).Number(); ok && number(found) == 1 {
			ends[n] = events.Offset(number(last))
		}
		from = after(prefix)
	}
}

// CutCheckpoints implements projections.Upkeep: all in one batch.
func (s *Store) CutCheckpoints(_ context.Context, shard projections.Shard, from projections.CheckpointNumber) error {
	if err := s.remove(checkpointKey(shard, from), after(shardPrefix(shard))); err != nil {
		return fmt.Errorf("cut checkpoints of shard %d from %d: %w", shard, from, err)
	}
	return nil
}

// DeleteRecords implements projections.Upkeep: all in one batch.
func (s *Store) DeleteRecords(_ context.Context, j events.Journal, below events.Offset) error {
	if err := s.remove(journalPrefix(j), recordKey(j, below)); err != nil {
		return fmt.Errorf("delete the records of journal %s: %w", j, err)
	}
	return nil
}

// DeleteItems implements projections.Upkeep: some in a batch, the last item last. They are
// deleted one by one: whoever opens an iterator goes through all ranges that were deleted
// lately, wherever they are, and one for each user made a drop take the square of its time.
func (s *Store) DeleteItems(_ context.Context, t projections.Timeline, below events.Seq) error {
	from, end := timelinePrefix(t), itemKey(t, below)
	for {
		var last []byte
		b, n := s.db.NewBatch(), 0
		err := s.scan(from, end, func(key, _ []byte) bool {
			b.Delete(key, nil) // a batch takes it in any case
			last = append(last[:0], key...)
			n++
			return n < deleteAtOnce
		})
		if err != nil || n == 0 {
			err = errors.Join(err, b.Close())
		} else {
			err = s.write(b)
		}
		if err != nil {
			return fmt.Errorf("delete items of %s below %d: %w", t, below, err)
		}
		if n < deleteAtOnce {
			return nil
		}
		from = append(last, 0)
	}
}

// deleteAtOnce bounds the items that are deleted in a batch.
const deleteAtOnce = 10_000

// EmptyTimelines implements projections.Upkeep. No compaction reads what was there any more, so
// that it may be damaged.
func (s *Store) EmptyTimelines(ctx context.Context) error {
	for _, prefix := range []string{"t", "T"} {
		if err := s.db.Excise(ctx, pebble.KeyRange{Start: []byte(prefix), End: after([]byte(prefix))}); err != nil {
			return fmt.Errorf("empty the timelines: %w", readError(err))
		}
	}
	return nil
}

// remove deletes the keys from one on, below end.
func (s *Store) remove(from, end []byte) error {
	b := s.db.NewBatch()
	if err := b.DeleteRange(from, end, nil); err != nil {
		return errors.Join(err, b.Close())
	}
	return s.write(b)
}
