package events

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
)

// Field numbers that are read without decoding the whole event.
const (
	fieldID           = 1
	fieldKind         = 2
	fieldConversation = 3
	fieldSession      = 6
	fieldBody         = 11
)

// Place returns what decides where an event stands: its id, kind and
// conversation. The error wraps ErrCorrupt.
func (r Raw) Place() (id ID, k Kind, c Conversation, err error) {
	for rest := []byte(r); len(rest) > 0; {
		num, typ, tag := protowire.ConsumeTag(rest)
		if tag < 0 {
			return id, k, c, fmt.Errorf("%w: event: bad tag", ErrCorrupt)
		}
		size := protowire.ConsumeFieldValue(num, typ, rest[tag:])
		if size < 0 {
			return id, k, c, fmt.Errorf("%w: event: field %d is cut short", ErrCorrupt, num)
		}
		switch {
		case num == fieldID && typ == protowire.BytesType:
			data, _ := protowire.ConsumeBytes(rest[tag:])
			copy(id[:], data)
		case num == fieldKind && typ == protowire.VarintType:
			kind, _ := protowire.ConsumeVarint(rest[tag:])
			k = Kind(min(kind, 255))
		case num == fieldConversation && typ == protowire.BytesType:
			data, _ := protowire.ConsumeBytes(rest[tag:])
			c = Conversation(data)
		case num > fieldConversation:
			return id, k, c, nil // fields stand in the order of their numbers
		}
		rest = rest[tag+size:]
	}
	return id, k, c, nil
}

// EventID returns the event's id, zero if the encoding has none.
func (r Raw) EventID() ID { return ID(r.id(fieldID)) }

// SessionID returns the event's session, zero if the encoding has none.
func (r Raw) SessionID() SessionID { return SessionID(r.id(fieldSession)) }

func (r Raw) id(num protowire.Number) (id [16]byte) {
	start, end := r.find(num)
	if data, n := protowire.ConsumeBytes(r[start:end]); n > 0 && len(data) == len(id) {
		copy(id[:], data)
	}
	return id
}

// WithoutBody returns the event without its body: itself if it has none, else a
// copy.
func (r Raw) WithoutBody() Raw {
	start, end := r.find(fieldBody)
	if start == end {
		return r
	}
	start -= protowire.SizeTag(fieldBody)
	short := make(Raw, 0, len(r)-(end-start))
	return append(append(short, r[:start]...), r[end:]...)
}

// find returns where the first field of that number, length-delimited, begins
// behind its tag, and where it ends; 0, 0 if there is none.
func (r Raw) find(num protowire.Number) (start, end int) {
	for at := 0; at < len(r); {
		n, typ, tag := protowire.ConsumeTag(r[at:])
		if tag < 0 {
			return 0, 0
		}
		size := protowire.ConsumeFieldValue(n, typ, r[at+tag:])
		if size < 0 {
			return 0, 0
		}
		if n == num && typ == protowire.BytesType {
			return at + tag, at + tag + size
		}
		at += tag + size
	}
	return 0, 0
}
