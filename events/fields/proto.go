package fields

import (
	"fmt"
	"sync"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
)

// Append encodes m as protobuf behind b. It allocates nothing if b has room.
func Append(b []byte, m Message) []byte {
	w := protoWriters.Get().(*protoWriter)
	w.buf = b
	m.Fields(w)
	b, w.buf = w.buf, nil
	protoWriters.Put(w)
	return b
}

// Unmarshal decodes protobuf into m, which must be zero. Byte fields of m alias
// data. The error wraps ErrMalformed.
func Unmarshal(data []byte, m Message) error {
	r := protoReaders.Get().(*protoReader)
	r.message(data, m)
	err := r.err
	r.reset()
	protoReaders.Put(r)
	return err
}

// Visitors are interfaces, so each would be allocated; they are used again
// instead.
var (
	protoWriters = sync.Pool{New: func() any { return new(protoWriter) }}
	protoReaders = sync.Pool{New: func() any { return new(protoReader) }}
)

// A protoWriter appends fields to buf.
type protoWriter struct {
	buf []byte
}

func (w *protoWriter) tag(num int, t protowire.Type) {
	w.buf = protowire.AppendTag(w.buf, protowire.Number(num), t)
}

func (w *protoWriter) Uint(num int, _ string, x uint64) uint64 {
	if x != 0 {
		w.tag(num, protowire.VarintType)
		w.buf = protowire.AppendVarint(w.buf, x)
	}
	return x
}

func (w *protoWriter) Bool(num int, name string, x bool) bool {
	w.Uint(num, name, protowire.EncodeBool(x))
	return x
}

func (w *protoWriter) String(num int, _ string, x string) string {
	if x != "" {
		w.tag(num, protowire.BytesType)
		w.buf = protowire.AppendString(w.buf, x)
	}
	return x
}

func (w *protoWriter) Bytes(num int, _ string, x []byte) []byte {
	if len(x) != 0 {
		w.tag(num, protowire.BytesType)
		w.buf = protowire.AppendBytes(w.buf, x)
	}
	return x
}

func (w *protoWriter) Text(num int, name string, x []byte) []byte {
	return w.Bytes(num, name, x)
}

func (w *protoWriter) ID(num int, _ string, x [16]byte) [16]byte {
	if x != [16]byte{} {
		w.tag(num, protowire.BytesType)
		w.buf = append(w.buf, 16)
		w.buf = append(w.buf, x[:]...)
	}
	return x
}

func (w *protoWriter) Enum(num int, name string, x uint64, _ []string) uint64 {
	return w.Uint(num, name, x)
}

func (w *protoWriter) Embed(num int, _ string, m Message, present bool) bool {
	if present {
		w.embed(num, m)
	}
	return present
}

// embed writes m with its length before it. One byte is kept for the length;
// a longer one moves what was written.
func (w *protoWriter) embed(num int, m Message) {
	w.tag(num, protowire.BytesType)
	w.buf = append(w.buf, 0)
	start := len(w.buf)
	m.Fields(w)
	size := len(w.buf) - start
	if extra := protowire.SizeVarint(uint64(size)) - 1; extra > 0 {
		w.buf = append(w.buf, make([]byte, extra)...)
		copy(w.buf[start+extra:], w.buf[start:start+size])
	}
	protowire.AppendVarint(w.buf[:start-1], uint64(size))
}

func (w *protoWriter) List(num int, _ string, n int, item func(int) Message) {
	for i := range n {
		w.embed(num, item(i))
	}
}

func (w *protoWriter) Uints(num int, _ string, x []uint64) []uint64 {
	if len(x) == 0 {
		return x
	}
	size := 0
	for _, u := range x {
		size += protowire.SizeVarint(u)
	}
	w.tag(num, protowire.BytesType)
	w.buf = protowire.AppendVarint(w.buf, uint64(size))
	for _, u := range x {
		w.buf = protowire.AppendVarint(w.buf, u)
	}
	return x
}

func (w *protoWriter) RawList(num int, _ string, x [][]byte, _ func() Message) [][]byte {
	for _, raw := range x {
		w.tag(num, protowire.BytesType)
		w.buf = protowire.AppendBytes(w.buf, raw)
	}
	return x
}

func (w *protoWriter) Unknown(x []byte) []byte {
	w.buf = append(w.buf, x...)
	return x
}

// A protoField is one field as found in the input. It says by numbers where in the message
// it is: the garbage collector has nothing to follow.
type protoField struct {
	num      protowire.Number
	typ      protowire.Type
	seen     bool
	val      uint64 // of a varint
	tag      int    // where it begins
	from, to int    // its bytes, if it is length-delimited; to is where it ends in any case
}

// A protoReader first splits a message into its fields, then answers the
// visits. Nested messages use the same slice as a stack.
type protoReader struct {
	fields []protoField
	base   int    // first field of the message being read
	data   []byte // that message
	err    error
	depth  int
}

// maxDepth bounds the nesting that a decoder follows; no message of ours nests
// deeper than four.
const maxDepth = 8

// maxKept bounds the room that a reader keeps for the next message, in fields: a
// full record has half as many.
const maxKept = 5120

// reset makes the reader ready for another message.
func (r *protoReader) reset() {
	kept := r.fields[:0]
	if cap(kept) > maxKept {
		kept = nil
	}
	*r = protoReader{fields: kept}
}

func (r *protoReader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, args...))
	}
}

func (r *protoReader) message(data []byte, m Message) {
	if r.depth++; r.depth > maxDepth {
		r.fail("nested more than %d deep", maxDepth)
		return
	}
	base, end, outer := r.base, len(r.fields), r.data
	r.base, r.data = end, data
	for at := 0; at < len(data) && r.err == nil; {
		at = r.split(at)
	}
	if r.err == nil {
		m.Fields(r)
	}
	r.fields, r.base, r.data = r.fields[:end], base, outer
	r.depth--
}

// split takes the field that begins at a place off the message, and returns where the next
// one does.
func (r *protoReader) split(at int) (next int) {
	num, typ, n := protowire.ConsumeTag(r.data[at:])
	if n < 0 {
		r.fail("bad tag")
		return at
	}
	f := protoField{num: num, typ: typ, tag: at}
	value, size := r.data[at+n:], 0
	switch typ {
	case protowire.VarintType:
		f.val, size = protowire.ConsumeVarint(value)
	case protowire.BytesType:
		var b []byte
		b, size = protowire.ConsumeBytes(value)
		f.from = at + n + size - len(b)
	default:
		size = protowire.ConsumeFieldValue(num, typ, value)
	}
	if size < 0 {
		r.fail("field %d is cut short", num)
		return at
	}
	f.to = at + n + size
	r.fields = append(r.fields, f)
	return f.to
}

// bytes returns those of a length-delimited field. To grow them is to copy them.
func (r *protoReader) bytes(f *protoField) []byte { return r.data[f.from:f.to:f.to] }

// find returns the last field of that number, as proto3 asks.
func (r *protoReader) find(num int, want protowire.Type) *protoField {
	var found *protoField
	for i := r.base; i < len(r.fields); i++ {
		f := &r.fields[i]
		if f.num != protowire.Number(num) {
			continue
		}
		f.seen = true
		if f.typ != want {
			r.fail("field %d has wire type %d, want %d", num, f.typ, want)
			return nil
		}
		found = f
	}
	return found
}

func (r *protoReader) Uint(num int, _ string, x uint64) uint64 {
	if f := r.find(num, protowire.VarintType); f != nil {
		return f.val
	}
	return x
}

func (r *protoReader) Bool(num int, _ string, x bool) bool {
	if f := r.find(num, protowire.VarintType); f != nil {
		return f.val != 0
	}
	return x
}

func (r *protoReader) String(num int, _ string, x string) string {
	f := r.find(num, protowire.BytesType)
	if f == nil {
		return x
	}
	b := r.bytes(f)
	if !utf8.Valid(b) {
		r.fail("field %d is not UTF-8", num)
	}
	return string(b)
}

func (r *protoReader) Bytes(num int, _ string, x []byte) []byte {
	f := r.find(num, protowire.BytesType)
	switch {
	case f == nil:
		return x
	case f.from == f.to:
		return nil // as if it were left out
	}
	return r.bytes(f)
}

func (r *protoReader) Text(num int, name string, x []byte) []byte {
	return r.Bytes(num, name, x)
}

func (r *protoReader) ID(num int, _ string, x [16]byte) [16]byte {
	f := r.find(num, protowire.BytesType)
	if f == nil || f.from == f.to {
		return x
	}
	b := r.bytes(f)
	if len(b) != 16 {
		r.fail("id in field %d has %d bytes, want 16", num, len(b))
		return x
	}
	return [16]byte(b)
}

func (r *protoReader) Enum(num int, name string, x uint64, _ []string) uint64 {
	return r.Uint(num, name, x)
}

func (r *protoReader) Embed(num int, _ string, m Message, present bool) bool {
	f := r.find(num, protowire.BytesType)
	if f == nil {
		return present
	}
	r.message(r.bytes(f), m)
	return true
}

func (r *protoReader) List(num int, _ string, n int, item func(int) Message) {
	r.each(num, func(data []byte) {
		r.message(data, item(n))
		n++
	})
}

// each calls do for every length-delimited field of that number. The slice of
// fields may move while nested messages are read, so it is indexed anew.
func (r *protoReader) each(num int, do func(data []byte)) {
	for i, end := r.base, len(r.fields); i < end && r.err == nil; i++ {
		f := &r.fields[i]
		if f.num != protowire.Number(num) {
			continue
		}
		f.seen = true
		if f.typ != protowire.BytesType {
			r.fail("field %d has wire type %d, want %d", num, f.typ, protowire.BytesType)
			return
		}
		do(r.bytes(f))
	}
}

func (r *protoReader) Uints(num int, _ string, x []uint64) []uint64 {
	for i := r.base; i < len(r.fields); i++ {
		f := &r.fields[i]
		if f.num != protowire.Number(num) {
			continue
		}
		f.seen = true
		switch f.typ {
		case protowire.VarintType: // not packed: allowed, too
			x = append(x, f.val)
		case protowire.BytesType:
			x = r.packed(num, r.bytes(f), x)
		default:
			r.fail("field %d has wire type %d, want packed numbers", num, f.typ)
		}
	}
	return x
}

func (r *protoReader) packed(num int, data []byte, x []uint64) []uint64 {
	for len(data) > 0 {
		u, n := protowire.ConsumeVarint(data)
		if n < 0 {
			r.fail("field %d is cut short", num)
			return x
		}
		x, data = append(x, u), data[n:]
	}
	return x
}

func (r *protoReader) RawList(num int, _ string, x [][]byte, _ func() Message) [][]byte {
	r.each(num, func(data []byte) {
		if x == nil {
			x = make([][]byte, 0, len(r.fields)-r.base) // a message of many fields has many of these
		}
		x = append(x, data)
	})
	return x
}

func (r *protoReader) Unknown(x []byte) []byte {
	for i := r.base; i < len(r.fields); i++ {
		if f := &r.fields[i]; !f.seen {
			x = append(x, r.data[f.tag:f.to]...)
		}
	}
	return x
}
