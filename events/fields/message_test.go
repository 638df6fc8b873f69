package fields

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// A colour has names, and values that have none yet.
type colour uint8

var colours = []string{"", "red", "green"}

// A whole has a field of every kind.
type whole struct {
	Huge    uint64
	Large   uint32
	Middle  uint16
	Small   uint8
	Yes     bool
	Name    string
	Data    []byte
	Body    []byte
	ID      [16]byte
	Colour  colour
	Part    *part
	Parts   []part
	Numbers []uint64
	Raws    [][]byte // each a part

	unknown []byte
}

func (w *whole) Fields(v Visitor) {
	Uint(v, 1, "huge", &w.Huge)
	Uint(v, 2, "large", &w.Large)
	Uint(v, 3, "middle", &w.Middle)
	Uint(v, 4, "small", &w.Small)
	Bool(v, 5, "yes", &w.Yes)
	String(v, 6, "name", &w.Name)
	Bytes(v, 7, "data", &w.Data)
	w.Body = v.Text(8, "body", w.Body)
	ID(v, 9, "id", &w.ID)
	Enum(v, 10, "colour", &w.Colour, colours)
	Embed(v, 11, "part", &w.Part)
	List(v, 12, "parts", &w.Parts)
	w.Numbers = v.Uints(13, "numbers", w.Numbers)
	w.Raws = v.RawList(100, "raws", w.Raws, func() Message { return new(part) })
	w.unknown = v.Unknown(w.unknown)
}

// A part is a message within a message. It keeps no unknown fields.
type part struct {
	Name string
	N    uint64
}

func (p *part) Fields(v Visitor) {
	String(v, 1, "name", &p.Name)
	Uint(v, 2, "n", &p.N)
}

// A codec is one of the two, for tests that hold for both.
type codec struct {
	name   string
	append func([]byte, Message) []byte
	read   func([]byte, Message) error
}

var codecs = []codec{
	{"protobuf", Append, Unmarshal},
	{"JSON", AppendJSON, UnmarshalJSON},
}

// full is a whole with every field set.
func full() whole {
	return whole{
		Huge: math.MaxUint64, Large: 300, Middle: 2, Small: 1, Yes: true, Name: "käfer\"\n", Data: []byte{0, 0xff},
		Body: []byte("<hi> \u2028"), ID: [16]byte{1, 15: 0xfe}, Colour: 2, Part: &part{"p", 1},
		Parts: []part{{}, {"q", 2}}, Numbers: []uint64{0, 1, 1 << 40},
		Raws: [][]byte{Append(nil, &part{"r", 3}), {}},
	}
}

// random returns a whole in which each field may be missing.
func random(r *rand.Rand) whole {
	w := full()
	drop := func(clear func()) {
		if r.IntN(3) == 0 {
			clear()
		}
	}
	number := func() uint64 { return r.Uint64() >> r.IntN(64) }
	w.Huge, w.Large, w.Middle, w.Small = number(), uint32(number()), uint16(number()), uint8(number())
	w.Name, w.Data, w.Body = text(r), noise(r), []byte(text(r))
	w.Colour = colour(r.IntN(256))
	w.Part.N = number()
	w.Parts = make([]part, r.IntN(4))
	for i := range w.Parts {
		w.Parts[i] = part{text(r), number()}
	}
	w.Numbers = make([]uint64, r.IntN(50))
	for i := range w.Numbers {
		w.Numbers[i] = number()
	}
	drop(func() { w.Yes = false })
	drop(func() { w.Body = noise(r) })
	drop(func() { w.ID = [16]byte{} })
	drop(func() { w.Colour = 0 })
	drop(func() { w.Part = nil })
	drop(func() { w.Raws = nil })
	return w
}

// text is up to 200 characters of all kinds: lengths of one byte and of two.
func text(r *rand.Rand) string {
	runes := make([]rune, r.IntN(200))
	for i := range runes {
		runes[i] = rune(r.IntN([]int{0x80, 0x3000, 0xd800}[r.IntN(3)]))
	}
	return string(runes)
}

func noise(r *rand.Rand) []byte {
	b := make([]byte, r.IntN(200))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func wantWhole(t *testing.T, why string, want, got whole) {
	t.Helper()
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(whole{}), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("%s (- want, + got):\n%s", why, diff)
	}
}
