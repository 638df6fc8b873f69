package ingest

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"timberline/events"
)

// notMine is the Close of a Settler whose process owns none of the journals.
func notMine(context.Context, events.Journal, Owner) (bool, error) { return false, nil }

func newSettler(t *testing.T, m *memory) *Settler {
	t.Helper()
	clock, err := events.NewClock(time.Now, rand.NewChaCha8([32]byte{9}))
	if err != nil {
		t.Fatal(err)
	}
	return &Settler{Log: m, Journals: m, Clock: clock, Logger: slog.New(slog.DiscardHandler), Close: notMine}
}

// history is a log with one journal; each record holds the events of one word
// list: "alice3" is a send, "closed:alice" and "end" what they say.
func history(t *testing.T, records ...[]events.Event) *memory {
	t.Helper()
	m := newMemory()
	m.rows = []events.Row{{Number: 1}}
	id := byte(0)
	for i, rec := range records {
		var raws [][]byte
		for _, e := range rec {
			id++
			e.ID = events.ID{0, id}
			raws = append(raws, e.Encode())
		}
		at := events.Offset(i + 1)
		m.put("j:1", at, events.NewRecord("j:1", at, raws))
	}
	return m
}

func sent(user events.User, n events.Number) events.Event {
	return events.Event{Kind: events.KindMessage, Sender: user, Device: "d", Session: session(user), Number: n}
}

func ask(user events.User, offset events.Offset) Question {
	return Question{Owner: owner(user), Journal: "j:1", Offset: offset}
}

func settled(t *testing.T, s *Settler, qs ...Question) []Answered {
	t.Helper()
	as, err := s.Settle(t.Context(), "j:1", qs)
	if err != nil {
		t.Fatal(err)
	}
	return as
}

func TestSettlingAnswersTheSetAndClosesTheSession(t *testing.T) {
	m := history(t,
		[]events.Event{sent("alice", 1), sent("bob", 1)},
		[]events.Event{sent("alice", 2)},
		[]events.Event{sent("alice", 4), sent("alice", 5)}, // 3 was refused
	)
	got := settled(t, newSettler(t, m), ask("alice", 0), ask("bob", 0))
	want := []Answered{{Owner: owner("alice"), Numbers: []uint64{1, 2, 4, 5}}, {Owner: owner("bob"), Numbers: []uint64{1, 1}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if got, want := m.words(t, "j:1"), "alice1 bob1 | alice2 | alice4 alice5 | closed:alice closed:bob"; got != want {
		t.Errorf("log %q, want one record that closes both: %q", got, want)
	}
	again := settled(t, newSettler(t, m), ask("alice", 2))
	if diff := cmp.Diff([]Answered{{Owner: owner("alice"), Numbers: []uint64{4, 5}}}, again); diff != "" {
		t.Errorf("asked again from offset 2: (-want +got)\n%s", diff)
	}
	if n := len(m.records["j:1"]); n != 4 {
		t.Errorf("%d records, want 4: an earlier close is enough", n)
	}
}

// The journal's owner has a clock that is ahead: ids rise with the offset all the same.
func TestCloseHasAnIDAboveAllBeforeIt(t *testing.T) {
	for name, offset := range map[string]events.Offset{"read": 0, "named, and not read": 1} {
		t.Run(name, func(t *testing.T) {
			m := newMemory()
			m.rows = []events.Row{{Number: 1}}
			e := sent("alice", 1)
			e.ID = events.ID{0xff}
			m.put("j:1", 1, events.NewRecord("j:1", 1, [][]byte{e.Encode()}))
			settled(t, newSettler(t, m), ask("alice", offset))
			raws, err := m.records["j:1"][1].Events("j:1", 2)
			if err != nil || len(raws) != 1 || events.Raw(raws[0]).EventID().Compare(e.ID) <= 0 {
				t.Errorf("%d events, %v, want a close with an id above %v", len(raws), err, e.ID)
			}
		})
	}
}

func TestSendThatLandsBeforeTheCloseIsInTheSet(t *testing.T) {
	m := history(t, []events.Event{sent("alice", 1)})
	m.disturb(func(try int) (bool, error) {
		if try == 1 { // alice's edge was faster
			late := sent("alice", 2)
			late.ID = events.ID{0, 99}
			m.put("j:1", 2, events.NewRecord("j:1", 2, [][]byte{late.Encode()}))
		}
		return true, nil
	})
	got := settled(t, newSettler(t, m), ask("alice", 0))
	if diff := cmp.Diff([]Answered{{Owner: owner("alice"), Numbers: []uint64{1, 2}}}, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestEndOfTheJournalSettlesWithoutARecord(t *testing.T) {
	m := history(t, []events.Event{sent("alice", 1)}, []events.Event{{Kind: events.KindJournalEnded}})
	got := settled(t, newSettler(t, m), ask("alice", 0), ask("bob", 1))
	want := []Answered{{Owner: owner("alice"), Numbers: []uint64{1, 1}}, {Owner: owner("bob")}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if n := len(m.records["j:1"]); n != 2 {
		t.Errorf("%d records, want 2: nothing stands behind the end", n)
	}
}

func TestOffsetBeyondTheEndCountsAsTheEnd(t *testing.T) {
	m := history(t, []events.Event{sent("alice", 1)}, []events.Event{sent("alice", 2)})
	got := settled(t, newSettler(t, m), ask("alice", 1000))
	if diff := cmp.Diff([]Answered{{Owner: owner("alice")}}, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if got, want := m.words(t, "j:1"), "alice1 | alice2 | closed:alice"; got != want {
		t.Errorf("log %q, want no hole: %q", got, want)
	}
}

func TestOnlyJournalsWithARowCanBeNamed(t *testing.T) {
	m := history(t)
	s := newSettler(t, m)
	for _, j := range []events.Journal{"j:7", "g:01ARZ3NDEKTSV4RRFFQ69G5FAV", "j:0", "nonsense", "j:01"} {
		as, err := s.Settle(t.Context(), j, []Question{{Owner: owner("alice"), Journal: j}})
		if err != nil || len(as) != 1 || as[0].Numbers != nil {
			t.Errorf("%s: %v, %v, want an empty set", j, as, err)
		}
		if len(m.records[j]) != 0 {
			t.Errorf("%s: something was written", j)
		}
	}
}

// What was trimmed nobody knows: the app is told so, and nothing is appended to the journal.
func TestTrimmedJournalIsUnknown(t *testing.T) {
	m := history(t, []events.Event{sent("alice", 1), {Kind: events.KindJournalEnded}})
	m.rows[0].Trimmed = true
	m.records[m.rows[0].Journal()] = nil
	got := settled(t, newSettler(t, m), ask("alice", 1), ask("alice", 0), ask("bob", 1))
	if len(got) != 2 || !got[0].Unknown || !got[1].Unknown || len(got[0].Numbers) > 0 {
		t.Errorf("answered %+v, want two that are unknown", got)
	}
	if n := len(m.records[m.rows[0].Journal()]); n > 0 {
		t.Errorf("%d records were appended", n)
	}
}

// Whoever trims marks the row first, and then removes the records: perhaps in between.
func TestJournalThatIsTrimmedWhileItIsReadIsUnknown(t *testing.T) {
	m := history(t, []events.Event{sent("alice", 1), sent("alice", 2)}, []events.Event{{Kind: events.KindJournalEnded}})
	s := newSettler(t, m)
	s.Close = func(ctx context.Context, j events.Journal, _ Owner) (bool, error) {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.rows[0].Trimmed = true
		delete(m.records, j)
		return false, nil
	}
	got := settled(t, s, ask("alice", 0))
	if diff := cmp.Diff([]Answered{{Owner: owner("alice"), Unknown: true}}, got); diff != "" {
		t.Errorf("alice would send again what stood there (-want +got)\n%s", diff)
	}
}

func TestStrangersNeitherLearnNorCloseASession(t *testing.T) {
	m := history(t, []events.Event{sent("alice", 1)})
	mallory := Question{Owner: Owner{Session: session("alice"), User: "mallory", Device: "d"}, Journal: "j:1"}
	got := settled(t, newSettler(t, m), mallory)
	if len(got) != 1 || got[0].Numbers != nil {
		t.Errorf("mallory learns %v of alice's session", got)
	}
	late := sent("alice", 2)
	late.ID = events.ID{0, 99}
	at := events.Offset(len(m.records["j:1"]) + 1)
	m.put("j:1", at, events.NewRecord("j:1", at, [][]byte{late.Encode()}))
	got = settled(t, newSettler(t, m), ask("alice", 0))
	if diff := cmp.Diff([]Answered{{Owner: owner("alice"), Numbers: []uint64{1, 2}}}, got); diff != "" {
		t.Errorf("mallory's close counts for mallory only: (-want +got)\n%s", diff)
	}
}

func TestTooMuchLogIsUnknown(t *testing.T) {
	var recs [][]events.Event
	for n := range events.Number(50) {
		e := sent("alice", n+1)
		e.Body = make([]byte, 1000)
		recs = append(recs, []events.Event{e})
	}
	s := newSettler(t, history(t, recs...))
	s.MaxScan = 20_000
	got := settled(t, s, ask("alice", 0), ask("bob", 45))
	if !got[0].Unknown || got[0].Numbers != nil {
		t.Errorf("alice: %+v, want unknown", got[0])
	}
	if got[1].Unknown {
		t.Errorf("bob: %+v, want an answer: little log is behind his offset", got[1])
	}
}

func TestFailedReadLeavesTheQuestionOpen(t *testing.T) {
	s := newSettler(t, history(t))
	s.Close = func(context.Context, events.Journal, Owner) (bool, error) { return true, errors.New("stopped") }
	if _, err := s.Settle(t.Context(), "j:1", []Question{ask("alice", 0)}); err == nil {
		t.Error("an answer without knowing")
	}
}

func TestSessionOfTheOwnJournalIsClosedByItsWriter(t *testing.T) {
	b := newBench(t, newMemory())
	b.run()
	b.send("alice", 1, 2)
	s := newSettler(t, b.log)
	s.Close = b.w.CloseSession
	got := settled(t, s, ask("alice", 0))
	if diff := cmp.Diff([]Answered{{Owner: owner("alice"), Numbers: []uint64{1, 2}}}, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if err := b.stop(); err != nil {
		t.Error(err)
	}
}

func TestJournalsOfDeadProcessesAreEndedOnce(t *testing.T) {
	for records := range 20 {
		var recs [][]events.Event
		for n := range records {
			recs = append(recs, []events.Event{sent("alice", events.Number(n+1))})
		}
		m := history(t, recs...)
		m.rows = append(m.rows, events.Row{Number: 2})
		s := newSettler(t, m)
		for i := range 2 {
			m.rows[0].Ended = 0 // a hint: it may be missing
			n, err := EndJournals(t.Context(), m, m, s.Clock, s.Logger)
			if want := 2 - 2*i; err != nil || n != want {
				t.Fatalf("%d journals were ended, %v; want %d", n, err, want)
			}
		}
		if n := len(m.records["j:1"]); n != records+1 {
			t.Errorf("journal of %d records has %d after it was ended twice, want one more", records, n)
		}
		if got := m.words(t, "j:2"); got != "journal_ended" {
			t.Errorf("empty journal: %q", got)
		}
		if m.rows[0].Ended != events.Offset(records+1) || m.rows[1].Ended != 1 {
			t.Errorf("rows %+v do not say where the journals end", m.rows)
		}
	}
}

func TestClockStartsAboveTheEndOfOldJournals(t *testing.T) {
	ahead := events.Event{ID: events.ID{0xf0}, Kind: events.KindMessage}
	ended := events.Event{ID: events.ID{0xf1}, Kind: events.KindJournalEnded}
	for what, test := range map[string]struct {
		rows []events.Row
		last events.Event // of journal 1
	}{
		"its owner died":                    {[]events.Row{{Number: 1}}, ahead},
		"its owner ended it":                {[]events.Row{{Number: 1, Ended: 1}}, ended},
		"its owner ended it without a note": {[]events.Row{{Number: 1}}, ended},
		"the next one wrote nothing":        {[]events.Row{{Number: 1, Ended: 1}, {Number: 2}}, ended},
		"the next two wrote nothing":        {[]events.Row{{Number: 1}, {Number: 2}, {Number: 3}}, ahead},
	} {
		m := newMemory()
		m.rows = test.rows
		m.put("j:1", 1, events.NewRecord("j:1", 1, [][]byte{test.last.Encode()}))
		s := newSettler(t, m)
		if _, err := EndJournals(t.Context(), m, m, s.Clock, s.Logger); err != nil {
			t.Fatal(err)
		}
		if id := s.Clock.Next(); id.Compare(test.last.ID) <= 0 {
			t.Errorf("%s: the next id %v is below %v, which the log has", what, id, test.last.ID)
		}
		for _, row := range m.rows[1:] {
			rec := m.records[row.Journal()][0]
			if raws, err := rec.Events(row.Journal(), 1); err != nil || events.Raw(raws[0]).EventID().Compare(test.last.ID) <= 0 {
				t.Errorf("%s: journal %s was ended with an id below %v, %v", what, row.Journal(), test.last.ID, err)
			}
		}
	}
}

func TestSettlingNamesADamagedRecordAndAnswersNothing(t *testing.T) {
	m := history(t, []events.Event{sent("alice", 1)}, []events.Event{sent("alice", 2)})
	whole := m.records["j:1"][1]
	for i := range whole {
		damaged := bytes.Clone(whole)
		damaged[i] ^= 4
		m.records["j:1"][1] = damaged
		got, err := newSettler(t, m).Settle(t.Context(), "j:1", []Question{ask("alice", 0)})
		if !errors.Is(err, events.ErrCorrupt) || !strings.Contains(err.Error(), "record 2 of journal j:1") || got != nil {
			t.Fatalf("byte %d is damaged: %+v, %v, want ErrCorrupt with the place", i, got, err)
		}
	}
	if n := len(m.records["j:1"]); n != 2 {
		t.Errorf("%d records: something was appended behind what is damaged", n)
	}
}
