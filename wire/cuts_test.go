package wire

import (
	"bytes"
	"strings"
	"testing"

	"timberline/events"
)

// A client puts an entry together from whatever parts arrive: pushed ones, and
// those of several syncs. So all must be cut at the same places.
func TestEntryIsCutAlikeWhetherPushedOrSynced(t *testing.T) {
	for _, c := range bothCodecs {
		for _, size := range []int{2000, 16 << 10, 20_000, events.HardMaxBody} {
			e := sampleEvent(strings.Repeat("0123456789", size/10))
			pushed := cuts(t, c, e, 0)
			for _, sync := range []uint32{1, 200, 1 << 20, 1<<32 - 1} {
				synced := cuts(t, c, e, sync)
				if len(pushed) != len(synced) {
					t.Fatalf("%v: a body of %d bytes is pushed in %d parts, synced (id %d) in %d", c, size, len(pushed), sync, len(synced))
				}
				for i := range pushed {
					if !bytes.Equal(pushed[i].Data, synced[i].Data) {
						t.Fatalf("%v: part %d of a body of %d bytes has %d bytes pushed, %d synced (id %d)", c, i, size, len(pushed[i].Data), len(synced[i].Data), sync)
					}
				}
			}
		}
	}
}

// cuts returns the parts of an entry as the answer to a sync, or pushed.
func cuts(t *testing.T, c Codec, e events.Event, sync uint32) (parts []*Part) {
	t.Helper()
	p := NewPacker(c, sampleID(2))
	if raws := [][]byte{e.Encode()}; sync == 0 {
		AppendPushes(p, 7, raws, false)
	} else {
		AppendPages(p, Page{Sync: sync, From: 7}, raws)
	}
	for _, data := range p.Packets() {
		packet, err := Decode(data)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range packet.Frames {
			if part, ok := f.(*Part); ok {
				parts = append(parts, part)
			}
		}
	}
	return parts
}
