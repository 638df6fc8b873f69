package fields

import (
	"errors"
	"strings"
	"testing"
)

func TestOtherWritersMayWriteOtherwise(t *testing.T) {
	for _, test := range []struct {
		name string
		read func([]byte, Message) error
		data string
		want whole
	}{
		{"any order", Unmarshal, "\x10\x02\x08\x01", whole{Huge: 1, Large: 2}},
		{"the last of two", Unmarshal, "\x08\x01\x08\x02", whole{Huge: 2}},
		{"zero written out", Unmarshal, "\x08\x00\x28\x00\x32\x00\x3a\x00\x4a\x00", whole{}},
		{"numbers not packed", Unmarshal, "\x68\x01\x68\x02", whole{Numbers: []uint64{1, 2}}},
		{"numbers packed in part", Unmarshal, "\x68\x01\x6a\x02\x02\x03", whole{Numbers: []uint64{1, 2, 3}}},
		{"more bytes for a number than it needs", Unmarshal, "\x08\x81\x00", whole{Huge: 1}},
		{"any truth but zero", Unmarshal, "\x28\x05", whole{Yes: true}},

		{"white space", UnmarshalJSON, " { \"huge\" : \"1\" }\n", whole{Huge: 1}},
		{"a number without quotes", UnmarshalJSON, `{"huge":18446744073709551615}`, whole{Huge: 1<<64 - 1}},
		{"null", UnmarshalJSON, `{"huge":null,"yes":null,"name":null,"data":null,"text":null,"id":null,"part":null,"parts":null}`, whole{}},
		{"empty", UnmarshalJSON, `{"name":"","data":"","text":"","id":"","parts":[],"numbers":[]}`, whole{}},
		{"false", UnmarshalJSON, `{"yes":false}`, whole{}},
		{"the last of two names", UnmarshalJSON, `{"huge":"1","huge":"2"}`, whole{Huge: 2}},
		{"an id in lower case", UnmarshalJSON, `{"id":"0000000000000000000000000z"}`, whole{ID: [16]byte{15: 31}}},
		{"a value by number", UnmarshalJSON, `{"colour":2}`, whole{Colour: 2}},
		{"a value by number in quotes", UnmarshalJSON, `{"colour":"2"}`, whole{Colour: 2}},
		{"a body of text in base64", UnmarshalJSON, `{"body":"aGk="}`, whole{Body: []byte("hi")}},
		{"escapes", UnmarshalJSON, `{"text":"\u00e4\ud83d\ude00\n"}`, whole{Body: []byte("ä😀\n")}},
	} {
		var got whole
		if err := test.read([]byte(test.data), &got); err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		wantWhole(t, test.name, test.want, got)
	}
}

func TestMalformedInputIsRefusedWithItsReason(t *testing.T) {
	for _, test := range []struct {
		read       func([]byte, Message) error
		data, says string
	}{
		{Unmarshal, "\x08", "field 1 is cut short"},
		{Unmarshal, "\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", "field 1 is cut short"}, // above 2^64
		{Unmarshal, "\x80", "bad tag"},
		{Unmarshal, "\x00\x00", "bad tag"}, // field 0
		{Unmarshal, "\x3a\x05abcd", "field 7 is cut short"},
		{Unmarshal, "\x3a\xff\xff\xff\xff\xff\xff\xff\xff\x7f", "field 7 is cut short"},
		{Unmarshal, "\x0a\x00", "field 1 has wire type 2, want 0"},
		{Unmarshal, "\x38\x01", "field 7 has wire type 0, want 2"},
		{Unmarshal, "\x60\x01", "field 12 has wire type 0, want 2"},
		{Unmarshal, "\xa0\x06\x01", "field 100 has wire type 0, want 2"},
		{Unmarshal, "\x6d\x00\x00\x00\x00", "field 13 has wire type 5, want packed numbers"},
		{Unmarshal, "\x6a\x01\x80", "field 13 is cut short"},
		{Unmarshal, "\x32\x01\xff", "field 6 is not UTF-8"},
		{Unmarshal, "\x4a\x0f0123456789abcde", "id in field 9 has 15 bytes, want 16"},
		{Unmarshal, "\x4a\x110123456789abcdefg", "id in field 9 has 17 bytes, want 16"},
		{Unmarshal, "\x5a\x02\x10", "field 11 is cut short"},
		{Unmarshal, "\x5a\x01\x10", "field 2 is cut short"},
		{Unmarshal, "\x62\x01\x10", "field 2 is cut short"},
		{Unmarshal, "\xf3\x01\x08\x01", "field 30 is cut short"}, // a group without an end

		{UnmarshalJSON, ``, "not a JSON object"},
		{UnmarshalJSON, `[]`, "not a JSON object"},
		{UnmarshalJSON, `{} {}`, "not a JSON object"},
		{UnmarshalJSON, `{"name":"` + "\xff" + `"}`, "not UTF-8"},
		{UnmarshalJSON, `{"huge":-1}`, `"huge": -1 is not a whole number from 0 to 2^64-1`},
		{UnmarshalJSON, `{"huge":1.5}`, `"huge": 1.5 is not a whole number`},
		{UnmarshalJSON, `{"huge":18446744073709551616}`, `"huge": 18446744073709551616 is not a whole number`},
		{UnmarshalJSON, `{"huge":"x"}`, `"huge": "x" is not a whole number`},
		{UnmarshalJSON, `{"yes":"true"}`, `"yes"`},
		{UnmarshalJSON, `{"name":1}`, `"name"`},
		{UnmarshalJSON, `{"data":"?"}`, `"data"`},
		{UnmarshalJSON, `{"text":{}}`, `"text"`},
		{UnmarshalJSON, `{"id":"0123"}`, `"id": "0123" is not an id: want 26 characters`},
		{UnmarshalJSON, `{"id":"U0000000000000000000000000"}`, `is not an id`},
		{UnmarshalJSON, `{"colour":{}}`, `"colour"`},
		{UnmarshalJSON, `{"part":[]}`, "not a JSON object"},
		{UnmarshalJSON, `{"parts":{}}`, `"parts"`},
		{UnmarshalJSON, `{"parts":[{"n":-1}]}`, `"n": -1`},
		{UnmarshalJSON, `{"raws":[{"n":-1}]}`, `"n": -1`},
		{UnmarshalJSON, `{"numbers":[-1]}`, `"numbers": -1`},
	} {
		err := test.read([]byte(test.data), new(whole))
		if !errors.Is(err, ErrMalformed) || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%q: error %v, want one that says: %s", test.data, err, test.says)
		}
	}
}

func TestDamagedPartsThatAreKeptEncodedAreEmptyInJSON(t *testing.T) {
	got := AppendJSON(nil, &whole{Raws: [][]byte{{0x10}, {0x10, 1}}})
	if want := `{"raws":[{},{"n":"1"}]}`; string(got) != want {
		t.Errorf("wrote %s, want %s", got, want)
	}
}

// A nest holds another, as deep as its number says.
type nest struct {
	depth int
	inner *nest
}

func (n *nest) Fields(v Visitor) {
	inner := n.inner
	if inner == nil {
		inner = &nest{depth: n.depth - 1}
	}
	if v.Embed(1, "inner", inner, n.depth > 1) {
		n.inner = inner
	}
}

func TestNestingIsBounded(t *testing.T) {
	for _, c := range codecs {
		if err := c.read(c.append(nil, &nest{depth: maxDepth}), new(nest)); err != nil {
			t.Errorf("%s: %d deep: %v", c.name, maxDepth, err)
		}
		for _, depth := range []int{maxDepth + 1, 1000} {
			err := c.read(c.append(nil, &nest{depth: depth}), new(nest))
			if !errors.Is(err, ErrMalformed) || !strings.Contains(err.Error(), "nested more than 8 deep") {
				t.Errorf("%s: %d deep: error %v, want that it is nested too deep", c.name, depth, err)
			}
		}
	}
}
