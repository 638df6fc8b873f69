package pebble

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"golang.org/x/sync/errgroup"

	"timberline/events"
	"timberline/projections"
	"timberline/projections/storetest"
)

// tablePlace is a place at which all items that nobody waits for are put as tables.
type tablePlace struct{ *place }

func (p tablePlace) Open() (storetest.Store, error) {
	s, err := Open(p.dir, Options{FS: p.fs, TableBytes: 1, OnFatal: func(err error) { p.t.Error(err) }})
	p.store = s
	return s, err
}

func TestStoreKeepsTimelinesPutAsTables(t *testing.T) {
	for name, newPlace := range places {
		t.Run(name, func(t *testing.T) {
			storetest.Run(t, func(t *testing.T) storetest.Place { return tablePlace{newPlace(t)} })
		})
	}
}

// quiet returns a quiet item whose data say where it belongs, and more.
func quiet(v projections.Version, u events.User, last events.Seq, more string) projections.Stored {
	return projections.Stored{
		Timeline: projections.Timeline{Version: v, User: u}, Last: last, Quiet: true,
		Data: fmt.Appendf(nil, "%d %s %d %s", v, u, last, more),
	}
}

// Of all timelines, also those whose users' names begin alike, and of all versions.
func TestItemsPutAsATableAreReadInOrder(t *testing.T) {
	s := openMem(t, Options{TableBytes: 1})
	defer s.Close()
	want := make(map[projections.Timeline][]projections.Stored)
	var all []projections.Stored
	for _, v := range []projections.Version{0, 1, 2, 300} {
		for _, u := range []events.User{"a", "ab", "ab.", "abcdefgh", "abcdefgh-", "abcdefgha", "abcdefghb", "abcdefghabcdefg", "abcdefghabcdefgh", "abcdefghabcdefghi", "abcdefghabcdefghj", "b", "Z"} {
			for last := range events.Seq(5) {
				i := quiet(v, u, last*100+1, "new")
				want[i.Timeline] = append(want[i.Timeline], i)
				all = append(all, i)
			}
		}
		for _, u := range []events.User{"abcdefghabcdefghx", "abcdefghabcdefghy"} { // whose items are neighbours
			i := quiet(v, u, 1, "new")
			want[i.Timeline] = append(want[i.Timeline], i)
			all = append(all, i)
		}
	}
	rand.New(rand.NewPCG(1, 1)).Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	var put []projections.Stored // each of them twice: what was put last counts
	for _, i := range all {
		old := i
		old.Data = []byte("old")
		put = append(put, old)
	}
	if err := s.PutItems(t.Context(), append(put, all...)); err != nil {
		t.Fatal(err)
	}
	for at, is := range want {
		got, err := s.ReadItems(t.Context(), at, 0, 1<<20, events.Strong)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.EqualFunc(got, is, func(x, y projections.Stored) bool { return x.Last == y.Last && bytes.Equal(x.Data, y.Data) }) {
			t.Errorf("%v has %v, want %v", at, got, is)
		}
	}
}

// Wherever a crash comes, of each put all items stand or none, all of those that have
// returned do, and nothing is left beside them.
func TestCrashWhileATableIsPutLeavesAllOfItOrNothing(t *testing.T) {
	const puts, each = 4, 50
	r := rand.New(rand.NewPCG(1, 1))
	mem := vfs.NewCrashableMem()
	fs := newCrashFS(t, mem)
	type crashed struct {
		left
		returned int // puts
	}
	var lefts []crashed
	s := openMem(t, Options{FS: fs, TableBytes: 1})
	returned := 0
	fs.watch(func(what, name string) {
		for _, l := range fs.ways(r, fmt.Sprintf("%d: %s %s", len(lefts), what, name)) {
			lefts = append(lefts, crashed{l, returned})
		}
	})
	user := func(n int) events.User { return events.User(fmt.Sprint("user", n)) }
	for put := range puts {
		var items []projections.Stored
		for n := range each {
			items = append(items, quiet(1, user(n), events.Seq(put+1), "item"))
		}
		if err := s.PutItems(t.Context(), items); err != nil {
			t.Fatal(err)
		}
		fs.mu.Lock() // against what Pebble does behind
		returned = put + 1
		lefts = append(lefts, crashed{left{fs: mem.CrashClone(vfs.CrashCloneCfg{}), how: fmt.Sprintf("after put %d", returned)}, returned})
		fs.mu.Unlock()
	}
	fs.watch(func(string, string) {})
	s.Close()
	if len(lefts) < 50 {
		t.Fatalf("only %d crashes", len(lefts))
	}
	for _, l := range lefts {
		s, err := Open("data", Options{FS: l.fs})
		if err != nil {
			t.Errorf("%s: %v", l.how, err)
			continue
		}
		stand := make(map[int]int) // by how many puts each user has
		for n := range each {
			items, err := s.ReadItems(t.Context(), projections.Timeline{Version: 1, User: user(n)}, 0, 1<<20, events.Strong)
			if err != nil {
				t.Errorf("%s: %v", l.how, err)
			}
			stand[len(items)]++
		}
		if len(stand) != 1 || stand[l.returned] == 0 && stand[l.returned+1] == 0 {
			t.Errorf("%s: so many users have so many items: %v, want all the same, %d or one more", l.how, stand, l.returned)
		}
		if names := list(l.fs, "data"); slices.Contains(names, bulkFile) {
			t.Errorf("%s: there is %q", l.how, names)
		}
		s.Close()
	}
}

// A table that has no room is nobody's but who puts it.
func TestTableWithoutRoomFailsAlone(t *testing.T) {
	for what, kinds := range map[string][]errorfs.OpKind{
		"to begin it": {errorfs.OpCreate}, "to write it": {errorfs.OpFileWrite}, "to sync it": {errorfs.OpFileSync, errorfs.OpFileSyncData},
	} {
		t.Run(what, func(t *testing.T) {
			f := &failures{suffix: bulkFile, kinds: kinds}
			mem := vfs.NewMem()
			s := openMem(t, Options{FS: errorfs.Wrap(mem, f), TableBytes: 1, OnFatal: func(err error) { t.Error(err) }})
			defer s.Close()
			items := []projections.Stored{quiet(1, "user", 1, "item")}
			f.on.Store(true)
			if err := s.PutItems(t.Context(), items); !errors.Is(err, syscall.ENOSPC) || errors.Is(err, events.ErrFatal) {
				t.Errorf("%v, want that there is no room, and that it may be tried again", err)
			}
			if names := list(mem, "data"); slices.Contains(names, bulkFile) {
				t.Errorf("there is %q", names)
			}
			if _, err := s.Append(t.Context(), "j:1", 1, events.Record("x")); err != nil {
				t.Errorf("append: %v", err)
			}
			f.on.Store(false)
			if err := s.PutItems(t.Context(), items); err != nil {
				t.Errorf("with room again: %v", err)
			}
			if _, err := s.NewestItem(t.Context(), items[0].Timeline, events.Strong); err != nil {
				t.Error(err)
			}
		})
	}
}

// What is in memory of the same timelines is flushed before, and the table waits for nothing
// in the log: it would hold the log's lock meanwhile.
func TestTableAboveItemsInMemoryIsNoPartOfTheLog(t *testing.T) {
	mem := vfs.NewCrashableMem()
	s := openMem(t, Options{FS: mem, TableBytes: 100})
	defer s.Close()
	long := string(bytes.Repeat([]byte("x"), 100))
	for last := range events.Seq(4) {
		more := "in memory"
		if last%2 == 1 {
			more = long
		}
		if err := s.PutItems(t.Context(), []projections.Stored{quiet(1, "a", last+1, more), quiet(1, "z", last+1, more)}); err != nil {
			t.Fatal(err)
		}
	}
	if n := s.db.Metrics().Flush.AsIngestCount; n > 0 {
		t.Errorf("%d tables were part of the log", n)
	}
	again := openMem(t, Options{FS: mem.CrashClone(vfs.CrashCloneCfg{})})
	defer again.Close()
	for _, u := range []events.User{"a", "z"} {
		items, err := again.ReadItems(t.Context(), projections.Timeline{Version: 1, User: u}, 0, 1<<20, events.Strong)
		if err != nil || len(items) != 4 {
			t.Errorf("%d items of %s, %v; want 4", len(items), u, err)
		}
	}
}

// closedFS makes no table of Pebble's own from when it is closed until it is open: nothing is
// merged.
type closedFS struct {
	vfs.FS
	closed atomic.Bool
	open   chan struct{}
}

func (c *closedFS) Create(name string, k vfs.DiskWriteCategory) (vfs.File, error) {
	if c.closed.Load() && strings.HasSuffix(name, ".sst") {
		<-c.open
	}
	return c.FS.Create(name, k)
}

func (c *closedFS) Unwrap() vfs.FS { return c.FS }

// Whoever puts tables waits for those before, also behind another, but not longer than it is
// asked to; others write meanwhile.
func TestTablesWaitUntilThoseBeforeAreMerged(t *testing.T) {
	disk := &closedFS{FS: vfs.NewMem(), open: make(chan struct{})}
	s := openMem(t, Options{FS: disk, TableBytes: 1, OnFatal: func(err error) { t.Error(err) }})
	defer s.Close()
	disk.closed.Store(true)
	merge := sync.OnceFunc(func() { close(disk.open) })
	defer merge()
	put := func(ctx context.Context, n int) error {
		return s.PutItems(ctx, []projections.Stored{quiet(1, "a", events.Seq(n), "item"), quiet(1, "z", events.Seq(n), "item")})
	}
	within := func(d time.Duration) context.Context {
		ctx, cancel := context.WithTimeout(t.Context(), d)
		t.Cleanup(cancel)
		return ctx
	}
	n := 1
	for ; s.db.Metrics().Levels[0].Sublevels < maxTables; n++ {
		if err := put(t.Context(), n); err != nil {
			t.Fatal(err)
		}
	}
	if err := put(within(50*time.Millisecond), n); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("put %d: %v, with %d tables above each other; want that it waits", n, err, maxTables)
	}
	first := make(chan error, 1)
	go func() { first <- put(t.Context(), n) }()
	for len(s.bulk) == 0 {
		time.Sleep(time.Millisecond)
	}
	if err := put(within(10*time.Millisecond), n+1); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("behind another: %v, want that it is over in time", err)
	}
	if _, err := s.Append(t.Context(), "j:1", 1, events.Record("x")); err != nil {
		t.Errorf("append: %v", err)
	}
	if names := list(disk, "data"); slices.Contains(names, bulkFile) {
		t.Errorf("there is %q, of a put that only waited", names)
	}
	merge()
	if err := <-first; err != nil {
		t.Error(err)
	}
	if items, err := s.ReadItems(t.Context(), projections.Timeline{Version: 1, User: "a"}, 0, 1<<20, events.Strong); err != nil || len(items) != n {
		t.Errorf("%d items, %v; want %d", len(items), err, n)
	}
}

// Tables that are put at the same time do not meet in the one file.
func TestTablesPutAtTheSameTimeAllStand(t *testing.T) {
	s := openMem(t, Options{TableBytes: 1})
	defer s.Close()
	const putters, puts = 4, 10
	var g errgroup.Group
	for p := range putters {
		g.Go(func() error {
			for n := range puts {
				if err := s.PutItems(t.Context(), []projections.Stored{quiet(1, events.User(fmt.Sprint("user", p)), events.Seq(n+1), "item")}); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	for p := range putters {
		items, err := s.ReadItems(t.Context(), projections.Timeline{Version: 1, User: events.User(fmt.Sprint("user", p))}, 0, 1<<20, events.Strong)
		if err != nil || len(items) != puts {
			t.Errorf("user %d has %d items, %v; want %d", p, len(items), err, puts)
		}
	}
}

// A table over items that are in memory yet counts, also in a copy and after a crash.
func TestTableOverItemsInMemoryCounts(t *testing.T) {
	mem := vfs.NewCrashableMem()
	s := openMem(t, Options{FS: mem, TableBytes: 1 << 10})
	small, long := quiet(1, "user", 1, "in memory"), quiet(1, "user", 1, strings.Repeat("table", 1<<8))
	for _, i := range []projections.Stored{small, long} {
		if err := s.PutItems(t.Context(), []projections.Stored{i}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Backup("copy"); err != nil {
		t.Fatal(err)
	}
	crashed := mem.CrashClone(vfs.CrashCloneCfg{})
	holds := func(how string, s *Store) {
		t.Helper()
		defer s.Close()
		if got, err := s.NewestItem(t.Context(), small.Timeline, events.Strong); err != nil || !bytes.Equal(got.Data, long.Data) {
			t.Errorf("%s: %d bytes, %v; want the %d of the table", how, len(got.Data), err, len(long.Data))
		}
		if _, err := s.Scrub(t.Context(), func(file string, err error) { t.Errorf("%s: %s: %v", how, file, err) }); err != nil {
			t.Errorf("%s: %v", how, err)
		}
	}
	holds("at once", s)
	for how, o := range map[string]Options{"after a crash": {FS: crashed}, "closed": {FS: mem}, "copied": {FS: mem, Restored: true}} {
		dir := "data"
		if o.Restored {
			dir = "copy"
		}
		s, err := Open(dir, o)
		if err != nil {
			t.Errorf("%s: %v", how, err)
			continue
		}
		holds(how, s)
	}
}

// Whatever blocks they were read from, and however long they are.
func TestScanGivesEachItemItsOwnData(t *testing.T) {
	s := openMem(t, Options{TableBytes: 1})
	defer s.Close()
	want := make(map[events.Seq][]byte)
	var put []projections.Stored
	add := func(size int) {
		i := quiet(1, "user", events.Seq(len(put)+1), "")
		i.Data = bytes.Repeat(i.Data, size/len(i.Data)+1)
		want[i.Last], put = i.Data, append(put, i)
	}
	for range 3 * scanBytes / 4 / 4096 {
		add(4096)
	}
	add(scanBytes + 1)
	for range scanBytes / 2 / 4096 {
		add(4096)
	}
	if err := s.PutItems(t.Context(), put); err != nil {
		t.Fatal(err)
	}
	n := 0
	if err := s.ScanItems(t.Context(), 1, func(i projections.Stored) error {
		if n++; i.Last != events.Seq(n) || !bytes.Equal(i.Data, want[i.Last]) {
			return fmt.Errorf("item %d, of %d bytes, is not what was put as %d", i.Last, len(i.Data), n)
		}
		return nil
	}); err != nil || n != len(put) {
		t.Errorf("%d items, %v; want %d", n, err, len(put))
	}
}
