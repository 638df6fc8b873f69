package wire

import (
	"bytes"
	"testing"

	"timberline/events"
)

// hot are the frames of a message's way that an edge handles once for each.
func hot() map[string]Frame {
	e := events.Event{
		ID: events.ID{1, 2}, Kind: events.KindMessage, Conversation: "d:alice,bob", Sender: "alice", Device: "phone",
		Session: events.SessionID{1}, Number: 7, Message: events.MessageID{3}, Body: bytes.Repeat([]byte("hello "), 10),
	}
	raw := e.Encode()
	return map[string]Frame{
		"send": &Send{Number: 300, Low: 290, To: "bob", Message: events.MessageID{3}, Body: bytes.Repeat([]byte("hello "), 10)},
		"ack":  &Ack{Through: 300, Offset: 1 << 20, Refused: []Refusal{{From: 299, To: 299, Reason: ReasonTooLarge}}, Held: []byte{3}},
		"push": &Push{From: 1 << 20, Events: [][]byte{raw}},
		"pong": &Pong{ID: 300, Head: 1 << 20, First: 1},
		"page": &Page{Sync: 3, From: 1 << 20, Events: [][]byte{raw, raw, raw}, Head: 1 << 21, First: 1},
	}
}

// skipUnderRace skips a test of allocations where sync.Pool drops things at
// random, so that races show.
func skipUnderRace(t *testing.T) {
	t.Helper()
	if raceEnabled {
		t.Skip("allocations are counted without -race")
	}
}

func TestHotFramesAreEncodedWithoutAllocating(t *testing.T) {
	skipUnderRace(t)
	for name, f := range hot() {
		buf := make([]byte, 0, MaxPacket)
		n := testing.AllocsPerRun(100, func() {
			buf = AppendFrame(AppendHeader(buf[:0], Proto, events.SessionID{1}), Proto, events.SessionID{1}, f)
		})
		if n != 0 {
			t.Errorf("%s: %v allocations, want none", name, n)
		}
	}
}

func TestDecodingAllocatesTheFrameAndItsStrings(t *testing.T) {
	skipUnderRace(t)
	const list = 1 // of frames, or of what a frame lists
	for name, want := range map[string]float64{
		"send": list + 1 + 1, // the frame, To
		"ack":  list + 1 + 2, // the frame, Refused and what visits it
		"push": list + 1 + 2, // the frame, Events and what visits them
		"pong": list + 1,
	} {
		p := Packet{Session: events.SessionID{1}, Frames: []Frame{hot()[name]}}
		data := p.Encode()
		n := testing.AllocsPerRun(100, func() {
			if _, err := Decode(data); err != nil {
				t.Error(err)
			}
		})
		if n > want {
			t.Errorf("%s: %v allocations, want at most %v", name, n, want)
		}
	}
}

func BenchmarkDecodeSend(b *testing.B) {
	for _, c := range bothCodecs {
		b.Run(c.String(), func(b *testing.B) {
			p := Packet{Codec: c, Session: events.SessionID{1}, Frames: []Frame{hot()["send"]}}
			data := p.Encode()
			b.ReportAllocs()
			b.SetBytes(int64(len(data)))
			for b.Loop() {
				if _, err := Decode(data); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkEncodeAck(b *testing.B)  { benchmarkEncode(b, "ack") }
func BenchmarkEncodePush(b *testing.B) { benchmarkEncode(b, "push") }

func benchmarkEncode(b *testing.B, name string) {
	for _, c := range bothCodecs {
		b.Run(c.String(), func(b *testing.B) {
			f, s := hot()[name], events.SessionID{1}
			buf := make([]byte, 0, MaxPacket)
			b.ReportAllocs()
			for b.Loop() {
				buf = AppendFrame(AppendHeader(buf[:0], c, s), c, s, f)
			}
			b.SetBytes(int64(len(buf)))
		})
	}
}
