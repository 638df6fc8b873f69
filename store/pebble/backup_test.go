package pebble

import (
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"timberline/events"
	"timberline/migrations"
)

// restored opens a copy as one does that is to be served, and holds it against what was
// acknowledged before it was made.
func restored(t *testing.T, fs vfs.FS, dir, how string, acked [crashWriters]int) {
	t.Helper()
	fatal := func(err error) { t.Errorf("%s: %v", how, err) }
	if s, err := Open(dir, Options{FS: fs, OnFatal: fatal}); err == nil {
		t.Errorf("%s: a copy that was not restored opens: %v", how, s.Close())
	} else if !errors.Is(err, migrations.ErrRestoring) {
		t.Errorf("%s: %v, want that it is to be restored", how, err)
	}
	s, err := Open(dir, Options{FS: fs, OnFatal: fatal, Restored: true})
	if err != nil {
		t.Errorf("%s: %v", how, err)
		return
	}
	defer s.Close()
	was := s.Meta().Store
	done, err := migrations.Restore(t.Context(), s, migrations.RestoreConfig{Random: rand.Reader})
	if err != nil || done.Items != 0 || done.Cut != 0 || s.Meta().Store == was {
		t.Errorf("%s: restored as %+v, %v", how, done, err)
	}
	for j := range acked {
		if n := s.crashRecords(t, j); n < acked[j] {
			t.Errorf("%s: journal %d has %d records, %d were acknowledged", how, j, n, acked[j])
		}
	}
}

// What was acknowledged before is in a copy that is made while others write; and a crash in
// the middle leaves no copy, or a whole one that is marked.
func TestBackupIsWholeWheneverItIsMade(t *testing.T) {
	copies := 0
	for seed := range uint64(rounds) {
		r := mathrand.New(mathrand.NewPCG(seed, 3))
		var acked [crashWriters]atomic.Int64
		load := func() (n [crashWriters]int) {
			for j := range acked {
				n[j] = int(acked[j].Load())
			}
			return n
		}
		fs := newCrashFS(t, vfs.NewCrashableMem())
		s := openMem(t, Options{FS: fs})
		type crashed struct {
			left
			asked [3][crashWriters]int // before each backup
		}
		var lefts []crashed
		var asked [3][crashWriters]int
		var asking sync.Mutex
		fs.watch(func(what, name string) {
			if len(lefts) == maxCrashes || r.IntN(40) != 0 && !(strings.Contains(name, "copy") && r.IntN(3) == 0) {
				return
			}
			asking.Lock()
			defer asking.Unlock()
			lefts = append(lefts, crashed{left{fs: fs.crash(torn(r)), acked: load(), how: fmt.Sprintf("seed %d, %s %s", seed, what, name)}, asked})
		})
		var writers sync.WaitGroup
		for j := range crashWriters {
			writers.Go(func() {
				for at := 1; at <= 3*crashRecords; at++ {
					if _, err := s.Append(t.Context(), crashJournal(j), events.Offset(at), crashRecord(j, at)); err != nil {
						t.Error(err)
						return
					}
					acked[j].Store(int64(at))
				}
			})
		}
		for n := range asked {
			asking.Lock()
			asked[n] = load()
			asking.Unlock()
			if err := s.Backup(fmt.Sprint("copies/copy", n)); err != nil {
				t.Fatal(err)
			}
		}
		writers.Wait()
		fs.watch(func(string, string) {})
		if err := s.Backup("copies/copy1"); err == nil || !strings.Contains(err.Error(), "name a folder that does not") {
			t.Errorf("a backup over another: %v", err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		for n := range asked {
			restored(t, fs, fmt.Sprint("copies/copy", n), fmt.Sprintf("seed %d, copy %d", seed, n), asked[n])
		}
		for _, l := range lefts {
			if s := l.open(t, l.fs.CrashClone(vfs.CrashCloneCfg{})); s != nil {
				s.Close()
			}
			for n := range asked {
				dir := fmt.Sprint("copies/copy", n)
				if _, err := l.fs.Stat(dir); err == nil {
					copies++
					restored(t, l.fs, dir, l.how+", "+dir, l.asked[n])
				}
			}
		}
	}
	t.Logf("%d copies stood after crashes", copies)
	if copies == 0 {
		t.Error("no crash left a copy: that proves little")
	}
}

func TestBackupOutlivesACrashThatFollowsIt(t *testing.T) {
	fs := vfs.NewCrashableMem()
	s := openMem(t, Options{FS: fs})
	defer s.Close()
	const dir = "copies/of/today" // none of these folders is there
	if err := s.Backup(dir); err != nil {
		t.Fatal(err)
	}
	restored(t, fs.CrashClone(vfs.CrashCloneCfg{}), dir, "crashed behind the backup", [crashWriters]int{})
}

// The disk of a copy is another one, perhaps: when it is full the store goes on.
func TestBackupOntoAFullDiskFailsAlone(t *testing.T) {
	var writes, room atomic.Int64
	full := func(op errorfs.Op) error {
		if op.Kind == errorfs.OpFileWrite && strings.HasPrefix(op.Path, "copy") && writes.Add(1) > room.Load() {
			return &os.PathError{Op: "write", Path: op.Path, Err: syscall.ENOSPC}
		}
		return nil
	}
	fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(full))
	s := openMem(t, Options{FS: fs, OnFatal: func(err error) { t.Errorf("the store has ended: %v", err) }})
	defer s.Close()
	for at := events.Offset(1); ; at++ {
		writes.Store(0)
		room.Store(int64(at) - 1)
		err := s.Backup("copy")
		if _, bad := s.Append(t.Context(), crashJournal(0), at, crashRecord(0, int(at))); bad != nil {
			t.Fatalf("after a backup that ended with %v: %v", err, bad)
		}
		if err == nil {
			break
		}
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("with room for %d writes: %v", at-1, err)
		}
		if _, err := fs.Stat("copy" + Unfinished); !errors.Is(err, os.ErrNotExist) {
			t.Fatalf("with room for %d writes: what there is of the copy stays, and takes room: %v", at-1, err)
		}
		if at > 200 {
			t.Fatal("200 writes are not enough for a copy")
		}
	}
}

// An empty store in place of a backup that was interrupted would be served as if nobody had
// ever said anything; and the next backup takes its place.
func TestHalfABackupIsNoStore(t *testing.T) {
	fs := vfs.NewMem()
	if err := fs.MkdirAll("copy"+Unfinished, 0o700); err != nil {
		t.Fatal(err)
	}
	s, err := Open("copy", Options{FS: fs})
	if err == nil || !strings.Contains(err.Error(), "a backup that was interrupted") {
		t.Fatalf("half a backup opens: %v", errors.Join(err, s.Close()))
	}
	from := openMem(t, Options{FS: fs})
	defer from.Close()
	if err := from.Backup("copy"); err != nil {
		t.Fatal(err)
	}
	restored(t, fs, "copy", "made again", [crashWriters]int{})
}

// A server goes on with a backup whose command was killed, and is asked for it again.
func TestBackupsToOneFolderDoNotDisturbEachOther(t *testing.T) {
	fs := vfs.NewMem()
	s := openMem(t, Options{FS: fs})
	defer s.Close()
	var acked [crashWriters]int
	for at := 1; at <= crashRecords; at++ {
		if _, err := s.Append(t.Context(), crashJournal(0), events.Offset(at), crashRecord(0, at)); err != nil {
			t.Fatal(err)
		}
		acked[0] = at
	}
	for n := range 20 {
		dir := fmt.Sprint("copies/copy", n)
		var errs [2]error
		var both sync.WaitGroup
		for i := range errs {
			both.Go(func() { errs[i] = s.Backup(dir) })
		}
		both.Wait()
		if (errs[0] == nil) == (errs[1] == nil) {
			t.Fatalf("two backups to %s end with %v and %v", dir, errs[0], errs[1])
		}
		restored(t, fs, dir, dir, acked)
	}
}

// Whoever is killed while it opens the store may have flushed the log that it found, and not
// begun another one: so the next finds nothing to flush, and begins no manifest.
func TestBackupByWhoeverOpensBehindOneThatWasKilledIsWhole(t *testing.T) {
	mem := vfs.NewCrashableMem()
	s := openMem(t, Options{FS: mem})
	if _, err := s.Append(t.Context(), crashJournal(0), 1, crashRecord(0, 1)); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openMem(t, Options{FS: mem})
	if err := errors.Join(s.db.Compact(t.Context(), []byte{0}, []byte{0xff}, false), s.Close()); err != nil { // or what it merges begins a manifest
		t.Fatal(err)
	}
	var lefts []left
	fs := newCrashFS(t, mem)
	fs.watch(func(what, name string) {
		lefts = append(lefts, left{fs: mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: mathrand.New(mathrand.NewPCG(0, 0))}), how: what + " " + name})
	})
	s = openMem(t, Options{FS: fs})
	fs.watch(func(string, string) {})
	defer s.Close()
	if len(lefts) < 10 {
		t.Fatalf("only %d moments", len(lefts))
	}
	for _, l := range lefts {
		s, err := Open("data", Options{FS: l.fs})
		if err != nil {
			t.Errorf("%s: %v", l.how, err)
			continue
		}
		for _, dir := range []string{"copies/first", "copies/second"} {
			if err := s.Backup(dir); err != nil {
				t.Errorf("%s: %v", l.how, err)
			}
			restored(t, l.fs, dir, l.how+", "+dir, [crashWriters]int{1})
		}
		s.Close()
	}
}

// What a backup writes to the log is one of the batches that are on their way at most: or after
// a crash of the machine a log with as many more behind the first would be taken for damaged.
func TestBackupIsOneOfThoseThatWrite(t *testing.T) {
	s := openMem(t, Options{})
	defer s.Close()
	for range maxUnsynced {
		s.unsynced <- struct{}{}
	}
	done := make(chan error, 1)
	go func() { done <- s.Backup("copy") }()
	select {
	case err := <-done:
		t.Errorf("a backup writes beside %d batches that are on their way: %v", maxUnsynced, err)
	case <-time.After(50 * time.Millisecond):
		<-s.unsynced
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	for len(s.unsynced) > 0 {
		<-s.unsynced
	}
}
