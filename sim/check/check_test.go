package check

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"timberline/events"
)

// A story is a history being made by hand. The server in it is as good or as
// bad as each test tells it to be.
type story struct {
	t       *testing.T
	h       *History
	readers map[string]*Reader
	events  map[string]*events.Event // by text
	ticks   byte
}

func newStory(t *testing.T) *story {
	return &story{t: t, h: NewHistory(), readers: make(map[string]*Reader), events: make(map[string]*events.Event)}
}

// reader returns the device that "user/device" names.
func (s *story) reader(name string) *Reader {
	if s.readers[name] == nil {
		u, d, _ := strings.Cut(name, "/")
		s.readers[name] = s.h.Reader(events.User(u), events.Device(d))
	}
	return s.readers[name]
}

func messageID(text string) (id events.MessageID) {
	copy(id[:], text)
	return id
}

// send sends a text in the device's one session, and makes the event that a
// server would make of it.
func (s *story) send(from string, to events.User, text string) {
	r := s.reader(from)
	r.Send(to, []byte(text)).Kept(messageID(text))
	s.event(from, to, text)
}

func (s *story) event(from string, to events.User, text string) *events.Event {
	r := s.reader(from)
	s.ticks++
	e := &events.Event{
		ID: events.ID{6: s.ticks}, Kind: events.KindMessage,
		Conversation: events.Direct(r.user, to), Sender: r.user, Device: r.device,
		Message: messageID(text), Body: []byte(text),
	}
	copy(e.Session[:], from)
	s.events[text] = e
	return e
}

// read says that a device has read up to a text, which is acked.
func (s *story) read(by string, with events.User, upto string) {
	s.reader(by).MarkRead(with, s.events[upto].ID).Kept(messageID("read " + upto))
	e := s.event(by, with, "read "+upto)
	e.Kind, e.Target, e.Body = events.KindReadUpTo, s.events[upto].ID, nil
	s.acked("read " + upto)
}

func (s *story) acked(texts ...string) {
	for _, text := range texts {
		s.h.Acked(messageID(text))
	}
}

// shows hands texts to a device at seqs from, from+1, …
func (s *story) shows(to string, from events.Seq, texts ...string) {
	for i, text := range texts {
		s.reader(to).Entry(from+events.Seq(i), s.events[text])
	}
}

// chat is a history without fault: alice and bob, each with one device, and two
// sends from alice and one from bob, all acked. Nobody was shown anything.
func chat(t *testing.T) *story {
	s := newStory(t)
	s.send("alice/phone", "bob", "one")
	s.send("alice/phone", "bob", "two")
	s.send("bob/phone", "alice", "three")
	s.acked("one", "two", "three")
	return s
}

func TestCheckFindsWhatWasPlanted(t *testing.T) {
	all := []string{"one", "two", "three"}
	for _, test := range []struct {
		name    string
		plant   func(s *story)
		want    map[Kind]int
		deliver int
	}{
		{"nothing", func(s *story) {
			s.shows("alice/phone", 1, all...)
			s.shows("bob/phone", 1, all...)
		}, nil, 3},
		{"timelines that differ in order from each other", func(s *story) {
			s.shows("alice/phone", 1, "one", "three", "two")
			s.shows("bob/phone", 1, all...)
		}, nil, 3},
		{"entries that come again", func(s *story) {
			s.shows("alice/phone", 1, all...)
			s.shows("alice/phone", 2, "two", "three")
			s.shows("bob/phone", 1, all...)
		}, nil, 3},
		{"an unacked message that stands", func(s *story) {
			s.send("alice/phone", "bob", "four")
			s.shows("alice/phone", 1, "one", "two", "three", "four")
			s.shows("bob/phone", 1, "one", "two", "three", "four")
		}, nil, 4},
		{"an unacked message that does not stand", func(s *story) {
			s.send("alice/phone", "bob", "four")
			s.shows("alice/phone", 1, all...)
			s.shows("bob/phone", 1, all...)
		}, nil, 3},
		{"a message of unknown fate that stands", func(s *story) {
			s.send("alice/phone", "bob", "four")
			s.h.Unknown(messageID("four"))
			s.shows("alice/phone", 1, "one", "two", "three", "four")
			s.shows("bob/phone", 1, "one", "two", "three", "four")
		}, nil, 4},
		{"an emptied body", func(s *story) {
			s.shows("alice/phone", 1, all...)
			s.shows("bob/phone", 1, all...)
			s.h.Emptied(messageID("two"))
			s.events["two"].Body = nil
			s.shows("bob/tablet", 1, all...)
		}, nil, 3},
		{"a body that nobody has emptied", func(s *story) {
			s.events["two"].Body = nil
			s.shows("alice/phone", 1, all...)
			s.shows("bob/phone", 1, all...)
		}, map[Kind]int{Foreign: 2}, 3},
		{"a conversation that was read", func(s *story) {
			s.read("bob/phone", "alice", "two")
			s.shows("alice/phone", 1, "one", "two", "three", "read two")
			s.shows("bob/phone", 1, "one", "two", "three", "read two")
		}, nil, 4},
		{"a conversation that was read, told to nobody else", func(s *story) {
			s.read("bob/phone", "alice", "two")
			s.shows("alice/phone", 1, all...)
			s.shows("bob/phone", 1, "one", "two", "three", "read two")
		}, map[Kind]int{Lost: 1}, 3},
		{"a conversation that was read less far than is told", func(s *story) {
			s.read("bob/phone", "alice", "two")
			s.events["read two"].Target = s.events["one"].ID
			s.shows("alice/phone", 1, "one", "two", "three", "read two")
			s.shows("bob/phone", 1, "one", "two", "three", "read two")
		}, map[Kind]int{Foreign: 2}, 4},
		{"two messages with one id", func(s *story) {
			s.events["two"].ID = s.events["one"].ID
			s.shows("alice/phone", 1, all...)
			s.shows("bob/phone", 1, all...)
		}, map[Kind]int{OutOfOrder: 1}, 3},
		{"a message to oneself", func(s *story) {
			s.send("alice/phone", "alice", "note")
			s.acked("note")
			s.shows("alice/phone", 1, "one", "two", "three", "note")
			s.shows("bob/phone", 1, all...)
		}, nil, 3},
		{"two sessions of a device against the order sent", func(s *story) {
			s.events["two"].Session[15] = 1
			s.shows("alice/phone", 1, "two", "one", "three")
			s.shows("bob/phone", 1, all...)
		}, nil, 3},

		{"lost at the recipient", func(s *story) {
			s.shows("alice/phone", 1, all...)
			s.shows("bob/phone", 1, "one", "three")
		}, map[Kind]int{Lost: 1}, 2},
		{"lost at the sender", func(s *story) {
			s.shows("alice/phone", 1, "one", "three")
			s.shows("bob/phone", 1, all...)
		}, map[Kind]int{Lost: 1}, 3},
		{"lost everywhere", func(s *story) {
			s.shows("alice/phone", 1, "one", "three")
			s.shows("bob/phone", 1, "one", "three")
		}, map[Kind]int{Lost: 2}, 2},
		{"lost for a device that says to have everything", func(s *story) {
			s.shows("alice/phone", 1, all...)
			s.shows("bob/phone", 1, all...)
			s.shows("bob/tablet", 1, "one", "two")
			s.reader("bob/tablet").Complete()
		}, map[Kind]int{Lost: 1, Behind: 1}, 3},
		{"lost to oneself, once", func(s *story) {
			s.send("alice/phone", "alice", "note")
			s.acked("note")
			s.shows("alice/phone", 1, all...)
			s.shows("bob/phone", 1, all...)
		}, map[Kind]int{Lost: 1}, 3},

		{"doubled in a timeline", func(s *story) {
			s.shows("alice/phone", 1, all...)
			s.shows("bob/phone", 1, "one", "two", "one", "three", "one")
		}, map[Kind]int{Doubled: 2}, 3},
		{"doubled in a timeline under another id", func(s *story) {
			s.shows("alice/phone", 1, all...)
			s.shows("bob/phone", 1, all...)
			again := *s.events["one"]
			again.ID[6] = 99
			s.reader("bob/phone").Entry(4, &again)
		}, map[Kind]int{Doubled: 1}, 3},
		{"doubled in the log", func(s *story) {
			s.shows("alice/phone", 1, all...)
			s.events["two"].ID[6] = 99
			s.shows("bob/phone", 1, all...)
		}, map[Kind]int{Doubled: 1}, 3},
		{"doubled though unacked", func(s *story) {
			s.send("alice/phone", "bob", "four")
			s.shows("alice/phone", 1, "one", "two", "three", "four")
			s.shows("bob/phone", 1, "one", "two", "three", "four", "four")
		}, map[Kind]int{Doubled: 1}, 4},

		{"out of order", func(s *story) {
			s.shows("alice/phone", 1, all...)
			s.shows("bob/phone", 1, "two", "three", "one")
		}, map[Kind]int{OutOfOrder: 1}, 3},
		{"out of order, every pair of four", func(s *story) {
			s.send("alice/phone", "bob", "four")
			s.send("alice/phone", "bob", "five")
			s.shows("alice/phone", 1, "one", "two", "three", "four", "five")
			s.shows("bob/phone", 1, "five", "four", "three", "two", "one")
		}, map[Kind]int{OutOfOrder: 6}, 5},

		{"a gap for a device", func(s *story) {
			s.shows("alice/phone", 1, all...)
			s.shows("bob/phone", 1, all...)
			s.shows("bob/tablet", 1, "one")
			s.shows("bob/tablet", 3, "three")
		}, map[Kind]int{Gap: 1}, 3},
		{"a gap for everybody", func(s *story) {
			s.shows("alice/phone", 1, all...)
			s.shows("bob/phone", 1, "one", "two")
			s.shows("bob/phone", 4, "three")
		}, map[Kind]int{Gap: 2}, 3},
		{"a timeline that does not begin at 1", func(s *story) {
			s.shows("alice/phone", 1, all...)
			s.shows("bob/phone", 0, "one", "two", "three")
		}, map[Kind]int{Gap: 1, Lost: 1}, 2},
		{"a seq out of all proportion", func(s *story) {
			s.shows("alice/phone", 1, all...)
			s.shows("bob/phone", 1, all...)
			s.shows("bob/phone", 1<<60, "one")
		}, map[Kind]int{Gap: 1}, 3},

		{"an entry that changed", func(s *story) {
			s.shows("alice/phone", 1, all...)
			s.shows("bob/phone", 1, all...)
			s.shows("bob/tablet", 1, "one", "three", "three")
		}, map[Kind]int{Changed: 1}, 3},
		{"a body that changed", func(s *story) {
			s.shows("alice/phone", 1, all...)
			s.shows("bob/phone", 1, all...)
			s.events["two"].Body = []byte("too")
			s.shows("bob/phone", 2, "two")
		}, map[Kind]int{Changed: 1}, 3},
		{"a type that changed", func(s *story) {
			s.shows("alice/phone", 1, all...)
			s.shows("bob/phone", 1, all...)
			s.events["two"].ContentType = "text/html"
			s.shows("bob/phone", 2, "two")
		}, map[Kind]int{Changed: 1}, 3},

		{"a message that nobody sent", func(s *story) {
			s.event("alice/phone", "bob", "ghost")
			s.shows("alice/phone", 1, all...)
			s.shows("bob/phone", 1, "one", "two", "three", "ghost")
		}, map[Kind]int{Foreign: 1}, 3},
		{"a message under another name", func(s *story) {
			s.shows("alice/phone", 1, all...)
			s.events["one"].Sender = "mallory"
			s.shows("bob/phone", 1, all...)
		}, map[Kind]int{Foreign: 1}, 3},
		{"another body than was sent", func(s *story) {
			s.events["one"].Body = []byte("won")
			s.shows("alice/phone", 1, all...)
			s.shows("bob/phone", 1, all...)
		}, map[Kind]int{Foreign: 2}, 3},
		{"a message in a stranger's timeline", func(s *story) {
			s.shows("alice/phone", 1, all...)
			s.shows("bob/phone", 1, all...)
			s.shows("carol/phone", 1, "two")
		}, map[Kind]int{Foreign: 1}, 3},
		{"an answer to what nobody sent", func(s *story) {
			s.shows("alice/phone", 1, all...)
			s.shows("bob/phone", 1, all...)
			s.acked("ghost")
		}, map[Kind]int{Foreign: 1}, 3},
		{"an ack taken back", func(s *story) {
			s.shows("alice/phone", 1, all...)
			s.shows("bob/phone", 1, all...)
			s.h.Refused(messageID("one"))
		}, map[Kind]int{Foreign: 1, Refused: 1}, 3},
		{"one id for two sends", func(s *story) {
			s.shows("alice/phone", 1, all...)
			s.shows("bob/phone", 1, all...)
			s.reader("bob/phone").Send("alice", []byte("one")).Kept(messageID("one"))
		}, map[Kind]int{Foreign: 1}, 3},

		{"a refused message that stands", func(s *story) {
			s.send("alice/phone", "bob", "four")
			s.h.Refused(messageID("four"))
			s.shows("alice/phone", 1, "one", "two", "three", "four")
			s.shows("bob/phone", 1, "one", "two", "three", "four")
		}, map[Kind]int{Refused: 1}, 4},
		{"an answer with a lower id than the question", func(s *story) {
			s.shows("alice/phone", 1, all...)
			s.shows("bob/phone", 1, all...)
			s.send("bob/phone", "alice", "answer")
			s.events["answer"].ID = events.ID{15: 1}
			s.shows("alice/phone", 4, "answer")
			s.shows("bob/phone", 4, "answer")
		}, map[Kind]int{Acausal: 1}, 4},
		{"a clock that was moved", func(s *story) {
			s.h.Clock(func() time.Time { return time.UnixMilli(0) })
			s.shows("alice/phone", 1, all...)
			s.shows("bob/phone", 1, all...)
			s.send("carol/phone", "bob", "late")
			s.events["late"].ID = events.ID{4: 3, 5: 0xe8} // 1,000 ms
			s.shows("bob/phone", 4, "late")
			s.send("carol/phone", "bob", "later")
			s.events["later"].ID = events.ID{4: 3, 5: 0xe9}
			s.shows("bob/phone", 5, "later")
		}, map[Kind]int{Ahead: 1}, 5},
		{"a timeline that cannot be made again", func(s *story) {
			s.shows("alice/phone", 1, all...)
			s.shows("bob/phone", 1, all...)
			s.h.Inexact("timeline of %s", "bob")
		}, map[Kind]int{Inexact: 1}, 3},
		{"a server that holds too much", func(s *story) {
			s.shows("alice/phone", 1, all...)
			s.shows("bob/phone", 1, all...)
			s.h.Unbounded("sessions are 5, at most 4 are let in")
		}, map[Kind]int{Unbounded: 1}, 3},
		{"a device that stopped early", func(s *story) {
			s.shows("alice/phone", 1, all...)
			s.shows("bob/phone", 1, all...)
			s.send("carol/phone", "bob", "late")
			s.shows("bob/phone", 4, "late")
			s.shows("bob/tablet", 1, all...)
			s.reader("bob/tablet").Complete()
		}, map[Kind]int{Behind: 1}, 4},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := chat(t)
			test.plant(s)
			got := s.h.Check()
			if diff := cmp.Diff(test.want, got.Broken); diff != "" {
				t.Errorf("broken (-want +got):\n%s%v", diff, got.Violations)
			}
			if got.Delivered != test.deliver {
				t.Errorf("delivered %d, want %d", got.Delivered, test.deliver)
			}
			if (got.Err() == nil) != (len(test.want) == 0) || got.OK() != (len(test.want) == 0) {
				t.Errorf("broken %v, but OK is %t and Err is %v", test.want, got.OK(), got.Err())
			}
		})
	}
}

func TestAnswersAndEntriesMayComeBeforeSendReturns(t *testing.T) {
	s := newStory(t)
	sending := s.reader("alice/phone").Send("bob", []byte("hi"))
	s.event("alice/phone", "bob", "hi")
	s.acked("hi")
	s.shows("alice/phone", 1, "hi")
	s.shows("bob/phone", 1, "hi")
	sending.Kept(messageID("hi"))
	want := &Report{Sent: 1, Acked: 1, Delivered: 1}
	if diff := cmp.Diff(want, s.h.Check()); diff != "" {
		t.Errorf("report (-want +got):\n%s", diff)
	}
}

func TestReportCountsAnswers(t *testing.T) {
	s := chat(t)
	s.send("alice/phone", "bob", "no")
	s.h.Refused(messageID("no"))
	s.send("alice/phone", "bob", "who knows")
	s.h.Unknown(messageID("who knows"))
	s.send("alice/phone", "bob", "open")
	s.shows("alice/phone", 1, "one", "two", "three")
	s.shows("bob/phone", 1, "one", "two", "three")
	want := &Report{Sent: 6, Acked: 3, Refused: 1, Unknown: 1, Delivered: 3}
	if diff := cmp.Diff(want, s.h.Check()); diff != "" {
		t.Errorf("report (-want +got):\n%s", diff)
	}
}

func TestStoreThatWasReplacedOwesNothingOfBefore(t *testing.T) {
	s := chat(t)
	restored := events.StoreID{1}
	s.shows("alice/phone", 1, "one", "two", "three")
	s.shows("bob/phone", 1, "one", "two", "three")
	s.h.Replaced(restored, new(Copy))
	for _, name := range []string{"alice/phone", "bob/phone"} {
		s.reader(name).Reset(restored)
		s.shows(name, 1, "one") // the copy was made before "two"
	}
	s.send("alice/phone", "bob", "four")
	s.acked("four")
	s.shows("alice/phone", 2, "four")
	if got := s.h.Check().Broken; !cmp.Equal(got, map[Kind]int{Lost: 1}) {
		t.Errorf("bob has not been shown what was acked after the reset, broken: %v", got)
	}
	s.shows("bob/phone", 2, "four")
	got := s.h.Check()
	if got.Err() != nil || got.Delivered != 2 {
		t.Errorf("delivered %d, want 2 in the new store; %v", got.Delivered, got.Err())
	}
}

func TestStoreThatWasReplacedHasWhatWasAckedBeforeItsCopy(t *testing.T) {
	s := chat(t)
	s.shows("alice/phone", 1, "one", "two", "three")
	s.shows("bob/phone", 1, "one", "two", "three")
	copied := s.h.Copy()
	s.send("alice/phone", "bob", "four")
	s.acked("four")
	restored := events.StoreID{1}
	s.h.Replaced(restored, copied)
	for _, name := range []string{"alice/phone", "bob/phone"} {
		s.reader(name).Reset(restored)
		s.shows(name, 1, "one", "two")
	}
	if got := s.h.Check().Broken; !cmp.Equal(got, map[Kind]int{Lost: 2}) {
		t.Errorf("the copy lacks a message that was acked before it was begun, broken: %v", got)
	}
}

// The server may be replaced while a device waits for room to send.
func TestSendThatBeganBeforeTheStoreWasReplacedComesBehindNothing(t *testing.T) {
	s := newStory(t)
	restored := events.StoreID{1}
	answer := s.event("alice/phone", "alice", "two") // by a clock that is behind the one of the lost store
	s.send("alice/phone", "alice", "one")
	s.shows("alice/phone", 1, "one")
	sending := s.reader("alice/phone").Send("alice", answer.Body)
	s.h.Replaced(restored, new(Copy))
	sending.Kept(answer.Message)
	s.acked("two")
	s.reader("alice/phone").Reset(restored)
	s.shows("alice/phone", 1, "two")
	if err := s.h.Check().Err(); err != nil {
		t.Errorf("an answer to what the new store has not: %v", err)
	}
}

func TestOnlyWhatWasTrimmedMayBeSkipped(t *testing.T) {
	s := chat(t)
	s.shows("alice/phone", 1, "one", "two", "three")
	s.shows("bob/phone", 1, "one", "two", "three")
	s.h.Trimmed("bob", 2)
	s.reader("bob/tablet").Trimmed(2)
	s.shows("bob/tablet", 3, "three")
	s.reader("bob/tablet").Complete()
	if err := s.h.Check().Err(); err != nil {
		t.Errorf("two entries were trimmed, and skipped: %v", err)
	}
	s.reader("bob/watch").Trimmed(3)
	if got := s.h.Check().Broken; !cmp.Equal(got, map[Kind]int{Gap: 1}) {
		t.Errorf("three entries were skipped, of which two were trimmed, broken: %v", got)
	}
}

func TestDeviceThatMissedTheResetIsBehind(t *testing.T) {
	s := chat(t)
	s.shows("alice/phone", 1, "one", "two", "three")
	s.h.Replaced(events.StoreID{1}, new(Copy))
	s.reader("alice/phone").Complete()
	if got := s.h.Check().Broken; !cmp.Equal(got, map[Kind]int{Behind: 1}) {
		t.Errorf("broken: %v, want the device behind", got)
	}
}

func TestReportTellsAFewOfEachKind(t *testing.T) {
	s := newStory(t)
	for i := range 100 {
		text := fmt.Sprint(i)
		s.send("alice/phone", "bob", text)
		s.acked(text)
	}
	got := s.h.Check()
	if got.Broken[Lost] != 200 || len(got.Violations) != maxViolations {
		t.Errorf("%d lost, %d told, want 200 and %d", got.Broken[Lost], len(got.Violations), maxViolations)
	}
	if text := got.Err().Error(); !strings.Contains(text, "lost: message") || !strings.Contains(text, "from alice/phone to bob") {
		t.Errorf("the error does not say what is lost: %s", text)
	}
}

func TestInversionsCountsPairs(t *testing.T) {
	for _, test := range []struct {
		list []uint32
		want int
	}{
		{nil, 0},
		{[]uint32{1}, 0},
		{[]uint32{1, 2, 5, 9}, 0},
		{[]uint32{2, 1}, 1},
		{[]uint32{3, 1, 2}, 2},
		{[]uint32{1, 5, 2, 3, 4}, 3},
		{[]uint32{5, 4, 3, 2, 1}, 10},
	} {
		if got := inversions(test.list); got != test.want {
			t.Errorf("inversions(%v) = %d, want %d", test.list, got, test.want)
		}
	}
}

// A history of 50,000 messages is what the demo's longest run makes.
func TestFiftyThousandMessagesAreCheckedInSeconds(t *testing.T) {
	const users, sends = 50, 1000
	h := NewHistory()
	begin := time.Now()
	var wg sync.WaitGroup
	for u := range users {
		wg.Go(func() {
			name := events.User(fmt.Sprintf("u%d", u))
			r := h.Reader(name, "phone")
			for i := range sends {
				id := events.MessageID{byte(u), byte(i >> 8), byte(i)}
				r.Send(name, []byte("hello")).Kept(id)
				h.Acked(id)
				r.Entry(events.Seq(i+1), &events.Event{
					ID: events.ID{4: byte(i >> 8), 5: byte(i), 15: byte(u + 1)}, Kind: events.KindMessage, Sender: name, Device: "phone",
					Conversation: events.Direct(name, name), Message: id, Body: []byte("hello"),
				})
			}
			r.Complete()
		})
	}
	wg.Wait()
	got := h.Check()
	if got.Err() != nil || got.Acked != users*sends {
		t.Errorf("%d acked, want %d; %v", got.Acked, users*sends, got.Err())
	}
	if took := time.Since(begin); took > 20*time.Second {
		t.Errorf("took %v", took)
	}
}
