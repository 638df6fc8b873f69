package projections

import (
	"encoding/binary"
	"fmt"
	"slices"

	"timberline/events"
	"timberline/events/fields"
)

// A Checkpoint says how far a shard has read the log, and with which rules.
type Checkpoint struct {
	Rules uint32
	Moved []Position // the journals that moved since the checkpoint before
	// Through is the highest journal number known: a journal up to it that has
	// no position has been read to its end.
	Through uint64
	// Full is the number of the newest checkpoint that lists all journals not
	// yet read to their end; its own number if this one does.
	Full CheckpointNumber
	// Version is that of the timelines which are read, and written, from this
	// checkpoint on.
	Version Version
	// Drops says that the version Dropped is never read again: its timelines may be
	// whole no more.
	Drops   bool
	Dropped Version
	// Children and their slots, where this is the last checkpoint of a shard
	// that was split. Nothing writes them yet.
	Children []Child
}

// A Position is how far a journal was read. Ended positions are not carried on.
type Position struct {
	Journal uint64 // its number
	Offset  events.Offset
	Ended   bool // Offset is the journal's last record
}

// A Child is a shard that goes on where its parent stopped, with a run of the
// parent's slots.
type Child struct {
	Shard       Shard
	First, Last events.Slot
}

// Fields lists the checkpoint's fields.
func (c *Checkpoint) Fields(v fields.Visitor) {
	fields.Uint(v, 1, "rules", &c.Rules)
	fields.List(v, 2, "moved", &c.Moved)
	fields.Uint(v, 3, "through", &c.Through)
	fields.Uint(v, 4, "full", &c.Full)
	fields.List(v, 5, "children", &c.Children)
	fields.Uint(v, 6, "version", &c.Version)
	fields.Bool(v, 7, "drops", &c.Drops)
	fields.Uint(v, 8, "dropped", &c.Dropped)
}

// Fields lists the message's fields.
func (p *Position) Fields(v fields.Visitor) {
	fields.Uint(v, 1, "journal", &p.Journal)
	fields.Uint(v, 2, "offset", &p.Offset)
	fields.Bool(v, 3, "ended", &p.Ended)
}

// Fields lists the message's fields.
func (c *Child) Fields(v fields.Visitor) {
	fields.Uint(v, 1, "shard", &c.Shard)
	fields.Uint(v, 2, "first", &c.First)
	fields.Uint(v, 3, "last", &c.Last)
}

// Encode returns the checkpoint as stored at that place, sealed like a record.
func (c *Checkpoint) Encode(s Shard, n CheckpointNumber) []byte {
	return seal(checkpointPlace(s, n), c)
}

// DecodeCheckpoint reads what stands at that place. The error wraps
// events.ErrCorrupt or events.ErrFormat and names the place.
func DecodeCheckpoint(s Shard, n CheckpointNumber, data []byte) (Checkpoint, error) {
	var c Checkpoint
	if err := fields.Unseal(FormatVersion, checkpointPlace(s, n), data, &c); err != nil {
		return Checkpoint{}, events.Unreadable(fmt.Sprintf("checkpoint %d of shard %d", n, s), err)
	}
	return c, nil
}

func checkpointPlace(s Shard, n CheckpointNumber) []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32([]byte("c"), uint32(s)), uint64(n))
}

// An Item is all that one checkpoint gives one user.
type Item struct {
	First      events.Seq // of the first entry; the others follow without a gap
	Checkpoint CheckpointNumber
	// Newest is the highest id of all the user's entries up to this item's end.
	Newest  events.ID
	Entries []Entry
}

// Events returns the events of the entries, each an events.Raw.
func (i *Item) Events() [][]byte {
	raws := make([][]byte, len(i.Entries))
	for k := range raws {
		raws[k] = i.Entries[k].Event
	}
	return raws
}

// An Entry is an event, or where to find it.
type Entry struct {
	Event []byte // an events.Raw
	Ref   *Ref   // instead of Event. Nothing writes it yet
}

// A Ref is the place of an event in the log.
type Ref struct {
	Journal events.Journal
	Offset  events.Offset
	Index   uint32
}

// Fields lists the item's fields.
func (i *Item) Fields(v fields.Visitor) {
	fields.Uint(v, 1, "first", &i.First)
	fields.Uint(v, 2, "checkpoint", &i.Checkpoint)
	fields.ID(v, 3, "newest", &i.Newest)
	fields.List(v, 4, "entries", &i.Entries)
}

// Fields lists the message's fields.
func (e *Entry) Fields(v fields.Visitor) {
	fields.Bytes(v, 1, "event", &e.Event)
	fields.Embed(v, 2, "ref", &e.Ref)
}

// Fields lists the message's fields.
func (r *Ref) Fields(v fields.Visitor) {
	fields.String(v, 1, "journal", &r.Journal)
	fields.Uint(v, 2, "offset", &r.Offset)
	fields.Uint(v, 3, "index", &r.Index)
}

// Last returns the seq of the item's last entry.
func (i *Item) Last() events.Seq { return i.First + events.Seq(len(i.Entries)) - 1 }

// Encode returns the item as stored in that timeline: the same bytes in each version.
func (i *Item) Encode(t Timeline) Stored { return i.encodeIn(t, new(room)) }

// encodeIn is Encode into a room for many.
func (i *Item) encodeIn(t Timeline, r *room) Stored {
	size := 64 // of all but the events
	for k := range i.Entries {
		size += len(i.Entries[k].Event) + 8
	}
	at := r.make(size)
	r.item, r.place = *i, appendItemPlace(r.place[:0], t.User, i.Last())
	r.bytes = fields.AppendSealed(r.bytes, FormatVersion, r.place, &r.item)
	return Stored{Timeline: t, Last: i.Last(), Data: slices.Clip(r.bytes[at:])}
}

// A room is memory for many small things that go together: to allocate each, and to free it,
// takes longer than to write it.
type room struct {
	bytes []byte
	each  int    // bytes allocated at a time, at least
	item  Item   // of which the last bytes were made
	place []byte // of that item
}

// make makes sure that there is room for so many bytes, and returns where.
func (r *room) make(size int) (at int) {
	if cap(r.bytes)-len(r.bytes) < size {
		r.bytes = make([]byte, 0, max(r.each, size))
	}
	return len(r.bytes)
}

// Decode reads a stored item. The error wraps events.ErrCorrupt or events.ErrFormat
// and names the place.
func (s Stored) Decode() (Item, error) {
	var i Item
	if err := fields.Unseal(FormatVersion, itemPlace(s.User, s.Last), s.Data, &i); err != nil {
		return Item{}, events.Unreadable(fmt.Sprintf("timeline of %s, item ending at %d", s.Timeline, s.Last), err)
	}
	if i.Last() != s.Last || i.First == 0 || i.First > s.Last {
		return Item{}, fmt.Errorf("timeline of %s, item ending at %d: %w: holds entries %d to %d", s.Timeline, s.Last, events.ErrCorrupt, i.First, i.Last())
	}
	return i, nil
}

// checkpointOf returns the checkpoint of a stored item without a look at the rest: of one that
// is damaged anything.
func checkpointOf(data []byte) CheckpointNumber { return CheckpointNumber(fields.PeekUint(data, 2)) }

func itemPlace(u events.User, last events.Seq) []byte {
	return appendItemPlace(make([]byte, 0, 80), u, last) // a name has at most 64 bytes
}

func appendItemPlace(b []byte, u events.User, last events.Seq) []byte {
	return binary.BigEndian.AppendUint64(append(append(b, 't'), u...), uint64(last))
}

// FormatVersion is the version of checkpoints and items as written. Every later
// version reads it.
const FormatVersion = 1

func seal(place []byte, m fields.Message) []byte {
	return fields.Seal(FormatVersion, place, m)
}
