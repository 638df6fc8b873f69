package pebble

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/cockroachdb/pebble/v2"

	"timberline/events"
	"timberline/projections"
)

// rowKey returns the key of a row, or what those of a space begin with.
func rowKey(space, key string) []byte {
	k := make([]byte, 0, 2+len(space)+len(key))
	k = append(append(k, 'p'), space...)
	return append(append(k, 0), key...)
}

// rowOf returns the row that a key and a value are.
func rowOf(key, value []byte) (projections.Row, error) {
	space, name, ok := bytes.Cut(key[1:], []byte{0})
	if !ok || len(value) < 8 {
		return projections.Row{}, fmt.Errorf("%w: row %q", events.ErrCorrupt, key)
	}
	return projections.Row{
		Space: string(space), Key: string(name), Checkpoint: projections.CheckpointNumber(binary.BigEndian.Uint64(value)),
		Data: append([]byte(nil), value[8:]...),
	}, nil
}

// rowKinds are the kinds of rows that there are or were: mostly few, so of the others nothing
// has to be looked for. Where timelines begin is asked for each user of whom anything is read,
// and as long as nobody trims there is no answer.
type rowKinds struct {
	unknown bool     // they could not be read: there may be any
	known   sync.Map // by kindOf
}

// kindOf returns the kind of the rows of a space: what its name has before a slash.
func kindOf(space string) string {
	kind, _, _ := strings.Cut(space, "/")
	return kind
}

// read reads which there are. What is damaged is named by who wants to have it.
func (k *rowKinds) read(s *Store) {
	for from := []byte("p"); from != nil; {
		start := from
		from = nil
		err := s.scan(start, []byte("q"), func(key, _ []byte) bool {
			space, _, _ := bytes.Cut(key[1:], []byte{0})
			kind := kindOf(string(space))
			k.known.Store(kind, nil)
			from = after(key[:min(2+len(kind), len(key))]) // with the byte behind the kind
			return false
		})
		k.unknown = k.unknown || err != nil
	}
}

// may reports whether there may be rows in a space.
func (k *rowKinds) may(space string) bool {
	_, known := k.known.Load(kindOf(space))
	return known || k.unknown
}

// GetRow implements projections.Rows.
func (s *Store) GetRow(ctx context.Context, space, key string) (row projections.Row, err error) {
	k, value := rowKey(space, key), []byte(nil)
	if err = events.ErrNotFound; s.rowKinds.may(space) {
		value, err = s.get(k)
	}
	if err == nil {
		row, err = rowOf(k, value)
	}
	if reveal := s.settled(ctx); reveal != nil {
		err = reveal
	}
	if err != nil {
		return row, fmt.Errorf("row %s of %s: %w", key, space, err)
	}
	return row, nil
}

// ReadRows implements projections.Rows.
func (s *Store) ReadRows(ctx context.Context, space, from string, size int) (all []projections.Row, err error) {
	var damage error
	err = s.scan(rowKey(space, from), after(rowKey(space, "")), func(key, value []byte) bool {
		if size -= len(value); size < 0 && len(all) > 0 {
			return false
		}
		var row projections.Row
		row, damage = rowOf(key, value)
		all = append(all, row)
		return damage == nil
	})
	if err = errors.Join(err, damage); err == nil {
		err = s.settled(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("rows of %s from %q: %w", space, from, err)
	}
	return all, nil
}

// PutRows implements projections.Rows: all in one batch.
func (s *Store) PutRows(ctx context.Context, rows []projections.Row) error {
	if err := projections.ValidateRows(rows); err != nil {
		return err
	}
	none, err := s.writeMade(func() (*pebble.Batch, error) { return s.newer(rows) })
	if none { // but what stands there may not be durable yet
		err = s.settled(ctx)
	}
	if err != nil {
		return fmt.Errorf("put %d rows: %w", len(rows), err)
	}
	return nil
}

// newer returns a batch that writes the rows that are newer than what stands in their
// places, nil if there are none. The caller holds mu.
func (s *Store) newer(rows []projections.Row) (*pebble.Batch, error) {
	b := s.db.NewBatch()
	for _, row := range rows {
		key := rowKey(row.Space, row.Key)
		value, err := s.get(key)
		if err == nil {
			var stands projections.Row
			if stands, err = rowOf(key, value); err == nil && stands.Checkpoint >= row.Checkpoint {
				continue
			}
		}
		if errors.Is(err, events.ErrNotFound) {
			err = nil
		}
		if err == nil {
			s.rowKinds.known.Store(kindOf(row.Space), nil) // before anybody can see it
			err = b.Set(key, append(binary.BigEndian.AppendUint64(nil, uint64(row.Checkpoint)), row.Data...), nil)
		}
		if err != nil {
			return nil, errors.Join(err, b.Close())
		}
	}
	if b.Count() == 0 {
		return nil, b.Close()
	}
	return b, nil
}

// DeleteRows implements projections.Rows: all in one batch.
func (s *Store) DeleteRows(_ context.Context, prefix string) error {
	from := append([]byte{'p'}, prefix...)
	if err := s.remove(from, after(from)); err != nil {
		return fmt.Errorf("delete the rows of %s…: %w", prefix, err)
	}
	return nil
}

// CutRows implements migrations.Restorable: all in one batch.
func (s *Store) CutRows(_ context.Context, prefix string, cut func(projections.Row) (bool, error)) error {
	from := append([]byte{'p'}, prefix...)
	b := s.db.NewBatch()
	var failed error
	err := s.scan(from, after(from), func(key, value []byte) bool {
		row, err := rowOf(key, value)
		is := false
		if err == nil {
			is, err = cut(row)
		}
		if err == nil && is {
			err = b.Delete(key, nil)
		}
		failed = err
		return err == nil
	})
	switch err = errors.Join(err, failed); {
	case err != nil || b.Empty():
		err = errors.Join(err, b.Close())
	default:
		err = s.write(b)
	}
	if err != nil {
		return fmt.Errorf("cut rows of %s…: %w", prefix, err)
	}
	return nil
}
