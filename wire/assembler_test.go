package wire

import (
	"bytes"
	"testing"

	"timberline/events"
)

// add gives the assembler a part with its index as data.
func add(a *Assembler, seq events.Seq, index, count uint32) (string, bool) {
	raw, ok := a.Add(&Part{Seq: seq, Index: index, Count: count, Data: []byte{'0' + byte(index)}})
	return string(raw), ok
}

func TestAssemblerKeepsItsOwnCopyOfAPart(t *testing.T) {
	var a Assembler
	packet := []byte("ab")
	a.Add(&Part{Seq: 1, Index: 0, Count: 2, Data: packet})
	copy(packet, "??")
	if raw, ok := a.Add(&Part{Seq: 1, Index: 1, Count: 2, Data: []byte("cd")}); !ok || string(raw) != "abcd" {
		t.Errorf("entry is %q, %v, want abcd: the packet's buffer is used again", raw, ok)
	}
}

func TestPushedAndSyncedPartsMakeUpOneEntry(t *testing.T) {
	var a Assembler
	a.Add(&Part{Seq: 1, Index: 0, Count: 2, Data: []byte("a")})
	if raw, ok := a.Add(&Part{Sync: 9, Seq: 1, Index: 1, Count: 2, Data: []byte("b")}); !ok || string(raw) != "ab" {
		t.Errorf("entry is %q, %v, want ab", raw, ok)
	}
}

func TestPartsOfEntriesMayInterleave(t *testing.T) {
	var a Assembler
	for index := range uint32(3) {
		for seq := range events.Seq(maxAssembling) {
			raw, ok := add(&a, 1+seq, index, 3)
			if ok != (index == 2) || ok && raw != "012" {
				t.Errorf("entry %d after part %d: %q, %v", 1+seq, index, raw, ok)
			}
		}
	}
	if len(a.entries) != 0 {
		t.Errorf("%d entries are kept after all were complete", len(a.entries))
	}
}

func TestOldestEntryMakesRoomForANewOne(t *testing.T) {
	var a Assembler
	for seq := range events.Seq(maxAssembling + 1) {
		add(&a, 1+seq, 0, 2)
	}
	if _, ok := add(&a, 2, 1, 2); !ok {
		t.Error("entry 2 is lost, though there was room for it")
	}
	if raw, ok := add(&a, 1, 1, 2); ok {
		t.Errorf("entry 1 is complete as %q, though its first part had to go", raw)
	}
	if raw, ok := add(&a, 1, 0, 2); !ok || raw != "01" {
		t.Errorf("entry 1 is %q, %v when its first part came again, want 01", raw, ok)
	}
}

func TestPartsCutOtherwiseAreNotMixed(t *testing.T) {
	var a Assembler
	add(&a, 1, 0, 3)
	if raw, ok := add(&a, 1, 1, 2); ok {
		t.Errorf("a part of three and one of two made %q", raw)
	}
	if raw, ok := add(&a, 1, 0, 2); !ok || raw != "01" {
		t.Errorf("entry is %q, %v, want both parts of two", raw, ok)
	}
}

func TestAssemblerRefusesPartsBeyondItsBounds(t *testing.T) {
	var a Assembler
	for name, f := range map[string]Part{
		"no count":     {Seq: 1, Data: []byte("x")},
		"index beyond": {Seq: 1, Index: 2, Count: 2, Data: []byte("x")},
		"too many":     {Seq: 1, Count: maxParts + 1, Data: []byte("x")},
		"no data":      {Seq: 1, Count: 1},
		"too long":     {Seq: 1, Count: 1, Data: make([]byte, maxPartBytes+1)},
	} {
		if raw, ok := a.Add(&f); ok || len(a.entries) > 0 {
			t.Errorf("%s: part was taken (%q, %v)", name, raw, ok)
		}
	}
	if raw, ok := a.Add(&Part{Seq: 1, Count: 1, Data: make([]byte, maxPartBytes)}); !ok || len(raw) != maxPartBytes {
		t.Error("the longest part, alone, is no entry")
	}
}

func TestLargestEntryFitsIntoWhatAnAssemblerTakes(t *testing.T) {
	e := sampleEvent("")
	e.Body = bytes.Repeat([]byte{0xff}, events.HardMaxBody)
	raw := e.Encode()
	for _, c := range bothCodecs {
		p := NewPacker(c, sampleID(2))
		AppendPages(p, Page{Sync: 1<<32 - 1, From: 1<<64 - 1, Head: 1<<64 - 1, First: 1<<64 - 1}, [][]byte{raw})
		var a Assembler
		var got []byte
		for _, f := range decodeAll(t, p.Packets()) {
			if whole, ok := a.Add(f.(*Part)); ok {
				got = whole
			}
		}
		if !bytes.Equal(got, raw) {
			t.Errorf("%v: an entry of %d bytes did not arrive whole", c, len(raw))
		}
	}
}

// Whatever parts come: what is kept has its bounds, and an entry is put together of
// all its parts, or not at all.
func FuzzAssembler(f *testing.F) {
	f.Add([]byte{1, 0, 2, 9, 1, 1, 2, 9})
	f.Add([]byte{1, 0, 1, 9, 2, 0, 2, 9, 3, 0, 2, 9, 4, 0, 2, 9, 5, 0, 2, 9, 6, 0, 2, 9, 2, 1, 2, 9})
	f.Fuzz(func(t *testing.T, script []byte) {
		var a Assembler
		for ; len(script) >= 4; script = script[4:] {
			part := Part{Seq: events.Seq(script[0] % 8), Index: uint32(script[1]), Count: uint32(script[2]), Data: make([]byte, int(script[3])*20)}
			for i := range part.Data {
				part.Data[i] = script[1]
			}
			raw, complete := a.Add(&part)
			if len(a.entries) > maxAssembling || complete != (raw != nil) {
				t.Fatalf("%d entries are kept; complete %v, of %d bytes", len(a.entries), complete, len(raw))
			}
			next := byte(0)
			for i, b := range raw {
				if b != next && (b != next+1 || i == 0) {
					t.Fatalf("part %d stands behind part %d", b, next)
				}
				next = b
			}
			if complete && int(next) != int(part.Count)-1 {
				t.Fatalf("an entry of %d parts ends with part %d", part.Count, next)
			}
			for _, e := range a.entries {
				if len(e.parts) > maxParts || e.missing < 1 || e.missing > len(e.parts) {
					t.Fatalf("%d of %d parts are missing", e.missing, len(e.parts))
				}
			}
		}
	})
}
