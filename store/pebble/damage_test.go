package pebble

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"timberline/events"
	"timberline/events/fields"
)

// A specimen is a folder of a store, to be damaged: records 1 to 100 of a journal, the
// first 25 of them in a table.
type specimen struct {
	t  *testing.T
	fs *vfs.MemFS
}

const (
	specimenRecords = 100
	specimenFlushed = 25
)

func specimenRecord(at events.Offset) events.Record {
	body := bytes.Repeat([]byte("body "), int(at%7)*30)
	return events.NewRecord("j:1", at, [][]byte{(&events.Event{Number: events.Number(at), Body: body}).Encode()})
}

// newSpecimen returns the folder as a crash leaves it, or as an orderly end does.
func newSpecimen(t *testing.T, crashed bool) *specimen {
	t.Helper()
	mem := vfs.NewCrashableMem()
	s := openMem(t, Options{FS: mem})
	for at := events.Offset(1); at <= specimenRecords; at++ {
		if _, err := s.Append(t.Context(), "j:1", at, specimenRecord(at)); err != nil {
			t.Fatal(err)
		}
		if at != specimenFlushed {
			continue
		}
		if err := s.db.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	crash := mem.CrashClone(vfs.CrashCloneCfg{})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if crashed {
		return &specimen{t, crash}
	}
	return (&specimen{t, mem}).clone()
}

func (x *specimen) clone() *specimen {
	x.t.Helper()
	to := vfs.NewMem()
	if _, err := vfs.Clone(x.fs, to, "data", "data"); err != nil {
		x.t.Fatal(err)
	}
	return &specimen{x.t, to}
}

func (x *specimen) read(file string) []byte {
	x.t.Helper()
	f, err := x.fs.Open("data/" + file)
	if err != nil {
		x.t.Fatal(err)
	}
	defer f.Close()
	data, err := io.ReadAll(f)
	if err != nil {
		x.t.Fatal(err)
	}
	return data
}

// flip flips a bit of a file.
func (x *specimen) flip(file string, bit int) {
	x.t.Helper()
	data := x.read(file)
	f, err := x.fs.OpenReadWrite("data/"+file, vfs.WriteCategoryUnspecified)
	if err != nil {
		x.t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte{data[bit/8] ^ 1<<(bit%8)}, int64(bit/8)); err != nil {
		x.t.Fatal(err)
	}
}

// records opens the store and reads the journal. What is read is right, or the test
// has failed.
func (x *specimen) records() (n int, err error) {
	x.t.Helper()
	fatal := make(chan error, 100) // the process would be gone
	s, err := Open("data", Options{FS: x.fs, OnFatal: func(err error) { fatal <- err }})
	if err != nil {
		return 0, err
	}
	defer func() {
		s.Close()
		if len(fatal) > 0 {
			err = <-fatal
		}
	}()
	recs, err := s.ReadLog(x.t.Context(), "j:1", 1, 1<<20, events.Strong)
	for i, rec := range recs {
		if !bytes.Equal(rec, specimenRecord(events.Offset(i+1))) {
			x.t.Errorf("record %d is %x", i+1, rec)
		}
	}
	return len(recs), err
}

// lastLog returns the name of the write-ahead log in use, and its chunks' offsets.
func (x *specimen) lastLog() (name string, chunks []int) {
	x.t.Helper()
	names, err := x.fs.List("data")
	if err != nil {
		x.t.Fatal(err)
	}
	number := uint32(0)
	for _, n := range names {
		var now uint32
		if _, err := fmt.Sscanf(n, "%06d.log", &now); err == nil && now > number {
			name, number = n, now
		}
	}
	data, t := x.read(name), tail{isLog: true, number: number}
	for at := 0; at < len(data); {
		end := min(len(data), at-at%tailBlock+tailBlock)
		c := t.chunk(data[at:end])
		if c.size == 0 {
			at = end
			continue
		}
		if !c.whole {
			break
		}
		chunks = append(chunks, at)
		at += c.size
	}
	return name, chunks
}

func TestFlippedBitInAnyFileIsFoundAndNothingWrongIsServed(t *testing.T) {
	for _, crashed := range []bool{true, false} {
		x := newSpecimen(t, crashed)
		names, err := x.fs.List("data")
		if err != nil {
			t.Fatal(err)
		}
		log, chunks := x.lastLog()
		if len(chunks) < specimenRecords-specimenFlushed {
			t.Fatalf("%s has %d chunks", log, len(chunks))
		}
		r := rand.New(rand.NewPCG(1, 2))
		found := make(map[string]int)
		for _, name := range names {
			data := x.read(name)
			for range 40 {
				if len(data) == 0 {
					break // what counts is its name
				}
				bit := r.IntN(8 * len(data))
				damaged := x.clone()
				damaged.flip(name, bit)
				n, err := damaged.records()
				switch {
				case err != nil:
					found[name]++
					if !errors.Is(err, events.ErrCorrupt) || strings.Contains(err.Error(), "\n") {
						t.Errorf("%s, bit %d: %q, want ErrCorrupt in one line", name, bit, err)
					}
				case n != specimenRecords && !ambiguous(name == log, chunks, bit/8, crashed):
					t.Errorf("%s, bit %d: %d records are left, and no error says so", name, bit, n)
				}
			}
		}
		for name, least := range map[string]int{log: 25, "MANIFEST-000001": 10} {
			if found[name] < least {
				t.Errorf("crashed %v: %d of 40 flipped bits of %s were found, want at least %d", crashed, found[name], name, least)
			}
		}
	}
}

// ambiguous reports whether damage at an offset may not be told from an end that a crash
// has torn: of the last batches, or of a length, behind which nothing can be found again.
func ambiguous(log bool, chunks []int, at int, crashed bool) bool {
	if !log {
		return false
	}
	for i, chunk := range chunks {
		end := 1 << 30
		if i+1 < len(chunks) {
			end = chunks[i+1]
		}
		if chunk <= at && at < end {
			return at == chunk+4 || at == chunk+5 || crashed && i >= len(chunks)-1-maxUnsynced
		}
	}
	return crashed
}

// What a crash has torn is no damage: it was acknowledged to nobody.
func TestTornEndOfTheLogIsNoDamage(t *testing.T) {
	x := newSpecimen(t, true)
	log, chunks := x.lastLog()
	data := x.read(log)
	for _, keep := range []int{len(data) - 1, chunks[len(chunks)-1] + 5, chunks[len(chunks)-1]} {
		for _, filled := range []bool{false, true} {
			torn := x.clone()
			f, err := torn.fs.Create("data/"+log, vfs.WriteCategoryUnspecified)
			if err != nil {
				t.Fatal(err)
			}
			left := bytes.Clone(data[:keep])
			if filled { // the file system has made the room and not filled it
				left = append(left, make([]byte, 5000)...)
			}
			if _, err := f.Write(left); err != nil {
				t.Fatal(err)
			}
			f.Close()
			if n, err := torn.records(); n != specimenRecords-1 || err != nil {
				t.Errorf("%d of %d bytes are left: %d records, %v, want all but the last", keep, len(data), n, err)
			}
		}
	}
}

func TestDamageIsFoundInAnyBlockOfALongLog(t *testing.T) {
	mem := vfs.NewMem()
	s := openMem(t, Options{FS: mem})
	rec := make(events.Record, 1<<10)
	for at := events.Offset(1); at <= 200; at++ {
		if _, err := s.Append(t.Context(), "j:1", at, rec); err != nil {
			t.Fatal(err)
		}
	}
	x := (&specimen{t, mem}).clone() // as if the process had been killed
	s.Close()
	log, chunks := x.lastLog()
	if len(chunks) < 200 {
		t.Fatalf("%s has %d chunks", log, len(chunks))
	}
	r := rand.New(rand.NewPCG(3, 3))
	for range 60 {
		bit := r.IntN(8 * chunks[len(chunks)-2-maxUnsynced])
		if ambiguous(true, chunks, bit/8, true) {
			continue
		}
		damaged := x.clone()
		damaged.flip(log, bit)
		if _, err := Open("data", Options{FS: damaged.fs}); !errors.Is(err, events.ErrCorrupt) || !strings.Contains(err.Error(), log) || !strings.Contains(err.Error(), "restore the folder") {
			t.Errorf("bit %d of %s: %v, want ErrCorrupt with the file's name and what to do", bit, log, err)
		}
	}
}

func TestMissingFileIsNamed(t *testing.T) {
	x := newSpecimen(t, true)
	if _, err := x.records(); err != nil { // and files that a crash has left, but nobody needs, are gone
		t.Fatal(err)
	}
	names, err := x.fs.List("data")
	if err != nil {
		t.Fatal(err)
	}
	manifest, missed := "", 0
	for _, name := range names { // an older one may still be there
		if strings.HasPrefix(name, "MANIFEST") {
			manifest = max(manifest, name)
		}
	}
	for _, name := range names {
		if name != manifest && !strings.HasSuffix(name, ".sst") {
			continue
		}
		missed++
		lost := x.clone()
		if err := lost.fs.Remove("data/" + name); err != nil {
			t.Fatal(err)
		}
		number := strings.TrimSuffix(strings.TrimPrefix(name, "MANIFEST-"), ".sst")
		if n, err := lost.records(); !errors.Is(err, events.ErrCorrupt) || !strings.Contains(err.Error(), number) {
			t.Errorf("without %s: %d records, %v; want ErrCorrupt that names it", name, n, err)
		}
	}
	if missed < 2 { // tables may have been merged when the store was opened
		t.Errorf("%d files were removed, want a table at least, and the manifest", missed)
	}
}

func TestEngineOfALaterFormatIsRefused(t *testing.T) {
	x := newSpecimen(t, true)
	names, err := x.fs.List("data")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if strings.HasPrefix(name, "marker.format-version") {
			later := strings.TrimSuffix(name, pebble.FormatNewest.String()) + "999"
			if err := x.fs.Rename("data/"+name, "data/"+later); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := x.records(); !errors.Is(err, events.ErrFormat) || !strings.Contains(err.Error(), "use the version of timberline") {
		t.Errorf("%v, want ErrFormat and what to do", err)
	}
}

// Each kind of value that this package seals itself, of another version.
func TestRowsAndDescriptionsOfOtherVersionsAreRefused(t *testing.T) {
	for _, version := range []byte{0, 2} {
		fs := vfs.NewMem()
		s := openMem(t, Options{FS: fs})
		key := journalKey(1)
		if err := s.db.Set(key, fields.Seal(version, key, message(nil)), pebble.Sync); err != nil {
			t.Fatal(err)
		}
		if _, err := s.ListJournals(t.Context(), 0, events.Strong); !errors.Is(err, events.ErrFormat) || errors.Is(err, events.ErrCorrupt) || !strings.Contains(err.Error(), "row of journal 1") {
			t.Errorf("row of version %d: %v, want ErrFormat with its place", version, err)
		}
		if err := s.db.Set(metaKey, fields.Seal(version, metaKey, &s.meta), pebble.Sync); err != nil {
			t.Fatal(err)
		}
		s.Close()
		wantOpenError(t, fs, "data folder data", "the description of the store", "use the version of timberline that wrote it")
	}
}

// Whatever stands as a description: what is read is written again as it was, or in the
// one way that this version writes.
func FuzzMeta(f *testing.F) {
	f.Add(fields.Append(nil, &meta{format: DataFormat, id: events.StoreID{1}, shards: 4, tag: [16]byte{2}}))
	f.Fuzz(func(t *testing.T, data []byte) {
		var first, again meta
		if err := fields.Unseal(1, metaKey, fields.Seal(1, metaKey, message(data)), &first); err != nil {
			return
		}
		if err := fields.Unseal(1, metaKey, fields.Seal(1, metaKey, &first), &again); err != nil || again != first {
			t.Fatalf("%+v was written and read as %+v, %v", first, again, err)
		}
	})
}

// FuzzTail looks for damage in whatever is in a log.
func FuzzTail(f *testing.F) {
	chunk := append(make([]byte, logChunk), "data"...)
	chunk[4], chunk[6], chunk[7] = 4, logTypes+firstType, 1
	sum := checksumOf(chunk[6:])
	for i := range 4 {
		chunk[i] = byte(sum >> (8 * i))
	}
	f.Add(append(bytes.Clone(chunk), chunk...), uint16(10), true)
	f.Add(chunk[:20], uint16(0), false)
	f.Fuzz(func(t *testing.T, data []byte, offset uint16, log bool) {
		x := tail{isLog: log, number: 1, most: 2, offset: uint64(offset)}
		for len(data) > 0 {
			n := min(len(data), tailBlock)
			damaged := x.block(data[:n])
			if damaged && (!x.found || x.broken < uint64(offset)) {
				t.Fatalf("damage at byte %d, of a log that begins at %d", x.broken, offset)
			}
			data = data[n:]
		}
	})
}

// message is bytes that are written as they are.
type message []byte

func (m message) Fields(v fields.Visitor) { v.Unknown(m) }
