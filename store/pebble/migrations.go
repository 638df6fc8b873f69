package pebble

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/cockroachdb/pebble/v2"

	"timberline/events"
	"timberline/events/fields"
	"timberline/migrations"
)

// DataFormat is the version of the keys and of what they hold as a whole: in format n are
// the steps 1 to n applied.
const DataFormat = 2

// Steps implements migrations.Store. Open applies those that are pending, as one machine
// needs no set-up.
func (s *Store) Steps() []migrations.Step {
	return []migrations.Step{{
		Number: 1, Name: "data folder",
		Changes: "makes the store, with its id, its number of shards and the tag of its edge, in format 1 of keys and values",
		Costs:   "a moment; nothing is there yet",
		Up:      s.make,
	}, {
		Number: 2, Name: "rows and versions",
		Changes: "gives versions of timelines, and rows of other projections, keys of their own",
		Costs:   "one write; older programs refuse the folder from then on",
		Up:      func(context.Context) error { return nil },
	}}
}

// readMeta reads what the store is; it is the zero meta if it is nothing yet.
func (s *Store) readMeta() (m meta, err error) {
	data, err := s.get(metaKey)
	if errors.Is(err, events.ErrNotFound) {
		return meta{}, nil
	}
	if err != nil {
		return meta{}, err
	}
	if err := fields.Unseal(1, metaKey, data, &m); err != nil {
		return meta{}, events.Unreadable("the description of the store", err)
	}
	return m, nil
}

// make draws what a new store is. It becomes durable with the record of the step.
func (s *Store) make(context.Context) error {
	s.meta = meta{shards: s.o.Shards}
	for _, id := range [][]byte{s.meta.id[:], s.meta.tag[:4]} {
		if _, err := io.ReadFull(s.o.Random, id); err != nil {
			return fmt.Errorf("draw the ids of a new store: %w", err)
		}
	}
	s.isNew = true
	return nil
}

// Applied implements migrations.Store. A folder from before there were records has its
// format only.
func (s *Store) Applied(ctx context.Context) ([]migrations.Record, error) {
	var all []migrations.Record
	var damage error
	err := s.scan([]byte("v"), []byte("w"), func(key, value []byte) bool {
		var r migrations.Record
		r, damage = migrations.UnsealRecord(migrations.Number(number(key)), value)
		all = append(all, r)
		return damage == nil
	})
	if err = errors.Join(err, damage); err == nil {
		err = s.settled(ctx)
	}
	if err != nil {
		return nil, err
	}
	return migrations.Unrecorded(all, migrations.Number(s.meta.format), s.Steps()), nil
}

// Record implements migrations.Store: record and format are one batch.
func (s *Store) Record(_ context.Context, r migrations.Record) error {
	m := s.meta
	m.format = max(m.format, uint32(r.Number))
	b := s.db.NewBatch()
	_, err := s.get(stepKey(r.Number))
	if errors.Is(err, events.ErrNotFound) {
		err = b.Set(stepKey(r.Number), r.Seal(), nil)
	}
	if err != nil {
		return errors.Join(err, b.Close())
	}
	if err := s.writeMeta(b, m); err != nil {
		return err
	}
	if r.Number > 1 {
		return nil
	}
	// The first log is of an older format of Pebble's, which does not say what was
	// durable: see tail.go.
	if err := s.db.Flush(); err != nil {
		return err
	}
	return s.made()
}

// writeMeta makes what the store is durable, with what else is in a batch.
func (s *Store) writeMeta(b *pebble.Batch, m meta) error {
	if err := s.putMeta(b, m); err != nil {
		return err
	}
	s.meta = m
	return nil
}

// putMeta is writeMeta for who may not touch what others read: of what it is already.
func (s *Store) putMeta(b *pebble.Batch, m meta) error {
	if err := b.Set(metaKey, fields.Seal(1, metaKey, &m), nil); err != nil {
		return errors.Join(err, b.Close())
	}
	return s.write(b)
}

// BeginRestore implements migrations.Restorable. Of a copy the phase takes the place of the
// mark.
func (s *Store) BeginRestore(_ context.Context, id events.StoreID) (migrations.Phase, error) {
	m := s.meta
	m.id, m.phase = id, max(m.phase, migrations.Emptying)
	if err := s.writeMeta(s.db.NewBatch(), m); err != nil {
		return m.phase, err
	}
	return m.phase, s.unmark()
}

// SetPhase implements migrations.Restorable. Nobody else can have begun a restore: the
// folder is locked.
func (s *Store) SetPhase(_ context.Context, p migrations.Phase) error {
	m := s.meta
	m.phase = p
	return s.writeMeta(s.db.NewBatch(), m)
}
