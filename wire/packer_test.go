package wire

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"timberline/events"
)

var bothCodecs = []Codec{Proto, JSON}

// bodies are those that are hard to size: empty, plain, escaped in JSON, not
// UTF-8, larger than a packet.
func bodies() [][]byte {
	random := make([]byte, 15_000)
	r := rand.NewChaCha8([32]byte{1})
	r.Read(random)
	return [][]byte{
		nil, []byte("hello"), []byte(strings.Repeat("\"\\\n\x01", 3000)), []byte(strings.Repeat("ä€𝄞", 1500)),
		random, random[:1100], random[:1200], bytes.Repeat([]byte("x"), 1100), bytes.Repeat([]byte("x"), 16<<10),
	}
}

func decodeAll(t *testing.T, packets [][]byte) []Frame {
	t.Helper()
	var all []Frame
	for _, data := range packets {
		if len(data) > MaxPacket {
			t.Errorf("a packet has %d bytes, at most %d are allowed", len(data), MaxPacket)
		}
		p, err := Decode(data[:min(len(data), MaxPacket)])
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, p.Frames...)
	}
	return all
}

func TestPackedEntriesArriveWholeInPacketsThatFit(t *testing.T) {
	var raws [][]byte
	for i, b := range bodies() {
		e := events.Event{ID: events.ID{byte(i)}, Kind: events.KindMessage, Conversation: "d:a,b", Sender: "a", Device: "d", Number: 1, Body: b}
		raws = append(raws, e.Encode())
	}
	for range 40 {
		raws = append(raws, raws[1])
	}
	for _, c := range bothCodecs {
		for _, sync := range []uint32{0, 7} {
			p := NewPacker(c, events.SessionID{9})
			if sync == 0 {
				AppendPushes(p, 100, raws, false)
			} else {
				AppendPages(p, Page{Sync: sync, From: 100, Head: 500, First: 1, Last: true}, raws)
			}
			got := make(map[events.Seq][]byte)
			var parts Assembler
			last := false
			for _, f := range decodeAll(t, p.Packets()) {
				switch f := f.(type) {
				case *Push:
					for i, raw := range f.Events {
						got[f.From+events.Seq(i)] = raw
					}
				case *Page:
					for i, raw := range f.Events {
						got[f.From+events.Seq(i)] = raw
					}
					last = last || f.Last
				case *Part:
					if raw, ok := parts.Add(f); ok {
						got[f.Seq] = raw
					}
				}
			}
			if last != (sync != 0) {
				t.Errorf("%v, sync %d: last page seen: %v", c, sync, last)
			}
			for i, raw := range raws {
				if !bytes.Equal(got[100+events.Seq(i)], raw) {
					t.Errorf("%v, sync %d: entry %d did not arrive whole", c, sync, i)
				}
			}
		}
	}
}

func TestFramesShareAPacketAsFarAsTheyFit(t *testing.T) {
	for _, c := range bothCodecs {
		p := NewPacker(c, events.SessionID{9})
		for range 500 {
			p.Add(&Ping{ID: 1, Cursor: 2})
		}
		packets := p.Packets()
		if got := len(decodeAll(t, packets)); got != 500 {
			t.Errorf("%v: %d frames arrived, want 500", c, got)
		}
		for _, data := range packets[:len(packets)-1] {
			if len(data) < MaxPacket-100 {
				t.Errorf("%v: a packet of %d bytes had room for more", c, len(data))
			}
		}
		if more := p.Packets(); len(more) != 0 {
			t.Errorf("%v: %d packets are left over", c, len(more))
		}
	}
}

func TestFragmentsFitAndMakeUpTheBody(t *testing.T) {
	for _, c := range bothCodecs {
		for i, b := range bodies() {
			whole := Send{Number: 1 << 40, Low: 1 << 39, To: events.User(strings.Repeat("u", 64)), Message: events.MessageID{1}, Type: strings.Repeat("t", 64), Body: b}
			frames, err := Fragment(c, whole)
			if err != nil {
				t.Errorf("%v, body %d: %v", c, i, err)
				continue
			}
			var body []byte
			for k, f := range frames {
				p := Packet{Codec: c, Session: events.SessionID{1}, Frames: []Frame{&f}}
				got := decodeAll(t, [][]byte{p.Encode()})[0].(*Send)
				if got.Number != whole.Number+events.Number(k) || len(frames) > 1 && (int(got.Fragment) != k || int(got.Fragments) != len(frames)) {
					t.Errorf("%v, body %d: fragment %d is %d of %d with number %d", c, i, k, got.Fragment, got.Fragments, got.Number)
				}
				body = append(body, got.Body...)
			}
			if !bytes.Equal(body, b) {
				t.Errorf("%v: body %d did not arrive whole", c, i)
			}
		}
	}
}

func TestAssemblerTakesPartsInAnyOrderAndIsBounded(t *testing.T) {
	var a Assembler
	parts := []string{"a", "b", "c"}
	for _, i := range []int{2, 0, 0, 1} {
		raw, ok := a.Add(&Part{Seq: 5, Index: uint32(i), Count: 3, Data: []byte(parts[i])})
		if ok != (i == 1) || ok && string(raw) != "abc" {
			t.Errorf("after part %d: %q, %v", i, raw, ok)
		}
	}
	for seq := range events.Seq(100) {
		a.Add(&Part{Seq: seq, Index: 0, Count: 2, Data: []byte("x")})
	}
	if len(a.entries) > maxAssembling {
		t.Errorf("%d entries are kept, want at most %d", len(a.entries), maxAssembling)
	}
	for _, bad := range []Part{{Seq: 1, Count: 0}, {Seq: 1, Index: 2, Count: 2, Data: []byte("x")}, {Seq: 1, Count: 1 << 30, Data: []byte("x")}} {
		if _, ok := a.Add(&bad); ok || slices.ContainsFunc(a.entries, func(e *assembly) bool { return len(e.parts) > maxParts }) {
			t.Errorf("part %+v was taken", bad)
		}
	}
}
