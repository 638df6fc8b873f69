package pebble

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

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
		fs    *vfs.MemFS
		acked int
		how   string
	}
	var lefts []crashed
	s := openMem(t, Options{FS: fs, TableBytes: 1})
	acked := 0
	fs.watch(func(what, name string) {
		how := fmt.Sprintf("%d: %s %s", len(lefts), what, name)
		lefts = append(lefts, crashed{fs.crash(torn(r)), acked, how}, crashed{mem.CrashClone(vfs.CrashCloneCfg{}), acked, how + ", nothing unsynced is left"},
			crashed{mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 50, RNG: r}), acked, how + ", half of it is"})
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
		acked = put + 1
		lefts = append(lefts, crashed{mem.CrashClone(vfs.CrashCloneCfg{}), acked, fmt.Sprintf("after put %d", acked)})
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
		if len(stand) != 1 || stand[l.acked] == 0 && stand[l.acked+1] == 0 {
			t.Errorf("%s: so many users have so many items: %v, want all the same, %d or one more", l.how, stand, l.acked)
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
