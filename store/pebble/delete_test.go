package pebble

import (
	"fmt"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"timberline/events"
	"timberline/projections"
)

// More items than go into one batch, and the first one that stays.
func TestManyItemsAreDeletedInBatches(t *testing.T) {
	s, err := Open("data", Options{FS: vfs.NewMem()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ann := projections.Timeline{User: "ann"}
	const all = 2*deleteAtOnce + 10
	var items []projections.Stored
	for n := range events.Seq(all) {
		items = append(items, projections.Stored{Timeline: ann, Last: n + 1, Data: []byte("x")})
	}
	if err := s.PutItems(t.Context(), items); err != nil {
		t.Fatal(err)
	}
	for _, below := range []events.Seq{all - 3, all} {
		if err := s.DeleteItems(t.Context(), ann, below); err != nil {
			t.Fatal(err)
		}
		left, err := s.ReadItems(t.Context(), ann, 0, 1<<20, events.Strong)
		if err != nil || len(left) != int(all-below+1) || left[0].Last != below {
			t.Errorf("%d items are left below %d, %v; want those from there on", len(left), below, err)
		}
	}
}

// What is deleted of one user is nothing to who reads of another: it was, so that a drop took
// the square of its time.
func TestDeletionsOfManyUsersDoNotAddUp(t *testing.T) {
	if raceEnabled {
		t.Skip("it takes the time: see make rounds")
	}
	s, err := Open("data", Options{FS: vfs.NewMem()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	const users, each = 4_000, 150
	user := func(n int) projections.Timeline {
		return projections.Timeline{User: events.User(fmt.Sprint("u", n))}
	}
	for n := range users {
		var items []projections.Stored
		for i := range events.Seq(each) {
			items = append(items, projections.Stored{Timeline: user(n), Last: i + 1, Data: []byte("x")})
		}
		if err := s.PutItems(t.Context(), items); err != nil {
			t.Fatal(err)
		}
	}
	took := func(from, to int) time.Duration { // for a tenth of them, with nothing else in the way
		least := time.Hour
		for n, tenth := from, (to-from)/10; n < to; n += tenth {
			began := time.Now()
			for i := n; i < min(n+tenth, to); i++ {
				if err := s.DeleteItems(t.Context(), user(i), each+1); err != nil {
					t.Fatal(err)
				}
			}
			least = min(least, time.Since(began))
		}
		return least
	}
	first := took(0, users/8)
	took(users/8, users*7/8)
	if last := took(users*7/8, users); last > 4*first {
		t.Errorf("of the first a tenth took %v, of the last %v", first, last)
	}
}
