package pebble

import (
	"bytes"

	"flag"
	"fmt"

	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"timberline/events"
)

var crashSeeds = flag.Int("pebble.crashes", rounds, "how many `seeds` of crashes to run, of about 100 crashes each")

// What is done in one life of a store.
const (
	crashWriters = 12 // of a journal each: so many batches are on their way at a time
	crashRecords = 24 // of each
	crashLives   = 3  // each on what a crash has left
	maxCrashes   = 40 // in each
)

// A left is what a crash has left.
type left struct {
	fs    *vfs.MemFS
	acked [crashWriters]int // what was acknowledged before, of each journal
	how   string
}

// Whatever a crash leaves, at whatever moment, also of the open that follows a crash: the
// store opens, and all is there that was acknowledged.
func TestWhateverACrashLeavesOpens(t *testing.T) {
	crashes := 0
	for seed := range uint64(*crashSeeds) {
		r := rand.New(rand.NewPCG(seed, 0))
		now := left{fs: vfs.NewCrashableMem()}
		for life := 0; life < crashLives && !t.Failed(); life++ {
			lefts := crashLife(t, r, now)
			for _, l := range lefts {
				crashes++
				l.how = fmt.Sprintf("seed %d, life %d, %s", seed, life+1, l.how)
				if s := l.open(t, l.fs.CrashClone(vfs.CrashCloneCfg{})); s != nil {
					s.Close()
				}
			}
			if len(lefts) == 0 {
				t.Fatalf("seed %d, life %d: no crash", seed, life+1)
			}
			now = lefts[r.IntN(len(lefts))]
		}
	}
	t.Logf("%d crashes", crashes)
}

// crashLife writes to what a crash has left, and returns what others leave meanwhile.
func crashLife(t *testing.T, r *rand.Rand, l left) (lefts []left) {
	t.Helper()
	var acked [crashWriters]atomic.Int64
	fs := newCrashFS(t, l.fs)
	fs.watch(func(what, name string) {
		if len(lefts) == maxCrashes || r.IntN(12) != 0 {
			return
		}
		next := left{acked: l.acked}
		for j := range acked { // before the crash: it leaves at least as much
			next.acked[j] = max(next.acked[j], int(acked[j].Load()))
		}
		percent := []int{0, 20, 50, 80, 95, 100}[r.IntN(6)]
		next.how = fmt.Sprintf("%s %s, %d%% of blocks survive", what, name, percent)
		switch r.IntN(4) {
		case 0:
			next.fs, next.how = fs.mem.CrashClone(vfs.CrashCloneCfg{}), fmt.Sprintf("%s %s, nothing that was not synced survives", what, name)
		case 1:
			next.fs, next.how = fs.crash(torn(r)), fmt.Sprintf("%s %s, files are torn", what, name)
		default:
			next.fs = fs.crash(blocks(func(int) bool { return r.IntN(100) < percent }))
		}
		lefts = append(lefts, next)
	})
	s := l.open(t, fs)
	if s == nil {
		return nil
	}
	var writers sync.WaitGroup
	for j := range crashWriters {
		writers.Go(func() {
			begin := s.crashRecords(t, j)
			for at := begin + 1; at <= begin+crashRecords; at++ {
				if _, err := s.Append(t.Context(), crashJournal(j), events.Offset(at), crashRecord(j, at)); err != nil {
					t.Error(err)
					return
				}
				acked[j].Store(int64(at))
				if j == 0 && at%7 == 0 {
					if err := s.db.Flush(); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	writers.Wait()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	return lefts
}

// open opens the store and holds what is in it against what was acknowledged.
func (l *left) open(t *testing.T, fs vfs.FS) *Store {
	t.Helper()
	s, err := Open("data", Options{FS: fs, OnFatal: func(err error) { t.Errorf("%s: %v", l.how, err) }})
	if err != nil {
		t.Errorf("%s: %v", l.how, err)
		return nil
	}
	for j, acked := range l.acked {
		if n := s.crashRecords(t, j); n < acked {
			t.Errorf("%s: journal %d has %d records, %d were acknowledged", l.how, j, n, acked)
		}
	}
	return s
}

func crashJournal(j int) events.Journal { return events.JournalNumbered(uint64(j + 1)) }

// crashRecord returns a record; some are longer than a block of the file system.
func crashRecord(j, at int) events.Record {
	size := []int{100, 1000, 5000, 9000}[(j+at)%4]
	return bytes.Repeat([]byte{byte(j), byte(at), byte(at >> 8), 0xa5}, size/4)
}

// crashRecords returns how many records a journal has.
func (s *Store) crashRecords(t *testing.T, j int) int {
	t.Helper()
	recs, err := s.ReadLog(t.Context(), crashJournal(j), 1, 1<<30, events.Strong)
	if err != nil {
		t.Error(err)
	}
	for i, rec := range recs {
		if !bytes.Equal(rec, crashRecord(j, i+1)) {
			t.Errorf("record %d of journal %d is wrong", i+1, j)
		}
	}
	return len(recs)
}

// A log is closed when it has its size, too, with batches on their way.
func TestCrashWhileALogIsClosedForTheNextIsNoDamage(t *testing.T) {
	fs := newCrashFS(t, vfs.NewCrashableMem())
	s := openMem(t, Options{FS: fs})
	defer s.Close()
	if _, err := s.Append(t.Context(), crashJournal(0), 1, crashRecord(0, 1)); err != nil {
		t.Fatal(err)
	}
	for at := 2; at <= maxUnsynced; at++ { // as others do at a time
		if err := s.db.Set(recordKey(crashJournal(0), events.Offset(at)), crashRecord(0, at), pebble.NoSync); err != nil {
			t.Fatal(err)
		}
	}
	l := left{how: "one block of the log is lost", acked: [crashWriters]int{1}}
	fs.watch(func(what, name string) {
		if l.fs != nil || what != "syncing" || !strings.HasSuffix(name, ".log") {
			return
		}
		lost := len(fs.files[name].synced)/crashBlock + 1
		l.fs = fs.crash(blocks(func(at int) bool { return at != lost*crashBlock }))
	})
	if err := s.db.Flush(); err != nil {
		t.Fatal(err)
	}
	fs.watch(func(string, string) {})
	if l.fs == nil {
		t.Fatal("the log was not synced")
	}
	if s := l.open(t, l.fs); s != nil {
		s.Close()
	}
}

// A record of the manifest may stand in two blocks, of which the first is lost.
func TestCrashWhileTheManifestIsWrittenIsNoDamage(t *testing.T) {
	fs := newCrashFS(t, vfs.NewCrashableMem())
	s := openMem(t, Options{FS: fs})
	defer s.Close()
	l := left{how: "one block of the manifest is lost"}
	fs.watch(func(what, name string) {
		f := fs.files[name]
		if l.fs == nil && what == "syncing" && strings.Contains(name, "MANIFEST") && len(f.synced) < tailBlock-plainChunk && len(f.now) > tailBlock {
			l.fs = fs.crash(blocks(func(at int) bool { return at >= tailBlock }))
		}
	})
	for at := 1; at < 1000 && l.acked[0] == 0; at++ {
		if _, err := s.Append(t.Context(), crashJournal(0), events.Offset(at), crashRecord(0, at)); err != nil {
			t.Fatal(err)
		}
		if err := s.db.Flush(); err != nil {
			t.Fatal(err)
		}
		fs.mu.Lock()
		crashed := l.fs != nil
		fs.mu.Unlock()
		if crashed {
			l.acked[0] = at
		}
	}
	if l.fs == nil {
		t.Fatal("no record of the manifest stood in two blocks")
	}
	if s := l.open(t, l.fs); s != nil {
		s.Close()
	}
}

// An open that a crash ends leaves a manifest that does not count.
func TestManifestThatDoesNotCountIsNotLookedAt(t *testing.T) {
	x := newSpecimen(t, true)
	data := x.read("MANIFEST-000001")
	data[20] ^= 1
	if err := replace(x.fs, "data/MANIFEST-000999", data); err != nil {
		t.Fatal(err)
	}
	if n, err := x.records(); n != specimenRecords || err != nil {
		t.Errorf("%d records, %v", n, err)
	}
}
