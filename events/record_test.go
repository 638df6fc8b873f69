package events

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"timberline/events/fields"
)

func raws(all ...Event) [][]byte {
	raws := make([][]byte, len(all))
	for i := range all {
		raws[i] = all[i].Encode()
	}
	return raws
}

func TestRecordsHoldTheirEventsAsTheyAre(t *testing.T) {
	r := rand.New(rand.NewPCG(13, 14))
	for n := range 30 {
		all := make([]Event, n)
		for i := range all {
			all[i] = randomEvent(r)
		}
		want := raws(all...)
		rec := NewRecord("j:7", 3, want)
		got, err := rec.Events("j:7", 3)
		if err != nil {
			t.Fatal(err)
		}
		if len(got) != n {
			t.Fatalf("%d events in, %d out", n, len(got))
		}
		size := len(NewRecord("j:7", 3, nil))
		for i := range got {
			if !bytes.Equal(got[i], want[i]) {
				t.Errorf("event %d of %d: %x, want %x", i, n, got[i], want[i])
			}
			size += RecordSize(want[i])
		}
		if size != len(rec) {
			t.Errorf("a record of %d events has %d bytes, RecordSize says %d", n, len(rec), size)
		}
	}
}

func TestARecordIsReadOnlyWhereItBelongs(t *testing.T) {
	rec := NewRecord("j:1", 2, raws(aMessage()))
	for _, test := range []struct {
		j  Journal
		at Offset
	}{{"j:1", 1}, {"j:1", 3}, {"j:2", 2}, {"j:11", 2}, {"g:1", 2}, {"", 2}, {"j:1", 2 << 8}} {
		got, err := rec.Events(test.j, test.at)
		if !errors.Is(err, ErrCorrupt) || got != nil {
			t.Errorf("read as record %d of %s: %d events, error %v, want ErrCorrupt", test.at, test.j, len(got), err)
		}
	}
	if _, err := rec.Events("j:4", 5); !strings.Contains(err.Error(), "record 5 of journal j:4") {
		t.Errorf("the error names no place: %v", err)
	}
}

func TestEveryFlippedBitOfARecordIsFound(t *testing.T) {
	rec := NewRecord("j:1", 1, raws(aMessage(), allFields()))
	for bit := range 8 * len(rec) {
		damaged := Record(bytes.Clone(rec))
		damaged[bit/8] ^= 1 << (bit % 8)
		if got, err := damaged.Events("j:1", 1); !errors.Is(err, ErrCorrupt) || got != nil {
			t.Errorf("bit %d flipped: %d events, error %v, want ErrCorrupt", bit, len(got), err)
		}
	}
}

func TestARecordCutShortIsFound(t *testing.T) {
	rec := NewRecord("j:1", 1, raws(aMessage(), allFields()))
	for n := range rec {
		if _, err := rec[:n].Events("j:1", 1); !errors.Is(err, ErrCorrupt) {
			t.Errorf("cut to %d of %d bytes: error %v, want ErrCorrupt", n, len(rec), err)
		}
	}
}

func TestRecordsOfOtherFormatsAreNamed(t *testing.T) {
	for _, version := range []byte{0, RecordVersion + 1} {
		rec := Record(fields.Seal(version, recordPlace("j:1", 1), &batch{}))
		want := fmt.Sprintf("format version %d, this program reads 1", version)
		if _, err := rec.Events("j:1", 1); !errors.Is(err, ErrFormat) || errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "record 1 of journal j:1") || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one that names both versions", err)
		}
	}
}
