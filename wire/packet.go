package wire

import (
	"errors"
	"fmt"

	"timberline/events"
)

// MaxPacket is the most bytes of UDP payload that a packet has.
const MaxPacket = 1200

// What sealing adds to the frames of a packet, in bytes: see package sealed.
const (
	SealedHeader = 1 + 16 + 8
	SealedTag    = 16
)

// A Codec is how the frames of a packet are written.
type Codec uint8

// The codecs.
const (
	Proto Codec = iota
	JSON
)

// String returns the codec's name as flags have it.
func (c Codec) String() string {
	if c == JSON {
		return "json"
	}
	return "protobuf"
}

// ErrMalformed is wrapped by every error of decoding: the packet is dropped and
// counted.
var ErrMalformed = errors.New("malformed packet")

// A Packet is a datagram in plain mode, decoded.
type Packet struct {
	Codec   Codec
	Session events.SessionID // zero for Login and its Denied
	Frames  []Frame
}

// AppendHeader begins a plain packet.
func AppendHeader(b []byte, c Codec, s events.SessionID) []byte {
	if c == JSON {
		return b
	}
	b = append(b, typePlain)
	return append(b, s[:]...)
}

// AppendFrame adds a frame to a plain packet of that session. It allocates
// nothing where b has room and the codec is Proto.
func AppendFrame(b []byte, c Codec, s events.SessionID, f Frame) []byte {
	if c == JSON {
		return appendLine(b, s, f)
	}
	return appendEnvelope(b, f)
}

// Encode returns the plain packet. It may be larger than MaxPacket: a Packer
// splits frames over packets.
func (p *Packet) Encode() []byte {
	b := AppendHeader(nil, p.Codec, p.Session)
	for _, f := range p.Frames {
		b = AppendFrame(b, p.Codec, p.Session, f)
	}
	return b
}

// IsPlain reports whether a packet says that it is in plain mode.
func IsPlain(data []byte) bool {
	return len(data) > 0 && (data[0] == typePlain || data[0] == '{')
}

// PeekSession returns the session of a plain packet without decoding its
// frames; ok is false if the packet has none, or is not a plain one in protobuf.
func PeekSession(data []byte) (s events.SessionID, ok bool) {
	if len(data) < plainHeader || data[0] != typePlain {
		return s, false
	}
	s = events.SessionID(data[1:plainHeader])
	return s, s != events.SessionID{}
}

// Decode reads a plain packet. Frames alias data. Frames of unknown kinds are
// left out. The error wraps ErrMalformed.
func Decode(data []byte) (Packet, error) {
	var p Packet
	var err error
	switch {
	case len(data) > MaxPacket:
		err = fmt.Errorf("%d bytes, at most %d are allowed", len(data), MaxPacket)
	case len(data) > 0 && data[0] == '{':
		p, err = decodeLines(data)
	case len(data) >= plainHeader && data[0] == typePlain:
		p, err = decodeEnvelopes(data)
	default:
		err = fmt.Errorf("neither a plain packet (first byte %d) nor JSON (first byte '{')", typePlain)
	}
	return checked(p, err)
}

// DecodeSealed reads the frames of a packet that was sealed. Frames alias data;
// those of unknown kinds are left out. The error wraps ErrMalformed.
func DecodeSealed(s events.SessionID, data []byte) (Packet, error) {
	p := Packet{Session: s}
	var err error
	if len(data) > 0 && data[0] == '{' {
		p, err = decodeLines(data)
	} else {
		err = p.decodeFrames(data)
	}
	if p.Session != s && p.Session != (events.SessionID{}) && err == nil {
		err = errors.New("a line is of another session than the packet")
	}
	p.Session = s
	return checked(p, err)
}

// checked holds the frames of a packet against the limits of their types.
func checked(p Packet, err error) (Packet, error) {
	for i := 0; err == nil && i < len(p.Frames); i++ {
		err = check(p.Frames[i])
	}
	if err != nil {
		return Packet{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return p, nil
}

// check holds a frame against the limits that its type states.
func check(f Frame) error {
	switch f := f.(type) {
	case *Login:
		if len(f.Settle) > MaxSettle {
			return fmt.Errorf("login settles %d sessions, at most %d are allowed", len(f.Settle), MaxSettle)
		}
	case *Send:
		if f.Number == 0 || f.Fragments > MaxFragments || f.Fragment > 0 && f.Fragment >= f.Fragments || events.Number(f.Fragment) >= f.Number {
			return fmt.Errorf("send %d is fragment %d of %d", f.Number, f.Fragment, f.Fragments)
		}
	case *Ack:
		if len(f.Refused) > MaxRefusals {
			return fmt.Errorf("ack has %d refusals, at most %d are allowed", len(f.Refused), MaxRefusals)
		}
	case *Sync:
		if len(f.Ranges) > MaxRanges {
			return fmt.Errorf("sync names %d ranges, at most %d are allowed", len(f.Ranges), MaxRanges)
		}
	case *Settled:
		if len(f.Numbers)%2 != 0 {
			return errors.New("settled names half a run")
		}
	}
	return nil
}
