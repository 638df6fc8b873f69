package pebble

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"timberline/events"
)

// list returns what is in a folder, sorted; nil if there is none.
func list(fs vfs.FS, dir string) []string {
	names, err := fs.List(dir)
	if err != nil {
		return nil
	}
	slices.Sort(names)
	return names
}

// Pebble takes such a folder for a new one, and deletes its tables. An interrupted copy
// leaves it, as the marker sorts last.
func TestFolderWithoutItsMarkerIsRefusedAndLeftAsItIs(t *testing.T) {
	for _, marker := range []string{"marker.", "marker.manifest", "marker.format-version"} {
		for _, o := range []Options{{}, {MustExist: true}, {Restored: true}, {LeavePending: true}} {
			x := newSpecimen(t, false)
			for _, name := range list(x.fs, "data") {
				if strings.HasPrefix(name, marker) {
					if err := x.fs.Remove("data/" + name); err != nil {
						t.Fatal(err)
					}
				}
			}
			before := list(x.fs, "data")
			o.FS = x.fs
			s, err := Open("data", o)
			if !errors.Is(err, events.ErrCorrupt) || !strings.Contains(err.Error(), "copy") {
				t.Errorf("without %s: %v, want ErrCorrupt and what to do", marker, err)
			}
			if err == nil {
				s.Close()
			}
			if after := list(x.fs, "data"); !slices.Equal(after, before) {
				t.Errorf("without %s %+v leaves %q, there were %q", marker, o, after, before)
			}
		}
	}
}

func TestFolderOfSomethingElseIsRefusedAndLeftAsItIs(t *testing.T) {
	fs := vfs.NewMem()
	if err := errors.Join(fs.MkdirAll("data", 0o700), writeFile(fs, "data/x", "mine")); err != nil {
		t.Fatal(err)
	}
	wantOpenError(t, fs, "no whole store", "choose another folder")
	if names := list(fs, "data"); !slices.Equal(names, []string{"x"}) {
		t.Errorf("there is %q, want the one file", names)
	}
}

func TestStoreThatMustExistIsNotMade(t *testing.T) {
	fs := vfs.NewMem()
	for _, make := range []func() error{
		func() error { return nil },
		func() error { return fs.MkdirAll("data", 0o700) },
		func() error { return writeFile(fs, "data/"+newFile, "") }, // as a crash may leave it
	} {
		if err := make(); err != nil {
			t.Fatal(err)
		}
		before := list(fs, "data")
		s, err := Open("data", Options{FS: fs, MustExist: true})
		if !errors.Is(err, ErrNoStore) {
			t.Errorf("in %q: %v, want ErrNoStore", before, errors.Join(err, s.Close()))
		}
		if after := slices.DeleteFunc(list(fs, "data"), func(n string) bool { return n == lockFile }); !slices.Equal(after, before) {
			t.Errorf("there was %q, now there is %q", before, after)
		}
	}
	made := openMem(t, Options{FS: fs})
	if !made.New() || slices.Contains(list(fs, "data"), newFile) {
		t.Errorf("new %v, in %q", made.New(), list(fs, "data"))
	}
	made.Close()
	again := openMem(t, Options{FS: fs, MustExist: true})
	if again.New() || again.Meta() != made.Meta() {
		t.Errorf("%+v, new %v; want what was made: %+v", again.Meta(), again.New(), made.Meta())
	}
	again.Close()
}

// Wherever a crash comes, the store is made again, or is the one that was made.
func TestCrashAtAnyMomentOfTheMakingLeavesAFolderThatOpens(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	mem := vfs.NewCrashableMem()
	fs := newCrashFS(t, mem)
	var lefts []left
	fs.watch(func(what, name string) {
		lefts = append(lefts, fs.ways(r, fmt.Sprintf("%d: %s %s", len(lefts), what, name))...)
	})
	s := openMem(t, Options{FS: fs})
	fs.watch(func(string, string) {})
	is := s.Meta()
	acked := mem.CrashClone(vfs.CrashCloneCfg{})
	s.Close()
	if len(lefts) < 60 {
		t.Fatalf("only %d crashes", len(lefts))
	}
	again, was := 0, 0
	for _, l := range append(lefts, left{fs: acked, how: "when it was open"}) {
		for range 2 { // the second time it is there
			s, err := Open("data", Options{FS: l.fs})
			if err != nil {
				t.Errorf("%s: %v; there is %q", l.how, err, list(l.fs, "data"))
				break
			}
			if s.New() {
				again++
			}
			if s.Meta() == is {
				was++
			}
			if slices.Contains(list(l.fs, "data"), newFile) || l.fs == acked && s.Meta() != is {
				t.Errorf("%s: %+v, in %q", l.how, s.Meta(), list(l.fs, "data"))
			}
			s.Close()
		}
	}
	if t.Logf("%d crashes: %d stores were made again, %d times there was the first", len(lefts), again, was); again == 0 || was < 3 {
		t.Error("that proves little")
	}
}

func TestStoreWithoutItsDescriptionIsRefused(t *testing.T) {
	fs := vfs.NewMem()
	s := openMem(t, Options{FS: fs})
	if err := s.db.Delete(metaKey, nil); err != nil {
		t.Fatal(err)
	}
	s.Close()
	wantOpenError(t, fs, "the description of the store is missing", "restore the folder")
}

// A log that is missing would be taken for one that was never needed.
func TestMissingLogIsNamed(t *testing.T) {
	x := newSpecimen(t, false)
	log, _ := x.lastLog()
	if err := x.fs.Remove("data/" + log); err != nil {
		t.Fatal(err)
	}
	if n, err := x.records(); !errors.Is(err, events.ErrCorrupt) || !strings.Contains(err.Error(), log+": the file is missing") {
		t.Errorf("%d records, %v; want ErrCorrupt that names %s", n, err, log)
	}
}
