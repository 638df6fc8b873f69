package fields

import (
	"bytes"
	"errors"
	"testing"
)

// Whatever is read means the same when it was written and read again.
func FuzzProto(f *testing.F) {
	w := full()
	f.Add(Append(nil, &w))
	f.Add([]byte("\x10\x02\x08\x01\x68\x01\x6a\x02\x02\x03\xf8\x01\x01"))
	f.Fuzz(func(t *testing.T, data []byte) {
		given := bytes.Clone(data)
		var first whole
		err := Unmarshal(data, &first)
		if !bytes.Equal(data, given) {
			t.Fatal("decoding has changed the input")
		}
		if err != nil {
			wantMalformed(t, err)
			return
		}
		stable(t, codecs[0], first)
		first.unknown = nil // JSON has no place for it
		first.Raws = nil    // nor for the way in which a part was written
		stable(t, codecs[1], first)
	})
}

func FuzzJSON(f *testing.F) {
	w := full()
	f.Add(AppendJSON(nil, &w))
	f.Add([]byte(` {"huge":7,"parts":[null,{"n":"1"}],"text":"\ud800","colour":"7","note":[]}` + "\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var first whole
		if err := UnmarshalJSON(data, &first); err != nil {
			wantMalformed(t, err)
			return
		}
		for _, c := range codecs {
			stable(t, c, first)
		}
	})
}

func FuzzUnseal(f *testing.F) {
	w := full()
	f.Add(Seal(1, place, &w), false)
	f.Add(Append(nil, &w), true)
	f.Fuzz(func(t *testing.T, data []byte, message bool) {
		if message { // of a seal whose checksum is right
			data = Seal(1, place, raw(data))
		}
		var got whole
		if err := Unseal(1, place, data, &got); err != nil {
			wantMalformed(t, err)
			return
		}
		stable(t, codecs[0], got)
	})
}

func wantMalformed(t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, ErrMalformed) {
		t.Fatalf("error %v, want ErrMalformed", err)
	}
}

// stable checks that w survives being written and read.
func stable(t *testing.T, c codec, w whole) {
	t.Helper()
	data := c.append(nil, &w)
	var again whole
	if err := c.read(data, &again); err != nil {
		t.Fatalf("%s does not read what it wrote: %v\n%q", c.name, err, data)
	}
	wantWhole(t, c.name, w, again)
	if second := c.append(nil, &again); !bytes.Equal(second, data) {
		t.Errorf("%s wrote\n%q\nand then\n%q", c.name, data, second)
	}
}
