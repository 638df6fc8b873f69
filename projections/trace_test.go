package projections

import (
	"testing"

	"timberline/events"
)

func TestEventsAreFoundInTheTimelinesOfTheirRecipients(t *testing.T) {
	for seed := range seeds(20) {
		b := newBustle(t, seed)
		for range 200 {
			b.act()
		}
		if seed%3 == 0 {
			if _, err := b.rebuild(0, 1, 0); err != nil {
				t.Fatal(err)
			}
		}
		b.settle("before")
		b.append(b.journals[0], b.message(6)) // covered by no checkpoint
		s, m := b.m.by(always), Meta{Shards: b.shards}
		uncovered := 0
		for j, recs := range b.m.records {
			number, _ := j.Number()
			for i, rec := range recs {
				at := events.Offset(i + 1)
				raws, err := rec.Events(j, at)
				if err != nil {
					t.Fatal(err)
				}
				for _, raw := range raws {
					uncovered += wantPlaced(t, b, s, m, number, at, raw)
				}
			}
		}
		if uncovered == 0 || uncovered > 2 {
			t.Errorf("seed %d: %d entries are covered by no checkpoint, want those of the last message", seed, uncovered)
		}
	}
}

// wantPlaced holds what is told of an event against the timelines, and returns for how
// many of its recipients no checkpoint covers it.
func wantPlaced(t *testing.T, b *bustle, s Timelines, m Meta, journal uint64, at events.Offset, raw events.Raw) (uncovered int) {
	t.Helper()
	placed, err := Placements(t.Context(), s, m, journal, at, raw)
	if err != nil {
		t.Fatal(err)
	}
	e, err := raw.Decode()
	if err != nil {
		t.Fatal(err)
	}
	want := len(recipients(1, &e))
	if len(placed) != want {
		t.Fatalf("event %s has %d placements, want %d", e.ID, len(placed), want)
	}
	for _, p := range placed {
		if p.Checkpoint == 0 {
			uncovered++
			continue
		}
		run, err := b.reader.Read(t.Context(), p.Timeline.User, p.Seq-1, p.Seq, 1)
		if err != nil || len(run.Events) != 1 || events.Raw(run.Events[0]).EventID() != e.ID {
			t.Fatalf("event %s is not at seq %d of %s: %v", e.ID, p.Seq, p.Timeline, err)
		}
	}
	return uncovered
}

// A message whose item is not there was trimmed if its timeline begins behind it, and else is
// not written yet.
func TestTrimmedIsToldFromNotWrittenYet(t *testing.T) {
	b := used(t, 5, 150)
	s, m := b.m.by(always), Meta{Shards: b.shards}
	var trimmed, missing int
	for timeline, items := range b.m.items {
		if len(items) < 3 {
			continue
		}
		item, err := items[1].Decode()
		if err != nil {
			t.Fatal(err)
		}
		keep := len(items)%2 == 0
		if keep {
			if err := keepMark(t.Context(), s, timeline.User, mark{first: item.First, checkpoint: item.Checkpoint}); err != nil {
				t.Fatal(err)
			}
		}
		first, err := items[0].Decode()
		if err != nil {
			t.Fatal(err)
		}
		event := events.Raw(first.Entries[0].Event)
		if err := b.m.DeleteItems(t.Context(), timeline, item.First); err != nil {
			t.Fatal(err)
		}
		journal, at := b.placeOf(event.EventID())
		placed, err := Placements(t.Context(), s, m, journal, at, event)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range placed {
			if p.Timeline != timeline {
				continue
			}
			if p.Trimmed != keep || p.Seq != 0 || p.Checkpoint != first.Checkpoint {
				t.Errorf("%+v, want trimmed: %v", p, keep)
			}
			if keep {
				trimmed++
			} else {
				missing++
			}
		}
	}
	if trimmed == 0 || missing == 0 {
		t.Errorf("%d trimmed, %d missing: want some of both", trimmed, missing)
	}
}

// placeOf returns the record that an event stands in.
func (b *bustle) placeOf(id events.ID) (journal uint64, at events.Offset) {
	b.t.Helper()
	for j, recs := range b.m.records {
		number, _ := j.Number()
		for i, rec := range recs {
			raws, err := rec.Events(j, events.Offset(i+1))
			if err != nil {
				b.t.Fatal(err)
			}
			for _, raw := range raws {
				if events.Raw(raw).EventID() == id {
					return number, events.Offset(i + 1)
				}
			}
		}
	}
	b.t.Fatalf("event %s is not in the log", id)
	return 0, 0
}

func TestItemThatIsNotThereIsNowhere(t *testing.T) {
	b := used(t, 5, 150)
	s := b.m.by(always)
	for timeline, items := range b.m.items {
		wantItemsOf(t, b, s, timeline, items)
		if err := b.m.DeleteItems(t.Context(), timeline, items[len(items)/2].Last); err != nil { // it is trimmed
			t.Fatal(err)
		}
		wantItemsOf(t, b, s, timeline, b.m.items[timeline])
	}
	if item, err := itemOf(t.Context(), s, Timeline{User: "nobody"}, 1); item != nil || err != nil {
		t.Errorf("nobody's timeline has %+v, %v", item, err)
	}
}

// wantItemsOf holds which item is told to be of which checkpoint against what there is.
func wantItemsOf(t *testing.T, b *bustle, s Items, timeline Timeline, items []Stored) {
	t.Helper()
	has := make(map[CheckpointNumber]bool)
	for _, i := range items {
		item, err := i.Decode()
		if err != nil {
			t.Fatal(err)
		}
		has[item.Checkpoint] = true
	}
	for n := range CheckpointNumber(len(b.m.checkpoints[ShardOf(timeline.User.Slot(), b.shards)]) + 2) {
		item, err := itemOf(t.Context(), s, timeline, n)
		if err != nil || (item != nil) != has[n] || item != nil && item.Checkpoint != n {
			t.Fatalf("%s, checkpoint %d: %+v, %v; want one: %v", timeline, n, item, err, has[n])
		}
	}
}
