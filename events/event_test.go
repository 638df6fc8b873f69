package events

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"timberline/events/fields"
)

// aMessage is what most events are: alice's third send of a session.
func aMessage() Event {
	return Event{
		ID: filled(0x01), Kind: KindMessage, Conversation: Direct("alice", "bob"), Sender: "alice", Device: "phone",
		Session: filled(0x20), Number: 3, Message: filled(0x40), Body: []byte("hello, bob"),
	}
}

// allFields is an event with every field set, and one of a later version.
func allFields() Event {
	return Event{
		ID: filled(0x01), Kind: KindReaction, Conversation: "g:01J0000000000000000000000A", Sender: "alice", Device: "phone",
		Session: filled(0x20), Number: 300, GroupVersion: 70000, Message: filled(0x40), ContentType: "image/png",
		Body: []byte{0x89, 'P', 'N', 'G', 0xff}, Target: filled(0x60), unknown: []byte("\xfa\x01\x05later"),
	}
}

// filled returns 16 bytes that count up.
func filled(from byte) (id [16]byte) {
	for i := range id {
		id[i] = from + byte(i)
	}
	return id
}

func randomEvent(r *rand.Rand) Event {
	e := allFields()
	e.ID, e.Session, e.Message = randomID(r), randomID(r), randomID(r)
	e.Kind = Kind(r.IntN(256))
	e.Number, e.GroupVersion = Number(r.Uint64()>>r.IntN(64)), Offset(r.Uint64()>>r.IntN(64))
	e.Conversation = Direct(randomUser(r), randomUser(r))
	e.Body = make([]byte, r.IntN(300))
	for i := range e.Body {
		e.Body[i] = byte(r.IntN(0x80 + 0x80*r.IntN(2)))
	}
	if r.IntN(2) == 0 {
		e.ContentType, e.Target, e.unknown = "", ID{}, nil
	}
	return e
}

func randomID(r *rand.Rand) (id [16]byte) {
	for i := range id {
		id[i] = byte(r.Uint32())
	}
	return id
}

func randomUser(r *rand.Rand) User {
	name := make([]byte, 1+r.IntN(maxName))
	for i := range name {
		name[i] = "abcXYZ019_.-"[r.IntN(12)]
	}
	return User(name)
}

func wantEvent(t *testing.T, why string, want, got Event) {
	t.Helper()
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(Event{}), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("%s (- want, + got):\n%s", why, diff)
	}
}

func TestEventsAreReadAsTheyWereWritten(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	all := []Event{{}, aMessage(), allFields()}
	for range 300 {
		all = append(all, randomEvent(r))
	}
	for _, e := range all {
		got, err := e.Encode().Decode()
		if err != nil {
			t.Fatal(err)
		}
		wantEvent(t, "protobuf", e, got)

		var fromJSON Event
		if err := fields.UnmarshalJSON(e.AppendJSON(nil), &fromJSON); err != nil {
			t.Fatal(err)
		}
		e.unknown = nil // JSON shows what this program knows
		wantEvent(t, "JSON", e, fromJSON)
	}
}

func TestEventsOfALaterVersionSurvive(t *testing.T) {
	e := aMessage()
	note := []byte("\xfa\x01\x05later\x80\x02\x07") // fields 31 and 32
	raw := append(e.Encode(), note...)
	got, err := raw.Decode()
	if err != nil {
		t.Fatal(err)
	}
	if again := got.Encode(); !bytes.Equal(again, raw) {
		t.Errorf("decoded and encoded: %x, want %x", again, raw)
	}
	if short := raw.WithoutBody(); !bytes.HasSuffix(short, note) {
		t.Errorf("without its body the event lacks the later fields, too: %x", short)
	}
	if id, kind, c, err := raw.Place(); id != e.ID || kind != e.Kind || c != e.Conversation || err != nil {
		t.Errorf("Place = %v, %v, %q, %v", id, kind, c, err)
	}
}

func TestKindsOfALaterVersionAreReadAlikeByScanAndDecode(t *testing.T) {
	for sent, want := range map[uint64]Kind{8: KindJournalEnded, 9: 9, 255: 255, 256: 255, 1 << 40: 255} {
		raw := Raw(fields.Append(nil, laterKind(sent)))
		e, err := raw.Decode()
		if err != nil || e.Kind != want {
			t.Errorf("kind %d is decoded as %v, error %v, want %v", sent, e.Kind, err, want)
		}
		if _, k, _, err := raw.Place(); err != nil || k != want {
			t.Errorf("kind %d is scanned as %v, error %v, want %v", sent, k, err, want)
		}
	}
}

type laterKind uint64

func (k laterKind) Fields(v fields.Visitor) { v.Uint(fieldKind, "kind", uint64(k)) }

func TestDamagedEventsAreCorrupt(t *testing.T) {
	for _, raw := range []Raw{{0x0a}, {0x0a, 1, 7}, {0x10, 0x80}, {0x12, 0}, []byte("\x22\x01\xff")} {
		_, err := raw.Decode()
		if !errors.Is(err, ErrCorrupt) || !errors.Is(err, fields.ErrMalformed) {
			t.Errorf("%x: error %v, want ErrCorrupt and ErrMalformed", raw, err)
		}
	}
	e := aMessage()
	raw := e.Encode()
	for n := range len(raw) {
		id, _, _, err := raw[:n].Place()
		switch {
		case err != nil && !errors.Is(err, ErrCorrupt):
			t.Errorf("cut to %d bytes: error %v, want ErrCorrupt", n, err)
		case err == nil && id != e.ID && id != ID{}:
			t.Errorf("cut to %d bytes: id %v", n, id)
		}
	}
}

func TestKindsHaveNames(t *testing.T) {
	for k, want := range map[Kind]string{
		1: "message", 2: "group_notice", 3: "read_up_to", 4: "edited", 5: "recalled", 6: "reaction",
		7: "session_closed", 8: "journal_ended", 9: "kind 9", 255: "kind 255",
	} {
		if got := k.String(); got != want {
			t.Errorf("kind %d is named %q, want %q", uint8(k), got, want)
		}
	}
}

func TestReadIsOnlyWhatCameBefore(t *testing.T) {
	for _, test := range []struct {
		event Event
		want  ID
	}{
		{Event{ID: ID{5}, Kind: KindReadUpTo, Target: ID{4}}, ID{4}},
		{Event{ID: ID{5}, Kind: KindReadUpTo, Target: ID{6}}, ID{}},
		{Event{ID: ID{5}, Kind: KindReadUpTo, Target: ID{5}}, ID{}},
		{Event{ID: ID{5}, Kind: KindEdited, Target: ID{4}}, ID{}},
	} {
		if got := test.event.ReadUpTo(); got != test.want {
			t.Errorf("%+v has read up to %v, want %v", test.event, got, test.want)
		}
	}
}

func TestOnlyValidMessagesEnterTheLog(t *testing.T) {
	const maxBody = 100
	for _, test := range []struct {
		name   string
		change func(e *Event)
		want   error
		says   string
	}{
		{"a message", func(*Event) {}, nil, ""},
		{"an empty body", func(e *Event) { e.Body = nil }, nil, ""},
		{"the largest body", func(e *Event) { e.Body = make([]byte, maxBody) }, nil, ""},
		{"the longest content type", func(e *Event) { e.ContentType = strings.Repeat("x", 64) }, nil, ""},
		{"to oneself", func(e *Event) { e.Conversation = Direct("alice", "alice") }, nil, ""},
		{"what was read", func(e *Event) { e.Kind, e.Target, e.Body, e.ContentType = KindReadUpTo, ID{1}, nil, "" }, nil, ""},
		{"what was read, up to nothing", func(e *Event) { e.Kind, e.Body, e.ContentType = KindReadUpTo, nil, "" }, ErrInvalid, "a read_up_to with target"},
		{"what was read, with a body", func(e *Event) { e.Kind, e.Target, e.Body, e.ContentType = KindReadUpTo, ID{1}, []byte("hi"), "" }, ErrInvalid, "2 bytes of body and content type, want none"},
		{"what was read, of a type", func(e *Event) { e.Kind, e.Target, e.Body, e.ContentType = KindReadUpTo, ID{1}, nil, "x/y" }, ErrInvalid, "3 bytes of body and content type, want none"},
		{"a message about another", func(e *Event) { e.Target = ID{1} }, ErrInvalid, "a message with target"},
		{"no kind", func(e *Event) { e.Kind = 0 }, ErrInvalid, "want message"},
		{"an end of a journal", func(e *Event) { e.Kind = KindJournalEnded }, ErrInvalid, "kind journal_ended cannot be sent"},
		{"of others", func(e *Event) { e.Conversation = Direct("bob", "carol") }, ErrInvalid, "not one of alice's"},
		{"in the wrong order", func(e *Event) { e.Conversation = "d:bob,alice" }, ErrInvalid, "two users in order"},
		{"in a group", func(e *Event) { e.Conversation = "g:01J0000000000000000000000A" }, ErrInvalid, "conversation"},
		{"from nobody", func(e *Event) { e.Sender = "" }, ErrInvalid, "conversation"},
		{"no device", func(e *Event) { e.Device = "" }, ErrInvalid, "device"},
		{"a bad device", func(e *Event) { e.Device = "a b" }, ErrInvalid, "device"},
		{"a long content type", func(e *Event) { e.ContentType = strings.Repeat("x", 65) }, ErrInvalid, "65 bytes, want at most 64"},
		{"too large a body", func(e *Event) { e.Body = make([]byte, maxBody+1) }, ErrTooLarge, "101 bytes, want at most 100"},
	} {
		e := aMessage()
		test.change(&e)
		err := e.Validate(maxBody)
		if !errors.Is(err, test.want) || err != nil && !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: error %v, want %v that says %q", test.name, err, test.want, test.says)
		}
	}
}
