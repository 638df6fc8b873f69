package projections

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"timberline/events"
)

var addGolden = flag.Bool("golden.add", false, "write the files that testdata lacks; it changes none")

// Where the golden checkpoints and items stand; an item ends at its last entry.
const (
	goldenShard  Shard            = 3
	goldenNumber CheckpointNumber = 4001
	goldenUser   events.User      = "alice"
)

// goldenCheckpoints says what the files of checkpoints hold.
var goldenCheckpoints = map[string]Checkpoint{
	"checkpoint-v1-empty":      {},
	"checkpoint-v1-all-fields": fullCheckpoint(),
	"checkpoint-v1-usual":      {Rules: 1, Moved: []Position{{Journal: 7, Offset: 300}}, Through: 7, Full: 4000},
	"checkpoint-v1-largest-numbers": {
		Rules: 1<<32 - 1, Moved: []Position{{Journal: 1<<64 - 1, Offset: 1<<64 - 1, Ended: true}}, Through: 1<<64 - 1,
		Full: 1<<64 - 1, Children: []Child{{Shard: 1<<32 - 1, First: 1<<16 - 1, Last: 1<<16 - 1}},
	},
}

// goldenItems says what the files of items hold.
var goldenItems = map[string]Item{
	"item-v1-first": {First: 1, Checkpoint: 1, Newest: filled(1), Entries: []Entry{{Event: anEvent("hello, bob")}}},
	"item-v1-busy": {First: 2, Checkpoint: 2, Newest: filled(0x80), Entries: []Entry{
		{Event: anEvent("one")}, {Event: anEvent(strings.Repeat("two", 50))}, {Event: anEvent("")},
	}},
	"item-v1-all-fields": fullItem(),
}

func TestGoldenCheckpointsAreReadAndWrittenAsEver(t *testing.T) {
	for name, want := range goldenCheckpoints {
		data := golden(t, name, want.Encode(goldenShard, goldenNumber))
		got, err := DecodeCheckpoint(goldenShard, goldenNumber, data)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		wantSame(t, name, want, got)
	}
}

func TestGoldenItemsAreReadAndWrittenAsEver(t *testing.T) {
	for name, want := range goldenItems {
		stored := want.Encode(Timeline{User: goldenUser})
		stored.Data = golden(t, name, stored.Data)
		got, err := stored.Decode()
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		wantSame(t, name, want, got)
	}
}

func TestEveryGoldenFileHasAMeaning(t *testing.T) {
	files, err := filepath.Glob("testdata/*.hex")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, file := range files {
		found = append(found, strings.TrimSuffix(filepath.Base(file), ".hex"))
	}
	known := slices.Collect(maps.Keys(goldenItems))
	known = append(known, slices.Collect(maps.Keys(goldenCheckpoints))...)
	slices.Sort(known)
	wantSame(t, "golden files", known, found)
}

// golden returns the bytes that a file has in hexadecimal, 32 a line, and checks
// that fresh equals them. With -golden.add it writes the file first if there is
// none.
func golden(t *testing.T, name string, fresh []byte) []byte {
	t.Helper()
	file := filepath.Join("testdata", name+".hex")
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) && *addGolden {
		text = hexLines(fresh)
		err = os.WriteFile(file, text, 0o644)
	}
	if err != nil {
		t.Fatalf("%v (-golden.add adds what is new)", err)
	}
	data, err := hex.DecodeString(strings.Join(strings.Fields(string(text)), ""))
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	if !bytes.Equal(fresh, data) {
		t.Errorf("%s: wrote\n%x\nthe file has\n%x", file, fresh, data)
	}
	return data
}

// hexLines writes 32 bytes a line.
func hexLines(data []byte) []byte {
	var b bytes.Buffer
	for line := range slices.Chunk(data, 32) {
		b.WriteString(hex.EncodeToString(line) + "\n")
	}
	return b.Bytes()
}
