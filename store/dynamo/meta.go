package dynamo

import (
	"context"
	"errors"
	"fmt"

	"timberline/events"
	"timberline/events/fields"
	"timberline/migrations"
	"timberline/projections"
)

// meta is what a store is, as stored.
type meta struct {
	format uint32
	id     events.StoreID
	shards uint32
	phase  migrations.Phase
}

// Fields lists the stored fields.
func (m *meta) Fields(v fields.Visitor) {
	fields.Uint(v, 1, "format", &m.format)
	fields.ID(v, 2, "store", &m.id)
	fields.Uint(v, 3, "shards", &m.shards)
	fields.Uint(v, 4, "restoring", &m.phase)
}

// DataFormat is the version of the tables and of what they hold as a whole.
const DataFormat = 1

var (
	metaPlace = place{metaTable, "store", 0}
	metaSeal  = []byte("store 0")
)

// Create makes a store of the tables that CreateTables made. If they are one already it
// returns events.ErrConflict and what that is.
func Create(ctx context.Context, o Options, m projections.Meta) (stands projections.Meta, err error) {
	s, err := newStore(o)
	if err != nil {
		return projections.Meta{}, err
	}
	defer s.Close()
	if m.Shards == 0 || m.Shards > events.Slots {
		return projections.Meta{}, fmt.Errorf("create store %s: %d shards, want 1 to %d", s.o.Prefix, m.Shards, events.Slots)
	}
	if m.Store == (events.StoreID{}) {
		return projections.Meta{}, fmt.Errorf("create store %s: it has no id", s.o.Prefix)
	}
	sealed, err := s.put(ctx, metaPlace, sealMeta(meta{format: DataFormat, id: m.Store, shards: m.Shards}))
	if errors.Is(err, events.ErrConflict) {
		stands, damage := decodeMeta(sealed)
		return stands.public(), errors.Join(fmt.Errorf("create store %s: %w", s.o.Prefix, err), damage)
	}
	if err != nil {
		return projections.Meta{}, fmt.Errorf("create store %s: %w", s.o.Prefix, err)
	}
	return projections.Meta{}, nil
}

func (s *Store) readMeta(ctx context.Context) (meta, error) {
	sealed, err := s.get(ctx, metaPlace)
	if errors.Is(err, events.ErrNotFound) {
		return meta{}, fmt.Errorf("its tables do not say what store they are: run `timberline migrate up --store dynamodb` (%w)", err)
	}
	if err != nil {
		return meta{}, err
	}
	return decodeMeta(sealed)
}

func sealMeta(m meta) []byte { return fields.Seal(1, metaSeal, &m) }

func decodeMeta(sealed []byte) (m meta, err error) {
	if err := fields.Unseal(1, metaSeal, sealed, &m); err != nil {
		return meta{}, events.Unreadable("the description of the store", err)
	}
	if m.format != DataFormat {
		return meta{}, fmt.Errorf("%w: the store has format %d, this program works with format %d", events.ErrFormat, m.format, DataFormat)
	}
	return m, nil
}

func (m meta) public() projections.Meta {
	return projections.Meta{Store: m.id, Shards: m.shards}
}

// Meta returns what the store was when it was opened, or became by a restore since.
func (s *Store) Meta() projections.Meta { return s.meta.public() }
