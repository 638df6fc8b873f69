package edge

import (
	"strings"
	"testing"
	"time"

	"timberline/events"
	"timberline/wire"
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

func TestBusyClientsComeBackWhenWhatWaitsIsInTheLog(t *testing.T) {
	now := time.Unix(1, 0)
	var l load
	if got := l.retry(); got != minRetry {
		t.Errorf("nothing is known: %v", got)
	}
	l.settled(now, 0)
	for range 200 {
		l.waiting += 100
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
