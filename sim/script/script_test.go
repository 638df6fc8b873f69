package script

import (
	"bytes"
	"slices"
	"testing"
)

func TestChoicesFollowTheScriptAndAre0AtItsEnd(t *testing.T) {
	s := Script{7, 250, 1, 2, 3, 4, 5, 6}
	got := []int{int(s.Next()), s.Pick(100)}
	if want := []int{7, 50}; !slices.Equal(got, want) {
		t.Errorf("the first choices are %v, want %v", got, want)
	}
	if s.Chance() || !s.Chance() {
		t.Error("1 is yes, or 2 is no")
	}
	if b := s.Take(3); !bytes.Equal(b, []byte{3, 4, 5}) {
		t.Errorf("3 bytes are %v", b)
	}
	if b := s.Take(3); !bytes.Equal(b, []byte{6}) || len(s) != 0 {
		t.Errorf("the rest is %v, and %v is left", b, s)
	}
	if b := s.Take(3); len(b) != 0 || s.Next() != 0 || s.Pick(9) != 0 || !s.Chance() {
		t.Error("something follows the end")
	}
}

// Else what fails for one is no failure for the next.
func TestSeedsAreTheSameEachTimeAndDiffer(t *testing.T) {
	seen := make(map[string]bool)
	for seed := range uint64(seeds) {
		b := random(seed)
		if !bytes.Equal(b, random(seed)) || seen[string(b[:100])] {
			t.Errorf("seed %d gives %x", seed, b)
		}
		seen[string(b[:100])] = true
	}
}
