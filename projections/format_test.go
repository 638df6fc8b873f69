package projections

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"timberline/events"
	"timberline/events/fields"
)

// filled returns 16 bytes that count up.
func filled(from byte) (id [16]byte) {
	for i := range id {
		id[i] = from + byte(i)
	}
	return id
}

func anEvent(body string) []byte {
	return (&events.Event{
		ID: filled(1), Kind: events.KindMessage, Conversation: events.Direct("alice", "bob"), Sender: "alice",
		Device: "phone", Session: filled(0x20), Number: 3, Message: filled(0x40), Body: []byte(body),
	}).Encode()
}

func fullCheckpoint() Checkpoint {
	return Checkpoint{
		Rules: 1, Moved: []Position{{Journal: 1, Offset: 300, Ended: true}, {Journal: 70000, Offset: 1}, {Journal: 70001}},
		Through: 70001, Full: 4000, Children: []Child{{Shard: 5, First: 0, Last: 2047}, {Shard: 6, First: 2048, Last: 4095}},
	}
}

func fullItem() Item {
	return Item{
		First: 299, Checkpoint: 4001, Newest: filled(0x80), Entries: []Entry{
			{Event: anEvent("hello, bob")},
			{Ref: &Ref{Journal: "j:7", Offset: 300, Index: 2}},
			{Ref: &Ref{}},
		},
	}
}

func randomCheckpoint(r *rand.Rand) Checkpoint {
	number := func() uint64 { return r.Uint64() >> r.IntN(64) }
	c := Checkpoint{Rules: uint32(number()), Through: number(), Full: CheckpointNumber(number())}
	for range r.IntN(5) {
		c.Moved = append(c.Moved, Position{number(), events.Offset(number()), r.IntN(2) == 0})
	}
	for range r.IntN(3) {
		c.Children = append(c.Children, Child{Shard(number()), events.Slot(number()), events.Slot(number())})
	}
	return c
}

func randomItem(r *rand.Rand) Item {
	i := Item{First: events.Seq(1 + r.Uint64()>>r.IntN(63)), Checkpoint: CheckpointNumber(r.Uint64() >> r.IntN(64))}
	i.Newest = filled(byte(r.Uint32()))
	for range 1 + r.IntN(5) {
		if r.IntN(4) == 0 {
			i.Entries = append(i.Entries, Entry{Ref: &Ref{"j:1", events.Offset(r.Uint64()), r.Uint32()}})
			continue
		}
		i.Entries = append(i.Entries, Entry{Event: anEvent(strings.Repeat("x", r.IntN(300)))})
	}
	return i
}

func wantSame[T any](t *testing.T, why string, want, got T) {
	t.Helper()
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("%s (- want, + got):\n%s", why, diff)
	}
}

func TestCheckpointsAreReadAsTheyWereWritten(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	all := []Checkpoint{{}, fullCheckpoint()}
	for range 300 {
		all = append(all, randomCheckpoint(r))
	}
	for _, want := range all {
		got, err := DecodeCheckpoint(3, 9, want.Encode(3, 9))
		if err != nil {
			t.Fatal(err)
		}
		wantSame(t, "protobuf", want, got)
		var fromJSON Checkpoint
		if err := fields.UnmarshalJSON(fields.AppendJSON(nil, &want), &fromJSON); err != nil {
			t.Fatal(err)
		}
		wantSame(t, "JSON", want, fromJSON)
	}
}

func TestItemsAreReadAsTheyWereWritten(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 2))
	all := []Item{fullItem()}
	for range seeds(300) {
		all = append(all, randomItem(r))
	}
	for _, want := range all {
		stored := want.Encode(Timeline{User: "alice"})
		if stored.User != "alice" || stored.Last != want.First+events.Seq(len(want.Entries))-1 {
			t.Fatalf("stored for %s at %d", stored.User, stored.Last)
		}
		got, err := stored.Decode()
		if err != nil {
			t.Fatal(err)
		}
		wantSame(t, "protobuf", want, got)
		var fromJSON Item
		if err := fields.UnmarshalJSON(fields.AppendJSON(nil, &want), &fromJSON); err != nil {
			t.Fatal(err)
		}
		wantSame(t, "JSON", want, fromJSON)
	}
}

func TestCheckpointsAreReadOnlyWhereTheyBelong(t *testing.T) {
	c := fullCheckpoint()
	data := c.Encode(3, 9)
	for _, place := range []struct {
		s Shard
		n CheckpointNumber
	}{{3, 8}, {3, 10}, {2, 9}, {9, 3}, {0, 3<<32 | 9}} {
		if got, err := DecodeCheckpoint(place.s, place.n, data); !errors.Is(err, events.ErrCorrupt) {
			t.Errorf("read as checkpoint %d of shard %d: %+v, error %v, want ErrCorrupt", place.n, place.s, got, err)
		}
	}
	if _, err := DecodeCheckpoint(4, 5, data); !strings.Contains(err.Error(), "checkpoint 5 of shard 4") {
		t.Errorf("the error names no place: %v", err)
	}
}

func TestItemsAreReadOnlyWhereTheyBelong(t *testing.T) {
	i := fullItem()
	for _, move := range []func(s *Stored){
		func(s *Stored) { s.User = "bob" },
		func(s *Stored) { s.User = "alic" },
		func(s *Stored) { s.Last++ },
		func(s *Stored) { s.Last-- },
	} {
		s := i.Encode(Timeline{User: "alice"})
		move(&s)
		_, err := s.Decode()
		if !errors.Is(err, events.ErrCorrupt) || !strings.Contains(err.Error(), "timeline of "+string(s.User)) {
			t.Errorf("read in %s's timeline at %d: error %v, want ErrCorrupt and the place", s.User, s.Last, err)
		}
	}
}

func TestItemsThatContradictTheirPlaceAreDamage(t *testing.T) {
	for _, item := range []Item{
		{First: 2, Entries: make([]Entry, 1)},         // ends before its place
		{First: 3, Entries: make([]Entry, 2)},         // goes on behind it
		{First: 0, Entries: make([]Entry, 4)},         // begins before the first entry
		{First: 4},                                    // holds no entry
		{First: 1<<64 - 1, Entries: make([]Entry, 5)}, // ends there, counted round
	} {
		s := Stored{Timeline: Timeline{User: "alice"}, Last: 3, Data: seal(itemPlace("alice", 3), &item)}
		if _, err := s.Decode(); !errors.Is(err, events.ErrCorrupt) {
			t.Errorf("%+v at 3: error %v, want ErrCorrupt", item, err)
		}
	}
}

func TestEveryFlippedBitOfACheckpointOrItemIsFound(t *testing.T) {
	c, i := fullCheckpoint(), fullItem()
	stored := i.Encode(Timeline{User: "alice"})
	for _, kind := range []struct {
		name string
		data []byte
		read func([]byte) error
	}{
		{"checkpoint", c.Encode(3, 9), func(b []byte) error { _, err := DecodeCheckpoint(3, 9, b); return err }},
		{"item", stored.Data, func(b []byte) error {
			_, err := Stored{Timeline: stored.Timeline, Last: stored.Last, Data: b}.Decode()
			return err
		}},
	} {
		for bit := range 8 * len(kind.data) {
			damaged := bytes.Clone(kind.data)
			damaged[bit/8] ^= 1 << (bit % 8)
			if err := kind.read(damaged); !errors.Is(err, events.ErrCorrupt) {
				t.Errorf("%s, bit %d flipped: error %v, want ErrCorrupt", kind.name, bit, err)
			}
		}
		for n := range kind.data {
			if err := kind.read(kind.data[:n]); !errors.Is(err, events.ErrCorrupt) {
				t.Errorf("%s cut to %d bytes: error %v, want ErrCorrupt", kind.name, n, err)
			}
		}
	}
}

// message is bytes that are written as they are.
type message []byte

func (m message) Fields(v fields.Visitor) { v.Unknown(m) }

// Whatever is read as a checkpoint means the same when it was written again.
func FuzzCheckpoint(f *testing.F) {
	c := fullCheckpoint()
	f.Add(fields.Append(nil, &c))
	c.Version, c.Drops, c.Dropped = 3, true, 1
	f.Add(fields.Append(nil, &c))
	f.Fuzz(func(t *testing.T, data []byte) {
		first, err := DecodeCheckpoint(3, 9, seal(checkpointPlace(3, 9), message(data)))
		if err != nil {
			if !errors.Is(err, events.ErrCorrupt) {
				t.Fatalf("error %v, want ErrCorrupt", err)
			}
			return
		}
		again, err := DecodeCheckpoint(1, 2, first.Encode(1, 2))
		if err != nil {
			t.Fatal(err)
		}
		wantSame(t, "again", first, again)
	})
}

// Whatever is read as an item means the same when it was written again.
func FuzzItem(f *testing.F) {
	i := fullItem()
	f.Add(uint64(i.Last()), fields.Append(nil, &i))
	f.Fuzz(func(t *testing.T, last uint64, data []byte) {
		at := events.Seq(last)
		first, err := Stored{Timeline: Timeline{User: "alice"}, Last: at, Data: seal(itemPlace("alice", at), message(data))}.Decode()
		if err != nil {
			if !errors.Is(err, events.ErrCorrupt) {
				t.Fatalf("error %v, want ErrCorrupt", err)
			}
			return
		}
		stored := first.Encode(Timeline{User: "bob"})
		if stored.Last != at {
			t.Fatalf("an item that ends at %d is written at %d", at, stored.Last)
		}
		again, err := stored.Decode()
		if err != nil {
			t.Fatal(err)
		}
		wantSame(t, "again", first, again)
	})
}

func TestCheckpointsAndItemsOfOtherVersionsAreNoDamage(t *testing.T) {
	c, i := fullCheckpoint(), fullItem()
	for _, version := range []byte{0, FormatVersion + 1} {
		_, err := DecodeCheckpoint(3, 9, fields.Seal(version, checkpointPlace(3, 9), &c))
		wantOtherVersion(t, err, "checkpoint 9 of shard 3")
		_, err = Stored{Timeline: Timeline{User: "alice"}, Last: i.Last(), Data: fields.Seal(version, itemPlace("alice", i.Last()), &i)}.Decode()
		wantOtherVersion(t, err, "timeline of alice, item ending at 301")
	}
}

func wantOtherVersion(t *testing.T, err error, place string) {
	t.Helper()
	if !errors.Is(err, events.ErrFormat) || errors.Is(err, events.ErrCorrupt) || !strings.Contains(err.Error(), place) {
		t.Errorf("%v, want ErrFormat with %q", err, place)
	}
}

// Whatever is read of a row that projections keep means the same when it was written again:
// where a timeline begins, a step, a value, which version is read.
func FuzzKept(f *testing.F) {
	f.Add(uint8(0), fields.Append(nil, &mark{first: 7, checkpoint: 3, newest: filled(0x80)}))
	f.Add(uint8(1), fields.Append(nil, &step{done: 64, upto: 128}))
	f.Add(uint8(2), fields.Append(nil, &value{is: []byte("3"), was: []byte("2"), stands: true, stood: true}))
	f.Add(uint8(3), fields.Append(nil, &live{version: 2, dropped: []givenUp{{1}}}))
	f.Add(uint8(4), fields.Append(nil, &Round{begun: 1 << 30, into: []uint64{3, 1}}))
	kinds := []func() fields.Message{
		func() fields.Message { return new(mark) }, func() fields.Message { return new(step) },
		func() fields.Message { return new(value) }, func() fields.Message { return new(live) },
		func() fields.Message { return new(Round) },
	}
	f.Fuzz(func(t *testing.T, kind uint8, data []byte) {
		kept := kinds[int(kind)%len(kinds)]
		row := sealRow(Row{Space: "s", Key: "k", Checkpoint: 9}, message(data))
		first := kept()
		if err := unsealRow(&row, first); err != nil {
			if !errors.Is(err, events.ErrCorrupt) || !strings.Contains(err.Error(), "row k of s") {
				t.Fatalf("%v, want ErrCorrupt with the place", err)
			}
			return
		}
		if m, ok := first.(*mark); ok {
			m.tail() // whatever it says
		}
		row, again := sealRow(row, first), kept()
		if err := unsealRow(&row, again); err != nil {
			t.Fatal(err)
		}
		if x, y := fields.Append(nil, first), fields.Append(nil, again); !bytes.Equal(x, y) {
			t.Fatalf("%x was written and read as %x", x, y)
		}
		row.Key = "other"
		if err := unsealRow(&row, again); !errors.Is(err, events.ErrCorrupt) {
			t.Fatalf("in another's place: %v, want ErrCorrupt", err)
		}
	})
}
