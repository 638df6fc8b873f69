package fields

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

var place = []byte("here")

func TestSealedMessagesAreReadWhereTheyBelong(t *testing.T) {
	want := full()
	sealed := Seal(3, place, &want)
	var got whole
	if err := Unseal(3, place, sealed, &got); err != nil {
		t.Fatal(err)
	}
	wantWhole(t, "unsealed", want, got)
	for _, elsewhere := range []string{"", "her", "here!", "there"} {
		if err := Unseal(3, []byte(elsewhere), sealed, new(whole)); !errors.Is(err, ErrMalformed) {
			t.Errorf("read at %q what belongs at %q: error %v", elsewhere, place, err)
		}
	}
}

func TestASealIsTheSameBehindWhateverItIsAppended(t *testing.T) {
	m := full()
	for _, before := range []string{"", "before"} {
		for _, room := range []int{0, 10, 1000} {
			sealed := AppendSealed(append(make([]byte, 0, len(before)+room), before...), 3, place, &m)
			if want := append([]byte(before), Seal(3, place, &m)...); !bytes.Equal(sealed, want) {
				t.Errorf("sealed behind %q, with room for %d bytes: %x, want %x", before, room, sealed, want)
			}
		}
	}
}

func TestANumberIsFoundBetweenOtherFields(t *testing.T) {
	sealed := Seal(3, place, raw("\x0a\x02\x10\x09"+"\x08\x01"+"\x10\xac\x02"+"\x18\x07"))
	if got := PeekUint(sealed, 2); got != 300 {
		t.Errorf("field 2 is %d, want 300", got)
	}
	if got := PeekUint(sealed, 4); got != 0 {
		t.Errorf("field 4 is %d, want none", got)
	}
	for n := range sealed {
		PeekUint(sealed[:n], 3) // does not panic
	}
}

func TestASealIsVersionChecksumAndMessage(t *testing.T) {
	// The checksum is CRC-32C of "123456789": the check value of its catalogue.
	sealed := Seal('4', []byte("123"), raw("56789"))
	if want := "4\xe3\x06\x92\x8356789"; string(sealed) != want {
		t.Errorf("sealed %q, want %q", sealed, want)
	}
}

// A raw message is written as it is.
type raw string

func (r raw) Fields(v Visitor) { v.Unknown([]byte(r)) }

func TestEveryFlippedBitOfASealedMessageIsFound(t *testing.T) {
	w := full()
	sealed := Seal(1, place, &w)
	for bit := range 8 * len(sealed) {
		damaged := bytes.Clone(sealed)
		damaged[bit/8] ^= 1 << (bit % 8)
		if err := Unseal(1, place, damaged, new(whole)); !errors.Is(err, ErrMalformed) {
			t.Errorf("bit %d flipped: error %v", bit, err)
		}
	}
}

func TestSealedMessagesCutShortAreFound(t *testing.T) {
	w := full()
	sealed := Seal(1, place, &w)
	for n := range sealed {
		if err := Unseal(1, place, sealed[:n], new(whole)); !errors.Is(err, ErrMalformed) {
			t.Errorf("cut to %d of %d bytes: error %v", n, len(sealed), err)
		}
	}
	if err := Unseal(1, place, append(sealed, 0), new(whole)); !errors.Is(err, ErrMalformed) {
		t.Errorf("a byte too many: error %v", err)
	}
}

func TestAnotherVersionIsNamed(t *testing.T) {
	err := Unseal(1, place, Seal(2, place, &whole{}), new(whole))
	if !errors.Is(err, ErrVersion) || errors.Is(err, ErrMalformed) || !strings.Contains(err.Error(), "format version 2, this program reads 1") {
		t.Errorf("error %v, want one that names both versions", err)
	}
	damaged := Seal(1, place, &whole{})
	damaged[0] = 2
	if err := Unseal(1, place, damaged, new(whole)); !errors.Is(err, ErrMalformed) {
		t.Errorf("error %v, want ErrMalformed: the version itself is damaged", err)
	}
}
