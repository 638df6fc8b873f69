package events

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// A wall is a clock that the test sets.
type wall struct{ at time.Time }

func (w *wall) now() time.Time { return w.at }

// onWall returns a clock whose writer part repeats one byte.
func onWall(t testing.TB, w *wall, writer byte) *Clock {
	t.Helper()
	c, err := NewClock(w.now, bytes.NewReader(bytes.Repeat([]byte{writer}, 8)))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

var noon = time.UnixMilli(1_700_000_000_123)

func TestIDsAreMillisecondsCounterAndWriter(t *testing.T) {
	w := &wall{noon.Add(999 * time.Microsecond)}
	c := onWall(t, w, 0xee)
	c.Next()
	id := c.Next() // the second of its millisecond
	want := ID{0x01, 0x8b, 0xcf, 0xe5, 0x68, 0x7b, 0, 1, 0xee, 0xee, 0xee, 0xee, 0xee, 0xee, 0xee, 0xee}
	if id != want {
		t.Errorf("id %x, want %x", id[:], want[:])
	}
	if text := "01HF7YAT3V000YXVQEXVQEXVQE"; id.String() != text {
		t.Errorf("written as %s, want %s", id, text)
	}
	if !id.Time().Equal(noon) {
		t.Errorf("made at %v, want %v", id.Time(), noon)
	}
}

func TestIDsRiseWhateverTheWallClockDoes(t *testing.T) {
	w := &wall{noon}
	c := onWall(t, w, 1)
	r := rand.New(rand.NewPCG(5, 6))
	last := c.Next()
	for range 10_000 {
		w.at = noon.Add(time.Duration(r.IntN(2001)-1000) * time.Millisecond)
		id := c.Next()
		if id.Compare(last) <= 0 {
			t.Fatalf("id %v after %v, with the wall clock at %v", id, last, w.at)
		}
		if id.Time().Before(w.at) {
			t.Fatalf("id %v is of %v, before the wall clock's %v (R4)", id, id.Time(), w.at)
		}
		last = id
	}
}

func TestAFullMillisecondRunsIntoTheNext(t *testing.T) {
	c := onWall(t, &wall{noon}, 1)
	var id ID
	for range 1<<16 + 1 {
		id = c.Next()
	}
	if want := noon.Add(time.Millisecond); !id.Time().Equal(want) {
		t.Errorf("65537th id of a millisecond is of %v, want %v", id.Time(), want)
	}
}

func TestAWallClockBefore1970CountsAs1970(t *testing.T) {
	c := onWall(t, &wall{time.UnixMilli(-5)}, 1)
	if id := c.Next(); id.Time().UnixMilli() != 0 {
		t.Errorf("id of %v", id.Time())
	}
}

func TestClockIsAboveWhatItObserved(t *testing.T) {
	w := &wall{noon}
	ahead := onWall(t, &wall{noon.Add(time.Hour)}, 0xff)
	behind := onWall(t, &wall{noon.Add(-time.Hour)}, 0xff)
	c := onWall(t, w, 1)

	seen := ahead.Next()
	c.Observe(seen)
	next := c.Next()
	if next.Compare(seen) <= 0 {
		t.Errorf("id %v after observing %v (R4)", next, seen)
	}
	c.Observe(behind.Next())
	c.Observe(seen)
	if after := c.Next(); after.Compare(next) <= 0 {
		t.Errorf("observing older ids has set the clock back: %v after %v", after, next)
	}
}

func TestIDsOfManyGoroutinesAreRisingAndUnique(t *testing.T) {
	c := onWall(t, &wall{noon}, 1)
	foreign := onWall(t, &wall{noon.Add(time.Millisecond)}, 2)
	const goroutines, each = 8, 2000
	made := make([][]ID, goroutines)
	var done sync.WaitGroup
	for g := range made {
		done.Go(func() {
			for i := range each {
				if i%100 == 0 {
					c.Observe(foreign.Next())
				}
				made[g] = append(made[g], c.Next())
			}
		})
	}
	done.Wait()
	unique := make(map[ID]bool)
	for _, ids := range made {
		if !slices.IsSortedFunc(ids, ID.Compare) {
			t.Error("ids of a goroutine do not rise")
		}
		for _, id := range ids {
			unique[id] = true
		}
	}
	if len(unique) != goroutines*each {
		t.Errorf("%d of %d ids are unique", len(unique), goroutines*each)
	}
}

func TestWritersNeverMakeEqualIDs(t *testing.T) {
	w := &wall{noon}
	if a, b := onWall(t, w, 1).Next(), onWall(t, w, 2).Next(); a == b {
		t.Errorf("two writers made %v", a)
	}
	if _, err := NewClock(w.now, strings.NewReader("short")); err == nil {
		t.Error("a clock without a writer is made")
	}
}

func TestIDsCompareAsBytesAndAsText(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	for range 1000 {
		a, b := ID(randomID(r)), ID(randomID(r))
		a[0], b[0] = a[0]&7, a[0]&7 // within what a ULID's text and time hold; often near
		want := bytes.Compare(a[:], b[:])
		if a.Compare(b) != want || strings.Compare(a.String(), b.String()) != want {
			t.Errorf("%x and %x: Compare %d, texts %s and %s, bytes %d", a, b, a.Compare(b), a, b, want)
		}
	}
}

func TestIDsAreReadFromTheirText(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 10))
	for _, id := range []ID{{}, filled(1), ID(bytes.Repeat([]byte{0xff}, 16)), randomID(r), randomID(r)} {
		if got, err := ParseID(id.String()); err != nil || got != id {
			t.Errorf("%s is read as %v, error %v", id, got, err)
		}
	}
	for _, text := range []string{"", "01HF7YAT3V000YXVQEXVQEXVQ", "01HF7YAT3V000YXVQEXVQEXVQEE", "01HF7YAT3V000YXVQEXVQEXVQU", "80000000000000000000000000"} {
		if id, err := ParseID(text); !errors.Is(err, ErrInvalid) {
			t.Errorf("%q is read as %v, error %v, want ErrInvalid", text, id, err)
		}
	}
}
