package wire

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"timberline/events"
	"timberline/events/fields"
)

func TestBothCodecsCarryTheSameFrames(t *testing.T) {
	carried := 0
	for _, s := range append(samples(), randomSamples(640)...) {
		for _, c := range bothCodecs {
			p := s.packet(c)
			data := p.Encode()
			if len(data) > MaxPacket {
				continue
			}
			carried++
			got, err := Decode(data)
			if err != nil {
				t.Errorf("%s in %v: %v\n%q", s.name, c, err, data)
				continue
			}
			if diff := cmp.Diff(p, got, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("%s in %v (- sent, + arrived):\n%s", s.name, c, diff)
			}
		}
	}
	if carried < 1200 {
		t.Errorf("only %d packets were small enough to be carried", carried)
	}
}

func TestFramesAreWrittenBehindWhatIsThere(t *testing.T) {
	for _, s := range samples() {
		for _, c := range bothCodecs {
			p := s.packet(c)
			b := AppendHeader([]byte("before"), c, s.session)
			for _, f := range s.frames {
				b = AppendFrame(b, c, s.session, f)
			}
			if want := append([]byte("before"), p.Encode()...); !bytes.Equal(b, want) {
				t.Errorf("%s in %v: wrote %q, want %q", s.name, c, b, want)
			}
		}
	}
}

func FuzzPacket(f *testing.F) {
	for _, s := range samples() {
		for _, c := range bothCodecs {
			p := s.packet(c)
			f.Add(p.Encode())
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		given := bytes.Clone(data)
		p, err := Decode(data)
		if !bytes.Equal(data, given) {
			t.Fatal("decoding has changed the packet")
		}
		if err != nil {
			if len(p.Frames) > 0 || p.Session != (events.SessionID{}) {
				t.Errorf("a malformed packet is returned all the same: %+v", p)
			}
			return
		}
		if s, ok := PeekSession(data); ok && s != p.Session {
			t.Errorf("session %v was seen before decoding, %v after", s, p.Session)
		}
		stable(t, p)
		crosses(t, p)
	})
}

// FuzzSealedFrames reads what was sealed: it names no session but in JSON.
func FuzzSealedFrames(f *testing.F) {
	for _, s := range samples() {
		p := s.packet(JSON)
		f.Add(p.Encode())
		p = s.packet(Proto)
		f.Add(p.Encode()[plainHeader:])
	}
	session := sampleID(2)
	f.Fuzz(func(t *testing.T, data []byte) {
		given := bytes.Clone(data)
		p, err := DecodeSealed(session, data)
		if !bytes.Equal(data, given) {
			t.Fatal("decoding has changed the packet")
		}
		if err != nil {
			if !errors.Is(err, ErrMalformed) || len(p.Frames) > 0 {
				t.Fatalf("%d frames, %v, want none and ErrMalformed", len(p.Frames), err)
			}
			return
		}
		if p.Session != session {
			t.Fatalf("a packet of session %v is said to be of %v", events.SessionID(session), p.Session)
		}
		stable(t, p)
		crosses(t, p)
	})
}

// crosses fails unless a packet that was read in one codec is the same when it was
// written and read in the other, frame by frame.
func crosses(t *testing.T, p Packet) {
	t.Helper()
	other := Packet{Codec: 1 - p.Codec, Session: p.Session}
	for _, f := range p.Frames {
		if inJSON(f) {
			other.Frames = append(other.Frames, f)
		}
	}
	data := other.Encode()
	if len(data) > MaxPacket || len(other.Frames) == 0 {
		return
	}
	again, err := Decode(data)
	if err != nil {
		t.Fatalf("%v of %+v: %v\n%q", other.Codec, other, err, data)
	}
	if diff := cmp.Diff(other, again, cmpopts.EquateEmpty()); diff != "" {
		t.Fatalf("%v, then %v (- before, + after):\n%s", p.Codec, other.Codec, diff)
	}
}

// stable fails unless what was decoded is written in a way that reads the same,
// in both codecs.
func stable(t *testing.T, p Packet) {
	t.Helper()
	for _, f := range p.Frames {
		for _, c := range bothCodecs {
			one := Packet{Codec: c, Session: p.Session, Frames: []Frame{f}}
			data := one.Encode()
			if len(data) > MaxPacket || c == JSON && !inJSON(f) {
				continue
			}
			again, err := Decode(data)
			if err != nil {
				t.Fatalf("%v of %+v: %v\n%q", c, f, err, data)
			}
			if diff := cmp.Diff(one, again, cmpopts.EquateEmpty()); diff != "" {
				t.Fatalf("%v (- decoded, + decoded again):\n%s", c, diff)
			}
			if twice := again.Encode(); !bytes.Equal(twice, data) {
				t.Fatalf("%v: wrote\n%q\nthen\n%q", c, data, twice)
			}
		}
	}
}

// inJSON reports whether JSON can hold a frame's events: they are passed on
// unread, so they may be damaged, of a later version, or written otherwise than
// this one does.
func inJSON(f Frame) bool {
	var raws [][]byte
	switch f := f.(type) {
	case *Push:
		raws = f.Events
	case *Page:
		raws = f.Events
	}
	for _, raw := range raws {
		var now events.Event
		if fields.Unmarshal(raw, &now) != nil || !bytes.Equal(withoutUnknown(now), raw) {
			return false
		}
	}
	return true
}

// withoutUnknown encodes the fields of an event that this version knows.
func withoutUnknown(e events.Event) []byte {
	var known events.Event
	if err := fields.UnmarshalJSON(e.AppendJSON(nil), &known); err != nil {
		return nil
	}
	return known.Encode()
}

// FuzzFrame starts from values, not from bytes: what a fuzzer of packets seldom
// puts together.
func FuzzFrame(f *testing.F) {
	for k := range kinds {
		f.Add(uint64(k), uint64(k))
	}
	f.Fuzz(func(t *testing.T, kind, seed uint64) {
		k := 1 + int(kind%uint64(len(kinds)-1))
		frame := randomFrame(rand.New(rand.NewPCG(seed, 0)), k)
		stable(t, Packet{Session: sampleID(2), Frames: []Frame{frame}})
	})
}

func FuzzFieldsInEitherCodec(f *testing.F) {
	for _, s := range samples() {
		for _, frame := range s.frames {
			k := uint8(frame.kind()) - 1
			f.Add(k, fields.Append(nil, frame))
			f.Add(k, fields.AppendJSON(nil, frame))
		}
	}
	f.Fuzz(func(t *testing.T, k uint8, data []byte) {
		for _, read := range []func([]byte, fields.Message) error{fields.Unmarshal, fields.UnmarshalJSON} {
			frame := newFrame(1 + uint64(k)%uint64(len(kinds)-1))
			if read(data, frame) != nil || check(frame) != nil {
				continue
			}
			stable(t, Packet{Session: sampleID(2), Frames: []Frame{frame}})
		}
	})
}
