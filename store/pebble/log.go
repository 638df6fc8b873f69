package pebble

import (
	"context"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"timberline/events"
)

// Append implements events.Log.
func (s *Store) Append(ctx context.Context, j events.Journal, at events.Offset, rec events.Record) (events.Record, error) {
	key := recordKey(j, at)
	b := s.db.NewBatchWithSize(len(key) + len(rec) + 32)
	if err := b.Set(key, rec, nil); err != nil {
		return nil, fmt.Errorf("append record %d to journal %s: %w", at, j, err)
	}
	stands, err := s.put(ctx, key, b)
	if err != nil {
		err = fmt.Errorf("append record %d to journal %s: %w", at, j, err)
	}
	return stands, err
}

// ReadLog implements events.Log.
func (s *Store) ReadLog(ctx context.Context, j events.Journal, from events.Offset, size int, c events.Consistency) ([]events.Record, error) {
	var recs []events.Record
	err := s.scan(recordKey(j, from), after(journalPrefix(j)), func(key, value []byte) bool {
		if number(key) != uint64(from)+uint64(len(recs)) {
			return false
		}
		if size -= len(value); size < 0 && len(recs) > 0 {
			return false
		}
		recs = append(recs, append(events.Record(nil), value...))
		return true
	})
	if err == nil {
		err = s.reveal(ctx, c)
	}
	if err != nil {
		return nil, fmt.Errorf("journal %s from record %d: %w", j, from, err)
	}
	return recs, nil
}

// JournalEnd returns the offset of a journal's last record, 0 if it has none.
func (s *Store) JournalEnd(ctx context.Context, j events.Journal) (events.Offset, error) {
	key, _, err := s.last(journalPrefix(j))
	if errors.Is(err, events.ErrNotFound) {
		return 0, nil
	}
	if err == nil {
		err = s.settled(ctx)
	}
	if err != nil {
		return 0, fmt.Errorf("end of journal %s: %w", j, err)
	}
	return events.Offset(number(key)), nil
}

// CreateJournal implements events.Journals.
func (s *Store) CreateJournal(ctx context.Context, r events.Row) (events.Row, error) {
	key := journalKey(r.Number)
	b := s.db.NewBatch()
	if err := b.Set(key, r.Seal(), nil); err != nil {
		return events.Row{}, fmt.Errorf("create journal %d: %w", r.Number, err)
	}
	stands, err := s.put(ctx, key, b)
	if errors.Is(err, events.ErrConflict) {
		r, damage := events.UnsealRow(r.Number, stands)
		return r, errors.Join(err, damage)
	}
	return events.Row{}, err
}

// UpdateJournal implements events.Journals.
func (s *Store) UpdateJournal(_ context.Context, r events.Row) error {
	key := journalKey(r.Number)
	_, err := s.writeMade(func() (*pebble.Batch, error) {
		value, err := s.get(key)
		if err != nil {
			return nil, err
		}
		stands, err := events.UnsealRow(r.Number, value)
		if err != nil {
			return nil, err
		}
		stands.Counter, stands.Ended, stands.Trimmed = r.Counter, r.Ended, stands.Trimmed || r.Trimmed
		b := s.db.NewBatch()
		return b, b.Set(key, stands.Seal(), nil)
	})
	if err != nil {
		return fmt.Errorf("row of journal %d: %w", r.Number, err)
	}
	return nil
}

// ListJournals implements events.Journals.
func (s *Store) ListJournals(ctx context.Context, after uint64, c events.Consistency) ([]events.Row, error) {
	var rows []events.Row
	var damage error
	err := s.scan(journalKey(after+1), []byte("k"), func(key, value []byte) bool {
		if number(key) != after+1+uint64(len(rows)) {
			return false
		}
		var r events.Row
		r, damage = events.UnsealRow(number(key), value)
		rows = append(rows, r)
		return damage == nil
	})
	if err = errors.Join(err, damage); err == nil {
		err = s.reveal(ctx, c)
	}
	if err != nil {
		return nil, fmt.Errorf("list journals: %w", err)
	}
	return rows, nil
}
