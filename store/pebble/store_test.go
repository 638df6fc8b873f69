package pebble

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"timberline/events"
	"timberline/events/fields"
	"timberline/events/logtest"
	"timberline/projections"
	"timberline/projections/storetest"
)

// A place is a file system with a store on it.
type place struct {
	t     *testing.T
	fs    vfs.FS
	dir   string
	store *Store
}

func (p *place) open() (*Store, error) {
	s, err := Open(p.dir, Options{FS: p.fs, OnFatal: func(err error) { p.t.Error(err) }})
	p.store = s
	return s, err
}

func (p *place) Close() error { return p.store.Close() }

// Crash goes on with what the disk has kept. The old store is closed at the end of
// the test: calls may be under way in it.
func (p *place) Crash() error {
	mem, ok := p.fs.(*vfs.MemFS)
	if !ok {
		return p.store.Close() // a process that dies on a disk that lives
	}
	p.fs = mem.CrashClone(vfs.CrashCloneCfg{})
	old := p.store
	p.t.Cleanup(func() { old.Close() })
	return nil
}

// places are the kinds of file systems.
var places = map[string]func(t *testing.T) *place{
	"memory that crashes": func(t *testing.T) *place { return &place{t: t, fs: vfs.NewCrashableMem(), dir: "data"} },
	"disk":                func(t *testing.T) *place { return &place{t: t, fs: vfs.Default, dir: t.TempDir()} },
}

type logPlace struct{ *place }

func (p logPlace) Open() (logtest.Engine, error) { return p.open() }

type storePlace struct{ *place }

func (p storePlace) Open() (storetest.Store, error) { return p.open() }

func TestStoreIsALog(t *testing.T) {
	for name, newPlace := range places {
		t.Run(name, func(t *testing.T) {
			logtest.Run(t, func(t *testing.T) logtest.Place { return logPlace{newPlace(t)} })
		})
	}
}

func TestStoreKeepsTimelines(t *testing.T) {
	for name, newPlace := range places {
		t.Run(name, func(t *testing.T) {
			storetest.Run(t, func(t *testing.T) storetest.Place { return storePlace{newPlace(t)} })
		})
	}
}

func openMem(t *testing.T, o Options) *Store {
	t.Helper()
	if o.FS == nil {
		o.FS = vfs.NewMem()
	}
	s, err := Open("data", o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestStoreKeepsItsIdentity(t *testing.T) {
	fs := vfs.NewMem()
	first := openMem(t, Options{FS: fs, Shards: 7})
	meta, tag := first.Meta(), first.Tag()
	if meta.Shards != 7 || meta.Store == (events.StoreID{}) || tag == (events.EdgeTag{}) {
		t.Errorf("%+v, tag %v: want 7 shards and random ids", meta, tag)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	second := openMem(t, Options{FS: fs, Shards: 3})
	defer second.Close()
	if second.Meta() != meta || second.Tag() != tag {
		t.Errorf("opened again: %+v, tag %v; want %+v, %v", second.Meta(), second.Tag(), meta, tag)
	}
	other := openMem(t, Options{})
	defer other.Close()
	if other.Meta().Store == meta.Store || other.Tag() == tag {
		t.Error("two stores have the same ids")
	}
}

func TestStoreOfAnotherFormatIsRefused(t *testing.T) {
	fs := vfs.NewMem()
	s := openMem(t, Options{FS: fs})
	newer := s.meta
	newer.format = DataFormat + 1
	if err := s.db.Set(metaKey, fields.Seal(1, metaKey, &newer), pebble.Sync); err != nil {
		t.Fatal(err)
	}
	s.Close()
	wantOpenError(t, fs, fmt.Sprintf("it has step %d", DataFormat+1), "use the version of timberline that wrote it")
}

func wantOpenError(t *testing.T, fs vfs.FS, texts ...string) {
	t.Helper()
	s, err := Open("data", Options{FS: fs})
	if err == nil {
		s.Close()
		t.Errorf("no error, want one with %q", texts)
		return
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("error %q, want one with %q", err, text)
		}
	}
}

// Whoever only reads is told of no writes.
func TestFileThatCannotBeOpenedIsNamedWithWhatToDo(t *testing.T) {
	for refused, says := range map[error]string{
		syscall.EACCES: "give this user the right to read",
		syscall.EMFILE: "let the process open more files",
		syscall.EIO:    "check the disk",
	} {
		fs := vfs.NewMem()
		s := openMem(t, Options{FS: fs})
		if err := errors.Join(s.db.Flush(), s.Close()); err != nil {
			t.Fatal(err)
		}
		no := func(op errorfs.Op) error {
			if op.Kind == errorfs.OpOpen && strings.HasSuffix(op.Path, ".sst") {
				return &os.PathError{Op: "open", Path: op.Path, Err: refused}
			}
			return nil
		}
		var told atomic.Pointer[string]
		s, err := Open("data", Options{FS: errorfs.Wrap(fs, errorfs.InjectorFunc(no)), OnFatal: func(err error) { told.Store(ptr(err.Error())) }})
		if err == nil {
			s.Close()
		} else {
			s = &Store{dir: "data", onFatal: func(err error) { told.Store(ptr(err.Error())) }}
			s.giveUp(err) // as where it is met in the background
		}
		if said := told.Load(); said == nil || !strings.Contains(*said, ".sst") || !strings.Contains(*said, says) || strings.Contains(*said, "writes") {
			t.Errorf("%v: it says %q, want %q", refused, *cmp.Or(said, ptr("nothing")), says)
		}
	}
}

func ptr(s string) *string { return &s }

func TestDamagedDescriptionIsNamed(t *testing.T) {
	fs := vfs.NewMem()
	s := openMem(t, Options{FS: fs})
	if err := s.db.Set(metaKey, []byte("no such thing"), pebble.Sync); err != nil {
		t.Fatal(err)
	}
	s.Close()
	wantOpenError(t, fs, "data folder data", "the description of the store")
	if _, err := Open("data", Options{FS: fs}); !errors.Is(err, events.ErrCorrupt) {
		t.Errorf("%v, want ErrCorrupt", err)
	}
}

func TestFolderInUseIsRefused(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := Open(dir, Options{}); err == nil || !strings.Contains(err.Error(), "in use by another process") || !strings.Contains(err.Error(), dir) {
		t.Errorf("%v, want an error that names the folder and who has it", err)
	}
}

func TestFolderThatCannotBeUsedSaysWhatToDo(t *testing.T) {
	for _, test := range []struct {
		err  error
		want string
	}{
		{syscall.ENOSPC, "make room"},
		{os.ErrPermission, "give this user the right"},
		{errors.New("strange"), "open data folder data"},
	} {
		failing := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
			if op.Kind == errorfs.OpCreate && strings.HasSuffix(op.Path, ".log") {
				return test.err
			}
			return nil
		}))
		wantOpenError(t, failing, test.want)
	}
}

// failures is a disk that refuses some operations from a time on.
type failures struct {
	on     atomic.Bool
	suffix string
	kinds  []errorfs.OpKind
}

func (f *failures) MaybeError(op errorfs.Op) error {
	if !f.on.Load() || !strings.HasSuffix(op.Path, f.suffix) {
		return nil
	}
	for _, k := range f.kinds {
		if op.Kind == k {
			return &os.PathError{Op: "write", Path: op.Path, Err: syscall.ENOSPC}
		}
	}
	return nil
}

func (f *failures) String() string { return "failures" }

func TestFullDiskEndsTheProcessWhereverItIsMet(t *testing.T) {
	for name, f := range map[string]*failures{
		"sync of the log":  {suffix: ".log", kinds: []errorfs.OpKind{errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpFileSyncTo}},
		"write of the log": {suffix: ".log", kinds: []errorfs.OpKind{errorfs.OpFileWrite}},
		"flush of a table": {suffix: ".sst", kinds: []errorfs.OpKind{errorfs.OpCreate, errorfs.OpFileWrite}},
	} {
		t.Run(name, func(t *testing.T) {
			fatal := make(chan error, 1000)
			s := openMem(t, Options{FS: errorfs.Wrap(vfs.NewMem(), f), OnFatal: func(err error) {
				f.on.Store(false) // the process would be gone: here the disk has room again
				fatal <- err
			}})
			f.on.Store(true)
			_, err := s.Append(t.Context(), "j:1", 1, events.Record("x"))
			if f.suffix == ".sst" {
				if err != nil {
					t.Errorf("append: %v, though the log has room", err)
				}
				s.db.Flush()
			} else if !errors.Is(err, events.ErrFatal) && len(fatal) == 0 {
				t.Errorf("append: %v, want ErrFatal", err)
			}
			for at := events.Offset(2); f.suffix == ".log" && at < 5; at++ { // what comes before the process has ended
				if _, err := s.Append(t.Context(), "j:1", at, events.Record(make([]byte, 100<<10))); !errors.Is(err, events.ErrFatal) {
					t.Errorf("next append: %v, want ErrFatal", err)
				}
			}
			if len(fatal) > 0 {
				if err := <-fatal; !errors.Is(err, events.ErrFatal) || !strings.Contains(err.Error(), "data folder data") {
					t.Errorf("%v, want ErrFatal with the folder's name", err)
				}
			} else if f.suffix == ".sst" {
				t.Error("nobody was told that a table cannot be written")
			}
			s.Close()
		})
	}
}

func TestDamagedRowIsNamedAndNotServed(t *testing.T) {
	s := openMem(t, Options{})
	defer s.Close()
	if _, err := s.CreateJournal(t.Context(), events.Row{Number: 1}); err != nil {
		t.Fatal(err)
	}
	key := journalKey(1)
	value, err := s.get(key)
	if err != nil {
		t.Fatal(err)
	}
	for i := range value {
		for bit := range 8 {
			damaged := append([]byte(nil), value...)
			damaged[i] ^= 1 << bit
			if err := s.db.Set(key, damaged, pebble.NoSync); err != nil {
				t.Fatal(err)
			}
			if rows, err := s.ListJournals(t.Context(), 0, events.Strong); !errors.Is(err, events.ErrCorrupt) || !strings.Contains(err.Error(), "journal 1") {
				t.Fatalf("bit %d of byte %d: rows %+v, %v; want ErrCorrupt that names the journal", bit, i, rows, err)
			}
		}
	}
}

func TestTooManyShardsAreRefused(t *testing.T) {
	if _, err := Open("data", Options{FS: vfs.NewMem(), Shards: events.Slots + 1}); err == nil {
		t.Error("no error, want one: a shard is a set of slots")
	}
}

func BenchmarkAppend(b *testing.B) {
	s, err := Open(filepath.Join(b.TempDir(), "data"), Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	rec := make(events.Record, 16<<10)
	b.SetBytes(int64(len(rec)))
	b.ReportAllocs()
	for at := events.Offset(1); b.Loop(); at++ {
		if _, err := s.Append(b.Context(), "j:1", at, rec); err != nil {
			b.Fatal(err)
		}
	}
}

// As a rebuild puts them.
func BenchmarkPutItems(b *testing.B) {
	s, err := Open(filepath.Join(b.TempDir(), "data"), Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	r := rand.New(rand.NewPCG(1, 1))
	items := make([]projections.Stored, 20_000)
	var last [10_000]events.Seq
	b.ReportAllocs()
	for b.Loop() {
		for i := range items {
			u := r.IntN(len(last))
			last[u]++
			items[i] = projections.Stored{Timeline: projections.Timeline{Version: 1, User: events.User(fmt.Sprintf("u%d", u))}, Last: last[u], Data: make([]byte, 230)}
		}
		if err := s.PutItems(b.Context(), items); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCommit(b *testing.B) {
	s, err := Open(filepath.Join(b.TempDir(), "data"), Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	items := make([]projections.Stored, 200)
	b.ReportAllocs()
	for n := projections.CheckpointNumber(1); b.Loop(); n++ {
		for i := range items {
			items[i] = projections.Stored{Timeline: projections.Timeline{User: events.User(fmt.Sprintf("u%d", i))}, Last: events.Seq(n), Data: make([]byte, 150)}
		}
		if _, err := s.Commit(b.Context(), 0, n, make([]byte, 30), items); err != nil {
			b.Fatal(err)
		}
	}
}

// Items that nobody is told of are durable when they are put, whether somebody else writes or
// not, and there is room for all.
func TestQuietItemsAreDurableWhenPut(t *testing.T) {
	fs := vfs.NewCrashableMem()
	s := openMem(t, Options{FS: fs})
	var all sync.WaitGroup
	for n := range 3 * maxUnsynced {
		all.Go(func() {
			user := events.User(fmt.Sprintf("user%d", n))
			i := projections.Item{First: 1, Checkpoint: 1, Entries: []projections.Entry{{Event: []byte("event")}}}
			item := i.Encode(projections.Timeline{Version: 1, User: user})
			item.Quiet = true
			if err := s.PutItems(t.Context(), []projections.Stored{item}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	crashed := fs.CrashClone(vfs.CrashCloneCfg{})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openMem(t, Options{FS: crashed})
	defer s.Close()
	for n := range 3 * maxUnsynced {
		at := projections.Timeline{Version: 1, User: events.User(fmt.Sprintf("user%d", n))}
		if _, err := s.NewestItem(t.Context(), at, events.Strong); err != nil {
			t.Error(err)
		}
	}
}

// That a journal was trimmed stays, whoever else changes its row at the time.
func TestTrimmedJournalStaysTrimmed(t *testing.T) {
	s := openMem(t, Options{FS: vfs.NewMem()})
	defer s.Close()
	for n := range uint64(300) {
		row := events.Row{Number: n + 1}
		if _, err := s.CreateJournal(t.Context(), row); err != nil {
			t.Fatal(err)
		}
		var both sync.WaitGroup
		for _, trimmed := range []bool{true, false} {
			changed := events.Row{Number: row.Number, Counter: 1, Trimmed: trimmed}
			both.Go(func() {
				if err := s.UpdateJournal(t.Context(), changed); err != nil {
					t.Error(err)
				}
			})
		}
		both.Wait()
	}
	rows, err := s.ListJournals(t.Context(), 0, events.Strong)
	if err != nil || len(rows) != 300 {
		t.Fatalf("%d journals, %v", len(rows), err)
	}
	for _, row := range rows {
		if !row.Trimmed {
			t.Fatalf("journal %d is not trimmed any more", row.Number)
		}
	}
}
