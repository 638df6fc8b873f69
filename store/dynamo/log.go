package dynamo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"

	"timberline/events"
)

// recordPlace returns where a record stands. DynamoDB takes UTF-8 only, so what else a
// journal's name may hold is escaped; the names of the product stay as they are.
func recordPlace(j events.Journal, at events.Offset) place {
	return place{logTable, url.PathEscape(string(j)), uint64(at)}
}

// Append implements events.Log.
func (s *Store) Append(ctx context.Context, j events.Journal, at events.Offset, rec events.Record) (events.Record, error) {
	stands, err := s.put(ctx, recordPlace(j, at), rec)
	if err != nil {
		err = fmt.Errorf("append record %d to journal %s: %w", at, j, err)
	}
	return stands, err
}

// ReadLog implements events.Log.
func (s *Store) ReadLog(ctx context.Context, j events.Journal, from events.Offset, size int, c events.Consistency) ([]events.Record, error) {
	all, err := s.scan(ctx, recordPlace(j, from), size, c)
	if err != nil {
		return nil, fmt.Errorf("journal %s from record %d: %w", j, from, err)
	}
	var recs []events.Record
	for _, value := range contiguous(uint64(from), all) {
		recs = append(recs, value)
	}
	return recs, nil
}

// JournalEnd returns the offset of a journal's last record, 0 if it has none.
func (s *Store) JournalEnd(ctx context.Context, j events.Journal) (events.Offset, error) {
	f, err := s.last(ctx, logTable, recordPlace(j, 1).partition, events.Strong)
	switch {
	case errors.Is(err, events.ErrNotFound):
		return 0, nil
	case err != nil:
		return 0, fmt.Errorf("end of journal %s: %w", j, err)
	}
	return events.Offset(f.number), nil
}

// rowPlace returns where a journal's row stands: all in one partition, to be listed.
func rowPlace(number uint64) place { return place{journalsTable, "journal", number} }

// CreateJournal implements events.Journals.
func (s *Store) CreateJournal(ctx context.Context, r events.Row) (events.Row, error) {
	stands, err := s.put(ctx, rowPlace(r.Number), r.Seal())
	switch {
	case errors.Is(err, events.ErrConflict):
		r, damage := events.UnsealRow(r.Number, stands)
		return r, errors.Join(err, damage)
	case err != nil:
		return events.Row{}, fmt.Errorf("create journal %d: %w", r.Number, err)
	}
	return events.Row{}, nil
}

// UpdateJournal implements events.Journals. Whoever updates at the same time has its say,
// too: of two, the later one is what stands.
func (s *Store) UpdateJournal(ctx context.Context, r events.Row) error {
	ctx, cancel := context.WithTimeout(ctx, s.o.Deadline)
	defer cancel()
	p := rowPlace(r.Number)
	stands, err := s.get(ctx, p)
	for err == nil {
		var row events.Row
		if row, err = events.UnsealRow(r.Number, stands); err != nil {
			return err
		}
		row.Counter, row.Ended, row.Trimmed = r.Counter, r.Ended, row.Trimmed || r.Trimmed
		is := row.Seal()
		if bytes.Equal(is, stands) {
			return nil
		}
		var other []byte
		if other, err = s.replace(ctx, p, stands, is); err == nil {
			return nil
		}
		if errors.Is(err, events.ErrConflict) && other != nil {
			stands, err = other, nil
		}
	}
	return fmt.Errorf("row of journal %d: %w", r.Number, err)
}

// ListJournals implements events.Journals.
func (s *Store) ListJournals(ctx context.Context, after uint64, c events.Consistency) ([]events.Row, error) {
	all, err := s.scan(ctx, rowPlace(after+1), unbounded, c)
	if err != nil {
		return nil, fmt.Errorf("list journals: %w", err)
	}
	var rows []events.Row
	for i, value := range contiguous(after+1, all) {
		r, err := events.UnsealRow(after+1+uint64(i), value)
		if err != nil {
			return nil, fmt.Errorf("list journals: %w", err)
		}
		rows = append(rows, r)
	}
	return rows, nil
}
