package edge

import (
	"errors"
	"slices"
	"testing"
	"time"

	"timberline/events"
	"timberline/wire"
)

func TestLoginFollowsTheUsersSlotBeforeItReadsTheHead(t *testing.T) {
	tl := newTale(t)
	tl.bus.onFollow = func() { tl.entry("bob", events.SessionID{}, "pushed while nobody followed") }
	tl.packet(1, events.SessionID{}, &wire.Login{Version: 1, Attempt: events.MessageID{1}, Token: "bob/phone"})
	tl.want(1, "what was not pushed here is read", "accepted head 1")
	if want := []events.Slot{events.User("bob").Slot()}; !slices.Equal(tl.bus.followed, want) {
		t.Errorf("slots %v are followed, want %v", tl.bus.followed, want)
	}
}

func TestLoginGoesOnWhereTheBusIsDown(t *testing.T) {
	tl := newTale(t)
	tl.bus.err, tl.bus.down = errors.New("no bus"), true
	tl.login(1, "bob/phone")
	tl.want(1, "pushes are a hint", "accepted head 0")
	if n := tl.table.counts.unfollowed.Load(); n != 1 {
		t.Errorf("%d logins without pushes are counted, want 1", n)
	}
}

func TestHeadIsReadAtEachHeartbeatWhileTheBusIsDown(t *testing.T) {
	tl := newTale(t)
	bob := tl.login(1, "bob/phone")
	tl.heard(1)
	tl.bus.down = true
	for ping := uint32(1); ping <= 2; ping++ {
		tl.entry("bob", events.SessionID{}, "its push is lost")
		tl.advance(time.Second)
		tl.packet(1, bob, &wire.Ping{ID: ping})
	}
	tl.want(1, "the store knows", "pong 1 head 1, pong 2 head 2")
	tl.bus.down = false
	tl.entry("bob", events.SessionID{}, "its push is lost, too")
	tl.packet(1, bob, &wire.Ping{ID: 3})
	tl.want(1, "pushes are trusted again", "pong 3 head 2")
}

// missed returns the seqs of the pushes that were told to be missed.
func (tl *tale) missed() (seqs []events.Seq) {
	for _, p := range tl.bus.missed {
		seqs = append(seqs, p.First)
	}
	tl.bus.missed = nil
	return seqs
}

func TestPushOfAUserWithoutASessionIsMissed(t *testing.T) {
	tl := newTale(t)
	bob := tl.login(1, "bob/phone")
	carol := tl.entry("carol", events.SessionID{}, "is she there?")
	foreign := carol
	foreign.Store = events.StoreID{8}
	tl.pushed(carol, tl.entry("bob", events.SessionID{}, "he is"), foreign)
	if got := tl.bus.missed; len(got) != 1 || got[0].User != "carol" || got[0].Store != carol.Store {
		t.Errorf("%+v was missed, want carol's push of this store alone", got)
	}
	tl.packet(1, bob, &wire.Bye{})
	tl.missed()
	tl.pushed(tl.entry("bob", events.SessionID{}, "he is not"))
	if got := tl.missed(); !slices.Equal(got, []events.Seq{2}) {
		t.Errorf("pushes %v were missed, want the one after his session: 2", got)
	}
}

func TestPushGivenUpIsMissed(t *testing.T) {
	tl := newTale(t)
	tl.login(1, "bob/phone")
	tl.pushed(tl.entry("bob", events.SessionID{}, "one"), tl.entry("bob", events.SessionID{}, "two"))
	for range 20 {
		if got := tl.missed(); got != nil && tl.table.counts.pushesGivenUp.Load() == 0 {
			t.Fatalf("pushes %v were missed while they were in flight", got)
		} else if got != nil {
			if !slices.Equal(got, []events.Seq{1, 2}) {
				t.Errorf("pushes %v were missed, want 1 and 2", got)
			}
			return
		}
		tl.advance(resendMost)
	}
	t.Error("pushes that nobody acknowledges are not missed")
}

func TestPushThatArrivesIsNotMissed(t *testing.T) {
	tl := newTale(t)
	bob := tl.login(1, "bob/phone")
	tl.pushed(tl.entry("bob", events.SessionID{}, "one"))
	tl.packet(1, bob, &wire.Got{Cursor: 1})
	tl.advance(10 * resendMost)
	if got := tl.missed(); got != nil {
		t.Errorf("pushes %v were missed", got)
	}
}
