package projections

import (
	"context"
	"errors"
	"time"

	"timberline/events"
	"timberline/events/fields"
)

// A Round is a rebuild of all shards of a store, one after the other. It is kept into which
// version each goes, so that one that was interrupted goes on behind the shards it has done.
type Round struct {
	begun uint64           // seconds since 1970
	into  []uint64         // the versions, by shard; none: it is over
	n     CheckpointNumber // of its row
}

// Fields lists the stored fields.
func (r *Round) Fields(f fields.Visitor) {
	fields.Uint(f, 1, "begun", &r.begun)
	r.into = f.Uints(2, "into", r.into)
}

// keyOfRound is where the newest one is kept, beside the places of rebuilds.
const keyOfRound = "all shards"

// BeginRound begins a round, of a store whose shards have these versions, or goes on with one
// that was interrupted.
func BeginRound(ctx context.Context, rows Rows, versions []Versions, now time.Time) (r *Round, resumed bool, err error) {
	row, err := rows.GetRow(ctx, placesOfRebuilds, keyOfRound)
	if err != nil && !errors.Is(err, events.ErrNotFound) {
		return nil, false, err
	}
	if err == nil {
		r = &Round{n: row.Checkpoint}
		if err := unsealRow(&row, r); err != nil {
			return nil, false, err
		}
		if len(r.into) == len(versions) {
			return r, true, nil
		}
	}
	r = &Round{begun: uint64(now.Unix()), n: row.Checkpoint + 1}
	for i := range versions {
		r.into = append(r.into, uint64(versions[i].Next))
	}
	return r, false, r.keep(ctx, rows)
}

// Begun returns when the round was begun.
func (r *Round) Begun() time.Time { return time.Unix(int64(r.begun), 0) }

// Has reports whether the round has rebuilt a shard, which has these versions.
func (r *Round) Has(s Shard, v *Versions) bool {
	into := Version(r.into[s])
	return into < v.Next && !v.Dropped[into] // so it was live
}

// End ends the round.
func (r *Round) End(ctx context.Context, rows Rows) error {
	r.into, r.n = nil, r.n+1
	return r.keep(ctx, rows)
}

func (r *Round) keep(ctx context.Context, rows Rows) error {
	return rows.PutRows(ctx, []Row{sealRow(Row{Space: placesOfRebuilds, Key: keyOfRound, Checkpoint: r.n}, r)})
}
