package edge

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"timberline/bus"
	"timberline/events"
	"timberline/ingest"
	"timberline/wire"
	"timberline/wire/sealed"
)

func TestSessionThatHasTooMuchOnItsWayIsToldToWait(t *testing.T) {
	for _, codec := range []wire.Codec{wire.Proto, wire.JSON} {
		tl := newTale(t)
		tl.codec = codec
		alice := tl.login(1, "alice/phone")
		tl.heard(1)
		for n := range events.Number(100) {
			tl.packet(1, alice, message(n+1, "bob", "hi"))
		}
		if got := tl.heard(1); !strings.HasPrefix(got, "busy from 65") || strings.Contains(got, "held") {
			t.Errorf("%v: 100 sends that nothing answers: %.60q", codec, got)
		}
		if n := len(tl.writer.submitted); n != 64 {
			t.Errorf("%d are on their way, want 64", n)
		}
		tl.appended()
		tl.want(1, "durable", "ack 64")
		tl.packet(1, alice, message(65, "bob", "hi"))
		tl.appended()
		tl.want(1, "there is room again", "ack 65")
	}
}

func TestMessageOnceBegunFindsRoomForAllItsFragments(t *testing.T) {
	tl := newTale(t)
	alice := tl.login(1, "alice/phone")
	for n := range events.Number(63) {
		tl.packet(1, alice, message(n+1, "bob", "hi"))
	}
	for i := range uint32(4) {
		f := &wire.Send{Number: events.Number(64 + i), To: "bob", Body: []byte("x"), Fragment: i, Fragments: 4}
		if i > 0 {
			f.To = ""
		}
		tl.packet(1, alice, f)
	}
	if got := tl.heard(1); strings.Contains(got, "busy") {
		t.Errorf("the fourth of its fragments is the 67th number: %q", got)
	}
	if n := len(tl.writer.submitted); n != 64 {
		t.Errorf("%d are on their way, want the long one, too", n)
	}
}

// press has so much of the sockets' room be taken for a while, a part of it by sessions.
func (tl *tale) press(taken, ours float64) {
	tl.table.load.press(tl.now, taken, ours)
	tl.now = tl.now.Add(standing)
	tl.table.came = 0
	tl.table.load.press(tl.now, taken, ours)
}

func TestShortBurstIsNoOverload(t *testing.T) {
	tl := newTale(t)
	tl.press(0, 1)
	tl.now = tl.now.Add(standing / 10)
	tl.table.press(tl.now, 1, 0)
	if p := tl.table.load.pressure; p != calm {
		t.Errorf("full for %v: pressure %d", standing/10, p)
	}
	tl.now = tl.now.Add(standing)
	tl.table.press(tl.now, 1, 0)
	if p := tl.table.load.pressure; p != full {
		t.Errorf("full for %v: pressure %d", standing, p)
	}
}

// What strangers fill the sockets with is theirs to lose.
func TestFloodOfStrangersIsNoReasonToShedWhatSessionsSend(t *testing.T) {
	tl := newSealedTale(t)
	bob := tl.guest("192.0.2.1:1000")
	bob.enter("bob/phone")
	for range 100 {
		tl.now = tl.now.Add(standing / 10)
		for range 20 {
			g := tl.guest("192.0.2.2:1000")
			g.put(g.begun.Hello(sealed.Cookie{}))
		}
		bob.say(&wire.Ping{ID: 1})
		bob.heard = nil
		tl.table.press(tl.now, 1, 0)
	}
	tl.table.pushed(tl.now, []bus.Push{tl.entry("bob", events.SessionID{}, "news")})
	bob.say(message(1, "alice", "hi"))
	tl.appended()
	bob.listen()
	bob.want("a push and a send", `push 1 "news", ack 1`)
	if tl.table.load.pressure != crowded {
		t.Errorf("pressure %d", tl.table.load.pressure)
	}
}

// The unproved go first, then pushes, then sends; whoever has proved its address gets in.
func TestOverloadIsShedInOrder(t *testing.T) {
	for _, test := range []struct {
		taken              float64
		unproved           bool
		pushed, sent, then string
	}{
		{0, true, `push 1 "news"`, "ack 1", ""},
		{0.3, false, `push 1 "news"`, "ack 1", ""},
		{0.6, false, `push 1 "news"`, "ack 1", ""},
		{0.8, false, "", "ack 1", "pong 0 head 1"},
		{0.9, false, "", "busy from 1", "pong 0 head 1"},
	} {
		tl := newSealedTale(t)
		bob := tl.guest("192.0.2.1:1000")
		bob.enter("bob/phone")
		tl.press(test.taken, 1)
		for range crowdedAnswers + 1 { // as many as are always answered
			g := tl.guest("192.0.2.2:1000")
			g.put(g.begun.Hello(sealed.Cookie{}))
		}
		stranger := tl.guest("192.0.2.3:1000")
		stranger.put(stranger.begun.Hello(sealed.Cookie{}))
		if answered := len(stranger.heard) > 0; answered != test.unproved {
			t.Errorf("%v taken: the unproved is answered: %v", test.taken, answered)
		}
		tl.table.pushed(tl.now, []bus.Push{tl.entry("bob", events.SessionID{}, "news")})
		bob.listen()
		bob.want(fmt.Sprintf("%v taken, a push", test.taken), test.pushed)
		bob.say(message(1, "alice", "hi"))
		tl.appended()
		bob.listen()
		bob.want(fmt.Sprintf("%v taken, a send", test.taken), test.sent)
		proved := tl.guest("192.0.2.4:1000")
		proved.put(proved.begun.Hello(tl.table.cfg.Secret.Cookie(proved.at.Addr(), tl.now)))
		proved.say(&wire.Login{Version: 1, Attempt: events.MessageID{1}, Token: "carol/phone"})
		proved.want(fmt.Sprintf("%v taken, a login", test.taken), "welcome, accepted head 0")

		tl.press(0, 1)
		if test.pushed != "" {
			bob.say(&wire.Got{Cursor: 1})
		}
		tl.advance(tellEvery)
		bob.listen()
		bob.want(fmt.Sprintf("%v taken, later", test.taken), test.then)
	}
}

func TestMoreAndMoreClientsAreToldToPause(t *testing.T) {
	tl := newTale(t)
	alice := tl.login(1, "alice/phone")
	tl.heard(1)
	before := -1
	for i, taken := range []float64{0, 0.5, 0.55, 0.65, 0.75, 0.87} {
		tl.press(taken, 1)
		paused := 0
		for range 1000 {
			tl.now = tl.now.Add(2 * time.Millisecond) // no more than a session may
			n := tl.table.sessions[alice].order.Next()
			tl.packet(1, alice, message(n, "bob", "hi"))
			if strings.HasPrefix(tl.heard(1), fmt.Sprintf("busy from %d", n+1)) { // what was sent is taken
				paused++
			}
			tl.appended()
			tl.want(1, "taken", fmt.Sprintf("ack %d", n))
		}
		if i > 1 && i < 5 && paused <= before || paused > 101 {
			t.Errorf("%v taken: %d of 1,000 are told to pause, %d when it was less", taken, paused, before)
		}
		before = paused
	}
	if got := tl.table.load.retry(); got != pause {
		t.Errorf("they pause for %v, want %v", got, pause)
	}
}

func TestClientIsToldOnceOfManyPushesThatWereShed(t *testing.T) {
	for _, codec := range []wire.Codec{wire.Proto, wire.JSON} {
		tl := newTale(t)
		tl.codec = codec
		tl.login(1, "bob/phone")
		tl.heard(1)
		tl.press(pressedAt, 1)
		for range 100 {
			tl.pushed(tl.entry("bob", events.SessionID{}, "news"))
			tl.advance(tellEvery / 100)
		}
		tl.want(1, "half a second of pushes", "pong 0 head 100")
		tl.advance(2 * tellEvery)
		tl.want(1, "no more since", "")
		tl.pushed(tl.entry("bob", events.SessionID{}, "news"))
		tl.press(0, 1)
		tl.advance(tellEvery)
		tl.want(1, "it is over", "pong 0 head 101")
		tl.pushed(tl.entry("bob", events.SessionID{}, "at last"))
		tl.want(1, "pushed again", `push 102 "at last"`)
	}
}

// What has begun ends, and what was admitted is answered: else clients would repeat it.
func TestRepeatsAreAnsweredAndLongMessagesEndHoweverFullItIs(t *testing.T) {
	tl := newTale(t)
	alice := tl.login(1, "alice/phone")
	tl.heard(1)
	tl.packet(1, alice, message(1, "bob", "hi"), &wire.Send{Number: 2, To: "bob", Body: []byte("lo"), Fragments: 2})
	tl.press(fullAt, 1)
	tl.appended()
	tl.heard(1)
	tl.packet(1, alice, message(1, "bob", "hi"))
	tl.want(1, "a repeat", "ack 1 held [1]")
	tl.packet(1, alice, &wire.Send{Number: 3, Body: []byte("ng"), Fragment: 1, Fragments: 2})
	tl.want(1, "the rest of a message", "")
	tl.packet(1, alice, message(4, "bob", "more"))
	tl.want(1, "another", "busy from 4")
	tl.appended()
	tl.want(1, "what was admitted", "ack 3")
}

func TestBusyClientsComeBackWhenWhatWaitsIsInTheLog(t *testing.T) {
	now := time.Unix(1, 0)
	var l load
	if got := l.retry(); got != minRetry {
		t.Errorf("nothing is known: %v", got)
	}
	for range 200 {
		for range 100 {
			l.submitted(now)
		}
		now = now.Add(10 * time.Millisecond)
		l.settled(now, 100)
	}
	l.waiting = 20_000
	if got := l.retry(); got < 1900*time.Millisecond || got > 2100*time.Millisecond {
		t.Errorf("20,000 wait, and 10,000 a second go: %v, want 2 s", got)
	}
	l.waiting = 1e9
	if got := l.retry(); got != maxRetry {
		t.Errorf("at most %v, not %v", maxRetry, got)
	}
}

// A second without messages is no second in which the log was slow.
func TestRateOfTheLogIsMeasuredOnlyWhileSomethingWaits(t *testing.T) {
	tl := newTale(t)
	alice := tl.login(1, "alice/phone")
	for n := range events.Number(50) {
		tl.advance(10 * time.Second)
		tl.packet(1, alice, message(n+1, "bob", "hi"))
		tl.now = tl.now.Add(time.Millisecond)
		tl.appended()
	}
	tl.advance(10 * time.Second)
	tl.heard(1)
	for n := range events.Number(65) {
		tl.packet(1, alice, message(51+n, "bob", "hi"))
	}
	tl.want(1, "more than a session may have on its way", "busy from 115")
	if got := tl.table.load.retry(); got != minRetry {
		t.Errorf("64 messages wait for a log that takes 1 ms: come back after %v, want %v", got, minRetry)
	}
}

func TestSessionsThatEndDoNotCountAsMessagesThatWait(t *testing.T) {
	tl := newTale(t)
	alice, bob := tl.login(1, "alice/phone"), tl.login(2, "bob/phone")
	tl.packet(2, bob, message(1, "alice", "hi"))
	tl.appended()
	for n := range events.Number(10) {
		tl.packet(1, alice, message(n+1, "bob", "hi"))
	}
	owner := tl.table.sessions[bob].owner
	tl.packet(2, bob, &wire.Bye{})
	tl.table.reported(tl.now, ingest.Report{Journal: "j:1", Offset: 2, Durable: []ingest.Durable{{Owner: owner, Kind: events.KindSessionClosed}}})
	if got := tl.table.load.waiting; got != 10 {
		t.Errorf("10 messages wait, and the table knows of %d", got)
	}
}

// Else clients would be told to wait for what will never be in the log.
func TestWhatWillNeverBeInTheLogDoesNotWaitForIt(t *testing.T) {
	tl := newTale(t)
	alice, bob := tl.login(1, "alice/phone"), tl.login(2, "bob/phone")
	tl.packet(1, alice, message(1, "bob", "a"), message(2, "bob", "b"))
	tl.packet(2, bob, message(1, "alice", "c"))
	tl.writer.submitted = nil // of which another edge's records are in the place
	closed := ingest.Owner{Session: alice, User: "alice", Device: "phone"}
	tl.table.reported(tl.now, ingest.Report{Journal: "j:1", Offset: 1, Closed: []ingest.Owner{closed}})
	if n := tl.table.load.waiting; n != 1 {
		t.Errorf("%d events wait, want bob's", n)
	}
	tl.table.reported(tl.now, ingest.Report{Journal: "j:1", Offset: 2, Ended: true})
	if n := tl.table.load.waiting; n != 0 {
		t.Errorf("%d events wait for a journal that is over", n)
	}
}
