package wire

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"timberline/events"
)

func TestEntriesOfEverySizeFit(t *testing.T) {
	for _, c := range bothCodecs {
		for unit, step := range map[string]int{"x": 1, "\"": 5, "\xff": 5} {
			for n := 0; n < 1300; n += step {
				e := sampleEvent(strings.Repeat(unit, n))
				raw := e.Encode()
				p := NewPacker(c, sampleID(2))
				AppendPushes(p, 1<<40, [][]byte{raw, raw}, true)
				if got := entries(t, p.Packets()); len(got) != 2 || !bytes.Equal(got[0], raw) || !bytes.Equal(got[1], raw) {
					t.Fatalf("%v: 2 entries with bodies of %d times %q arrived as %d", c, n, unit, len(got))
				}
			}
		}
	}
}

// entries returns the events that packets bring, in order.
func entries(t *testing.T, packets [][]byte) [][]byte {
	t.Helper()
	var all [][]byte
	var parts Assembler
	for _, f := range decodeAll(t, packets) {
		switch f := f.(type) {
		case *Push:
			all = append(all, f.Events...)
		case *Part:
			if raw, complete := parts.Add(f); complete {
				all = append(all, raw)
			}
		}
	}
	return all
}

func TestEntryThatFitsIsNotCut(t *testing.T) {
	const spare = 60 // bytes, in JSON, that sizes are thought too large by
	for _, c := range bothCodecs {
		for n := range MaxPacket {
			e := sampleEvent(strings.Repeat("x", n))
			push := &Push{From: 1 << 40, Events: [][]byte{e.Encode()}}
			p := NewPacker(c, sampleID(2))
			if p.size(push) > MaxPacket-spare {
				break
			}
			AppendPushes(p, push.From, push.Events, false)
			if fs := decodeAll(t, p.Packets()); len(fs) != 1 || fs[0].kind() != push.kind() {
				t.Fatalf("%v: a body of %d bytes came in %d frames, the first a %v", c, n, len(fs), fs[0].kind())
			}
		}
	}
}

func TestLengthsAreWrittenWhereverTheyGrow(t *testing.T) {
	for n := range MaxPacket - 60 {
		want := Packet{Session: sampleID(2), Frames: []Frame{&Send{Number: 1, Body: bytes.Repeat([]byte("x"), n)}, &Bye{}}}
		got, err := Decode(want.Encode())
		if err != nil {
			t.Fatalf("body of %d bytes: %v", n, err)
		}
		if len(got.Frames) != 2 || len(got.Frames[0].(*Send).Body) != n {
			t.Fatalf("body of %d bytes arrived as %+v", n, got.Frames)
		}
	}
	large := []byte(strings.Repeat("x", 3_000_000)) // no packet has it, but a Packer measures such frames
	b := appendEnvelope(nil, &Send{Number: 1, Body: large})
	num, _, value, n := takeField(b)
	if f, err := openEnvelope(value); num != envelopeField || n != len(b) || err != nil || !bytes.Equal(f.(*Send).Body, large) {
		t.Errorf("an envelope of %d bytes reads as field %d of %d bytes, %v", len(b), num, n, err)
	}
}

func TestPagesRepeatTheirTemplate(t *testing.T) {
	e := sampleEvent(strings.Repeat("x", 500))
	raw := e.Encode()
	template := Page{Sync: 3, From: 10, Head: 99, First: 2, Last: true, Status: StatusTooOld}
	for _, c := range bothCodecs {
		p := NewPacker(c, sampleID(2))
		AppendPages(p, template, [][]byte{raw, raw, raw})
		pages := decodeAll(t, p.Packets())
		next := events.Seq(10)
		for i, f := range pages {
			page := f.(*Page)
			last := i == len(pages)-1
			want := &Page{Sync: 3, From: next, Events: page.Events, Head: 99, First: 2, Status: StatusTooOld, Last: last}
			if last {
				want.From = 0
			}
			if diff := cmp.Diff(want, page); diff != "" || last != (len(page.Events) == 0) {
				t.Errorf("%v, page %d (- want, + got):\n%s", c, i, diff)
			}
			next += events.Seq(len(page.Events))
		}
		if next != 13 {
			t.Errorf("%v: pages end before seq %d, want 13", c, next)
		}
	}
}

func TestPageWithoutEntriesIsSentAllTheSame(t *testing.T) {
	for _, c := range bothCodecs {
		p := NewPacker(c, sampleID(2))
		AppendPages(p, Page{Sync: 3, From: 10, Head: 99, First: 2, Status: StatusBusy}, nil)
		want := []Frame{&Page{Sync: 3, Head: 99, First: 2, Status: StatusBusy}}
		if diff := cmp.Diff(want, decodeAll(t, p.Packets())); diff != "" {
			t.Errorf("%v (- want, + got):\n%s", c, diff)
		}
	}
}

func TestNoEntriesArePushedAsNothing(t *testing.T) {
	p := NewPacker(Proto, sampleID(2))
	AppendPushes(p, 10, nil, false)
	if packets := p.Packets(); len(packets) != 0 {
		t.Errorf("%d packets, want none", len(packets))
	}
}

func TestPackersPacketsBelongToItsSession(t *testing.T) {
	for _, c := range bothCodecs {
		p := NewPacker(c, sampleID(2))
		for range 100 {
			p.Add(&Ping{ID: 1, Cursor: 2})
		}
		packets := p.Packets()
		p.Add(&Bye{})
		for i, data := range append(packets, p.Packets()...) {
			if got, err := Decode(data); err != nil || got.Session != sampleID(2) || got.Codec != c {
				t.Errorf("%v: packet %d is of session %v in %v, %v", c, i, got.Session, got.Codec, err)
			}
		}
	}
}
