package projections

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"timberline/bus/local"
	"timberline/events"
)

// An edge goes by that: what stands in a timeline a device may have been shown (R4).
func TestHeadTellsTheHighestIdOfATimeline(t *testing.T) {
	m := newMemory()
	w := &scribe{t: t, m: m, r: rand.New(rand.NewPCG(1, 1))}
	a, b := w.open(), w.open()
	p := newProjector(t, m.by(always), new(local.Bus), 1)
	for range 30 {
		w.append(a, w.message(5))
		w.append(b, w.message(5))
		if err := p.catchUp(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	r := NewReader(m.by(always), Meta{Shards: 1})
	for u := range m.items {
		run, err := r.Read(t.Context(), u.User, 0, 0, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		var newest events.ID
		for _, raw := range run.Events {
			if id := events.Raw(raw).EventID(); id.Compare(newest) > 0 {
				newest = id
			}
		}
		if run.Newest != newest || events.Seq(len(run.Events)) != run.Head {
			t.Errorf("%s: %d of %d entries, newest %v, want %v", u, len(run.Events), run.Head, run.Newest, newest)
		}
	}
	if run, err := r.Head(t.Context(), "nobody"); err != nil || run.Newest != (events.ID{}) || run.First != 1 {
		t.Errorf("an empty timeline: %+v, %v; want no id, and 1 as the first seq", run, err)
	}
}

// A projector of a newer program may have switched a shard to rules, and timelines, that this
// one would not write.
func TestReaderReadsWhatOtherRulesHaveMade(t *testing.T) {
	m := newMemory()
	bob := Timeline{Version: 3, User: "bob"}
	item := Item{First: 1, Checkpoint: 1, Newest: filled(1), Entries: []Entry{{Event: anEvent("one")}}}
	m.items[bob] = []Stored{item.Encode(bob)}
	cp := Checkpoint{Rules: newestRules() + 1, Full: 1, Version: 3}
	m.checkpoints[0] = [][]byte{cp.Encode(0, 1)}
	run, err := NewReader(m.by(always), Meta{Shards: 1}).Read(t.Context(), "bob", 0, 0, 1<<20)
	if err != nil || len(run.Events) != 1 {
		t.Errorf("%d entries, %v; want the one of version 3", len(run.Events), err)
	}
}

func TestReaderNamesADamagedItemAndShowsNothingOfIt(t *testing.T) {
	m := newMemory()
	first := Item{First: 1, Checkpoint: 1, Newest: filled(1), Entries: []Entry{{Event: anEvent("one")}}}
	second := Item{First: 2, Checkpoint: 2, Newest: filled(2), Entries: []Entry{{Event: anEvent("two")}, {Event: anEvent("three")}}}
	bob := Timeline{User: "bob"}
	whole := second.Encode(bob)
	m.items[bob] = []Stored{first.Encode(bob), whole}
	r := NewReader(m.by(always), Meta{Shards: 1})
	if run, err := r.Read(t.Context(), "bob", 0, 0, 1<<20); err != nil || len(run.Events) != 3 {
		t.Fatalf("undamaged: %d entries, %v", len(run.Events), err)
	}
	for i := range whole.Data {
		damaged := whole
		damaged.Data = bytes.Clone(whole.Data)
		damaged.Data[i] ^= 1
		m.items[bob][1] = damaged
		run, err := r.Read(t.Context(), "bob", 0, 0, 1<<20)
		wantDamage(t, i, err)
		if len(run.Events) > 0 {
			t.Errorf("byte %d is damaged, and %d entries are shown", i, len(run.Events))
		}
		run, err = r.Head(t.Context(), "bob")
		wantDamage(t, i, err)
		if run.Newest != (events.ID{}) {
			t.Errorf("byte %d is damaged, and the newest id is %v", i, run.Newest)
		}
	}
}

func wantDamage(t *testing.T, at int, err error) {
	t.Helper()
	if !errors.Is(err, events.ErrCorrupt) || !strings.Contains(err.Error(), "timeline of bob, item ending at 3") {
		t.Errorf("byte %d is damaged: %v, want ErrCorrupt with the place", at, err)
	}
}

// A dropped is a store in which a version of timelines goes, for another, between two reads of
// a Reader.
type dropped struct {
	Timelines
	once sync.Once
	drop func()
}

// NewestItem implements Items.
func (d *dropped) NewestItem(ctx context.Context, t Timeline, c events.Consistency) (Stored, error) {
	d.once.Do(d.drop)
	return d.Timelines.NewestItem(ctx, t, c)
}

// Whoever was told that a timeline is empty would forget a cursor that is right.
func TestHeadIsThatOfTheNewVersionWhenTheOldOneIsDropped(t *testing.T) {
	m := newMemory()
	item := Item{First: 1, Checkpoint: 1, Newest: filled(1), Entries: []Entry{{Event: anEvent("one")}}}
	old, current := Timeline{Version: 0, User: "bob"}, Timeline{Version: 1, User: "bob"}
	m.items[old], m.items[current] = []Stored{item.Encode(old)}, []Stored{item.Encode(current)}
	first, second := Checkpoint{Full: 1}, Checkpoint{Full: 2, Version: 1}
	m.checkpoints[0] = [][]byte{first.Encode(0, 1)}
	s := &dropped{Timelines: m.by(always), drop: func() {
		m.checkpoints[0] = append(m.checkpoints[0], second.Encode(0, 2))
		delete(m.items, old)
	}}
	run, err := NewReader(s, Meta{Shards: 1}).Head(t.Context(), "bob")
	if err != nil || run.Head != 1 {
		t.Errorf("head %d, %v; want 1, that of version 1", run.Head, err)
	}
}

// Whoever waits for an entry that is not there would wait for ever, and nobody would know.
func TestMissingEntryIsAnErrorAndWhatFollowsIsNotShown(t *testing.T) {
	m := newMemory()
	bob := Timeline{User: "bob"}
	for i := range events.Seq(5) {
		if i == 2 {
			continue
		}
		item := Item{First: i + 1, Checkpoint: CheckpointNumber(i + 1), Newest: filled(byte(i)), Entries: []Entry{{Event: anEvent("one")}}}
		m.items[bob] = append(m.items[bob], item.Encode(bob))
	}
	r := NewReader(m.by(always), Meta{Shards: 1})
	if run, err := r.Read(t.Context(), "bob", 0, 0, 1<<20); err != nil || len(run.Events) != 2 || run.Head != 5 {
		t.Errorf("%d entries, head %d, %v; want 2 and 5", len(run.Events), run.Head, err)
	}
	if run, err := r.Read(t.Context(), "bob", 2, 0, 1<<20); !errors.Is(err, events.ErrCorrupt) || !strings.Contains(err.Error(), "no entry 3") || len(run.Events) > 0 {
		t.Errorf("%d entries, %v; want none, and that entry 3 is missing", len(run.Events), err)
	}
	if run, err := r.Read(t.Context(), "bob", 2, 1, 1<<20); err != nil || len(run.Events) > 0 {
		t.Errorf("%d entries, %v; none were asked for", len(run.Events), err)
	}
}

// What was trimmed between the two reads is not missing.
func TestReadThatATrimOvertakesTellsWhereTheTimelineBeginsNow(t *testing.T) {
	m := newMemory()
	bob := Timeline{User: "bob"}
	for i := range events.Seq(5) {
		item := Item{First: i + 1, Checkpoint: CheckpointNumber(i + 1), Newest: filled(byte(i)), Entries: []Entry{{Event: anEvent("one")}}}
		m.items[bob] = append(m.items[bob], item.Encode(bob))
	}
	s := m.by(always)
	run, err := NewReader(&trimmedBetween{Timelines: s, trim: func() {
		if err := keepMark(t.Context(), s, "bob", mark{first: 4}); err != nil {
			t.Fatal(err)
		}
		m.items[bob] = m.items[bob][3:]
	}}, Meta{Shards: 1}).Read(t.Context(), "bob", 0, 0, 1<<20)
	if err != nil || len(run.Events) > 0 || run.First != 4 || run.Head != 5 {
		t.Errorf("%d entries, first %d, head %d, %v; want none, 4 and 5", len(run.Events), run.First, run.Head, err)
	}
}

// A trimmedBetween is a store that is trimmed before a Reader reads items.
type trimmedBetween struct {
	Timelines
	once sync.Once
	trim func()
}

// ReadItems implements Items.
func (d *trimmedBetween) ReadItems(ctx context.Context, t Timeline, from events.Seq, size int, c events.Consistency) ([]Stored, error) {
	d.once.Do(d.trim)
	return d.Timelines.ReadItems(ctx, t, from, size, c)
}

// What is trimmed cannot be read from the moment on at which that stands, though an
// interrupted trim has left it.
func TestNothingBelowTheBeginningIsRead(t *testing.T) {
	b := used(t, 3, 300)
	s := b.m.by(always)
	u := events.User("u1")
	items := b.m.items[Timeline{User: u}]
	item, err := items[len(items)/2].Decode()
	if err != nil {
		t.Fatal(err)
	}
	if err := keepMark(t.Context(), s, u, mark{first: item.First, checkpoint: item.Checkpoint}); err != nil {
		t.Fatal(err)
	}
	for after := range items[len(items)-1].Last {
		run, err := b.reader.Read(t.Context(), u, after, 0, 1<<20)
		want := int(items[len(items)-1].Last - after)
		if after+1 < item.First {
			want = 0
		}
		if err != nil || run.First != item.First || len(run.Events) != want {
			t.Errorf("behind %d: %d entries, first is %d, %v; want %d, %d", after, len(run.Events), run.First, err, want, item.First)
		}
	}
}
