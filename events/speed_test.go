//go:build !race

package events

import (
	"testing"

	"timberline/events/fields"
)

// The race detector empties pools at random, so this is not tested under it.
func TestEncodingIntoRoomAndScanningDoNotAllocate(t *testing.T) {
	e := allFields()
	raw := e.Encode()
	room := make([]byte, 0, len(raw))
	for _, test := range []struct {
		what string
		do   func()
		most float64
	}{
		{"encoding", func() { fields.Append(room, &e) }, 0},
		{"EventID", func() { raw.EventID() }, 0},
		{"SessionID", func() { raw.SessionID() }, 0},
		{"Place", func() { raw.Place() }, 1}, // the conversation's name
	} {
		if n := testing.AllocsPerRun(1000, test.do); n > test.most {
			t.Errorf("%s allocates %v times, want at most %v", test.what, n, test.most)
		}
	}
}

func BenchmarkEncode(b *testing.B) {
	e := aMessage()
	b.ReportAllocs()
	for b.Loop() {
		e.Encode()
	}
}

func BenchmarkDecode(b *testing.B) {
	e := aMessage()
	raw := e.Encode()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := raw.Decode(); err != nil {
			b.Fatal(err)
		}
	}
}

// Of 100 messages: what an append seals, and what a projector opens.
func BenchmarkRecord(b *testing.B) {
	all := make([]Event, 100)
	for i := range all {
		all[i] = aMessage()
	}
	events := raws(all...)
	rec := NewRecord("j:1", 1, events)
	b.Run("seal", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(int64(len(rec)))
		for b.Loop() {
			NewRecord("j:1", 1, events)
		}
	})
	b.Run("open", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(int64(len(rec)))
		for b.Loop() {
			if _, err := rec.Events("j:1", 1); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkClock(b *testing.B) {
	c := onWall(b, &wall{noon}, 1)
	b.ReportAllocs()
	for b.Loop() {
		c.Next()
	}
}
