package projections

import (
	"context"
	"fmt"

	"timberline/events"
)

// A Shard is a set of slots with checkpoints of its own, counted from 1.
type Shard uint32

// A CheckpointNumber is a checkpoint's place in its shard, counting from 1. Zero
// means "before the first checkpoint".
type CheckpointNumber uint64

// Checkpoints is where a storage engine keeps checkpoints. Checkpoints are bytes
// to it; see Checkpoint for what they hold.
type Checkpoints interface {
	CheckpointReader

	// Commit appends checkpoint n on condition that n is empty, and then writes
	// the items that follow from it. nil means that all of it is durable. If n
	// is taken it writes nothing and returns ErrConflict and what stands there.
	// After any other error the checkpoint may stand, now or later, with none,
	// some or all of its items: the caller drops what it has in memory and
	// loads again. An engine with one write-ahead log lands all or nothing.
	Commit(ctx context.Context, s Shard, n CheckpointNumber, checkpoint []byte, items []Stored) (stands []byte, err error)
}

// A CheckpointReader reads checkpoints.
type CheckpointReader interface {
	// LastCheckpoint returns the newest checkpoint of a shard, as a read that is at
	// least events.Latest, and 0 if there is none.
	LastCheckpoint(ctx context.Context, s Shard, c events.Consistency) (CheckpointNumber, []byte, error)

	// ReadCheckpoints returns checkpoints from, from+1, … as far as they follow
	// each other without a gap, as many as fit into about size bytes and at
	// least one if there is one.
	ReadCheckpoints(ctx context.Context, s Shard, from CheckpointNumber, size int) ([][]byte, error)
}

// A Version is one of the timelines that a shard has beside each other. They hold the
// same entries at the same seqs; which of them is read, and written by projectors, its
// last checkpoint says. The first is 0.
type Version uint32

// A Timeline names a user's, in one version.
type Timeline struct {
	Version Version
	User    events.User
}

// String names the timeline for people.
func (t Timeline) String() string {
	if t.Version == 0 {
		return string(t.User)
	}
	return fmt.Sprintf("%s in version %d", t.User, t.Version)
}

// Items is where a storage engine keeps timeline items, ordered by timeline and last
// seq. An item is bytes to it; see Item for what it holds.
type Items interface {
	// NewestItem returns the timeline's item with the highest last seq, as a strong
	// read if asked. The error is events.ErrNotFound if there is none.
	NewestItem(ctx context.Context, t Timeline, c events.Consistency) (Stored, error)

	// ReadItems returns the timeline's items whose last seq is at least from, in
	// order, as many as fit into about size bytes and at least one if there is
	// one.
	ReadItems(ctx context.Context, t Timeline, from events.Seq, size int, c events.Consistency) ([]Stored, error)

	// PutItems writes items over what stands at their places, which by R6 are
	// the same bytes. nil means durable. After an error some may be written, now or
	// later; those of one timeline in the order given: none without those before it.
	// PutItems keeps no reference to items after it returns nil.
	PutItems(ctx context.Context, items []Stored) error

	// ScanItems calls visit with the items of all timelines of a version, as a strong
	// read of each: those of one timeline together and in order, the timelines in any
	// order. Whatever is written meanwhile may be among them or not. The item is
	// visit's until it returns; the first error that visit returns ends the scan, and
	// is returned.
	ScanItems(ctx context.Context, v Version, visit func(Stored) error) error
}

// Source is what all projections follow from.
type Source interface {
	events.Log
	events.Journals
	Checkpoints
}

// History is the part of a Source that is read to see what follows from it.
type History interface {
	JournalLister
	CheckpointReader
	// ReadLog is that of events.Log.
	ReadLog(ctx context.Context, j events.Journal, from events.Offset, size int, c events.Consistency) ([]events.Record, error)
}

// A JournalLister lists the rows of journals.
type JournalLister interface {
	// ListJournals is that of events.Journals.
	ListJournals(ctx context.Context, after uint64, c events.Consistency) ([]events.Row, error)
}

// Followed is what a projection of one's own needs of a store: it reads what happened, and
// keeps rows.
type Followed interface {
	History
	Rows
}

// Store is what projections read and write.
type Store interface {
	Source
	Items
	Rows
}

// Whole is all of a store, for those who work on it as a whole.
type Whole interface {
	Store
	Upkeep
}

// Upkeep is what a storage engine does for those who work on a whole store. Others may
// work on it meanwhile, but for CutCheckpoints and EmptyTimelines, which a restore asks for.
type Upkeep interface {
	// JournalEnds returns the offset of the last record of each edge's journal that has
	// its first one, by the journal's number.
	JournalEnds(ctx context.Context) (map[uint64]events.Offset, error)

	// CutCheckpoints removes the checkpoints of a shard from a number on, the last one
	// first: after an error those that are left follow each other.
	CutCheckpoints(ctx context.Context, s Shard, from CheckpointNumber) error

	// DeleteRecords removes the records of a journal below an offset, the first one last:
	// as long as that stands there may be others. It may be called again.
	DeleteRecords(ctx context.Context, j events.Journal, below events.Offset) error

	// DeleteItems removes the items of a timeline whose last seq is below a seq, the last one
	// last: until all are gone the timeline ends where it did.
	DeleteItems(ctx context.Context, t Timeline, below events.Seq) error

	// EmptyTimelines removes all items of all users, in all versions.
	EmptyTimelines(ctx context.Context) error
}

// A BulkWriter is an engine that best takes many quiet items at a time, from whoever has
// many.
type BulkWriter interface {
	// BulkBytes returns how many bytes of them.
	BulkBytes() int
}

// A Scrubber is an engine that can look at what it keeps beneath what it is read by: files
// of its own.
type Scrubber interface {
	// Scrub reads all that is stored, also what no read may ever need, beside whatever
	// else is done. It calls damaged with each file that is, and an error that wraps
	// events.ErrCorrupt, and returns how many files it has read. The error is one that
	// kept it from going on.
	Scrub(ctx context.Context, damaged func(file string, err error)) (files uint64, err error)
}

// Stored is an item as an engine keeps it.
type Stored struct {
	Timeline
	Last events.Seq // the seq of the item's last entry: the key within the timeline
	Data []byte
	// Quiet says that nobody is to be told of the item, where engines tell of those
	// that are put: those who read the timelines may not see it yet. So an engine may
	// take longer to put it, if that is of use to others.
	Quiet bool
}

// Meta is what a store knows of itself, fixed at its creation (the id: also at a
// restore).
type Meta struct {
	Store  events.StoreID
	Shards uint32 // slots are dealt out to the first shards by ShardOf
}

// ShardOf returns the shard of a slot among the n shards a store was created
// with.
func ShardOf(s events.Slot, n uint32) Shard {
	return Shard(uint64(s) * uint64(n) / events.Slots)
}
