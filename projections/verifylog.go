package projections

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"timberline/events"
)

// Source looks only at what timelines follow from, the log and the checkpoints: whether all of
// it can be read.
func (v *Verification) Source(ctx context.Context) (VerifyProgress, error) {
	r := verifier{Verification: v}
	err := r.log(ctx)
	for s := range Shard(v.Meta.Shards) {
		if err != nil {
			break
		}
		err = eachCheckpoint(ctx, v.Store, s, 1, func(CheckpointNumber, *Checkpoint) error { return nil })
		err = r.unreadable(InSource, fmt.Sprintf("checkpoints of shard %d", s), "all of them", err)
	}
	if err != nil {
		err = fmt.Errorf("verify log and checkpoints: %w", err)
	}
	return r.progress, err
}

// files has the engine read its files.
func (r *verifier) files(ctx context.Context) error {
	s, ok := r.Store.(Scrubber)
	if !ok {
		return nil
	}
	n, err := s.Scrub(ctx, func(file string, err error) {
		r.found(Finding{In: InFiles, Where: "file " + file, Expected: "what was written", Found: err.Error()})
	})
	r.tell(func(p *VerifyProgress) { p.Files = n })
	return err
}

// verifyBytes is how much of the log is read at a time.
const verifyBytes = 4 << 20

// log goes through all records: whole, without a gap, with ids that rise.
func (r *verifier) log(ctx context.Context) error {
	rows, err := r.Store.ListJournals(ctx, 0, events.Strong)
	if err != nil {
		return r.unreadable(InSource, "the rows of the journals", "a row for each", err)
	}
	ends, err := r.Store.JournalEnds(ctx)
	if err != nil {
		return r.unreadable(InSource, "the log", "journals that can be read", err)
	}
	for _, row := range rows {
		if row.Trimmed {
			r.tell(func(p *VerifyProgress) { p.TrimmedJournals++ })
			delete(ends, row.Number) // if something of it is left it counts for nothing
			continue
		}
		if end := ends[row.Number]; end < row.Ended {
			if err := r.cutOff(ctx, row, end); err != nil {
				return err
			}
		}
	}
	for _, number := range slices.Sorted(maps.Keys(ends)) {
		if number > uint64(len(rows)) {
			r.found(Finding{Where: "journal " + string(events.JournalNumbered(number)), Expected: "a row, as it has records", Found: nothing})
		}
		if err := r.journal(ctx, events.JournalNumbered(number), ends[number]); err != nil {
			return err
		}
	}
	return nil
}

// cutOff tells of a journal that has fewer records than its row says, if it was not trimmed
// since the row was read.
func (r *verifier) cutOff(ctx context.Context, row events.Row, end events.Offset) error {
	trimmed, err := trimmedJournals(ctx, r.Store)
	if err != nil || trimmed[row.Number] {
		return err
	}
	r.found(Finding{Where: fmt.Sprintf("journal %s, record %d", row.Journal(), end+1), Expected: fmt.Sprintf("a record, as the journal has ended with record %d", row.Ended), Found: nothing})
	return nil
}

// journal goes through the records of one journal, the last of which is at end.
func (r *verifier) journal(ctx context.Context, j events.Journal, end events.Offset) error {
	var newest events.ID
	var e events.Event
	var g gap
	size := verifyBytes
	for at := events.Offset(1); at <= end && ctx.Err() == nil; {
		where := func() string { return fmt.Sprintf("journal %s, record %d", j, at) }
		recs, err := r.Store.ReadLog(ctx, j, at, size, events.Strong)
		switch {
		case err != nil && size > 0:
			size = 0 // one by one, to find it
			continue
		case err != nil:
			if !damaged(err) {
				return err
			}
			r.missing(&g, gap{j, at, at, "a record that can be read", err.Error()})
			at, size = at+1, verifyBytes
			continue
		case len(recs) == 0:
			if g.to+1 < at || g.found != nothing { // a gap begins
				number, _ := j.Number()
				trimmed, err := trimmedJournals(ctx, r.Store)
				if err != nil {
					return err
				}
				if trimmed[number] {
					r.tell(func(p *VerifyProgress) { p.TrimmedJournals++ })
					return nil
				}
			}
			r.missing(&g, gap{j, at, at, fmt.Sprintf("a record, as there is one at %d", end), nothing})
			at++
			continue
		}
		count := 0
		for _, rec := range recs {
			raws, err := rec.Events(j, at)
			if err != nil {
				if err := r.unreadable(InSource, where(), "a record", err); err != nil {
					return err
				}
			}
			for i, raw := range raws {
				if err := events.Raw(raw).DecodeInto(&e); err != nil {
					if err := r.unreadable(InSource, fmt.Sprintf("%s, event %d", where(), i), "an event", err); err != nil {
						return err
					}
					continue
				}
				if e.ID.Compare(newest) <= 0 {
					r.found(Finding{Where: fmt.Sprintf("%s, event %d", where(), i), Expected: "an id above " + newest.String(), Found: e.ID.String()})
				}
				newest = e.ID
			}
			count += len(raws)
			at++
		}
		r.tell(func(p *VerifyProgress) { p.Records, p.Events = p.Records+uint64(len(recs)), p.Events+uint64(count) })
	}
	r.missing(&g, gap{})
	return ctx.Err()
}

// A gap is records in a row that are missing, or cannot be read, all for one reason.
type gap struct {
	journal         events.Journal
	from, to        events.Offset
	expected, found string
}

// missing adds the next record to a gap, or tells of that, and begins another one.
func (r *verifier) missing(g *gap, next gap) {
	if g.to+1 == next.from && g.found == next.found {
		g.to = next.to
		return
	}
	if g.from > 0 {
		where := fmt.Sprintf("journal %s, record %d", g.journal, g.from)
		if g.to > g.from {
			where = fmt.Sprintf("journal %s, records %d to %d", g.journal, g.from, g.to)
		}
		r.found(Finding{Where: where, Expected: g.expected, Found: g.found})
	}
	*g = next
}
