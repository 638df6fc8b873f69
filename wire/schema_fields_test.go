package wire

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/reflect/protoreflect"

	"timberline/events"
	"timberline/events/fields"
)

func TestSchemaListsTheFieldsOfTheCode(t *testing.T) {
	file := schema(t)
	seen := map[protoreflect.Name]bool{"Packet": true, "Frame": true, "Event": true}
	frames := file.Messages().ByName("Frame").Fields()
	if frames.Len() != len(kinds)-1 {
		t.Errorf("the schema has %d kinds of frames, the code %d", frames.Len(), len(kinds)-1)
	}
	for k := 1; k < len(kinds); k++ {
		stated := frames.ByNumber(protoreflect.FieldNumber(k))
		switch {
		case stated == nil || string(stated.Name()) != kinds[k].name:
			t.Errorf("frame %d is %v in the schema, %q in the code", k, stated, kinds[k].name)
		default:
			compare(t, seen, stated.Message(), kinds[k].make())
		}
	}
	compare(t, seen, file.Messages().ByName("Event"), new(events.Event))
	for i := range file.Messages().Len() {
		if name := file.Messages().Get(i).Name(); !seen[name] {
			t.Errorf("the code has no %s", name)
		}
	}
}

// compare holds a message of the schema against the fields that the code visits,
// and so on with the messages in it.
func compare(t *testing.T, seen map[protoreflect.Name]bool, stated protoreflect.MessageDescriptor, m fields.Message) {
	t.Helper()
	seen[stated.Name()] = true
	var v lister
	m.Fields(&v) // leaves numbers as large as their types hold
	v = lister{}
	m.Fields(&v)
	var want []string
	for i := range stated.Fields().Len() {
		want = append(want, describe(stated.Fields().Get(i)))
	}
	slices.Sort(want)
	slices.Sort(v.fields)
	if diff := cmp.Diff(want, v.fields); diff != "" {
		t.Errorf("%s (- schema, + code):\n%s", stated.Name(), diff)
		return
	}
	for name, inner := range v.messages {
		compare(t, seen, stated.Fields().ByName(protoreflect.Name(name)).Message(), inner)
	}
}

// describe writes a field of the schema as a lister does.
func describe(f protoreflect.FieldDescriptor) string {
	kind := f.Kind().String()
	if f.Enum() != nil {
		kind += " of " + strings.Join(valueNames(f.Enum()), " ")
	}
	if f.IsList() {
		kind = "repeated " + kind
	}
	return fmt.Sprintf("%d %s %s", f.Number(), f.Name(), kind)
}

// valueNames returns the names of an enum's values as JSON has them. They must be
// numbered from 0 without gaps, as names in the code are.
func valueNames(e protoreflect.EnumDescriptor) []string {
	names := []string{""}
	for i := 1; i < e.Values().Len(); i++ {
		v := e.Values().Get(i)
		if int(v.Number()) != i {
			return []string{string(v.Name()), "is out of order"}
		}
		names = append(names, strings.ToLower(strings.TrimPrefix(string(v.Name()), strings.ToUpper(string(e.Name()))+"_")))
	}
	return names
}

// A lister writes down what is visited.
type lister struct {
	fields   []string
	messages map[string]fields.Message // of fields that hold messages
}

func (v *lister) add(num int, name, kind string) {
	v.fields = append(v.fields, fmt.Sprintf("%d %s %s", num, name, kind))
}

func (v *lister) message(num int, name, kind string, m fields.Message) {
	v.add(num, name, kind)
	if v.messages == nil {
		v.messages = make(map[string]fields.Message)
	}
	v.messages[name] = m
}

// Uint tells the type by the number that it was left with.
func (v *lister) Uint(num int, name string, x uint64) uint64 {
	if x == math.MaxUint32 {
		v.add(num, name, "uint32")
	} else {
		v.add(num, name, "uint64")
	}
	return math.MaxUint64
}

func (v *lister) Bool(num int, name string, x bool) bool {
	v.add(num, name, "bool")
	return x
}

func (v *lister) String(num int, name string, x string) string {
	v.add(num, name, "string")
	return x
}

func (v *lister) Bytes(num int, name string, x []byte) []byte {
	v.add(num, name, "bytes")
	return x
}

func (v *lister) Text(num int, name string, x []byte) []byte { return v.Bytes(num, name, x) }

func (v *lister) ID(num int, name string, x [16]byte) [16]byte {
	v.add(num, name, "bytes")
	return x
}

func (v *lister) Enum(num int, name string, x uint64, names []string) uint64 {
	v.add(num, name, "enum of "+strings.Join(names, " "))
	return x
}

func (v *lister) Embed(num int, name string, m fields.Message, present bool) bool {
	v.message(num, name, "message", m)
	return present
}

func (v *lister) List(num int, name string, n int, item func(int) fields.Message) {
	v.message(num, name, "repeated message", item(n))
}

func (v *lister) Uints(num int, name string, x []uint64) []uint64 {
	v.add(num, name, "repeated uint64")
	return x
}

func (v *lister) RawList(num int, name string, x [][]byte, m func() fields.Message) [][]byte {
	v.message(num, name, "repeated message", m())
	return x
}

func (v *lister) Unknown(x []byte) []byte { return x }
