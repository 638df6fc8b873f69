package lease

import (
	"testing"
	"time"
)

func TestLeaseOfAnotherIsNotTakenForItsChangesBeforeOne(t *testing.T) {
	h := holder{owner: "me", length: 10 * time.Second}
	at := time.Unix(1000, 0)
	names := []string{"x"}
	for i := range 100 { // renewed as late as may be
		if ms := h.moves(at, "k", names, []Lease{{Kind: "k", Name: "x", Owner: "other", Counter: uint64(i + 1)}}, nil); len(ms) > 0 {
			t.Fatalf("moves %v though the lease has changed", ms)
		}
		at = at.Add(9 * time.Second)
	}
	same := []Lease{{Kind: "k", Name: "x", Owner: "other", Counter: 100}}
	at = at.Add(time.Second)
	ms := h.moves(at, "k", names, same, nil)
	if len(ms) != 1 || ms[0].was != same[0] || ms[0].is.Owner != "me" || ms[0].is.Counter != 101 {
		t.Errorf("moves %+v, want that it is taken", ms)
	}
}

// While the store was away nobody could renew.
func TestTimeThatNobodyLookedDoesNotMakeALeaseFree(t *testing.T) {
	h := holder{owner: "me", length: 10 * time.Second}
	at := time.Unix(1000, 0)
	stand := []Lease{{Kind: "k", Name: "x", Owner: "other", Counter: 1}}
	for _, later := range []time.Duration{0, time.Minute, 9 * time.Second} {
		at = at.Add(later)
		if ms := h.moves(at, "k", []string{"x"}, stand, nil); len(ms) > 0 {
			t.Fatalf("moves %v after %v without a look", ms, later)
		}
	}
	if ms := h.moves(at.Add(time.Second), "k", []string{"x"}, stand, nil); len(ms) != 1 {
		t.Errorf("moves %v, want that the lease is taken: it was looked at for its length", ms)
	}
}
