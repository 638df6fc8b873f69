package ingest

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"timberline/events"
)

// A story is one session's Order, and what it admitted.
type story struct {
	t        *testing.T
	order    Order
	admitted []string // bodies
	refuse   map[string]error
	last     Answer
}

func (s *story) offer(f Fragment) {
	s.last = s.order.Offer(f, func(send Fragment, last events.Number) error {
		if err := s.refuse[string(send.Body)]; err != nil {
			return err
		}
		s.admitted = append(s.admitted, fmt.Sprintf("%d:%s", last, send.Body))
		return nil
	})
}

// sends offers whole sends with those numbers, whose bodies are "a" for 1 and so
// on.
func (s *story) sends(ns ...events.Number) {
	for _, n := range ns {
		s.offer(Fragment{Number: n, To: "bob", Body: []byte(body(n))})
	}
}

func body(n events.Number) string { return string(rune('a' + n - 1)) }

func (s *story) want(why, admitted string) {
	s.t.Helper()
	if got := strings.Join(s.admitted, " "); got != admitted {
		s.t.Errorf("%s: admitted %q, want %q", why, got, admitted)
	}
}

func (s *story) wantThrough(why string, n events.Number) {
	s.t.Helper()
	if got := s.order.Through(); got != n {
		s.t.Errorf("%s: through %d, want %d", why, got, n)
	}
}

func TestSendsAreAdmittedStrictlyByNumber(t *testing.T) {
	s := story{t: t}
	s.sends(2, 4, 3)
	s.want("1 is missing", "")
	if !s.last.Ack {
		t.Error("an early send must be answered, so that the client learns what is missing")
	}
	s.sends(1)
	s.want("1 closes the gap", "1:a 2:b 3:c 4:d")
	s.sends(2, 3)
	s.want("repeats are not admitted twice", "1:a 2:b 3:c 4:d")
	if !s.last.Ack {
		t.Error("a repeat must be acknowledged again: the ack was lost")
	}
}

func TestNothingIsAnsweredBeforeItIsDurable(t *testing.T) {
	s := story{t: t}
	s.sends(1, 2, 3)
	s.wantThrough("admitted is not durable", 0)
	s.order.Durable(2)
	s.wantThrough("2 is durable and so is 1", 2)
	s.order.Durable(1)
	s.wantThrough("an old report takes nothing back", 2)
}

func TestHeldBitmapNamesWhatHasArrived(t *testing.T) {
	s := story{t: t}
	s.sends(1, 2, 4, 6)
	if got, want := s.order.Held(), []byte{0b101011}; !cmp.Equal(got, want) {
		t.Errorf("held = %08b, want %08b", got, want)
	}
	s.order.Durable(2)
	if got, want := s.order.Held(), []byte{0b1010}; !cmp.Equal(got, want) {
		t.Errorf("after 2 is durable: held = %08b, want %08b", got, want)
	}
}

func TestEarlySendsAreBoundedAndTheHighestGoFirst(t *testing.T) {
	s := story{t: t}
	big := make([]byte, 1000)
	for n := events.Number(200); n > 1; n-- {
		s.offer(Fragment{Number: n, To: "bob", Body: big})
	}
	if s.order.bytes > maxHeldBytes || len(s.order.held) > maxHeld {
		t.Errorf("holds %d sends with %d bytes, want at most %d with %d", len(s.order.held), s.order.bytes, maxHeld, maxHeldBytes)
	}
	if s.order.held[0].Number != 2 {
		t.Errorf("the next number must find room; the first held is %d", s.order.held[0].Number)
	}
	for i, f := range s.order.held[1:] {
		if f.Number != s.order.held[i].Number+1 {
			t.Errorf("a gap after %d: the highest must go first", s.order.held[i].Number)
		}
	}
}

func TestHeldSendsDoNotAliasThePacket(t *testing.T) {
	s := story{t: t}
	packet := []byte("b")
	s.offer(Fragment{Number: 2, To: "bob", Body: packet})
	packet[0] = 'X'
	s.sends(1)
	s.want("the buffer was used again", "1:a 2:b")
}

func TestFragmentsBecomeOneSendWithTheLastNumber(t *testing.T) {
	s := story{t: t}
	s.offer(Fragment{Number: 2, Index: 1, Count: 3, Body: []byte("y")})
	s.offer(Fragment{Number: 1, Index: 0, Count: 3, To: "bob", Body: []byte("x")})
	s.want("a third is missing", "")
	s.wantThrough("nothing is durable", 0)
	s.offer(Fragment{Number: 3, Index: 2, Count: 3, Body: []byte("z")})
	s.sends(4)
	s.want("one send, and the next", "3:xyz 4:d")
	s.order.Durable(3)
	s.wantThrough("all three numbers are answered", 3)
}

func TestBusyTakesAllFragmentsOfTheSendAndAllAfter(t *testing.T) {
	s := story{t: t, refuse: map[string]error{"xy": events.ErrBusy}}
	s.sends(1, 4, 5)
	s.offer(Fragment{Number: 2, Index: 0, Count: 2, To: "bob", Body: []byte("x")})
	s.offer(Fragment{Number: 3, Index: 1, Count: 2, Body: []byte("y")})
	if s.last.Busy != 2 {
		t.Errorf("busy from %d, want 2: the first fragment", s.last.Busy)
	}
	s.want("nothing from 2 on", "1:a")
	s.refuse = nil
	s.sends(4, 5)
	s.want("2 and 3 must come again first", "1:a")
	s.offer(Fragment{Number: 2, Index: 0, Count: 2, To: "bob", Body: []byte("x")})
	s.offer(Fragment{Number: 3, Index: 1, Count: 2, Body: []byte("y")})
	s.want("and then the rest, in order", "1:a 3:xy 4:d 5:e")
}

func TestRefusalUsesUpItsNumberAndStandsUntilHeard(t *testing.T) {
	s := story{t: t, refuse: map[string]error{"b": events.ErrTooLarge}}
	s.sends(1, 2, 3)
	s.want("2 is refused, 3 goes on", "1:a 3:c")
	s.wantThrough("1 is not durable yet", 0)
	if r := s.order.Refused(); len(r) != 0 {
		t.Errorf("refusal of 2 told before 1 is answered: %v", r)
	}
	s.order.Durable(1)
	s.wantThrough("the refusal answers 2", 2)
	for range 3 {
		if r := s.order.Refused(); len(r) != 1 || r[0].From != 2 {
			t.Fatalf("refusals %v, want that of 2, in every ack", r)
		}
		s.order.Heard(2) // the ack was lost
	}
	s.order.Heard(3)
	if r := s.order.Refused(); len(r) != 0 {
		t.Errorf("the client has heard: %v", r)
	}
	s.wantThrough("2 stays answered", 2)
	if got, want := s.order.Standing(), []uint64{1, 2}; !cmp.Equal(got, want) {
		t.Errorf("standing %v, want %v", got, want)
	}
}

func TestStandingLeavesRefusalsOut(t *testing.T) {
	s := story{t: t, refuse: map[string]error{"b": events.ErrTooLarge, "e": events.ErrInvalid}}
	s.sends(1, 2, 3, 4, 5, 6)
	s.order.Durable(4)
	if got, want := s.order.Standing(), []uint64{1, 1, 3, 4}; !cmp.Equal(got, want) {
		t.Errorf("standing %v, want %v: neither refused, nor in flight", got, want)
	}
}

func TestAClientThatLiesAboutLowLosesNothing(t *testing.T) {
	s := story{t: t, refuse: map[string]error{"b": events.ErrTooLarge}}
	s.sends(1, 2)
	s.order.Heard(1000)
	s.wantThrough("1 is still in flight", 0)
	s.order.Durable(1)
	s.wantThrough("the refusal is kept", 2)
}

func TestTooManyRefusalsStopAdmission(t *testing.T) {
	s := story{t: t, refuse: map[string]error{"bad": events.ErrInvalid}}
	for n := events.Number(1); n <= maxRefusals+5; n++ {
		s.offer(Fragment{Number: n, To: "bob", Body: []byte("bad")})
	}
	if got := len(s.order.refused); got != maxRefusals {
		t.Errorf("%d refusals stand, want at most %d", got, maxRefusals)
	}
	s.order.Heard(maxRefusals + 1)
	s.offer(Fragment{Number: maxRefusals + 1, To: "bob", Body: []byte("good")})
	s.want("the client has heard: on it goes", fmt.Sprintf("%d:good", maxRefusals+1))
}

func TestBrokenFragmentSequenceIsRefusedWhole(t *testing.T) {
	s := story{t: t}
	s.offer(Fragment{Number: 1, Index: 0, Count: 3, To: "bob", Body: []byte("x")})
	s.offer(Fragment{Number: 2, Index: 2, Count: 3, Body: []byte("z")})
	s.sends(3)
	s.want("the broken one is skipped", "3:c")
	s.wantThrough("1 and 2 are answered by the refusal", 2)
	if r := s.order.Refused(); len(r) != 1 || r[0].From != 1 || r[0].To != 2 {
		t.Errorf("refused %v, want 1 to 2", r)
	}
}

// However packets are lost, repeated and reordered, a session's sends are
// admitted once each, in order, as long as the client sends again what is not
// answered.
func TestAnyDeliveryOrderAdmitsEachSendOnceInOrder(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		s := story{t: t, refuse: map[string]error{}}
		const count = 20
		durable := 0
		for s.order.Through() < count {
			n := s.order.Through() + 1 + events.Number(r.IntN(8))
			if n > count {
				n = count
			}
			b := fmt.Sprint(n)
			s.refuse[b] = nil
			if r.IntN(10) == 0 {
				s.refuse[b] = events.ErrBusy
			}
			s.offer(Fragment{Number: n, To: "bob", Body: []byte(b)})
			if r.IntN(3) == 0 && durable < len(s.admitted) {
				durable += 1 + r.IntN(len(s.admitted)-durable)
				s.order.Durable(events.Number(durable))
			}
		}
		var want []string
		for n := 1; n <= count; n++ {
			want = append(want, fmt.Sprintf("%d:%d", n, n))
		}
		if diff := cmp.Diff(want, s.admitted); diff != "" {
			t.Fatalf("seed %d: (-want +got)\n%s", seed, diff)
		}
	}
}

// Refusals stop admission while a send is held whose turn it is: when they are heard
// the client may be the first to bring it again.
func TestSendThatIsHeldAndComesAgainHoldsUpNothing(t *testing.T) {
	s := story{t: t}
	s.refusedWhileHeld()
	s.offer(Fragment{Number: 65, Body: []byte("x")})
	s.want("what was held behind it has its turn", "65:x 66:y")
	if len(s.order.held) != 0 || s.order.bytes != 0 {
		t.Errorf("%d fragments of %d bytes are held for ever", len(s.order.held), s.order.bytes)
	}
}

// The client knows that it is held, and does not send it again.
func TestSendThatIsHeldHasItsTurnWhenRefusalsAreHeard(t *testing.T) {
	s := story{t: t}
	s.refusedWhileHeld()
	s.offer(Fragment{Number: 67, Body: []byte("z")})
	s.want("with whatever comes next", "65:x 66:y 67:z")
}

// refusedWhileHeld has the client hear of so many refusals that they have stopped
// sends 65 and 66, which are held.
func (s *story) refusedWhileHeld() {
	s.t.Helper()
	refused := Fragment{Index: 1, Count: 2} // no send begins with it
	for range maxRefusals - 1 {
		refused.Number++
		s.offer(refused)
	}
	s.offer(Fragment{Number: 65, Body: []byte("x")})
	s.offer(Fragment{Number: 66, Body: []byte("y")})
	refused.Number++
	s.offer(refused)
	s.want("64 refusals stand", "")
	s.order.Heard(65)
}
