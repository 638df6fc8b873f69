package dynamo

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"

	"timberline/events"
	"timberline/migrations"
	"timberline/projections"
)

// DefaultShards is how many shards a store has that is created without being told. A
// projector process takes shards whole: so many processes share the work at most. On the
// other hand each shard writes checkpoints of its own as soon as anybody in it gets an
// entry, so that many shards cost more. A store keeps its shards for ever.
const DefaultShards = 8

// Migrations apply the steps of a store that there may not be yet: migrations.Store.
type Migrations struct {
	s      *Store
	shards uint32
}

// NewMigrations returns the migrations of a store that is created with a number of shards;
// 0: DefaultShards.
func NewMigrations(o Options, shards uint32) (*Migrations, error) {
	if shards == 0 {
		shards = DefaultShards
	}
	if shards > events.Slots {
		return nil, fmt.Errorf("%d shards, want 1 to %d", shards, events.Slots)
	}
	s, err := newStore(o)
	if err != nil {
		return nil, err
	}
	return &Migrations{s, shards}, nil
}

// Close lets go of the connections.
func (m *Migrations) Close() error { return m.s.Close() }

// Shards returns how many shards the store has that was made.
func (m *Migrations) Shards(ctx context.Context) (uint32, error) {
	is, err := m.s.readMeta(ctx)
	return is.shards, err
}

// Steps implements migrations.Store.
func (m *Migrations) Steps() []migrations.Step {
	return []migrations.Step{
		{
			Number: 1, Name: "tables",
			Changes: fmt.Sprintf("creates the tables that are missing in region %s of %s, with capacity on demand; "+
				"a stream of new images for the timelines; point-in-time recovery and protection from deletion for all but timelines and leases",
				m.s.o.AWS.Region, strings.Join(m.s.names(firstTables), ", ")),
			Costs:  "some seconds to a minute; empty tables cost nothing, recovery is charged by what is stored",
			Up:     m.createTables,
			Stands: func(ctx context.Context) (bool, error) { return m.tablesStand(ctx, firstTables) },
		},
		{
			Number: 2, Name: "store",
			Changes: fmt.Sprintf("makes the store's random id, and its %d shards, which it keeps for ever", m.shards),
			Costs:   "one write",
			Up:      m.create,
		},
		{
			Number: 3, Name: "rows",
			Changes: fmt.Sprintf("creates table %s for what other projections keep, protected and with point-in-time recovery; timelines can have versions", m.s.name(rowsTable)),
			Costs:   "some seconds to a minute; an empty table costs nothing. Older programs refuse the store from then on",
			Up:      m.createRows,
			Stands:  func(ctx context.Context) (bool, error) { return m.tablesStand(ctx, laterTables) },
		},
	}
}

func (s *Store) names(tables []*table) (all []string) {
	for _, t := range tables {
		all = append(all, s.name(t))
	}
	return all
}

// createTables creates what is missing, but for tables whose content a store would miss.
func (m *Migrations) createTables(ctx context.Context) error {
	if err := m.nothingIsLost(ctx); err != nil {
		return err
	}
	return m.s.createTables(ctx, firstTables)
}

// createRows creates the table of rows, unless a store has had it.
func (m *Migrations) createRows(ctx context.Context) error {
	st, err := m.s.describeTable(ctx, rowsTable)
	if err == nil && st.Missing {
		if _, err = m.s.get(ctx, stepPlace(3)); err == nil {
			return lost(st.Name)
		}
		if errors.Is(err, events.ErrNotFound) {
			err = nil
		}
	}
	if err != nil {
		return err
	}
	return m.s.createTables(ctx, laterTables)
}

func lost(name string) error {
	return fmt.Errorf("there is no table %s, which would be empty: restore it from a backup, as docs/operations.md says", name)
}

// nothingIsLost refuses a store that was made, and so has had all its tables, of which one
// is missing that would be empty.
func (m *Migrations) nothingIsLost(ctx context.Context) error {
	_, err := m.s.readMeta(ctx)
	if noTable(err) || errors.Is(err, events.ErrNotFound) {
		return nil // there is none yet
	}
	for _, t := range firstTables {
		if err != nil {
			return err
		}
		var st TableStatus
		switch st, err = m.s.describeTable(ctx, t); {
		case st.Missing && t == timelinesTable:
			err = fmt.Errorf("there is no table %s: stop all edges, projectors and relays, and run `timberline migrate restored --store dynamodb --dynamodb-prefix %s --stopped`, which makes the timelines again", st.Name, m.s.o.Prefix)
		case st.Missing && t.source:
			err = lost(st.Name)
		}
	}
	return err
}

// tablesStand reports whether the tables are as they are defined: one may have been
// deleted, or restored from a backup, which leaves out streams and protection.
func (m *Migrations) tablesStand(ctx context.Context, tables []*table) (bool, error) {
	all, err := m.s.describeTables(ctx, tables)
	for _, t := range all {
		if t.Missing || !t.Active || len(t.Differs) > 0 {
			return false, err
		}
	}
	return err == nil, err
}

func (m *Migrations) create(ctx context.Context) error {
	if err := m.nobodyWasHere(ctx); err != nil {
		return err
	}
	is := projections.Meta{Shards: m.shards}
	if _, err := rand.Read(is.Store[:]); err != nil {
		return err
	}
	_, err := Create(ctx, m.s.o, is)
	if errors.Is(err, events.ErrConflict) && !events.Final(err) {
		return nil // it is a store already
	}
	return err
}

// nobodyWasHere refuses tables that edges have worked on, but that do not say what store they
// are: another number of shards would not go with their checkpoints.
func (m *Migrations) nobodyWasHere(ctx context.Context) error {
	rows, err := m.s.ListJournals(ctx, 0, events.Strong)
	if err != nil || len(rows) == 0 {
		return err
	}
	if _, err = m.s.get(ctx, metaPlace); errors.Is(err, events.ErrNotFound) {
		return fmt.Errorf("%w: the store has lost what its table %s said: restore it from a backup, with the others, then run `timberline migrate restored --store dynamodb --dynamodb-prefix %s --stopped`", events.ErrFatal, m.s.name(metaTable), m.s.o.Prefix)
	}
	return err
}

// baseline are the steps that every store has, also one from before there were records.
const baseline = 2

func stepPlace(n migrations.Number) place { return place{metaTable, "migration", uint64(n)} }

// Applied implements migrations.Store.
func (m *Migrations) Applied(ctx context.Context) ([]migrations.Record, error) {
	found, err := m.s.scan(ctx, stepPlace(0), unbounded, events.Strong)
	if noTable(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var all []migrations.Record
	for _, f := range found {
		r, err := migrations.UnsealRecord(migrations.Number(f.number), f.value)
		if err != nil {
			return nil, err
		}
		all = append(all, r)
	}
	if _, err := m.s.get(ctx, metaPlace); errors.Is(err, events.ErrNotFound) {
		return all, nil
	} else if err != nil {
		return nil, err
	}
	return migrations.Unrecorded(all, baseline, m.Steps()), nil
}

// Record implements migrations.Store.
func (m *Migrations) Record(ctx context.Context, r migrations.Record) error {
	_, err := m.s.put(ctx, stepPlace(r.Number), r.Seal())
	if errors.Is(err, events.ErrConflict) {
		return nil
	}
	return err
}

// OpenRestored opens a store whose tables come from backups, for migrations.Restore. It
// creates what is not source data, timelines and leases, and brings the other tables to
// their definitions. It refuses a store of which a table of source data is missing.
func OpenRestored(ctx context.Context, o Options) (*Store, error) {
	s, err := newStore(o)
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	if err := s.openRestored(ctx); err != nil {
		s.Close()
		return nil, fmt.Errorf("open store %s: %w", s.o.Prefix, err)
	}
	return s, nil
}

func (s *Store) openRestored(ctx context.Context) error {
	empty := false
	for _, t := range tables {
		st, err := s.describeTable(ctx, t)
		if err != nil {
			return err
		}
		if st.Missing && t.source {
			return fmt.Errorf("there is no table %s: restore it from the backup, too, or correct the prefix", st.Name)
		}
		empty = empty || st.Missing && t == timelinesTable
	}
	if empty {
		if err := s.beginEmpty(ctx); err != nil {
			return err
		}
	}
	if err := CreateTables(ctx, s.o); err != nil {
		return err
	}
	return s.load(ctx)
}

// beginEmpty makes the store one that is not whole, before a table is made that would pass
// for all of its timelines.
func (s *Store) beginEmpty(ctx context.Context) error {
	wait, cancel := context.WithTimeout(ctx, createWait)
	defer cancel()
	if err := s.completeTable(wait, metaTable); err != nil {
		return err
	}
	if err := s.load(ctx); err != nil || s.meta.phase != migrations.Whole {
		return err
	}
	return s.SetPhase(ctx, migrations.Emptying)
}

// BeginRestore implements migrations.Restorable.
func (s *Store) BeginRestore(ctx context.Context, id events.StoreID) (migrations.Phase, error) {
	sealed, err := s.get(ctx, metaPlace)
	if err != nil {
		return 0, err
	}
	was, err := decodeMeta(sealed)
	if err != nil {
		return 0, err
	}
	is := was
	is.id, is.phase = id, max(was.phase, migrations.Emptying)
	return is.phase, s.replaceMeta(ctx, was, is)
}

// SetPhase implements migrations.Restorable.
func (s *Store) SetPhase(ctx context.Context, p migrations.Phase) error {
	is := s.meta
	is.phase = p
	return s.replaceMeta(ctx, s.meta, is)
}

// replaceMeta makes the store another, on condition that it still is what it was.
func (s *Store) replaceMeta(ctx context.Context, was, is meta) error {
	stands, err := s.replace(ctx, metaPlace, sealMeta(was), sealMeta(is))
	if errors.Is(err, events.ErrConflict) && !bytes.Equal(stands, sealMeta(is)) { // else an earlier attempt has landed
		return fmt.Errorf("another restore of this store has begun since: let that one end (%w)", err)
	}
	if err != nil && !errors.Is(err, events.ErrConflict) {
		return err
	}
	s.meta = is
	return nil
}
