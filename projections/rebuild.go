package projections

import (
	"context"
	"errors"
	"fmt"
	"math"

	"timberline/events"
	"timberline/sim/planted"
)

// Versions is what the checkpoints of a shard say of the versions of its timelines.
type Versions struct {
	Live Version // is read and written
	// Before is the version that was live before Live, and Since the checkpoint by which
	// Live became it: 0 if there was no other.
	Before Version
	Since  CheckpointNumber
	// Next is the lowest version above all that were live or dropped: the next rebuild
	// fills it.
	Next    Version
	Dropped map[Version]bool
}

// Back returns the version to which a way leads back, if there is one: Before, unless it was
// dropped.
func (v *Versions) Back() (back Version, ok bool) {
	return v.Before, v.Since > 0 && !v.Dropped[v.Before]
}

// Whole returns up to which checkpoint the version Before is whole: what follows from the
// last one with which it was live may be missing, as of any checkpoint that is the last one.
func (v *Versions) Whole() CheckpointNumber { return max(v.Since, 2) - 2 }

// ReadVersions reads them, through all checkpoints of the shard.
func ReadVersions(ctx context.Context, cs CheckpointReader, s Shard) (Versions, error) {
	return versionsAt(ctx, cs, s, math.MaxUint64)
}

// versionsAt returns the versions as of a checkpoint.
func versionsAt(ctx context.Context, cs CheckpointReader, s Shard, upto CheckpointNumber) (Versions, error) {
	v, fold := newVersions(), newSpell()
	if upto == 0 {
		return v, nil
	}
	err := eachCheckpoint(ctx, cs, s, 1, func(n CheckpointNumber, c *Checkpoint) error {
		if n > upto {
			return errEnough
		}
		v.apply(n, c)
		return fold.rest(ctx)
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	return v, err
}

var errEnough = errors.New("no more is wanted")

func newVersions() Versions { return Versions{Next: 1, Dropped: make(map[Version]bool)} }

// apply folds in the next checkpoint.
func (v *Versions) apply(n CheckpointNumber, c *Checkpoint) {
	if c.Version != v.Live {
		v.Before, v.Since, v.Live = v.Live, n, c.Version
		v.Next = max(v.Next, c.Version+1)
	}
	if c.Drops {
		v.Dropped[c.Dropped] = true
		v.Next = max(v.Next, c.Dropped+1)
	}
}

// The errors of a Rebuild.
var (
	// ErrDropped says that a version of timelines, or of a projection of one's own, was
	// dropped: it is never read again.
	ErrDropped = errors.New("this version was dropped")

	errLive = errors.New("the version is live")
)

// A Rebuild makes the timelines of a shard again beside those that are read, while
// projectors go on, and then has them read in place of those.
type Rebuild struct {
	Replay // into Version, which is not live. Rows of the store keep how far it is
	// Behind is the checkpoint up to which the version is known to be whole; of one that
	// was live, see Versions.Whole.
	Behind CheckpointNumber
}

// Run fills the version with all that follows from the log and the checkpoints, and
// appends the checkpoint that makes it live; it returns that one's number. Readers see
// one version until then and the other from then on, with the same entries. Interrupted,
// or after an error, it goes on when it is called again, and may also be called from two
// places: they write the same. The error wraps ErrDropped if somebody gives the version up
// meanwhile.
func (r *Rebuild) Run(ctx context.Context) (CheckpointNumber, error) {
	behind, err := r.place(ctx)
	if err != nil {
		return 0, err
	}
	if err := r.keep(ctx, behind); err != nil { // so that it is known that it has begun
		return 0, err
	}
	r.Empty = behind == 0 // or what an earlier try has put is put again: it is the same
	f, err := r.begin(ctx, behind)
	if err != nil {
		return 0, err
	}
	f.beside, f.keep = true, r.keep
	if b, ok := r.Store.(BulkWriter); ok && r.PutBytes == 0 && r.Rate == 0 {
		f.putBytes = b.BulkBytes()
	}
	n, err := f.takeOver(ctx)
	if errors.Is(err, errLive) { // by another, or by a try whose answer was lost
		return f.walk.versions.Since, nil
	}
	return n, err
}

// takeOver fills the version, and appends the checkpoint that makes it live.
func (f *filler) takeOver(ctx context.Context) (CheckpointNumber, error) {
	return f.append(ctx, func(cp *Checkpoint) error {
		cp.Version = f.Version
		return nil
	})
}

// append fills the version, and appends a checkpoint that covers nothing new and says
// something. A projector that was faster has taken its place: what follows from that one is
// put, and then it is the next one's turn.
func (f *filler) append(ctx context.Context, say func(*Checkpoint) error) (CheckpointNumber, error) {
	if err := f.fill(ctx); err != nil {
		return 0, err
	}
	for {
		n, cp := f.walk.n+1, f.walk.next()
		if err := say(cp); err != nil {
			return 0, err
		}
		stands, err := f.Store.Commit(ctx, f.Shard, n, cp.Encode(f.Shard, n), nil)
		if !errors.Is(err, events.ErrConflict) {
			return n, err
		}
		if err := f.follow(ctx, n, stands); err != nil {
			return 0, err
		}
	}
}

// follow puts what follows from the next checkpoint. It takes a projector at least as long
// to get to the one behind: that puts as much, and has then to read, which is done here in the
// meantime. So whoever follows comes closer with each, until it is the first.
func (f *filler) follow(ctx context.Context, n CheckpointNumber, stands []byte) error {
	cp, err := decodeRuled(f.Shard, n, stands)
	if err != nil {
		return err
	}
	c, err := f.walk.step(ctx, n, &cp)
	if planted.Is(planted.SwitchBehind) {
		c = new(cover)
	}
	if err == nil {
		err = f.give(ctx, n, c)
	}
	if err == nil && len(f.pending) > 0 {
		err = f.send(ctx, n)
	}
	if err == nil {
		err = f.walk.readOn(ctx, cp.Moved)
	}
	if put := f.settle(); err == nil {
		err = put
	}
	return err
}

// place returns up to which checkpoint the version is known to be whole.
func (r *Rebuild) place(ctx context.Context) (CheckpointNumber, error) {
	place, _, err := PlaceOfRebuild(ctx, r.Store, r.Shard, r.Version)
	return max(r.Behind, place), err
}

// keep stores it.
func (r *Rebuild) keep(ctx context.Context, n CheckpointNumber) error {
	return r.Store.PutRows(ctx, []Row{{Space: placesOfRebuilds, Key: keyOfRebuild(r.Shard, r.Version), Checkpoint: n}})
}

// PlaceOfRebuild returns up to which checkpoint rebuilds have filled a version of a shard's
// timelines, and whether one has begun at all.
func PlaceOfRebuild(ctx context.Context, rows Rows, s Shard, v Version) (upto CheckpointNumber, begun bool, err error) {
	row, err := rows.GetRow(ctx, placesOfRebuilds, keyOfRebuild(s, v))
	if errors.Is(err, events.ErrNotFound) {
		return 0, false, nil
	}
	return row.Checkpoint, err == nil, err
}

// placesOfRebuilds is the space of what rebuilds keep.
const placesOfRebuilds = "rebuild"

func keyOfRebuild(s Shard, v Version) string { return fmt.Sprintf("shard %d, version %d", s, v) }

// ErrIsLive says that a version of timelines, or of a projection of one's own, is read, and
// cannot be dropped.
var ErrIsLive = errors.New("this version is live")

// Drop appends a checkpoint that says that the version is never read again, and removes
// its items. It may be called again, as is due if a rebuild of the version went on
// meanwhile: that ends when it meets the checkpoint.
func (r *Replay) Drop(ctx context.Context, k Upkeep) error {
	if err := r.GiveUp(ctx); err != nil {
		return err
	}
	var gone Timeline
	return r.Store.ScanItems(ctx, r.Version, func(i Stored) error {
		if err := ctx.Err(); err != nil { // not every engine looks
			return err
		}
		if i.Timeline == gone || ShardOf(i.User.Slot(), r.Meta.Shards) != r.Shard {
			return nil
		}
		gone = i.Timeline
		return k.DeleteItems(ctx, gone, math.MaxUint64)
	})
}

// GiveUp appends the checkpoint that drops the version, unless one has. The items of the one
// before may be missing in the version that is live, and no projector looks for them behind
// another: so that is filled first, and followed as a rebuild does.
func (r *Replay) GiveUp(ctx context.Context) error {
	v, err := ReadVersions(ctx, r.Store, r.Shard)
	if err != nil || v.Dropped[r.Version] {
		return err
	}
	for {
		n, last, err := lastCheckpoint(ctx, r.Store, r.Shard)
		if err != nil {
			return err
		}
		live := Replay{Store: r.Store, Meta: r.Meta, Shard: r.Shard}
		if n > 0 {
			live.Version = last.Version
		}
		f, err := live.begin(ctx, max(n, 1)-1)
		if err != nil {
			return err
		}
		_, err = f.append(ctx, func(cp *Checkpoint) error {
			switch cp.Version {
			case r.Version:
				return fmt.Errorf("version %d of shard %d: %w", r.Version, r.Shard, ErrIsLive)
			case live.Version:
				cp.Drops, cp.Dropped = true, r.Version
				return nil
			}
			return errOvertaken // by a switch
		})
		if !errors.Is(err, errOvertaken) {
			return err
		}
	}
}
