package bench

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"timberline/events"
	"timberline/wire"
)

func newTestSession(window int) *session {
	return &session{user: "u00000", flight: make([]sent, window), base: 1, next: 1, unsent: 1, window: window, threshold: window}
}

// sends gives a session so many sends that were transmitted at a time.
func (s *session) sends(n int, at time.Duration) {
	for range n {
		s.add(at)
		x := s.slot(s.unsent)
		x.at, x.tries = at, 1
		s.unsent++
	}
}

func TestAckAnswersSendsInOrderAndOnce(t *testing.T) {
	s := newTestSession(4)
	s.sends(4, time.Second)
	if s.room() {
		t.Error("there is room in a full window")
	}
	var answered []time.Duration
	note := func(x *sent) { answered = append(answered, x.due) }
	s.acked(2*time.Second, &wire.Ack{Through: 3}, note)
	s.acked(2*time.Second, &wire.Ack{Through: 3}, note)
	s.acked(2*time.Second, &wire.Ack{Through: 2}, note) // overtaken
	s.acked(2*time.Second, &wire.Ack{Through: 9}, note) // of no send of ours
	if len(answered) != 3 || s.base != 4 || !s.room() {
		t.Errorf("%d answers, the next is %d", len(answered), s.base)
	}
}

func TestLostSendIsSentAgainAndWhatIsHeldIsNot(t *testing.T) {
	s := newTestSession(8)
	s.sends(4, 0)
	s.acked(10*time.Millisecond, &wire.Ack{Through: 1, Held: []byte{0b10}}, func(*sent) {})
	if again := s.overdue(50 * time.Millisecond); again != nil {
		t.Errorf("%v are sent again before their time", again)
	}
	if d := cmp.Diff([]events.Number{2, 4}, s.overdue(time.Second)); d != "" {
		t.Errorf("sent again (- want):\n%s", d)
	}
}

func TestBusySendsWaitAndGoOutAgainInOrder(t *testing.T) {
	s := newTestSession(8)
	s.sends(4, 0)
	s.busy(time.Millisecond, time.Second, 3)
	if s.unsent != 3 || s.busyUntil != time.Second {
		t.Errorf("number %d is next, not before %v", s.unsent, s.busyUntil)
	}
}

func TestRefusedSendFailsTheRun(t *testing.T) {
	s := newTestSession(8)
	s.sends(1, 0)
	s.acked(0, &wire.Ack{Through: 1, Refused: []wire.Refusal{{From: 1, To: 1, Reason: wire.ReasonRecipient}}}, func(*sent) {})
	if s.state != failed || !strings.Contains(s.cause.Error(), "recipient") {
		t.Errorf("%v, %v", s.state, s.cause)
	}
}

func TestEntriesAreDeliveredInOrderAndOnceAndGapsAreAskedFor(t *testing.T) {
	s := newTestSession(1)
	var got []events.Seq
	entry := func(now time.Duration, seq events.Seq) {
		s.entry(now, seq, events.Event{}, func(seq events.Seq, _ *events.Event) { got = append(got, seq) })
	}
	for _, seq := range []events.Seq{1, 1, 3, 3, 4} {
		entry(time.Second, seq)
	}
	if s.gapAt != time.Second+gapWait {
		t.Errorf("what is missing is asked for at %v", s.gapAt)
	}
	entry(2*time.Second, 2)
	if d := cmp.Diff([]events.Seq{1, 2, 3, 4}, got); d != "" || s.gapAt != 0 {
		t.Errorf("delivered (- want):\n%s; asks at %v", d, s.gapAt)
	}
}

func TestReaderFindsWhatIsLostDoubledAndOutOfOrder(t *testing.T) {
	p := &Payload{Bodies: [][]byte{[]byte("a"), []byte("b"), []byte("c")}}
	s := &session{index: 7}
	s.readBack("u00000", 5, p)
	for _, n := range []events.Number{1, 3, 2, 3, 5} {
		s.read(0, &events.Event{Sender: "u00000", Number: n, Body: p.body(7, n)})
	}
	s.read(0, &events.Event{Sender: "u00001", Number: 4, Body: p.body(7, 4)}) // somebody else's
	s.read(0, &events.Event{Sender: "u00000", Number: 4, Body: p.body(7, 5)}) // another body
	if s.entries != 4 || s.doubled != 1 || s.late != 1 || s.rests() {
		t.Errorf("%d entries, %d doubled, %d out of order", s.entries, s.doubled, s.late)
	}
}

func TestReaderGoesOnToTheEndOfTheTimeline(t *testing.T) {
	p := &Payload{Bodies: [][]byte{nil}}
	s := &session{head: 3}
	s.readBack("u00000", 2, p)
	for seq, n := range []events.Number{1, 2, 2} {
		if s.rests() {
			t.Errorf("it has read %d of 3 entries, and waits for no more", seq)
		}
		e := events.Event{Sender: "u00000", Number: n}
		s.entry(0, events.Seq(seq+1), e, func(_ events.Seq, e *events.Event) { s.read(0, e) })
	}
	if s.doubled != 1 || !s.rests() {
		t.Errorf("%d doubled, rests: %v", s.doubled, s.rests())
	}
}

func TestPayloadsAreRead(t *testing.T) {
	p, err := ParsePayload("fixed:100")
	if err != nil || len(p.Bodies) != 1 || p.Mean() != 100 {
		t.Errorf("%d bodies of %d bytes, %v", len(p.Bodies), p.Mean(), err)
	}
	if p, err = ParsePayload("corpus"); err != nil || len(p.Bodies) < 100 {
		t.Errorf("the sample has %d bodies, %v", len(p.Bodies), err)
	}
	for _, text := range []string{"", "fixed", "fixed:x", "fixed:-1", "fixed:801", "corpus:", "corpus:/no/such/file", "random:5"} {
		if _, err := ParsePayload(text); err == nil {
			t.Errorf("%q was taken for a payload", text)
		}
	}
}
