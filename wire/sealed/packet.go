package sealed

import (
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"

	"timberline/events"
	"timberline/wire"
)

// The first bytes of sealed packets. 6 and '{' begin plain ones: see package wire.
const (
	TypeHello   = 1
	TypeRetry   = 2
	TypeWelcome = 3
	TypeData    = 4
	TypeReset   = 5
)

// Version is the version of the handshake and of the frames in it.
const Version = wire.Version

// Sizes in bytes.
const (
	HelloSize   = 256 // padded, so that no answer is larger
	RetrySize   = 1 + 1 + 1 + echoSize + CookieSize
	WelcomeSize = 1 + echoSize + dhSize + welcomePayload + tagSize
	ResetSize   = 1 + sessionSize + TokenSize
	DataSize    = wire.SealedHeader + tagSize // of a packet without frames
	CookieSize  = 24
	TokenSize   = 16

	keyIDSize      = 8
	echoSize       = 16
	dhSize         = 32
	tagSize        = wire.SealedTag
	sessionSize    = 16
	helloPrologue  = 1 + 1 + keyIDSize
	helloCookie    = helloPrologue + dhSize + tagSize
	welcomePayload = sessionSize + TokenSize
)

// ErrMalformed is wrapped by the errors of packets that are not what their type
// says: they are dropped and counted.
var ErrMalformed = errors.New("malformed packet")

// is reports whether a packet is of a type, and no smaller than those are nor
// larger than any packet.
func is(data []byte, kind byte, least int) bool {
	return len(data) >= least && len(data) <= wire.MaxPacket && data[0] == kind
}

// A Cookie proves an address: whoever shows it has received it there. Zero: none.
type Cookie [CookieSize]byte

// A Token proves that a RESET is from the edge that opened the session.
type Token [TokenSize]byte

// An Echo is what an answer repeats of a HELLO, so that nobody can forge one who
// has not seen it.
type Echo [echoSize]byte

// A Hello is the packet that asks for a connection:
//
//	0    1         2              10               58         82        256
//	+----+---------+--------------+----------------+----------+---------+
//	| 1  | version | key, 8 bytes | noise e + tag  | cookie   | zeros   |
//	+----+---------+--------------+----------------+----------+---------+
type Hello struct {
	Version uint8
	Key     KeyID // of the static key that the client has
	Cookie  Cookie
	message [dhSize + tagSize]byte // of the handshake
}

// ParseHello reads a HELLO. It proves nothing.
func ParseHello(data []byte) (Hello, error) {
	var h Hello
	if !is(data, TypeHello, HelloSize) {
		return h, fmt.Errorf("%w: a HELLO has %d to %d bytes, this has %d", ErrMalformed, HelloSize, wire.MaxPacket, len(data))
	}
	h.Version = data[1]
	h.Key = KeyID(data[2:helloPrologue])
	h.message = [dhSize + tagSize]byte(data[helloPrologue:])
	h.Cookie = Cookie(data[helloCookie:])
	return h, nil
}

// Echo returns what answers repeat.
func (h *Hello) Echo() Echo { return Echo(h.message[:]) }

func (h *Hello) encode() []byte {
	b := append(h.prologue(), h.message[:]...)
	b = append(b, h.Cookie[:]...)
	return append(b, make([]byte, HelloSize-len(b))...)
}

// prologue returns what stands before the handshake's message, and is bound to it.
func (h *Hello) prologue() []byte {
	b := make([]byte, 0, HelloSize)
	b = append(b, TypeHello, h.Version)
	return append(b, h.Key[:]...)
}

// A Cause says why a HELLO is answered by a RETRY.
type Cause uint8

// The causes. Their numbers are on the wire and never change.
const (
	CauseCookie  Cause = 0 // come again with this cookie
	CauseVersion Cause = 1 // the edge does not speak that version
	CauseKey     Cause = 2 // the edge does not have that key
)

// A Retry answers a HELLO without keeping anything:
//
//	0    1         2       3               19            43
//	+----+---------+-------+---------------+-------------+
//	| 2  | version | cause | echo, 16      | cookie, 24  |
//	+----+---------+-------+---------------+-------------+
//
// Whoever has seen the HELLO can forge it: a client takes no harm but delay.
type Retry struct {
	Version uint8 // that the edge speaks
	Cause   Cause
	Cookie  Cookie
}

// AppendRetry adds the answer to a HELLO.
func (h *Hello) AppendRetry(b []byte, r Retry) []byte {
	b = append(b, TypeRetry, r.Version, byte(r.Cause))
	b = append(b, h.message[:echoSize]...)
	return append(b, r.Cookie[:]...)
}

func parseRetry(data []byte, echo Echo) (Retry, error) {
	if len(data) != RetrySize || data[0] != TypeRetry || Echo(data[3:]) != echo {
		return Retry{}, fmt.Errorf("%w: not a RETRY for this HELLO", ErrMalformed)
	}
	return Retry{Version: data[1], Cause: Cause(data[2]), Cookie: Cookie(data[3+echoSize:])}, nil
}

// PeekData returns the session that a DATA packet names; ok is false if it is no
// DATA packet. It proves nothing.
func PeekData(data []byte) (s events.SessionID, ok bool) {
	if !is(data, TypeData, DataSize) {
		return s, false
	}
	return events.SessionID(data[1:]), true
}

// AppendReset adds a RESET:
//
//	0    1             17            33
//	+----+-------------+-------------+
//	| 5  | session, 16 | token, 16   |
//	+----+-------------+-------------+
func AppendReset(b []byte, s events.SessionID, t Token) []byte {
	b = append(b, TypeReset)
	b = append(b, s[:]...)
	return append(b, t[:]...)
}

// IsReset reports whether a packet is the RESET of a session, which WELCOME gave
// that token for. It proves that the edge sent it.
func IsReset(data []byte, s events.SessionID, t Token) bool {
	return len(data) == ResetSize && data[0] == TypeReset && events.SessionID(data[1:]) == s &&
		subtle.ConstantTimeCompare(data[1+sessionSize:], t[:]) == 1
}

// header writes what stands before the sealed frames of a DATA packet:
//
//	0    1             17            25
//	+----+-------------+-------------+---------------------+-----+
//	| 4  | session, 16 | counter, 8  | frames, sealed      | tag |
//	+----+-------------+-------------+---------------------+-----+
func header(b []byte, s events.SessionID, counter uint64) {
	b[0] = TypeData
	copy(b[1:], s[:])
	binary.BigEndian.PutUint64(b[1+sessionSize:], counter)
}

func counterOf(packet []byte) uint64 { return binary.BigEndian.Uint64(packet[1+sessionSize:]) }
