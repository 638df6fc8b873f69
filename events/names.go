package events

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"strings"

	"github.com/oklog/ulid/v2"
)

type (
	// A User is the app's name for a person: 1 to 64 of [A-Za-z0-9_.-].
	User string
	// A Device is the app's name for one of a user's devices, of the same form.
	Device string
	// A Conversation is "d:" and two users in order, or "g:" and a group's
	// ULID. See Direct.
	Conversation string
	// A Number is a send's place in its session, counting from 1.
	Number uint64
	// An Offset is a record's place in its journal, counting from 1. Zero means
	// "before the first record".
	Offset uint64
	// A Seq is an entry's place in a user's timeline, counting from 1. Zero
	// means "before the first entry". A cursor is the last seq a device has.
	Seq uint64
	// A Slot is one of the Slots classes that users hash to, for ever.
	Slot uint16
)

type (
	// A SessionID names one login of one device. It is never used twice: the
	// first 4 bytes are the tag of the edge that made it, the rest is random.
	SessionID [16]byte
	// A MessageID is chosen by the client, for the app's own matching.
	MessageID [16]byte
	// A StoreID is random, new at a store's creation and at every restore.
	StoreID [16]byte
	// An EdgeTag is the part of a session id that names its edge. An edge keeps
	// its tag over restarts.
	EdgeTag [4]byte
)

func (s SessionID) String() string { return ulid.ULID(s).String() }
func (m MessageID) String() string { return ulid.ULID(m).String() }
func (s StoreID) String() string   { return ulid.ULID(s).String() }

// Edge returns the tag of the edge that made the session.
func (s SessionID) Edge() EdgeTag { return EdgeTag(s[:4]) }

// NewSessionID draws a session id for an edge from a source of random bytes.
func NewSessionID(edge EdgeTag, random io.Reader) (SessionID, error) {
	var s SessionID
	copy(s[:], edge[:])
	if _, err := io.ReadFull(random, s[4:]); err != nil {
		return SessionID{}, fmt.Errorf("draw a session id: %w", err)
	}
	return s, nil
}

// NewMessageID draws a message id from the system's randomness.
func NewMessageID() MessageID {
	var m MessageID
	rand.Read(m[:]) // never fails (crypto/rand)
	return m
}

// Slots is the number of classes that users hash to. It can never change: shards
// and bus topics are sets of slots.
const Slots = 4096

// Slot returns the user's slot: the first 12 bits of the SHA-256 of the name.
func (u User) Slot() Slot {
	sum := sha256.Sum256([]byte(u))
	return Slot(binary.BigEndian.Uint16(sum[:2]) >> 4)
}

// maxName is the longest name of a user or device, in bytes.
const maxName = 64

// Validate reports whether the name has the required form; the error wraps
// ErrInvalid.
func (u User) Validate() error { return validName("user", string(u)) }

// Validate reports whether the name has the required form; the error wraps
// ErrInvalid.
func (d Device) Validate() error { return validName("device", string(d)) }

func validName(what, s string) error {
	if len(s) == 0 || len(s) > maxName {
		return fmt.Errorf("%w: %s %q has %d bytes, want 1 to %d", ErrInvalid, what, s, len(s), maxName)
	}
	for i := range len(s) {
		if !nameByte(s[i]) {
			return fmt.Errorf("%w: %s %q has the character %q, want only A-Z a-z 0-9 _ . -", ErrInvalid, what, s, s[i])
		}
	}
	return nil
}

func nameByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_' || c == '.' || c == '-'
}

// Direct returns the conversation of two users, who may be one and the same.
func Direct(a, b User) Conversation {
	if b < a {
		a, b = b, a
	}
	return Conversation("d:" + string(a) + "," + string(b))
}

// Users returns the two users of a direct conversation in order; ok is false for
// any other conversation.
func (c Conversation) Users() (a, b User, ok bool) {
	pair, direct := strings.CutPrefix(string(c), "d:")
	if !direct {
		return "", "", false
	}
	x, y, _ := strings.Cut(pair, ",")
	a, b = User(x), User(y)
	return a, b, a <= b && a.Validate() == nil && b.Validate() == nil
}

// Peer returns the other user of a direct conversation (u itself if it talks to
// itself); ok is false if u has no part in it.
func (c Conversation) Peer(u User) (peer User, ok bool) {
	a, b, direct := c.Users()
	switch {
	case !direct:
		return "", false
	case u == a:
		return b, true
	case u == b:
		return a, true
	}
	return "", false
}
