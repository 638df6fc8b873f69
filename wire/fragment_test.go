package wire

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"timberline/events"
)

// longest returns a send whose other fields are as long as they can be valid.
func longest(body []byte) Send {
	return Send{
		Number: 1<<63 - 1, Low: 1<<63 - 1, To: events.User(strings.Repeat("u", 64)), Message: sampleID(3),
		Type: strings.Repeat("t", 64), Body: body,
	}
}

func TestBodyOfTheDefaultLimitFitsIntoOneSend(t *testing.T) {
	for name, unit := range map[string]string{"plain": "x", "escaped": `"`, "rune": "𝄞", "line separator": "\u2028", "no text": "\xff"} {
		for _, c := range bothCodecs {
			body := []byte(strings.Repeat(unit, events.DefaultMaxBody/len(unit)))
			frames, err := Fragment(c, longest(body))
			if err != nil || len(frames) > MaxFragments {
				t.Errorf("%s in %v: %d frames, %v", name, c, len(frames), err)
			}
		}
	}
	if _, err := Fragment(Proto, longest(make([]byte, events.HardMaxBody))); err != nil {
		t.Errorf("the largest body that can be configured: %v", err)
	}
}

func TestSendThatDoesNotFitIsRefused(t *testing.T) {
	large := strings.Repeat("x", MaxPacket)
	for name, s := range map[string]Send{
		"body":                  {Number: 1, Body: bytes.Repeat([]byte("x"), 1<<20)},
		"content type":          {Number: 1, Type: large, Body: []byte("x")},
		"content type, no body": {Number: 1, Type: large},
		"recipient":             {Number: 1, To: events.User(large), Body: []byte("x")},
	} {
		for _, c := range bothCodecs {
			if frames, err := Fragment(c, s); !errors.Is(err, ErrTooManyFragments) {
				t.Errorf("%s in %v: %d frames, %v; want ErrTooManyFragments", name, c, len(frames), err)
			}
		}
	}
}

func TestFragmentsFitWhateverTheContentTypeLeavesThem(t *testing.T) {
	for _, body := range []string{"", "\x01", "ab", strings.Repeat("\x01", 100), strings.Repeat("\xff", 100)} {
		for n := range MaxPacket {
			for _, c := range bothCodecs {
				frames, err := Fragment(c, Send{Number: 1, Type: strings.Repeat("t", n), Body: []byte(body)})
				if err != nil {
					continue
				}
				if got := arrived(t, c, frames); string(got) != body {
					t.Errorf("content type of %d bytes in %v: %q arrived as %q", n, c, body, got)
				}
			}
		}
	}
}

// arrived sends each frame in a packet of its own and returns their bodies.
func arrived(t *testing.T, c Codec, frames []Send) []byte {
	t.Helper()
	if len(frames) == 0 {
		t.Error("there are no frames")
	}
	var body []byte
	for i := range frames {
		p := Packet{Codec: c, Session: sampleID(2), Frames: []Frame{&frames[i]}}
		body = append(body, decodeAll(t, [][]byte{p.Encode()})[0].(*Send).Body...)
	}
	return body
}

func TestControlCharactersCostMoreThanTheyWeighInJSON(t *testing.T) {
	body := bytes.Repeat([]byte{1}, events.DefaultMaxBody)
	if _, err := Fragment(JSON, longest(body)); !errors.Is(err, ErrTooManyFragments) {
		t.Errorf("in JSON: %v, want ErrTooManyFragments: each takes six bytes", err)
	}
	if _, err := Fragment(Proto, longest(body)); err != nil {
		t.Errorf("in protobuf: %v", err)
	}
}

func TestWholeSendNamesNoFragments(t *testing.T) {
	for _, c := range bothCodecs {
		whole := Send{Number: 5, Low: 4, To: "bob", Message: sampleID(3), Body: []byte("hello"), Fragment: 7, Fragments: 9}
		frames, err := Fragment(c, whole)
		if err != nil || len(frames) != 1 || frames[0].Fragment != 0 || frames[0].Fragments != 0 {
			t.Errorf("%v: %+v, %v; want one frame that is whole", c, frames, err)
		}
	}
}

func FuzzFragment(f *testing.F) {
	for _, body := range bodies() {
		f.Add(body, "bob", "text/plain", true)
		f.Add(body, "bob", "", false)
	}
	f.Fuzz(func(t *testing.T, body []byte, to, contentType string, inJSON bool) {
		c := Proto
		if inJSON {
			c = JSON
		}
		if len(body) > events.HardMaxBody {
			return
		}
		frames, err := Fragment(c, Send{Number: 1, To: events.User(strings.ToValidUTF8(to, "")), Type: strings.ToValidUTF8(contentType, ""), Body: body})
		if err != nil {
			return
		}
		if got := arrived(t, c, frames); !bytes.Equal(got, body) {
			t.Errorf("%v: %q arrived as %q", c, body, got)
		}
	})
}
