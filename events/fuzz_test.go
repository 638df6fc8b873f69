package events

import (
	"bytes"
	"errors"
	"testing"

	"timberline/events/fields"
)

// Whatever is read as an event means the same when it was written and read
// again, and the scan finds in it what the decoder finds.
func FuzzEvent(f *testing.F) {
	for _, e := range []Event{{}, aMessage(), allFields()} {
		f.Add([]byte(e.Encode()))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		raw := Raw(data)
		given := bytes.Clone(data)
		raw.Place()
		raw.EventID()
		raw.SessionID()
		raw.WithoutBody()
		e, err := raw.Decode()
		if !bytes.Equal(raw, given) {
			t.Fatal("reading has changed the event")
		}
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatalf("error %v, want ErrCorrupt", err)
			}
			return
		}
		stable(t, e)
		scansAlike(t, e)
		e.unknown = nil
		var fromJSON Event
		if err := fields.UnmarshalJSON(e.AppendJSON(nil), &fromJSON); err != nil {
			t.Fatal(err)
		}
		wantEvent(t, "JSON", e, fromJSON)
	})
}

// stable checks that e survives being written and read.
func stable(t *testing.T, e Event) {
	t.Helper()
	raw := e.Encode()
	again, err := raw.Decode()
	if err != nil {
		t.Fatalf("what was written is not read: %v\n%x", err, raw)
	}
	wantEvent(t, "protobuf", e, again)
	if second := again.Encode(); !bytes.Equal(second, raw) {
		t.Errorf("written as\n%x\nand then as\n%x", raw, second)
	}
}

// scansAlike checks that the scan finds in e's encoding what e holds.
func scansAlike(t *testing.T, e Event) {
	t.Helper()
	raw := e.Encode()
	if id, k, c, err := raw.Place(); id != e.ID || k != e.Kind || c != e.Conversation || err != nil {
		t.Errorf("Place = %v, %v, %q, %v, want %v, %v, %q", id, k, c, err, e.ID, e.Kind, e.Conversation)
	}
	if id, s := raw.EventID(), raw.SessionID(); id != e.ID || s != e.Session {
		t.Errorf("scanned %v and %v, want %v and %v", id, s, e.ID, e.Session)
	}
	short := raw.WithoutBody()
	e.Body = nil
	if want := e.Encode(); !bytes.Equal(short, want) {
		t.Errorf("WithoutBody = %x, want %x", short, want)
	}
}

// Whatever is read as a record holds the same events when it was written anew.
func FuzzRecord(f *testing.F) {
	rec := NewRecord("j:1", 1, raws(aMessage(), allFields()))
	f.Add([]byte(rec), false)
	f.Add(fields.Append(nil, &batch{raws(aMessage(), Event{})}), true)
	f.Add([]byte("\x10\x01\x0a\x00\x0a\x01\x80"), true)
	f.Fuzz(func(t *testing.T, data []byte, message bool) {
		if message { // of a record whose checksum is right
			data = fields.Seal(RecordVersion, recordPlace("j:1", 1), encoded(data))
		}
		got, err := Record(data).Events("j:1", 1)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) || got != nil {
				t.Fatalf("%d events, error %v, want ErrCorrupt", len(got), err)
			}
			return
		}
		again, err := NewRecord("j:2", 2, got).Events("j:2", 2)
		if err != nil || len(again) != len(got) {
			t.Fatalf("%d events in, %d out, error %v", len(got), len(again), err)
		}
		for i := range got {
			if !bytes.Equal(got[i], again[i]) {
				t.Errorf("event %d is %x, want %x", i, again[i], got[i])
			}
		}
	})
}

// An encoded message is written as it is.
type encoded []byte

func (e encoded) Fields(v fields.Visitor) { v.Unknown(e) }
