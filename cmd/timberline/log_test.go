package main

import (
	"context"
	"encoding/json"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	engine "github.com/cockroachdb/pebble/v2"

	"timberline/events"
)

// lackRecords deletes records of the only journal of a folder that nobody uses.
func lackRecords(t *testing.T, data string, lacks ...events.Offset) {
	t.Helper()
	db, err := engine.Open(storePath(data), &engine.Options{FormatMajorVersion: engine.FormatNewest, Logger: silent{}})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	it, err := db.NewIter(&engine.IterOptions{LowerBound: []byte("l"), UpperBound: []byte("m")})
	if err != nil {
		t.Fatal(err)
	}
	var keys [][]byte
	for ok := it.First(); ok; ok = it.Next() {
		keys = append(keys, append([]byte(nil), it.Key()...))
	}
	if err := it.Close(); err != nil {
		t.Fatal(err)
	}
	for _, at := range lacks {
		if err := db.Delete(keys[at-1], engine.Sync); err != nil {
			t.Fatal(err)
		}
	}
}

// tenRecords makes a folder with a journal of ten records, one message each, a second apart
// from began on, and returns the messages.
func tenRecords(t *testing.T, began time.Time, ended events.Offset) (data string, all []events.Event) {
	t.Helper()
	data = filepath.Join(t.TempDir(), "data")
	now := began
	clock, err := events.NewClock(func() time.Time { return now }, zeros{})
	if err != nil {
		t.Fatal(err)
	}
	err = withStore(data, func(s wholeStore) error {
		row := events.Row{Number: 1, Writer: [16]byte{1}}
		if _, err := s.CreateJournal(t.Context(), row); err != nil {
			return err
		}
		for at := events.Offset(1); at <= 10; at++ {
			e := events.Event{ID: clock.Next(), Kind: events.KindMessage, Conversation: events.Direct("alice", "bob"), Sender: "alice", Device: "d", Number: events.Number(at), Body: []byte("hi")}
			if _, err := s.Append(t.Context(), row.Journal(), at, events.NewRecord(row.Journal(), at, [][]byte{e.Encode()})); err != nil {
				return err
			}
			all = append(all, e)
			now = now.Add(time.Second)
		}
		row.Ended = ended
		return s.UpdateJournal(t.Context(), row)
	})
	if err != nil {
		t.Fatal(err)
	}
	return data, all
}

// zeros is a Reader of zeros.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// What a journal lacks is named, and what is behind it printed.
func TestLogGoesOnBehindWhatIsMissingAndNamesIt(t *testing.T) {
	for _, test := range []struct {
		ended events.Offset
		lacks []events.Offset
		says  string
	}{
		{0, []events.Offset{6}, "journal j:1 lacks record 6, and goes up to 10"},
		{10, []events.Offset{3, 7, 8, 9}, "journal j:1 lacks record 3, and goes up to 10; journal j:1 lacks records 7 to 9, and goes up to 10"},
		{10, []events.Offset{9, 10}, "journal j:1 lacks records 9 to 10, and goes up to 10"}, // only its row knows
		{0, []events.Offset{1}, "journal j:1 lacks record 1, and goes up to 10"},
	} {
		data, all := tenRecords(t, time.Date(2026, 1, 31, 15, 4, 0, 0, time.UTC), test.ended)
		tl(t, "log", "--data", data).want(t, exitOK, `"offset":"10"`, "").wantLines(t, 10)
		lackRecords(t, data, test.lacks...)
		o := tl(t, "log", "--data", data).want(t, exitFailed, "", test.says+": stored data is damaged")
		if n := strings.Count(o.out, "\n"); n != 10-len(test.lacks) {
			t.Errorf("%d lines, want %d\n%s", n, 10-len(test.lacks), o.out)
		}
		if !strings.Contains(o.stderr, "restore the folder from a copy") {
			t.Errorf("%s: it does not say what to do", o.stderr)
		}
		nobody := events.ID{0xff}.String()
		tl(t, "trace", "--data", data, all[4].ID.String()).want(t, exitOK, "record 5, event 0", "")
		tl(t, "trace", "--data", data, nobody).want(t, exitFailed, "", "no event of the log has the id")
		tl(t, "trace", "--data", data, nobody).want(t, exitFailed, "", test.says)
	}
	data, _ := tenRecords(t, time.Now(), 0)
	lackRecords(t, data, 6)
	tl(t, "log", "--data", data, "--offset", "7").want(t, exitOK, "", "").wantLines(t, 4)
}

// endless is a store that cannot tell where a journal ends.
type endless struct{ wholeStore }

func (endless) JournalEnd(context.Context, events.Journal) (events.Offset, error) {
	return 0, events.ErrCorrupt
}

func TestLogPrintsWhatCanBeReadOfADamagedOne(t *testing.T) {
	data, all := tenRecords(t, time.Now(), 0)
	err := withStore(data, func(s wholeStore) error {
		lines := 0
		count := func(report) { lines++ }
		if err := new(logWork).do(t.Context(), endless{s}, count); lines != 10 || !errors.Is(err, events.ErrCorrupt) {
			t.Errorf("%d lines, %v; want 10, and that the end is damaged", lines, err)
		}
		return (&traceWork{ID: all[9].ID.String()}).do(t.Context(), endless{s}, count)
	})
	if err != nil {
		t.Error(err)
	}
}

// The time that trace tells is one that the other commands take, whatever zone they are in.
func TestTracedTimeIsOneThatFlagsTake(t *testing.T) {
	began := time.Date(2026, 1, 31, 15, 4, 5, 678e6, time.UTC)
	data, all := tenRecords(t, began, 0)
	var r report
	o := tl(t, "trace", "--data", data, "--json", all[3].ID.String()).want(t, exitOK, "", "")
	if err := json.Unmarshal([]byte(o.out), &r); err != nil || r.Traced == nil || r.Traced.Appended != "2026-01-31T15:04:08.678Z" {
		t.Fatalf("%s: %v", o.out, err)
	}
	tl(t, "log", "--data", data, "--from", r.Traced.Appended).want(t, exitOK, all[3].ID.String(), "").wantLines(t, 7)
	tl(t, "log", "--data", data, "--to", r.Traced.Appended).want(t, exitOK, all[3].ID.String(), "").wantLines(t, 4)
	var m moment
	if err := m.Set(r.Traced.Appended); err != nil || !m.Equal(all[3].ID.Time()) {
		t.Errorf("%v, %v; want %v", m, err, all[3].ID.Time())
	}
}

func TestLogPrintsJSONAlsoWhenAskedFor(t *testing.T) {
	data, _ := tenRecords(t, time.Now(), 0)
	tl(t, "log", "--data", data, "--json").want(t, exitOK, `{"journal":"j:1"`, "").wantLines(t, 10)
}
