package client

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"timberline/events"
	"timberline/wire"
)

// wantSync checks the ranges of the only Sync since the client was asked last.
func (s *story) wantSync(why string, want ...wire.Range) *wire.Sync {
	s.t.Helper()
	f := one[wire.Sync](s)
	if d := cmp.Diff(want, f.Ranges); d != "" {
		s.t.Errorf("%s: ranges (-want +got):\n%s", why, d)
	}
	return f
}

// wantNo checks that no frame of a type came since the client was asked last.
func wantNo[F any](s *story, why string) {
	s.t.Helper()
	if fs := took[F](s); len(fs) != 0 {
		s.t.Errorf("%s: %d frames %T came, the first %+v", why, len(fs), *new(F), *fs[0])
	}
}

// answer answers a Sync from a timeline, a page for each range, within the
// budget.
func (s *story) answer(f *wire.Sync, timeline []string) {
	head := events.Seq(len(timeline))
	budget := int(f.Budget)
	var pages []*wire.Page
	for _, r := range f.Ranges {
		if r.Upto == 0 {
			r.Upto = head
		}
		for from := r.After; from < r.Upto && budget > 0; {
			upto := min(from+8, r.Upto)
			raws := entries(timeline[from:upto]...)
			for _, raw := range raws {
				budget -= len(raw)
			}
			pages = append(pages, &wire.Page{Sync: f.ID, From: from + 1, Events: raws, Head: head, First: 1})
			from = upto
		}
	}
	if len(pages) == 0 {
		pages = []*wire.Page{{Sync: f.ID, Head: head, First: 1}}
	}
	pages[len(pages)-1].Last = true
	for _, page := range pages {
		s.say(page)
	}
}

// serve answers every Sync from a timeline, until none comes any more.
func (s *story) serve(timeline []string) {
	for {
		fs := took[wire.Sync](s)
		if len(fs) == 0 {
			return
		}
		for _, f := range fs {
			s.answer(f, timeline)
		}
		s.advance(2 * grain)
	}
}

// texts returns n bodies, each different.
func texts(n int) (list []string) {
	for i := range n {
		list = append(list, fmt.Sprintf("message %d", i+1))
	}
	return list
}

func TestPushedEntriesReachTheAppAndAreAcknowledgedTogether(t *testing.T) {
	tell(t, Options{}, func(s *story) {
		s.welcome(1, 0)
		s.say(&wire.Push{From: 1, Events: entries("one")})
		s.say(&wire.Push{From: 2, Events: entries("two", "three")})
		s.wantApp("in order", "one", "two", "three")
		wantNo[wire.Got](s, "more may follow")
		s.advance(gotDelay + grain)
		if f := one[wire.Got](s); f.Cursor != 3 {
			t.Errorf("got cursor %d, want 3", f.Cursor)
		}
		s.advance(5 * time.Second)
		wantNo[wire.Got](s, "there is nothing new")
	})
}

func TestEntriesThatComeAgainAreTakenOnceAndAcknowledgedAgain(t *testing.T) {
	tell(t, Options{}, func(s *story) {
		s.welcome(1, 0)
		for range 3 {
			s.say(&wire.Push{From: 1, Events: entries("one", "two")}, &wire.Push{From: 2, Events: entries("two")})
			s.advance(gotDelay + grain)
			if f := one[wire.Got](s); f.Cursor != 2 {
				t.Errorf("got cursor %d, want 2: the server has not heard it", f.Cursor)
			}
		}
		s.wantApp("each once", "one", "two")
	})
}

func TestEntryThatWasOvertakenIsWaitedFor(t *testing.T) {
	tell(t, Options{}, func(s *story) {
		s.welcome(1, 0)
		s.say(&wire.Push{From: 2, Events: entries("two")}, &wire.Push{From: 3, Events: entries("three")})
		s.wantApp("one is missing")
		s.advance(gapWait - 2*grain)
		s.say(&wire.Push{From: 1, Events: entries("one")})
		s.wantApp("it came", "one", "two", "three")
		s.advance(5 * time.Second)
		wantNo[wire.Sync](s, "nothing is missing")
	})
}

func TestEachGapHasATimeOfItsOwn(t *testing.T) {
	tell(t, Options{}, func(s *story) {
		s.welcome(1, 0)
		s.say(&wire.Push{From: 2, Events: entries("two")})
		s.advance(gapWait / 2)
		s.say(&wire.Push{From: 1, Events: entries("one")})
		s.advance(gapWait / 4)
		s.say(&wire.Push{From: 4, Events: entries("four")})
		s.advance(gapWait - 2*grain)
		wantNo[wire.Sync](s, "the second gap is younger than the first would be")
		s.advance(4 * grain)
		s.wantSync("its time is over", wire.Range{After: 2, Upto: 3})
	})
}

func TestWhatIsMissingIsAskedForByRanges(t *testing.T) {
	tell(t, Options{}, func(s *story) {
		s.welcome(1, 0)
		s.say(&wire.Push{From: 3, Events: entries("three")}, &wire.Push{From: 6, Events: entries("six")})
		s.advance(gapWait - 2*grain)
		wantNo[wire.Sync](s, "they may come by themselves")
		s.advance(4 * grain)
		f := s.wantSync("they did not", wire.Range{After: 0, Upto: 2}, wire.Range{After: 3, Upto: 5})
		s.say(&wire.Page{Sync: f.ID, From: 4, Events: entries("four", "five"), Head: 6, First: 1, Last: true})
		s.wantApp("the other page is late")
		s.say(&wire.Page{Sync: f.ID, From: 1, Events: entries("one", "two"), Head: 6, First: 1})
		s.wantApp("all there", "one", "two", "three", "four", "five", "six")
		s.advance(5 * time.Second)
		wantNo[wire.Sync](s, "nothing is missing")
	})
}

func TestManyGapsAreAskedForARangeEachUpToTheLimit(t *testing.T) {
	tell(t, Options{}, func(s *story) {
		s.welcome(1, 0)
		timeline := texts(40)
		for seq := 2; seq <= 40; seq += 2 {
			s.say(&wire.Push{From: events.Seq(seq), Events: entries(timeline[seq-1])})
		}
		s.advance(gapWait + grain)
		f := one[wire.Sync](s)
		if len(f.Ranges) != wire.MaxRanges {
			t.Errorf("%d ranges, want %d", len(f.Ranges), wire.MaxRanges)
		}
		s.answer(f, timeline)
		s.advance(grain)
		s.serve(timeline)
		s.wantApp("all there, by and by", timeline...)
	})
}

func TestLoginThatNamesAHigherHeadIsFollowedBySync(t *testing.T) {
	tell(t, Options{}, func(s *story) {
		s.welcome(1, 300)
		s.advance(grain)
		f := s.wantSync("at once, and whatever has come since", wire.Range{After: 0})
		s.answer(f, texts(300))
		s.advance(2 * grain)
		s.serve(texts(300))
		s.wantApp("everything", texts(300)...)
	})
}

func TestHeartbeatThatNamesAHigherHeadIsFollowedBySync(t *testing.T) {
	tell(t, Options{}, func(s *story) {
		s.welcome(1, 0)
		s.advance(15 * time.Second)
		pings := took[wire.Ping](s)
		s.say(&wire.Pong{ID: pings[len(pings)-1].ID, Head: 2, First: 1})
		s.advance(gapWait - 2*grain)
		wantNo[wire.Sync](s, "a push may be on its way")
		s.advance(4 * grain)
		s.answer(s.wantSync("it was lost", wire.Range{After: 0}), texts(2))
		s.wantApp("promise 7", texts(2)...)
	})
}

func TestSyncThatIsNotAnsweredIsRepeated(t *testing.T) {
	tell(t, Options{}, func(s *story) {
		s.welcome(1, 2)
		s.advance(grain)
		first := one[wire.Sync](s)
		s.advance(5 * time.Second)
		again := took[wire.Sync](s)
		if len(again) < 2 || len(again) > 10 {
			t.Fatalf("%d repeats within 5 s, want some, with pauses that grow", len(again))
		}
		last := again[len(again)-1]
		if last.Budget >= first.Budget || last.Budget < minBudget {
			t.Errorf("budget %d after losses, was %d: want less, at least %d", last.Budget, first.Budget, minBudget)
		}
		s.say(&wire.Page{Sync: first.ID, From: 1, Events: entries("one"), Head: 2, First: 1, Last: true})
		s.wantApp("entries of a late answer are as good as any", "one")
		s.answer(last, []string{"one", "two"})
		s.wantApp("answered", "one", "two")
	})
}

func TestBudgetAdaptsToWhatTheNetworkCarries(t *testing.T) {
	timeline := texts(6000)
	tell(t, Options{}, func(s *story) {
		s.welcome(1, events.Seq(len(timeline)))
		s.advance(grain)
		var budgets []uint32
		for range 3 {
			f := one[wire.Sync](s)
			budgets = append(budgets, f.Budget)
			s.answer(f, timeline)
			s.advance(10 * time.Millisecond)
		}
		if !slices.IsSorted(budgets) || budgets[2] < 2*budgets[0] {
			t.Errorf("budgets %v while nothing is lost, want them to grow fast", budgets)
		}
		lost := one[wire.Sync](s)
		s.advance(time.Second)
		if f := took[wire.Sync](s)[0]; f.Budget > lost.Budget/2 {
			t.Errorf("budget %d after a loss, was %d: want half", f.Budget, lost.Budget)
		}
	})
}

func TestServerThatIsTooBusyToSyncIsAskedLater(t *testing.T) {
	tell(t, Options{}, func(s *story) {
		s.welcome(1, 1)
		s.advance(grain)
		asked := 0
		for range 50 {
			for _, f := range took[wire.Sync](s) {
				asked++
				s.say(&wire.Page{Sync: f.ID, Head: 1, First: 1, Last: true, Status: wire.StatusBusy})
			}
			s.advance(100 * time.Millisecond)
		}
		if asked < 3 || asked > 15 {
			t.Errorf("asked %d times within 5 s, want some, with pauses that grow", asked)
		}
		s.advance(maxRTO)
		s.serve([]string{"one"})
		s.wantApp("it has time again", "one")
	})
}

func TestDamagedEntryStaysMissing(t *testing.T) {
	tell(t, Options{}, func(s *story) {
		s.welcome(1, 0)
		s.say(&wire.Push{From: 1, Events: [][]byte{entry("one"), {0xff}, entry("three")}})
		s.wantApp("the second cannot be read", "one")
		s.advance(gapWait + grain)
		s.answer(s.wantSync("so it is asked for", wire.Range{After: 1, Upto: 2}), []string{"one", "two", "three"})
		s.wantApp("it came whole", "one", "two", "three")
	})
}

func TestSyncRequestWaitsUntilTheAnswerTellsTheHead(t *testing.T) {
	tell(t, Options{}, func(s *story) {
		s.welcome(1, 0)
		done := make(chan error, 1)
		go func() { done <- s.c.Sync(s.t.Context()) }()
		synctest.Wait()
		f := s.wantSync("nothing is known to be missing", wire.Range{After: 0})
		s.answer(f, []string{"one", "two"})
		s.wantApp("there was more than the device knew", "one", "two")
		select {
		case err := <-done:
			if err != nil {
				s.t.Error(err)
			}
		default:
			s.t.Error("Sync waits, though the app has everything")
		}
	})
}

func TestTrimmedEntriesAreToldAndSkipped(t *testing.T) {
	tell(t, Options{}, func(s *story) {
		f := s.login()
		s.accept(f, 1, wire.Accepted{Head: 6, First: 5, Store: store1})
		s.advance(grain)
		s.answer(s.wantSync("what is left", wire.Range{After: 4}), texts(6))
		s.wantApp("first what is gone", "trimmed 1-4", "message 5", "message 6")
		if c := s.saved().Cursor; c.Seq != 6 {
			t.Errorf("cursor %d, want 6", c.Seq)
		}
	})
}
