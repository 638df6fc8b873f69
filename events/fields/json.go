package fields

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"unicode/utf8"

	"github.com/oklog/ulid/v2"
)

// AppendJSON encodes m as one JSON object behind b.
func AppendJSON(b []byte, m Message) []byte {
	w := jsonWriter{buf: b}
	w.object(m)
	return w.buf
}

// UnmarshalJSON decodes one JSON object into m, which must be zero. White space
// around it is accepted. The error wraps ErrMalformed.
func UnmarshalJSON(data []byte, m Message) error {
	var r jsonReader
	if !utf8.Valid(data) {
		r.fail("not UTF-8")
		return r.err
	}
	r.object(data, m)
	return r.err
}

// A jsonWriter appends fields to buf.
type jsonWriter struct {
	buf   []byte
	comma bool // the object being written has a field already
}

func (w *jsonWriter) object(m Message) {
	outer := w.comma
	w.buf, w.comma = append(w.buf, '{'), false
	m.Fields(w)
	w.buf, w.comma = append(w.buf, '}'), outer
}

func (w *jsonWriter) name(name string) {
	if w.comma {
		w.buf = append(w.buf, ',')
	}
	w.comma = true
	w.buf = append(w.buf, '"')
	w.buf = append(w.buf, name...)
	w.buf = append(w.buf, '"', ':')
}

func (w *jsonWriter) quote(s string) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(s); err != nil {
		panic("encoding a string: " + err.Error()) // a string always encodes
	}
	w.buf = append(w.buf, bytes.TrimSuffix(b.Bytes(), []byte("\n"))...)
}

func (w *jsonWriter) Uint(_ int, name string, x uint64) uint64 {
	if x != 0 {
		w.name(name)
		w.number(x)
	}
	return x
}

func (w *jsonWriter) number(x uint64) {
	w.buf = append(w.buf, '"')
	w.buf = strconv.AppendUint(w.buf, x, 10)
	w.buf = append(w.buf, '"')
}

func (w *jsonWriter) Bool(_ int, name string, x bool) bool {
	if x {
		w.name(name)
		w.buf = append(w.buf, "true"...)
	}
	return x
}

func (w *jsonWriter) String(_ int, name string, x string) string {
	if x != "" {
		w.name(name)
		w.quote(x)
	}
	return x
}

func (w *jsonWriter) Bytes(_ int, name string, x []byte) []byte {
	if len(x) != 0 {
		w.name(name)
		w.buf = append(w.buf, '"')
		w.buf = base64.StdEncoding.AppendEncode(w.buf, x)
		w.buf = append(w.buf, '"')
	}
	return x
}

func (w *jsonWriter) Text(num int, name string, x []byte) []byte {
	if utf8.Valid(x) {
		w.String(num, "text", string(x))
		return x
	}
	return w.Bytes(num, name, x)
}

func (w *jsonWriter) ID(_ int, name string, x [16]byte) [16]byte {
	if x != [16]byte{} {
		w.name(name)
		w.buf = append(w.buf, '"')
		w.buf = append(w.buf, ulid.ULID(x).String()...)
		w.buf = append(w.buf, '"')
	}
	return x
}

func (w *jsonWriter) Enum(num int, name string, x uint64, names []string) uint64 {
	if x < uint64(len(names)) {
		w.String(num, name, names[x])
		return x
	}
	return w.Uint(num, name, x)
}

func (w *jsonWriter) Embed(_ int, name string, m Message, present bool) bool {
	if present {
		w.name(name)
		w.object(m)
	}
	return present
}

// list writes n items in brackets; none are left out altogether.
func (w *jsonWriter) list(name string, n int, item func(i int)) {
	if n == 0 {
		return
	}
	w.name(name)
	w.buf = append(w.buf, '[')
	for i := range n {
		if i > 0 {
			w.buf = append(w.buf, ',')
		}
		item(i)
	}
	w.buf = append(w.buf, ']')
}

func (w *jsonWriter) List(_ int, name string, n int, item func(int) Message) {
	w.list(name, n, func(i int) { w.object(item(i)) })
}

func (w *jsonWriter) Uints(_ int, name string, x []uint64) []uint64 {
	w.list(name, len(x), func(i int) { w.number(x[i]) })
	return x
}

func (w *jsonWriter) RawList(_ int, name string, x [][]byte, m func() Message) [][]byte {
	w.list(name, len(x), func(i int) {
		msg := m()
		if err := Unmarshal(x[i], msg); err != nil {
			msg = m() // damaged bytes are found where they are read; here they are empty
		}
		w.object(msg)
	})
	return x
}

func (w *jsonWriter) Unknown(x []byte) []byte { return x }

// A jsonReader answers visits from the members of the current object.
type jsonReader struct {
	members map[string]json.RawMessage
	err     error
	depth   int
}

func (r *jsonReader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, args...))
	}
}

func (r *jsonReader) object(data []byte, m Message) {
	if r.depth++; r.depth > maxDepth {
		r.fail("nested more than %d deep", maxDepth)
		return
	}
	outer := r.members
	r.members = nil
	if err := json.Unmarshal(data, &r.members); err != nil {
		r.fail("not a JSON object: %v", err)
	}
	if r.err == nil {
		m.Fields(r)
	}
	r.members = outer
	r.depth--
}

// value decodes the named member into p; it reports false if there is none.
func (r *jsonReader) value(name string, p any) bool {
	raw, ok := r.members[name]
	if !ok || string(raw) == "null" {
		return false
	}
	if err := json.Unmarshal(raw, p); err != nil {
		r.fail("%q: %v", name, err)
		return false
	}
	return true
}

// A jsonNumber is a 64-bit number written as a string or as a number.
type jsonNumber uint64

func (n *jsonNumber) UnmarshalJSON(b []byte) error {
	x, err := strconv.ParseUint(string(bytes.Trim(b, `"`)), 10, 64)
	if err != nil {
		return fmt.Errorf("%s is not a whole number from 0 to 2^64-1", b)
	}
	*n = jsonNumber(x)
	return nil
}

func (r *jsonReader) Uint(_ int, name string, x uint64) uint64 {
	var n jsonNumber
	if r.value(name, &n) {
		return uint64(n)
	}
	return x
}

func (r *jsonReader) Bool(_ int, name string, x bool) bool {
	r.value(name, &x)
	return x
}

func (r *jsonReader) String(_ int, name string, x string) string {
	r.value(name, &x)
	return x
}

func (r *jsonReader) Bytes(_ int, name string, x []byte) []byte {
	r.value(name, &x)
	if len(x) == 0 {
		return nil
	}
	return x
}

func (r *jsonReader) Text(num int, name string, x []byte) []byte {
	var text string
	if r.value("text", &text) && text != "" {
		return []byte(text)
	}
	return r.Bytes(num, name, x)
}

func (r *jsonReader) ID(_ int, name string, x [16]byte) [16]byte {
	var text string
	if !r.value(name, &text) || text == "" {
		return x
	}
	id, err := ulid.ParseStrict(text)
	if err != nil {
		r.fail("%q: %q is not an id: want 26 characters of Crockford's base32", name, text)
		return x
	}
	return id
}

func (r *jsonReader) Enum(num int, name string, x uint64, names []string) uint64 {
	raw := r.members[name]
	if len(raw) == 0 || raw[0] != '"' {
		return r.Uint(num, name, x)
	}
	text := r.String(num, name, "")
	for i, known := range names {
		if text == known {
			return uint64(i)
		}
	}
	n, err := strconv.ParseUint(text, 10, 64) // how a value without a name is written
	if err != nil {
		return math.MaxUint64 // a name of a later version: no value that is known
	}
	return n
}

func (r *jsonReader) Embed(_ int, name string, m Message, present bool) bool {
	var raw json.RawMessage
	if !r.value(name, &raw) {
		return present
	}
	r.object(raw, m)
	return true
}

func (r *jsonReader) List(_ int, name string, n int, item func(int) Message) {
	var raws []json.RawMessage
	r.value(name, &raws)
	for i, raw := range raws {
		if r.err != nil {
			return
		}
		r.object(raw, item(n+i))
	}
}

func (r *jsonReader) Uints(_ int, name string, x []uint64) []uint64 {
	var ns []jsonNumber
	r.value(name, &ns)
	for _, n := range ns {
		x = append(x, uint64(n))
	}
	return x
}

func (r *jsonReader) RawList(_ int, name string, x [][]byte, m func() Message) [][]byte {
	var raws []json.RawMessage
	r.value(name, &raws)
	for _, raw := range raws {
		if r.err != nil {
			return x
		}
		msg := m()
		r.object(raw, msg)
		x = append(x, Append(nil, msg))
	}
	return x
}

func (r *jsonReader) Unknown(x []byte) []byte { return x }
