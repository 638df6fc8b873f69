package client

import (
	"slices"
	"sync"

	"timberline/events"
	"timberline/events/fields"
	"timberline/wire"
)

// A Store keeps what a device must not forget. A Client calls it from one
// goroutine at a time. [Memory] and [File] are the ones at hand.
//
// An app that keeps messages in a database of its own makes delivery exact by
// storing Message.Cursor in the transaction that stores the message, and by
// embedding a Store whose Load it overrides to return that cursor.
type Store interface {
	// Load returns what is kept. Dial calls it once, before anything else.
	Load() (Saved, error)
	// Save applies changes in their order (see Saved.Apply): all of them survive,
	// or, when it returns an error, none. It keeps no reference to them.
	Save(changes []Change) error
	// Close is called once by Client.Close, after the last Save.
	Close() error
}

// A Cursor is how far a device has read, and in which store.
type Cursor struct {
	Store events.StoreID // zero: no store was met yet
	Seq   events.Seq     // the last entry that the app has taken
}

// Fields lists the cursor's fields.
func (c *Cursor) Fields(v fields.Visitor) {
	fields.ID(v, 1, "store", &c.Store)
	fields.Uint(v, 2, "seq", &c.Seq)
}

// Saved is the whole of what a Store keeps.
type Saved struct {
	Cursor  Cursor
	Session wire.OldSession // where the numbered sends were sent; zero: nowhere
	Sends   []SavedSend     // in the order sent, by ID
}

// A SavedSend is a send whose result the app has not taken yet.
type SavedSend struct {
	ID      uint64 // its place in the outbox: rises, is never used twice
	Message events.MessageID
	To      events.User
	Type    string
	Body    []byte
	Number  events.Number // its last number in Saved.Session; 0: not sent
	Answer  Answer
	With    events.User // in place of To, see Client.MarkRead
	Read    events.ID
}

// Fields lists the send's fields.
func (s *SavedSend) Fields(v fields.Visitor) {
	fields.Uint(v, 1, "id", &s.ID)
	fields.ID(v, 2, "message", &s.Message)
	fields.String(v, 3, "to", &s.To)
	fields.String(v, 4, "type", &s.Type)
	fields.Bytes(v, 5, "body", &s.Body)
	fields.Uint(v, 6, "number", &s.Number)
	v.Embed(7, "answer", &s.Answer, s.Answer != Answer{})
	fields.String(v, 8, "with", &s.With)
	fields.ID(v, 9, "read", &s.Read)
}

// An Answer is what became of a send. Its zero value: not known yet.
type Answer struct {
	Fate   Fate
	Reason wire.Reason // why it was refused
}

// Fields lists the answer's fields.
func (a *Answer) Fields(v fields.Visitor) {
	fields.Uint(v, 1, "fate", &a.Fate)
	fields.Uint(v, 2, "reason", &a.Reason)
}

// err returns the answer as a Result has it.
func (a Answer) err() error {
	switch a.Fate {
	case FateStored:
		return nil
	case FateRefused:
		return refusal(a.Reason)
	}
	return ErrUnknown
}

// A Fate is the kind of an Answer.
type Fate uint8

// The fates. Their numbers are stored and never change.
const (
	FateOpen    Fate = 0 // not answered
	FateStored  Fate = 1
	FateRefused Fate = 2
	FateUnknown Fate = 3 // the server could not find out
)

// A Change is one step from a Saved to the next. Exactly one field is set.
type Change struct {
	Send    *SavedSend   // a new send, behind all others
	Done    uint64       // the send with this ID is over
	Answer  *SavedAnswer // a send is answered, but the app does not know yet
	Session *SavedBegin  // a session takes the sends that are not answered
	Offset  events.Offset
	Cursor  *Cursor
}

// A SavedAnswer gives the send with that ID its answer.
type SavedAnswer struct {
	ID     uint64
	Answer Answer
}

// Fields lists the answer's fields.
func (a *SavedAnswer) Fields(v fields.Visitor) {
	fields.Uint(v, 1, "id", &a.ID)
	v.Embed(2, "answer", &a.Answer, true)
}

// A SavedBegin is the begin of a session. Numbers are those of all sends without
// an answer, in their order.
type SavedBegin struct {
	Session wire.OldSession
	Numbers []uint64
}

// Fields lists the begin's fields.
func (b *SavedBegin) Fields(v fields.Visitor) {
	v.Embed(1, "session", &b.Session, true)
	b.Numbers = v.Uints(2, "numbers", b.Numbers)
}

// Fields lists the kinds of changes.
func (c *Change) Fields(v fields.Visitor) {
	fields.Embed(v, 1, "send", &c.Send)
	fields.Uint(v, 2, "done", &c.Done)
	fields.Embed(v, 3, "answer", &c.Answer)
	fields.Embed(v, 4, "session", &c.Session)
	fields.Uint(v, 5, "offset", &c.Offset)
	fields.Embed(v, 6, "cursor", &c.Cursor)
}

// Apply takes the step that a change describes.
func (s *Saved) Apply(c Change) {
	switch {
	case c.Send != nil:
		s.Sends = append(s.Sends, *c.Send)
	case c.Done != 0:
		s.Sends = slices.DeleteFunc(s.Sends, func(x SavedSend) bool { return x.ID == c.Done })
	case c.Answer != nil:
		for i := range s.Sends {
			if s.Sends[i].ID == c.Answer.ID {
				s.Sends[i].Answer = c.Answer.Answer
			}
		}
	case c.Session != nil:
		s.begin(c.Session)
	case c.Offset != 0:
		s.Session.Offset = c.Offset
	case c.Cursor != nil:
		s.Cursor = *c.Cursor
	}
}

func (s *Saved) begin(b *SavedBegin) {
	s.Session = b.Session
	numbers := b.Numbers
	for i := range s.Sends {
		if s.Sends[i].Answer.Fate == FateOpen && len(numbers) > 0 {
			s.Sends[i].Number = events.Number(numbers[0])
			numbers = numbers[1:]
		}
	}
}

// clone returns a copy that shares no changeable memory with s but the bodies.
func (s *Saved) clone() Saved {
	c := *s
	c.Sends = slices.Clone(s.Sends)
	return c
}

// A Memory is a Store that lasts as long as the process. It may be handed to
// another client after the one before was closed.
type Memory struct {
	mu    sync.Mutex
	saved Saved
}

// NewMemory returns an empty Memory.
func NewMemory() *Memory { return new(Memory) }

// Load implements Store.
func (m *Memory) Load() (Saved, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.saved.clone(), nil
}

// Save implements Store.
func (m *Memory) Save(changes []Change) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range changes {
		m.saved.Apply(c)
	}
	return nil
}

// Close implements Store. It forgets nothing.
func (m *Memory) Close() error { return nil }
