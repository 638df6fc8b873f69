package client

import (
	"testing"
	"time"

	"timberline/wire"
)

// after plays rounds of requests for entries of 100 bytes, through a network of
// which answer says how many of them come.
func after(rounds int, answer func(asked int) (came int)) (budget int) {
	s := newSyncing()
	for range rounds {
		asked := s.budget / 100
		s.gain = answer(asked)
		s.adapt(s.gain < asked, asked-s.gain, false)
	}
	return s.budget
}

func TestBudgetFindsWhatANetworkCarries(t *testing.T) {
	for _, c := range []struct {
		name        string
		came        func(asked int) int
		least, most int
	}{
		{"everything", func(n int) int { return n }, maxBudget, maxBudget},
		{"nothing", func(int) int { return 0 }, minBudget, minBudget},
		{"four of five", func(n int) int { return n * 4 / 5 }, 32 << 10, 64 << 10},
		{"half", func(n int) int { return n / 2 }, 12 << 10, 24 << 10},
		{"20,000 bytes at a time", func(n int) int { return min(n, 200) }, 20_000, 30_000},
		{"hardly anything", func(n int) int { return min(n, 1) }, minBudget, 10 << 10},
	} {
		if got := after(100, c.came); got < c.least || got > c.most {
			t.Errorf("a network that carries %s: budget %d, want %d to %d", c.name, got, c.least, c.most)
		}
	}
}

func TestBudgetDoesNotGrowWhereAnswersAreSlow(t *testing.T) {
	s := newSyncing()
	s.gain = 50
	s.adapt(false, 0, true)
	if s.budget != firstBudget {
		t.Errorf("budget %d after a slow answer, want %d as before", s.budget, firstBudget)
	}
	s.adapt(true, 50, true)
	if s.budget != firstBudget/2 {
		t.Errorf("budget %d after a slow answer that came by half, want half", s.budget)
	}
}

// An answer may say that there is nothing.
func TestEmptyAnswerIsNoLoss(t *testing.T) {
	s := newSyncing()
	for range 10 {
		s.adapt(false, 0, false)
	}
	if s.budget != maxBudget {
		t.Errorf("budget %d, want %d: nothing was lost", s.budget, maxBudget)
	}
}

// A page that was overtaken by the last one of its answer does not start the wait
// for more of it again.
func TestAnswerIsOverSoonAfterItsLastPage(t *testing.T) {
	tell(t, Options{}, func(s *story) {
		s.welcome(1, 4)
		s.advance(grain)
		f := one[wire.Sync](s)
		page := func(text string) *wire.Page {
			p := &wire.Page{Sync: f.ID, From: 1, Events: entries(text), Head: 4, First: 1}
			if text == "four" {
				p.From, p.Last = 4, true
			}
			return p
		}
		s.say(page("four"))
		s.advance(2 * time.Millisecond)
		s.say(page("one"))
		s.advance(minRTO / 2)
		s.wantSync("the rest was lost", wire.Range{After: 1, Upto: 3})
	})
}
