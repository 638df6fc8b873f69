package projections

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"timberline/bus/local"
	"timberline/events"
)

// What is left after trims reads on as before, wherever one was interrupted; a rebuild makes
// it again, and a verification finds it whole.
func TestTrimmedTimelinesBeginLaterAndGoOn(t *testing.T) {
	trimmed, gone := uint64(0), 0
	for seed := range seeds(150) {
		b := newBustle(t, seed)
		r := rand.New(rand.NewPCG(seed, 13))
		s := b.m.by(func(string) (bool, error) {
			b.actSometimes()
			if r.IntN(60) == 0 {
				return r.IntN(2) == 0, errors.New("throttled")
			}
			return true, nil
		})
		for range 4 {
			for range 80 {
				b.act()
			}
			trim := &Trim{Store: s, Meta: Meta{Shards: b.shards}, Keep: uint64(1 + r.IntN(10))}
			for done := false; !done; {
				p, err := trim.Run(t.Context())
				trimmed += p.Entries
				if events.Final(err) {
					t.Fatal(err)
				}
				done = err == nil
			}
			if r.IntN(2) == 0 {
				journals, err := trim.TrimJournals(t.Context())
				if events.Final(err) {
					t.Fatal(err)
				}
				gone += len(journals)
			}
			if r.IntN(2) == 0 {
				shard := Shard(r.IntN(int(b.shards)))
				v := b.versions(shard)
				rebuild := b.to(s, shard, v.Next, 0)
				if v.Since > 0 && r.IntN(2) == 0 { // go back
					rebuild = b.to(s, shard, v.Before, v.Whole())
				}
				for {
					_, err := rebuild.Run(t.Context())
					if err == nil {
						break
					}
					if events.Final(err) {
						t.Fatal(err)
					}
				}
			}
			b.complete()
			if all, p := verify(t, b.m, b.shards, false); len(all) > 0 {
				t.Fatalf("seed %d: %v, %+v", seed, all, p)
			}
			for u := range 6 {
				b.look(events.User("u" + string(rune('0'+u))))
			}
		}
	}
	if trimmed < 5*seeds(150) || gone < 3 {
		t.Errorf("%d entries and %d journals were trimmed: that proves little", trimmed, gone)
	}
}

// complete lands what is late, and has a projector do what is due.
func (b *bustle) complete() {
	b.t.Helper()
	for _, item := range b.late {
		b.m.putItem(item)
	}
	b.late = nil
	p := newProjector(b.t, b.m.by(always), new(local.Bus), b.shards)
	if err := p.catchUp(b.t.Context()); err != nil {
		b.t.Fatal(err)
	}
}

func TestTrimKeepsWhatItIsToldTo(t *testing.T) {
	b := used(t, 6, 400)
	heads := make(map[Timeline]events.Seq)
	for at, items := range b.m.items {
		heads[at] = items[len(items)-1].Last
	}
	trim := &Trim{Store: b.m.by(always), Meta: Meta{Shards: b.shards}, Keep: 7}
	if _, err := (&Trim{Store: trim.Store, Meta: trim.Meta}).Run(t.Context()); err == nil {
		t.Error("it trims without being told what stays")
	}
	p, err := trim.Run(t.Context())
	if err != nil || p.Users == 0 || p.Trimmed == 0 {
		t.Fatalf("%+v, %v", p, err)
	}
	for at, items := range b.m.items {
		run, err := b.reader.Head(t.Context(), at.User)
		if err != nil {
			t.Fatal(err)
		}
		left := run.Head - run.First + 1
		oldest, err := items[0].Decode()
		if err != nil || oldest.First != run.First || run.Head != heads[at] || left < min(7, heads[at]) {
			t.Errorf("%s: %d to %d can be read, item %d is the oldest, %v", at, run.First, run.Head, oldest.First, err)
		}
		if last := oldest.Last(); run.First > 1 && run.Head-last >= 7 {
			t.Errorf("%s: entries up to %d could have been trimmed, too, of %d", at, last, run.Head)
		}
	}
	if again, err := trim.Run(t.Context()); err != nil || again.Trimmed != 0 {
		t.Errorf("trimmed again: %+v, %v", again, err)
	}
	// The ids of the log are of the year 1970.
	if p, err := (&Trim{Store: trim.Store, Meta: trim.Meta, Before: time.Unix(0, 0)}).Run(t.Context()); err != nil || p.Trimmed != 0 {
		t.Errorf("trimmed up to before the first: %+v, %v", p, err)
	}
	if _, err := (&Trim{Store: trim.Store, Meta: trim.Meta, Before: time.Unix(1e6, 0)}).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	for at, items := range b.m.items {
		if len(items) != 1 || items[0].Last != heads[at] {
			t.Errorf("%s has %d items left, want the newest", at, len(items))
		}
	}
}

// A reader whose cursor is below what can be read is told where it begins.
func TestReaderIsToldWhereATrimmedTimelineBegins(t *testing.T) {
	b := used(t, 8, 300)
	if _, err := (&Trim{Store: b.m.by(always), Meta: Meta{Shards: b.shards}, Keep: 5}).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	told := 0
	for at := range b.m.items {
		head, err := b.reader.Head(t.Context(), at.User)
		if err != nil {
			t.Fatal(err)
		}
		if head.First == 1 {
			continue
		}
		told++
		for _, after := range []events.Seq{0, head.First - 2} {
			if run, err := b.reader.Read(t.Context(), at.User, after, 0, 1<<20); err != nil || len(run.Events) > 0 || run.First != head.First || run.Head != head.Head {
				t.Errorf("%s after %d: %d entries, %d to %d, %v", at, after, len(run.Events), run.First, run.Head, err)
			}
		}
		run, err := b.reader.Read(t.Context(), at.User, head.First-1, 0, 1<<20)
		if err != nil || run.From != head.First || len(run.Events) != int(head.Head-head.First+1) {
			t.Errorf("%s from its beginning: %d entries from %d, %v", at, len(run.Events), run.From, err)
		}
	}
	if told == 0 {
		t.Error("nothing was trimmed")
	}
}

// A device may still settle sends in a journal that has ended lately: it was killed with its
// server before it heard of them, and perhaps nobody has an entry of that journal.
func TestJournalThatHasEndedLatelyIsNotTrimmed(t *testing.T) {
	const lately = 1000 // milliseconds since 1970; messages are of 0
	ended := func(at int) []byte {
		e := events.Event{ID: events.ID{4: byte(at >> 8), 5: byte(at)}, Kind: events.KindJournalEnded}
		return e.Encode()
	}
	for name, test := range map[string]struct {
		trim Trim
		want []uint64
	}{
		"what stays by number":           {Trim{Keep: 1}, []uint64{1, 2}},
		"by time, up to before the ends": {Trim{Before: time.UnixMilli(lately)}, []uint64{1}},
		"by time, up to behind the ends": {Trim{Before: time.UnixMilli(lately + 1)}, []uint64{1, 2}}, // 3 is but an end
	} {
		m := newMemory()
		w := &scribe{t: t, m: m, r: rand.New(rand.NewPCG(1, 1))}
		for _, x := range []struct {
			messages bool
			ended    int
		}{{true, 1}, {true, lately}, {false, lately}, {true, lately}} { // the last one is the newest, and stays
			j := w.open()
			if x.messages {
				w.append(j, w.message(1))
			}
			w.append(j, ended(x.ended))
			if err := newProjector(t, m.by(always), new(local.Bus), 1).catchUp(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		trim := test.trim
		trim.Store, trim.Meta = m.by(always), Meta{Shards: 1}
		if _, err := trim.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		gone, err := trim.TrimJournals(t.Context())
		if slices.Sort(gone); err != nil || !slices.Equal(gone, test.want) {
			t.Errorf("%s: journals %v are gone, want %v, %v", name, gone, test.want, err)
		}
	}
}

// A markedFirst is a view that removes records of journals only whose rows say so.
type markedFirst struct{ *view }

func (m markedFirst) DeleteRecords(ctx context.Context, j events.Journal, below events.Offset) error {
	number, _ := j.Number()
	if trimmed, err := trimmedJournals(ctx, m); err != nil || !trimmed[number] {
		return fmt.Errorf("records of journal %s go, and its row does not say so: whoever reads it finds damage (%v)", j, err)
	}
	return m.view.DeleteRecords(ctx, j, below)
}

func TestRecordsGoWhenTheirJournalSaysSo(t *testing.T) {
	m := newMemory()
	w := &scribe{t: t, m: m, r: rand.New(rand.NewPCG(1, 1))}
	for range 3 {
		j := w.open()
		w.append(j, w.message(1))
		w.append(j, w.other(events.KindJournalEnded))
		if err := newProjector(t, m.by(always), new(local.Bus), 1).catchUp(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	trim := Trim{Store: markedFirst{m.by(always)}, Meta: Meta{Shards: 1}, Keep: 1}
	if _, err := trim.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if gone, err := trim.TrimJournals(t.Context()); err != nil || len(gone) != 2 {
		t.Errorf("journals %v are gone, %v; want two", gone, err)
	}
}

// New processes set their clocks by the newest journal (R4), also where nobody has an entry of it
// any more, as all have newer ones of an older journal.
func TestNewestJournalIsNeverTrimmed(t *testing.T) {
	m := newMemory()
	w := &scribe{t: t, m: m, r: rand.New(rand.NewPCG(1, 1))}
	older, newest := w.open(), w.open()
	for _, j := range []events.Journal{newest, older} {
		w.append(j, w.message(1))
		w.append(j, w.other(events.KindJournalEnded))
		if err := newProjector(t, m.by(always), new(local.Bus), 1).catchUp(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	trim := Trim{Store: m.by(always), Meta: Meta{Shards: 1}, Keep: 1}
	if p, err := trim.Run(t.Context()); err != nil || p.Entries != 1 {
		t.Fatalf("trimmed %d entries, %v; want that of the newest journal", p.Entries, err)
	}
	if gone, err := trim.TrimJournals(t.Context()); err != nil || len(gone) > 0 {
		t.Errorf("journals %v are gone, %v; want none: 1 has an entry, 2 is the newest", gone, err)
	}
}

// Where an item is missing it may be damage, or the version is dropped while it is trimmed. A
// timeline that began there would be taken to begin with the item behind it, in all versions.
func TestNoTimelineIsMadeToBeginWithAMissingItem(t *testing.T) {
	for seed := range seeds(50) {
		b := used(t, seed, 300)
		for at, items := range b.m.items {
			if len(items) > 3 {
				i := 1 + b.r.IntN(len(items)-2)
				b.m.items[at] = slices.Delete(items, i, i+1)
			}
		}
		trim := &Trim{Store: b.m.by(always), Meta: Meta{Shards: b.shards}, Keep: uint64(1 + b.r.IntN(10))}
		if _, err := trim.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		for s := range Shard(b.shards) {
			if _, err := b.to(b.m.by(always), s, 1, 0).Run(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		for at, want := range b.m.replay(t, b.shards) {
			for _, have := range b.m.items[Timeline{1, at.User}] {
				if !slices.ContainsFunc(want, func(s Stored) bool { return s.Last == have.Last && bytes.Equal(s.Data, have.Data) }) {
					t.Fatalf("seed %d: %s was rebuilt with an item that ends at %d, and is not what its checkpoint gives", seed, at, have.Last)
				}
			}
		}
	}
}

// Whoever was taken for dead, and has been held up ever since, finds its journal ended where it
// goes on, also when that was trimmed long ago: else it would acknowledge what nobody reads.
func TestOwnerOfATrimmedJournalMeetsItsEnd(t *testing.T) {
	m := newMemory()
	w := &scribe{t: t, m: m, r: rand.New(rand.NewPCG(1, 1))}
	j := w.open()
	w.append(j, w.message(1))
	w.append(j, w.message(1), w.other(events.KindSessionClosed)) // the owner's last
	w.append(j, w.other(events.KindSessionClosed))
	w.append(j, w.other(events.KindJournalEnded))
	trim := &Trim{Store: m.by(always), Meta: Meta{Shards: 1}, Keep: 1}
	for range 2 {
		if err := newProjector(t, m.by(always), new(local.Bus), 1).catchUp(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.append(w.open(), w.message(1))
	}
	if err := newProjector(t, m.by(always), new(local.Bus), 1).catchUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, want := range [][]uint64{{1}, nil} {
		if _, err := trim.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if gone, err := trim.TrimJournals(t.Context()); err != nil || !slices.Equal(gone, want) {
			t.Fatalf("journals %v are gone, %v, want %v", gone, err, want)
		}
	}
	for at, stands := range []bool{false, false, true, true} {
		if recs, err := trim.Store.ReadLog(t.Context(), j, events.Offset(at+1), 0, events.Strong); err != nil || len(recs) > 0 != stands {
			t.Errorf("%d records at %d, %v; do they stand: %v", len(recs), at+1, err, stands)
		}
	}
}

// An item that is missing, by damage or as the version is being dropped, is none that follows:
// a timeline that would begin with it begins with another, or a rebuild would give the later
// one its seqs.
func TestTimelineNeverBeginsWithAnItemThatIsMissing(t *testing.T) {
	for missing := 1; missing < 6; missing++ {
		b := used(t, 5, 600)
		var at Timeline
		for t, items := range b.m.items {
			if len(items) > 8 {
				at = t
			}
		}
		whole := slices.Clone(b.m.items[at])
		if len(whole) < 8 {
			t.Fatal("no timeline is long enough")
		}
		b.m.items[at] = slices.Delete(b.m.items[at], missing, missing+1)
		keep := whole[len(whole)-1].Last - whole[missing-1].Last
		trim := Trim{Store: b.m.by(always), Meta: Meta{Shards: b.shards}, Keep: uint64(keep)}
		if _, err := trim.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		m, err := readMark(t.Context(), b.m.by(always), at.User)
		if err != nil {
			t.Fatal(err)
		}
		begins := m.first == 1
		for _, s := range whole {
			item, err := s.Decode()
			if err != nil {
				t.Fatal(err)
			}
			begins = begins || item.First == m.first && item.Checkpoint == m.checkpoint
		}
		if !begins || m.first > whole[missing-1].Last {
			t.Errorf("without item %d, which ends at %d, the timeline begins at %d with the item of checkpoint %d", missing, whole[missing].Last, m.first, m.checkpoint)
		}
	}
}
