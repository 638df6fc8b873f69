package events

import (
	"fmt"

	"timberline/events/fields"
)

// A Kind says what an event is.
type Kind uint8

// The kinds. Their numbers are stored and never change.
const (
	KindMessage       Kind = 1 // somebody said something in a conversation
	KindGroupNotice   Kind = 2 // a group has a new version
	KindReadUpTo      Kind = 3 // somebody has read a conversation up to Target
	KindEdited        Kind = 4 // Target has a new body
	KindRecalled      Kind = 5 // Target has no body any more
	KindReaction      Kind = 6 // somebody reacted to Target
	KindSessionClosed Kind = 7 // no event of Session follows in this journal
	KindJournalEnded  Kind = 8 // no record follows in this journal
)

var kindNames = []string{
	"", "message", "group_notice", "read_up_to", "edited", "recalled", "reaction", "session_closed", "journal_ended",
}

// String returns the kind's name as JSON has it.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// Sent reports whether events of the kind are what devices send, and stand in timelines.
func (k Kind) Sent() bool { return k == KindMessage || k == KindReadUpTo }

// ReadUpTo returns the event up to which its sender has read the conversation, zero if the
// event says nothing of that. Its target is a client's word, which nobody has held against
// the log: what is not below the event itself can have been shown to nobody (R4).
func (e *Event) ReadUpTo() ID {
	if e.Kind != KindReadUpTo || e.Target.Compare(e.ID) >= 0 {
		return ID{}
	}
	return e.Target
}

// The limits of a body, in bytes.
const (
	DefaultMaxBody = 16 << 10 // unless configured otherwise
	HardMaxBody    = 64 << 10 // the most that can be configured
)

// maxContentType is the longest content type, in bytes.
const maxContentType = 64

// An Event is one immutable fact in the log.
type Event struct {
	ID           ID
	Kind         Kind
	Conversation Conversation
	Sender       User
	Device       Device
	Session      SessionID
	Number       Number // of the send in its session; of its last fragment
	GroupVersion Offset // the version the send was authorized against; 0 outside groups
	Message      MessageID
	ContentType  string // empty means text/plain; charset=utf-8
	Body         []byte
	Target       ID // the event that this one is about, for kinds that have one

	unknown []byte // fields of a later version, kept as they are
}

// Fields lists the event's fields.
func (e *Event) Fields(v fields.Visitor) {
	fields.ID(v, 1, "id", &e.ID)
	fields.Enum(v, 2, "kind", &e.Kind, kindNames)
	fields.String(v, 3, "conversation", &e.Conversation)
	fields.String(v, 4, "sender", &e.Sender)
	fields.String(v, 5, "device", &e.Device)
	fields.ID(v, 6, "session", &e.Session)
	fields.Uint(v, 7, "number", &e.Number)
	fields.Uint(v, 8, "group_version", &e.GroupVersion)
	fields.ID(v, 9, "message", &e.Message)
	fields.String(v, 10, "content_type", &e.ContentType)
	e.Body = v.Text(11, "body", e.Body)
	fields.ID(v, 12, "target", &e.Target)
	e.unknown = v.Unknown(e.unknown)
}

// A Raw is an event's stored encoding. It is passed on as it is, never decoded
// and encoded again, so what a later version wrote survives.
type Raw []byte

// Decode returns the event. Its byte fields alias the encoding. The error wraps
// ErrCorrupt.
func (r Raw) Decode() (e Event, err error) {
	err = r.DecodeInto(&e)
	return e, err
}

// DecodeInto is Decode for who has an event to write over: after an error it is zero.
func (r Raw) DecodeInto(e *Event) error {
	*e = Event{}
	if err := fields.Unmarshal(r, e); err != nil {
		*e = Event{}
		return fmt.Errorf("%w: event: %w", ErrCorrupt, err)
	}
	return nil
}

// AppendJSON appends the event as one JSON object.
func (e *Event) AppendJSON(b []byte) []byte { return fields.AppendJSON(b, e) }

// Encode returns the event's encoding.
func (e *Event) Encode() Raw { return fields.Append(nil, e) }

// Validate reports whether what a device has sent may enter the log, given the largest
// body allowed: a message, or that a conversation was read. The error wraps ErrInvalid or
// ErrTooLarge and says what would be right.
func (e *Event) Validate(maxBody int) error {
	switch {
	case !e.Kind.Sent():
		return fmt.Errorf("%w: kind %v cannot be sent, want %v or %v", ErrInvalid, e.Kind, KindMessage, KindReadUpTo)
	case (e.Target != ID{}) != (e.Kind == KindReadUpTo):
		return fmt.Errorf("%w: a %v with target %v, want one with %v, and only there", ErrInvalid, e.Kind, e.Target, KindReadUpTo)
	case e.Kind == KindReadUpTo && len(e.Body)+len(e.ContentType) > 0:
		return fmt.Errorf("%w: a %v has %d bytes of body and content type, want none", ErrInvalid, e.Kind, len(e.Body)+len(e.ContentType))
	}
	if _, ok := e.Conversation.Peer(e.Sender); !ok {
		return fmt.Errorf("%w: conversation %q is not one of %s's, want \"d:\" and two users in order", ErrInvalid, e.Conversation, e.Sender)
	}
	if err := e.Device.Validate(); err != nil {
		return err
	}
	if len(e.ContentType) > maxContentType {
		return fmt.Errorf("%w: content type has %d bytes, want at most %d", ErrInvalid, len(e.ContentType), maxContentType)
	}
	if len(e.Body) > maxBody {
		return fmt.Errorf("%w: body has %d bytes, want at most %d", ErrTooLarge, len(e.Body), maxBody)
	}
	return nil
}
