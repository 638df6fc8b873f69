package wire

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/bufbuild/protocompile"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"timberline/events"
)

// schema returns what timberline.proto says.
func schema(t *testing.T) protoreflect.FileDescriptor {
	t.Helper()
	compiler := protocompile.Compiler{Resolver: &protocompile.SourceResolver{}}
	files, err := compiler.Compile(t.Context(), "timberline.proto")
	if err != nil {
		t.Fatal(err)
	}
	return files[0]
}

func TestSchemaReadsWhatTheCodeWritesAndBack(t *testing.T) {
	packet := schema(t).Messages().ByName("Packet")
	for _, s := range append(samples(), randomSamples(2000)...) {
		p := s.packet(Proto)
		ours := p.Encode()
		message := dynamicpb.NewMessage(packet)
		if err := proto.Unmarshal(ours[plainHeader:], message); err != nil {
			t.Fatalf("%s: %v", s.name, err)
		}
		noUnknown(t, s.name, message)
		theirs, err := proto.MarshalOptions{Deterministic: true}.Marshal(message)
		if err != nil {
			t.Fatalf("%s: %v", s.name, err)
		}
		if !bytes.Equal(theirs, ours[plainHeader:]) {
			t.Errorf("%s: the schema writes\n%x\nthe code\n%x", s.name, theirs, ours[plainHeader:])
		}
	}
}

func TestCodeReadsWhatTheSchemaWrites(t *testing.T) {
	packet := schema(t).Messages().ByName("Packet")
	r := rand.New(rand.NewPCG(2, 2))
	read := 0
	for range 5000 {
		message := dynamicpb.NewMessage(packet)
		fill(r, message)
		theirs, err := proto.MarshalOptions{Deterministic: true}.Marshal(message)
		if err != nil {
			t.Fatal(err)
		}
		p, err := Decode(append(AppendHeader(nil, Proto, events.SessionID{1}), theirs...))
		if err != nil {
			continue // too long, or beyond a limit that the schema cannot state
		}
		read++
		if ours := p.Encode()[plainHeader:]; !bytes.Equal(ours, theirs) {
			t.Errorf("the code writes\n%x\nthe schema\n%x", ours, theirs)
		}
	}
	if read < 2000 {
		t.Errorf("only %d packets were read", read)
	}
}

// noUnknown fails if a message, or one in it, has fields that the schema does not
// have.
func noUnknown(t *testing.T, name string, m protoreflect.Message) {
	t.Helper()
	if unknown := m.GetUnknown(); len(unknown) > 0 {
		t.Errorf("%s: the schema's %s does not have %x", name, m.Descriptor().Name(), unknown)
	}
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.Message() == nil:
		case f.IsList():
			for i := range v.List().Len() {
				noUnknown(t, name, v.List().Get(i).Message())
			}
		default:
			noUnknown(t, name, v.Message())
		}
		return true
	})
}

// fill sets fields of a message at random.
func fill(r *rand.Rand, m protoreflect.Message) {
	all := m.Descriptor().Fields()
	if m.Descriptor().Name() == "Frame" {
		f := all.Get(r.IntN(all.Len()))
		m.Set(f, randomValue(r, f, m.NewField(f)))
		return
	}
	for i := range all.Len() {
		f := all.Get(i)
		switch {
		case f.IsList():
			list := m.Mutable(f).List()
			for range r.IntN(3) {
				list.Append(randomValue(r, f, list.NewElement()))
			}
		case r.IntN(3) > 0:
			m.Set(f, randomValue(r, f, m.NewField(f)))
		}
	}
}

// randomValue returns a value for a field, or for an element of it; fresh is an
// empty one.
func randomValue(r *rand.Rand, f protoreflect.FieldDescriptor, fresh protoreflect.Value) protoreflect.Value {
	v := filler{r}
	switch f.Kind() {
	case protoreflect.MessageKind:
		fill(r, fresh.Message())
		return fresh
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(protoreflect.EnumNumber(r.IntN(f.Enum().Values().Len())))
	case protoreflect.Uint32Kind:
		return protoreflect.ValueOfUint32(uint32(v.Uint(0, "", 0)))
	case protoreflect.Uint64Kind:
		return protoreflect.ValueOfUint64(v.Uint(0, "", 0))
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(v.Bool(0, "", false))
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(v.String(0, "", ""))
	case protoreflect.BytesKind:
		if ids[f.Name()] {
			id := sampleID(byte(1 + r.IntN(9))) // not of zeros only: the code leaves that one out
			return protoreflect.ValueOfBytes(id[:])
		}
		return protoreflect.ValueOfBytes(v.Bytes(0, "", nil))
	}
	panic("the schema has a kind of field that this test does not know: " + f.Kind().String())
}

// ids are the names of bytes that are ids.
var ids = map[protoreflect.Name]bool{
	"attempt": true, "store": true, "session": true, "message": true, "id": true, "target": true, "read": true,
}
