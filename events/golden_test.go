package events

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"timberline/events/fields"
)

var addGolden = flag.Bool("golden.add", false, "write the files that testdata lacks; it changes none")

// Where the golden records stand.
const (
	goldenJournal Journal = "j:7"
	goldenOffset  Offset  = 300
)

// goldenEvents says what the files of events hold.
var goldenEvents = map[string]Event{
	"event-empty":      {},
	"event-message":    aMessage(),
	"event-all-fields": allFields(),
	"event-closed": {
		ID: filled(1), Kind: KindSessionClosed, Sender: "alice", Device: "phone", Session: filled(0x20),
	},
	"event-ended": {ID: filled(1), Kind: KindJournalEnded},
	"event-largest-numbers": {
		ID: ID(bytes.Repeat([]byte{0xff}, 16)), Kind: 255, Number: 1<<64 - 1, GroupVersion: 1<<64 - 1,
	},
	"event-body-of-two-length-bytes": {Kind: KindMessage, Body: bytes.Repeat([]byte("ä"), 100)},
}

// goldenRecords says what the files of records hold.
var goldenRecords = map[string][]Event{
	"record-v1-empty":  nil,
	"record-v1-events": {aMessage(), allFields(), {ID: filled(1), Kind: KindJournalEnded}},
}

func TestGoldenEventsAreReadAndWrittenAsEver(t *testing.T) {
	for name, want := range goldenEvents {
		data := goldenHex(t, name, want.Encode())
		if got := want.Encode(); !bytes.Equal(got, data) {
			t.Errorf("%s: wrote\n%x\nthe file has\n%x", name, got, data)
		}
		got, err := Raw(data).Decode()
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		wantEvent(t, name, want, got)
		wantGoldenJSON(t, name, want)
	}
}

func wantGoldenJSON(t *testing.T, name string, want Event) {
	t.Helper()
	line := append(want.AppendJSON(nil), '\n')
	data := golden(t, name+".json", line)
	if !bytes.Equal(line, data) {
		t.Errorf("%s: wrote %sthe file has %s", name, line, data)
	}
	var got Event
	if err := fields.UnmarshalJSON(data, &got); err != nil {
		t.Errorf("%s: %v", name, err)
	}
	want.unknown = nil // JSON shows what this program knows
	wantEvent(t, name+" in JSON", want, got)
}

func TestGoldenRecordsAreReadAndWrittenAsEver(t *testing.T) {
	for name, all := range goldenRecords {
		want := NewRecord(goldenJournal, goldenOffset, raws(all...))
		data := goldenHex(t, name, want)
		if !bytes.Equal(want, data) {
			t.Errorf("%s: wrote\n%x\nthe file has\n%x", name, want, data)
		}
		got, err := Record(data).Events(goldenJournal, goldenOffset)
		if err != nil || len(got) != len(all) {
			t.Errorf("%s: %d events, want %d, error %v", name, len(got), len(all), err)
			continue
		}
		for i, raw := range got {
			e, err := Raw(raw).Decode()
			if err != nil {
				t.Errorf("%s, event %d: %v", name, i, err)
			}
			wantEvent(t, name, all[i], e)
		}
	}
}

func TestEveryGoldenFileHasAMeaning(t *testing.T) {
	files, err := filepath.Glob("testdata/*-*")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(strings.TrimSuffix(filepath.Base(file), ".hex"), ".json")
		_, event := goldenEvents[name]
		_, record := goldenRecords[name]
		if !event && !record {
			t.Errorf("%s: nothing says what it means", file)
		}
	}
	if want := 2*len(goldenEvents) + len(goldenRecords); len(files) != want {
		t.Errorf("%d golden files, want %d", len(files), want)
	}
}

// golden returns a file of testdata. With -golden.add it writes the file first if
// there is none.
func golden(t *testing.T, name string, fresh []byte) []byte {
	t.Helper()
	file := filepath.Join("testdata", name)
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) && *addGolden {
		data, err = fresh, os.WriteFile(file, fresh, 0o644)
	}
	if err != nil {
		t.Fatalf("%v (-golden.add adds what is new)", err)
	}
	return data
}

// goldenHex returns the bytes that a file has in hexadecimal, 32 a line.
func goldenHex(t *testing.T, name string, fresh []byte) []byte {
	t.Helper()
	var lines strings.Builder
	for line := range slices.Chunk(fresh, 32) {
		lines.WriteString(hex.EncodeToString(line) + "\n")
	}
	text := golden(t, name+".hex", []byte(lines.String()))
	data, err := hex.DecodeString(strings.Join(strings.Fields(string(text)), ""))
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return data
}
