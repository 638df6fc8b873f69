package wire

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"timberline/events"
)

// refusals returns n refusals of two numbers each, from number 3 on, with a
// durable send before each.
func refusals(n int) []Refusal {
	var all []Refusal
	for i := range events.Number(n) {
		all = append(all, Refusal{From: 3*i + 3, To: 3*i + 4, Reason: ReasonNotAllowed})
	}
	return all
}

// added returns the one frame that arrives when f is added behind another.
func added(t *testing.T, c Codec, f Frame) Frame {
	t.Helper()
	p := NewPacker(c, sampleID(2))
	p.Add(&Pong{ID: 1})
	p.Add(f)
	all := decodeAll(t, p.Packets())
	if len(all) != 2 {
		t.Fatalf("%v: %d frames arrived, want 2", c, len(all))
	}
	return all[1]
}

func TestAckWithMoreRefusalsThanFitAnswersFewerSends(t *testing.T) {
	whole := &Ack{Through: 3*MaxRefusals + 1, Offset: 900, Refused: refusals(MaxRefusals), Held: []byte{1}}
	if diff := cmp.Diff(Frame(whole), added(t, Proto, whole)); diff != "" {
		t.Errorf("protobuf has room for all (- sent, + arrived):\n%s", diff)
	}
	got := added(t, JSON, whole).(*Ack)
	n := len(got.Refused)
	if n < 10 || n >= MaxRefusals {
		t.Fatalf("%d refusals arrived, want as many as fit", n)
	}
	want := &Ack{Through: whole.Refused[n].From - 1, Refused: whole.Refused[:n]}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("what lies behind the last refusal told must stay unanswered, and no offset named (- want, + got):\n%s", diff)
	}
	if whole.Through != 3*MaxRefusals+1 || len(whole.Refused) != MaxRefusals {
		t.Error("the Ack itself was changed")
	}
}

func TestEveryRefusalIsToldAsTheClientHearsOfThem(t *testing.T) {
	all := refusals(MaxRefusals)
	told := 0
	for range MaxRefusals {
		if told == len(all) {
			return
		}
		ack := added(t, JSON, &Ack{Through: all[len(all)-1].To, Offset: 900, Refused: all[told:]}).(*Ack)
		told += len(ack.Refused)
	}
	t.Errorf("%d of %d refusals are told", told, len(all))
}

func TestSettledThatDoesNotFitIsUnknown(t *testing.T) {
	for _, c := range bothCodecs {
		short := &Settled{Session: sampleID(7), Numbers: []uint64{1, 1, 3, 3}}
		if diff := cmp.Diff(Frame(short), added(t, c, short)); diff != "" {
			t.Errorf("%v (- sent, + arrived):\n%s", c, diff)
		}
		long := &Settled{Session: sampleID(7)}
		for n := range uint64(1000) {
			long.Numbers = append(long.Numbers, 2*n+1, 2*n+1)
		}
		want := &Settled{Session: sampleID(7), Unknown: true}
		if diff := cmp.Diff(Frame(want), added(t, c, long)); diff != "" {
			t.Errorf("%v: half the runs would say of the others that they never stand (- want, + got):\n%s", c, diff)
		}
	}
}
