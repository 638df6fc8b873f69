package wire

import (
	"bytes"
	"errors"
	"fmt"

	"timberline/events"
	"timberline/events/fields"
)

// MaxPacket is the most bytes of UDP payload that a packet has.
const MaxPacket = 1200

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

// typePlain is the first byte of a plain packet in protobuf. 1 to 5 belong to
// the packets of sealed mode. '{' begins a plain packet in JSON.
const typePlain = 6

// A plain packet in protobuf:
//
//	0          1              17
//	+----------+--------------+------------------------------+
//	| 6 (type) | session      | protobuf: repeated frame = 1 |
//	+----------+--------------+------------------------------+
//
// A plain packet in JSON is lines, each an object with one frame and the
// session's text (left out where there is none):
//
//	{"session":"01J…","ping":{"id":"7"}}
const plainHeader = 1 + 16

// envelope is the frame's place among the others: exactly one field is set.
type envelope struct {
	session events.SessionID // in JSON only
	json    bool
	frame   Frame
}

// Fields lists the kinds of frames. Their numbers are the protocol.
func (e *envelope) Fields(v fields.Visitor) {
	if e.json {
		fields.ID(v, 100, "session", &e.session)
	}
	visit[Login](v, e, 1, "login")
	visit[Accepted](v, e, 2, "accepted")
	visit[Denied](v, e, 3, "denied")
	visit[Send](v, e, 4, "send")
	visit[Ack](v, e, 5, "ack")
	visit[Busy](v, e, 6, "busy")
	visit[Push](v, e, 7, "push")
	visit[Part](v, e, 8, "part")
	visit[Got](v, e, 9, "got")
	visit[Sync](v, e, 10, "sync")
	visit[Page](v, e, 11, "page")
	visit[Ping](v, e, 12, "ping")
	visit[Pong](v, e, 13, "pong")
	visit[Settled](v, e, 14, "settled")
	visit[Closed](v, e, 15, "closed")
	visit[Bye](v, e, 16, "bye")
}

// visit writes the frame if it is a T, or reads one.
func visit[T any, P interface {
	*T
	Frame
}](v fields.Visitor, e *envelope, num int, name string) {
	if mine, ok := e.frame.(P); ok {
		v.Embed(num, name, mine, true)
		return
	}
	if e.frame != nil {
		return
	}
	f := P(new(T))
	if v.Embed(num, name, f, false) {
		e.frame = f
	}
}

// Header returns the bytes that a packet has before its first frame.
func Header(c Codec) int {
	if c == JSON {
		return 0
	}
	return plainHeader
}

// AppendHeader begins a plain packet.
func AppendHeader(b []byte, c Codec, s events.SessionID) []byte {
	if c == JSON {
		return b
	}
	b = append(b, typePlain)
	return append(b, s[:]...)
}

// AppendFrame adds a frame to a plain packet of that session.
func AppendFrame(b []byte, c Codec, s events.SessionID, f Frame) []byte {
	e := envelope{frame: f}
	if c == JSON {
		e.session, e.json = s, true
		return append(fields.AppendJSON(b, &e), '\n')
	}
	return fields.Append(b, &oneFrame{&e})
}

// oneFrame is field 1 of a packet.
type oneFrame struct{ e *envelope }

func (o *oneFrame) Fields(v fields.Visitor) { v.Embed(1, "frame", o.e, true) }

// Encode returns the plain packet. It may be larger than MaxPacket: a Batch
// splits frames over packets.
func (p *Packet) Encode() []byte {
	b := AppendHeader(nil, p.Codec, p.Session)
	for _, f := range p.Frames {
		b = AppendFrame(b, p.Codec, p.Session, f)
	}
	return b
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
	switch {
	case len(data) > MaxPacket:
		return Packet{}, fmt.Errorf("%w: %d bytes, at most %d are allowed", ErrMalformed, len(data), MaxPacket)
	case len(data) > 0 && data[0] == '{':
		return decodeJSON(data)
	case len(data) >= plainHeader && data[0] == typePlain:
		return decodeProto(data)
	}
	return Packet{}, fmt.Errorf("%w: neither a plain packet (first byte %d) nor JSON (first byte '{')", ErrMalformed, typePlain)
}

func decodeProto(data []byte) (Packet, error) {
	p := Packet{Codec: Proto, Session: events.SessionID(data[1:plainHeader])}
	var list frameList
	if err := fields.Unmarshal(data[plainHeader:], &list); err != nil {
		return Packet{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	for i := range list.envelopes {
		if f := list.envelopes[i].frame; f != nil {
			p.Frames = append(p.Frames, f)
		}
	}
	return p, check(p.Frames)
}

// frameList is what follows the header of a packet in protobuf.
type frameList struct{ envelopes []envelope }

// Fields lists the one field of a packet.
func (l *frameList) Fields(v fields.Visitor) { fields.List(v, 1, "frame", &l.envelopes) }

func decodeJSON(data []byte) (Packet, error) {
	p := Packet{Codec: JSON}
	first := true
	for line := range bytes.Lines(data) {
		line = bytes.TrimSpace(line)
		if len(line) == 0 {
			continue
		}
		e := envelope{json: true}
		if err := fields.UnmarshalJSON(line, &e); err != nil {
			return Packet{}, fmt.Errorf("%w: %w", ErrMalformed, err)
		}
		if !first && e.session != p.Session {
			return Packet{}, fmt.Errorf("%w: lines of two sessions in one packet", ErrMalformed)
		}
		first, p.Session = false, e.session
		if e.frame != nil {
			p.Frames = append(p.Frames, e.frame)
		}
	}
	return p, check(p.Frames)
}

// check holds frames against the limits that their types state.
func check(frames []Frame) error {
	for _, f := range frames {
		var over string
		switch f := f.(type) {
		case *Login:
			if len(f.Settle) > MaxSettle {
				over = fmt.Sprintf("login settles %d sessions, at most %d are allowed", len(f.Settle), MaxSettle)
			}
		case *Sync:
			if len(f.Ranges) > MaxRanges {
				over = fmt.Sprintf("sync names %d ranges, at most %d are allowed", len(f.Ranges), MaxRanges)
			}
		case *Send:
			if f.Number == 0 || f.Fragments > MaxFragments || f.Fragment > 0 && f.Fragment >= f.Fragments || events.Number(f.Fragment) >= f.Number {
				over = fmt.Sprintf("send %d is fragment %d of %d", f.Number, f.Fragment, f.Fragments)
			}
		case *Settled:
			if len(f.Numbers)%2 != 0 {
				over = "settled names half a run"
			}
		}
		if over != "" {
			return fmt.Errorf("%w: %s", ErrMalformed, over)
		}
	}
	return nil
}
