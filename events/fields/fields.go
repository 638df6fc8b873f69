package fields

import "errors"

// ErrMalformed is wrapped by every decoding error: the bytes are not a message
// of the type asked for. The caller rejects the input.
var ErrMalformed = errors.New("malformed message")

// A Message lists its fields to a Visitor.
type Message interface {
	// Fields calls the visitor once for each field, in the order of the field
	// numbers, and stores what comes back: when encoding, the value handed in;
	// when decoding, what the input holds, or the value handed in if it has no
	// such field.
	Fields(v Visitor)
}

// A Visitor reads or writes the fields of a message. Its implementations are
// the two codecs in both directions. num is the protobuf field number, name the
// JSON name.
type Visitor interface {
	Uint(num int, name string, x uint64) uint64
	Bool(num int, name string, x bool) bool
	String(num int, name string, x string) string
	Bytes(num int, name string, x []byte) []byte
	// Text is a body: in JSON a string named "text" if it is UTF-8, otherwise
	// base64 under name. Decoded bytes alias the input.
	Text(num int, name string, x []byte) []byte
	// ID is a 16-byte id; zero is left out.
	ID(num int, name string, x [16]byte) [16]byte
	// Enum is a number that JSON writes as names[x]; zero is left out.
	Enum(num int, name string, x uint64, names []string) uint64
	// Embed is a message within the message, present or not.
	Embed(num int, name string, m Message, present bool) bool
	// List is a repeated message of n items. A decoder calls item(n),
	// item(n+1), … for as many as it finds; item makes room.
	List(num int, name string, n int, item func(i int) Message)
	// Uints is a repeated (packed) number.
	Uints(num int, name string, x []uint64) []uint64
	// RawList is a repeated message kept encoded: x holds the protobuf bytes
	// of each, and m is one such message, used to translate from and to JSON.
	// Decoded bytes alias the input when it is protobuf.
	RawList(num int, name string, x [][]byte, m func() Message) [][]byte
	// Unknown is what a protobuf decoder found and nobody visited. It is
	// visited last.
	Unknown(x []byte) []byte
}

// Uint visits a number of any unsigned type.
func Uint[T ~uint8 | ~uint16 | ~uint32 | ~uint64](v Visitor, num int, name string, p *T) {
	x := v.Uint(num, name, uint64(*p))
	if uint64(T(x)) != x {
		x = uint64(^T(0)) // saturate: a validity check of the message refuses it
	}
	*p = T(x)
}

// Enum visits a number that has names.
func Enum[T ~uint8](v Visitor, num int, name string, p *T, names []string) {
	x := v.Enum(num, name, uint64(*p), names)
	if x > 255 {
		x = 255 // a value of a later version: unknown either way
	}
	*p = T(x)
}

// String visits a string of any type.
func String[T ~string](v Visitor, num int, name string, p *T) {
	*p = T(v.String(num, name, string(*p)))
}

// ID visits a 16-byte id of any type.
func ID[T ~[16]byte](v Visitor, num int, name string, p *T) {
	*p = T(v.ID(num, name, [16]byte(*p)))
}

// Bytes visits bytes. Decoded bytes alias the input when it is protobuf.
func Bytes(v Visitor, num int, name string, p *[]byte) {
	*p = v.Bytes(num, name, *p)
}

// Bool visits a truth value.
func Bool(v Visitor, num int, name string, p *bool) {
	*p = v.Bool(num, name, *p)
}

// Embed visits a message that may be missing.
func Embed[T any, P interface {
	*T
	Message
}](v Visitor, num int, name string, p **T) {
	m := *p
	if m == nil {
		if _, writes := v.(*protoWriter); writes {
			return // the same as below, without a message to allocate
		}
		m = new(T)
	}
	if v.Embed(num, name, P(m), *p != nil) {
		*p = m
	}
}

// List visits a repeated message.
func List[T any, P interface {
	*T
	Message
}](v Visitor, num int, name string, s *[]T) {
	if w, ok := v.(*protoWriter); ok { // the same as below, without a closure to allocate
		for i := range *s {
			w.embed(num, P(&(*s)[i]))
		}
		return
	}
	v.List(num, name, len(*s), func(i int) Message {
		if i == len(*s) {
			var zero T
			*s = append(*s, zero)
		}
		return P(&(*s)[i])
	})
}
