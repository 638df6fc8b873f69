package fields

import (
	"bytes"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
)

func TestBothCodecsCarryEveryField(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	wholes := []whole{{}, full()}
	for range 300 {
		wholes = append(wholes, random(r))
	}
	for _, c := range codecs {
		for _, w := range wholes {
			data := c.append([]byte("before"), &w)
			if !bytes.HasPrefix(data, []byte("before")) {
				t.Fatalf("%s: wrote over what stood before", c.name)
			}
			var got whole
			if err := c.read(data[len("before"):], &got); err != nil {
				t.Fatalf("%s: %v\n%q", c.name, err, data)
			}
			wantWhole(t, c.name, w, got)
		}
	}
}

func TestFieldsAreWrittenAsTheFormatSays(t *testing.T) {
	id := [16]byte{0: 1, 15: 2}
	for _, test := range []struct {
		name  string
		w     whole
		proto string
		json  string
	}{
		{"nothing", whole{}, "", `{}`},
		{"one byte", whole{Huge: 127}, "\x08\x7f", `{"huge":"127"}`},
		{"two bytes", whole{Large: 300}, "\x10\xac\x02", `{"large":"300"}`},
		{"true", whole{Yes: true}, "\x28\x01", `{"yes":true}`},
		{"string", whole{Name: "a\"<"}, "\x32\x03a\"<", `{"name":"a\"<"}`},
		{"bytes", whole{Data: []byte{0xff}}, "\x3a\x01\xff", `{"data":"/w=="}`},
		{"body of text", whole{Body: []byte("hi")}, "\x42\x02hi", `{"text":"hi"}`},
		{"body of bytes", whole{Body: []byte{0xff}}, "\x42\x01\xff", `{"body":"/w=="}`},
		{"id", whole{ID: id}, "\x4a\x10" + string(id[:]), `{"id":"01000000000000000000000002"}`},
		{"name of a value", whole{Colour: 2}, "\x50\x02", `{"colour":"green"}`},
		{"value without a name", whole{Colour: 7}, "\x50\x07", `{"colour":"7"}`},
		{"empty part", whole{Part: &part{}}, "\x5a\x00", `{"part":{}}`},
		{"part", whole{Part: &part{N: 5}}, "\x5a\x02\x10\x05", `{"part":{"n":"5"}}`},
		{"parts", whole{Parts: []part{{N: 1}, {}}}, "\x62\x02\x10\x01\x62\x00", `{"parts":[{"n":"1"},{}]}`},
		{"packed numbers", whole{Numbers: []uint64{0, 300}}, "\x6a\x03\x00\xac\x02", `{"numbers":["0","300"]}`},
		{"parts kept encoded", whole{Raws: [][]byte{[]byte("\x10\x01")}}, "\xa2\x06\x02\x10\x01", `{"raws":[{"n":"1"}]}`},
		{
			"length of two bytes", whole{Part: &part{Name: strings.Repeat("x", 200)}},
			"\x5a\xcb\x01\x0a\xc8\x01" + strings.Repeat("x", 200), `{"part":{"name":"` + strings.Repeat("x", 200) + `"}}`,
		},
	} {
		if got := Append(nil, &test.w); string(got) != test.proto {
			t.Errorf("%s: protobuf is %q, want %q", test.name, got, test.proto)
		}
		if got := AppendJSON(nil, &test.w); string(got) != test.json {
			t.Errorf("%s: JSON is %s, want %s", test.name, got, test.json)
		}
	}
}

// A wide message has one number that is larger than the narrow one takes.
type wide struct{ N uint64 }

func (w *wide) Fields(v Visitor) {
	for num, name := range []string{1: "huge", "large", "middle", "small"} {
		if num > 0 {
			v.Uint(num, name, w.N)
		}
	}
	v.Uint(10, "colour", w.N)
}

func TestNumbersTooLargeForTheirTypeSaturate(t *testing.T) {
	for _, c := range codecs {
		for n, want := range map[uint64]whole{
			255:            {Huge: 255, Large: 255, Middle: 255, Small: 255, Colour: 255},
			256:            {Huge: 256, Large: 256, Middle: 256, Small: 255, Colour: 255},
			1 << 16:        {Huge: 1 << 16, Large: 1 << 16, Middle: math.MaxUint16, Small: 255, Colour: 255},
			1<<32 + 1:      {Huge: 1<<32 + 1, Large: math.MaxUint32, Middle: math.MaxUint16, Small: 255, Colour: 255},
			math.MaxUint64: {Huge: math.MaxUint64, Large: math.MaxUint32, Middle: math.MaxUint16, Small: 255, Colour: 255},
		} {
			var got whole
			if err := c.read(c.append(nil, &wide{n}), &got); err != nil {
				t.Fatalf("%s: %v", c.name, err)
			}
			wantWhole(t, c.name, want, got)
		}
	}
}

// A later message is a whole with fields that a whole does not know.
type later struct {
	whole
	Number uint64
	Note   string
}

func (l *later) Fields(v Visitor) {
	kept := l.whole.unknown
	l.whole.unknown = nil
	l.whole.Fields(v)
	l.whole.unknown = kept
	Uint(v, 50, "number", &l.Number)
	String(v, 200, "note", &l.Note)
}

func TestUnknownFieldsSurviveBeingDecodedAndEncoded(t *testing.T) {
	sent := later{full(), 7, "for later"}
	data := Append(nil, &sent)
	fixed := []byte("\xc9\x03\x01\x02\x03\x04\x05\x06\x07\x08") // field 57, of a wire type that has no visitor
	data = append(data, fixed...)
	var old whole
	if err := Unmarshal(data, &old); err != nil {
		t.Fatal(err)
	}
	known := old
	known.unknown = nil
	wantWhole(t, "known fields", full(), known)
	again := Append(nil, &old)
	if !bytes.HasSuffix(again, fixed) {
		t.Errorf("field 57 is not kept: %x", again)
	}
	var got later
	if err := Unmarshal(again, &got); err != nil {
		t.Fatal(err)
	}
	if got.Number != 7 || got.Note != "for later" {
		t.Errorf("the later program reads %d and %q after the older one, want 7 and %q", got.Number, got.Note, "for later")
	}
}

func TestUnknownFieldsAreSkippedWhereNobodyKeepsThem(t *testing.T) {
	var w whole
	if err := Unmarshal([]byte("\x5a\x04\x18\x01\x10\x05"), &w); err != nil || w.Part == nil || w.Part.N != 5 {
		t.Errorf("part %+v, error %v", w.Part, err)
	}
	w = whole{}
	if err := UnmarshalJSON([]byte(`{"note":[1,{"x":null}],"part":{"new":1,"n":"5"},"huge":"1"}`), &w); err != nil {
		t.Fatal(err)
	}
	wantWhole(t, "JSON", whole{Huge: 1, Part: &part{N: 5}}, w)
}

func TestDecodedBytesAliasProtobufAndCannotBeGrownIntoIt(t *testing.T) {
	data := Append(nil, &whole{Data: []byte("data"), Body: []byte("body"), Raws: [][]byte{{0x10, 1}, {0x10, 2}}})
	var w whole
	if err := Unmarshal(data, &w); err != nil {
		t.Fatal(err)
	}
	for _, b := range append(w.Raws, w.Data, w.Body) {
		if i := bytes.Index(data, b); i < 0 || &data[i] != &b[0] {
			t.Errorf("%q is a copy", b)
		}
		if cap(b) != len(b) {
			t.Errorf("%q has room for %d bytes more, which are others'", b, cap(b)-len(b))
		}
	}
}

func TestReadersAreUsedAgainWithoutTraces(t *testing.T) {
	for range 100 {
		var w whole
		if err := Unmarshal([]byte("\x08\x01\xff"), &w); err == nil {
			t.Fatal("a message that is cut short is read")
		}
		w = whole{}
		if err := Unmarshal([]byte("\x10\x02"), &w); err != nil {
			t.Fatalf("after a malformed message: %v", err)
		}
		wantWhole(t, "after a malformed message", whole{Large: 2}, w)
	}
}
