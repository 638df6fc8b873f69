package client

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"timberline/events"
	"timberline/wire"
)

// parts returns an entry in pieces, as a server sends it.
func parts(sync uint32, seq events.Seq, text string, count int) (fs []wire.Frame) {
	raw := entry(text)
	size := (len(raw) + count - 1) / count
	for piece := range slices.Chunk(raw, size) {
		fs = append(fs, &wire.Part{Sync: sync, Seq: seq, Index: uint32(len(fs)), Count: uint32(count), Data: piece})
	}
	return fs
}

var long = strings.Repeat("a long tale, ", 200)

func TestLongEntryIsPutTogetherInWhateverOrderItsPartsCome(t *testing.T) {
	tell(t, Options{}, func(s *story) {
		s.welcome(1, 0)
		for _, i := range []int{3, 0, 0, 2, 3} {
			s.say(parts(0, 1, long, 4)[i])
			s.wantApp("a part is missing")
		}
		s.say(parts(0, 1, long, 4)[1])
		s.wantApp("complete", long)
		s.advance(gotDelay + grain)
		if fs := took[wire.Got](s); len(fs) == 0 || fs[len(fs)-1].Cursor != 1 {
			t.Errorf("gots %v, want the last to have cursor 1", fs)
		}
	})
}

func TestLongEntryThatLostAPartIsSynced(t *testing.T) {
	tell(t, Options{}, func(s *story) {
		s.welcome(1, 0)
		s.say(parts(0, 1, long, 3)[0])
		s.say(parts(0, 1, long, 3)[1])
		s.say(&wire.Push{From: 2, Events: entries("two")})
		s.advance(gapWait + grain)
		f := s.wantSync("a part of it is no entry", wire.Range{After: 0, Upto: 1})
		s.say(parts(f.ID, 1, long, 3)[2])
		s.wantApp("parts of push and answer fit together", long, "two")
	})
}

// A sync that brings one part at a time gets on: a long entry is not a stalled
// server.
func TestPartsCountAsProgressOfASync(t *testing.T) {
	tell(t, Options{}, func(s *story) {
		s.welcome(1, 1)
		s.advance(grain)
		const count = 5
		for i := range count - 1 {
			f := one[wire.Sync](s)
			s.say(parts(f.ID, 1, long, count)[i])
			s.advance(minRTO + 2*grain)
		}
		s.say(parts(one[wire.Sync](s).ID, 1, long, count)[count-1])
		s.wantApp("complete", long)
	})
}

func TestPartsOfAnEntryThatIsThereAreNotKept(t *testing.T) {
	d := newDevice(wire.Proto, rand.NewChaCha8([32]byte{}), Saved{})
	now := time.Unix(1, 0)
	d.push(now, &wire.Push{From: 2, Events: entries(long)})
	d.part(now, parts(0, 3, long, 2)[0].(*wire.Part))
	for range 10 { // enough to drive out what is being put together
		for count := 2; count < 7; count++ {
			d.part(now, parts(0, 2, long, count)[0].(*wire.Part))
		}
	}
	d.part(now, parts(0, 3, long, 2)[1].(*wire.Part))
	if d.in.lacks(3) {
		t.Error("entry 3 was driven out by parts of entry 2, which the device has")
	}
}

func TestOwnMessageIsShownWithTheBodyThatTheServerLeftOut(t *testing.T) {
	tell(t, Options{}, func(s *story) {
		s.welcome(1, 0)
		s.send("one", "two", "three")
		s.say(&wire.Push{From: 1, Omitted: true, Events: [][]byte{s.own(1)}})
		s.wantApp("before its ack", "one")
		s.say(&wire.Ack{Through: 3})
		s.say(&wire.Push{From: 2, Omitted: true, Events: [][]byte{s.own(2), s.own(3)}})
		s.wantApp("after their ack", "one", "two", "three")
	})
}

// own returns the event of a send of this session, without its body.
func (s *story) own(n events.Number) []byte {
	e := events.Event{ID: events.ID{1}, Kind: events.KindMessage, Sender: "alice", Session: s.session, Number: n}
	return e.Encode()
}

func TestBodyThatTheDeviceDoesNotKnowIsAskedFor(t *testing.T) {
	for name, number := range map[string]events.Number{
		"never sent": 9,
		"forgotten":  1,
	} {
		t.Run(name, func(t *testing.T) {
			tell(t, Options{}, func(s *story) {
				s.welcome(1, 0)
				s.send("one", "two")
				s.say(&wire.Ack{Through: 2})
				s.say(&wire.Push{From: 1, Omitted: true, Events: [][]byte{s.own(1)}}) // shown: the echo is dropped
				s.say(&wire.Push{From: 2, Omitted: true, Events: [][]byte{s.own(number)}})
				s.wantApp("an empty body would be a lie", "one")
				s.advance(gapWait + grain)
				s.answer(s.wantSync("sync leaves no body out", wire.Range{After: 1}), []string{"one", "two"})
				s.wantApp("whole", "one", "two")
			})
		})
	}
}

func TestBodyLeftOutForAnotherSessionIsNotGuessed(t *testing.T) {
	tell(t, Options{}, func(s *story) {
		s.welcome(1, 0)
		s.send("one")
		e := events.Event{ID: events.ID{1}, Kind: events.KindMessage, Session: events.SessionID{9}, Number: 1}
		s.say(&wire.Push{From: 1, Omitted: true, Events: [][]byte{e.Encode()}})
		s.wantApp("it is not the device's own")
		s.advance(gapWait + grain)
		s.wantSync("so it is asked for", wire.Range{After: 0})
	})
}

func TestEchoesAreBounded(t *testing.T) {
	var e echoes
	for n := range events.Number(10 * maxEchoes) {
		e.add(&send{SavedSend: SavedSend{Number: n, Body: make([]byte, 16<<10)}})
	}
	if e.bytes > maxEchoBytes || len(e.list) > maxEchoes {
		t.Errorf("%d echoes of %d bytes", len(e.list), e.bytes)
	}
	if _, ok := e.body(10*maxEchoes - 1); !ok {
		t.Error("the newest was dropped")
	}
	if _, ok := e.body(0); ok {
		t.Error("the oldest was kept")
	}
}

func TestEntriesBeforeTheirTurnAreBounded(t *testing.T) {
	in := newInbox(Cursor{})
	body := make([]byte, 16<<10)
	for seq := events.Seq(maxEarly + 500); seq > 1; seq-- {
		in.entry(seq, events.Event{Body: body})
	}
	if in.bytes > maxEarlyBytes {
		t.Errorf("%d bytes wait before their turn, want at most %d", in.bytes, maxEarlyBytes)
	}
	if in.head != maxEarly+500 {
		t.Errorf("head %d: that there is more was forgotten", in.head)
	}
	small := newInbox(Cursor{})
	for seq := events.Seq(2 * maxEarly); seq > 1; seq-- {
		small.entry(seq, events.Event{})
	}
	if len(small.early) > maxEarly {
		t.Errorf("%d entries wait before their turn, want at most %d", len(small.early), maxEarly)
	}
	in.entry(1, events.Event{Body: body})
	if in.have < 1 {
		t.Error("the entry whose turn it is found no room")
	}
}
