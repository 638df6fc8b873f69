package wire

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"

	"timberline/events"
	"timberline/events/fields"
)

// typePlain is the first byte of a plain packet in protobuf. 1 to 5 belong to
// the packets of sealed mode. '{' begins a plain packet in JSON.
const typePlain = 6

// A plain packet in protobuf is a header and a protobuf message, of which each
// field 1 is an envelope; in the envelope the field's number is the frame's kind:
//
//	0          1              17
//	+----------+--------------+---+------+------+------+-------+----
//	| 6 (type) | session      | 1 | size | kind | size | frame | 1 …
//	+----------+--------------+---+------+------+------+-------+----
//	                          '------- once for each frame ----'
const plainHeader = 1 + 16

const envelopeField = 1

// Errors of both codecs.
var (
	errCutShort  = errors.New("frame is cut short")
	errTwoFrames = errors.New("envelope holds two frames")
)

// appendEnvelope adds a frame in its envelope.
func appendEnvelope(b []byte, f Frame) []byte {
	b, outer := openField(b, envelopeField)
	b, inner := openField(b, protowire.Number(f.kind()))
	b = fields.Append(b, f)
	return closeField(closeField(b, inner), outer)
}

// openField begins a field of bytes and keeps one byte for its length.
func openField(b []byte, num protowire.Number) (_ []byte, start int) {
	b = append(protowire.AppendTag(b, num, protowire.BytesType), 0)
	return b, len(b)
}

// closeField sets the length of the field that has begun at start. A length of
// more than one byte moves what was written.
func closeField(b []byte, start int) []byte {
	size := len(b) - start
	var length [10]byte
	n := len(protowire.AppendVarint(length[:0], uint64(size)))
	b = append(b, length[1:n]...)
	copy(b[start+n-1:], b[start:start+size])
	copy(b[start-1:], length[:n])
	return b
}

// decodeEnvelopes reads what appendEnvelope wrote.
func decodeEnvelopes(data []byte) (Packet, error) {
	p := Packet{Codec: Proto, Session: events.SessionID(data[1:plainHeader])}
	err := p.decodeFrames(data[plainHeader:])
	return p, err
}

// decodeFrames reads the envelopes behind a header.
func (p *Packet) decodeFrames(data []byte) error {
	for len(data) > 0 {
		num, typ, value, n := takeField(data)
		switch {
		case n < 0:
			return errCutShort
		case num == envelopeField && typ != protowire.BytesType:
			return fmt.Errorf("envelope has wire type %d", typ)
		case num == envelopeField:
			f, err := openEnvelope(value)
			if err != nil {
				return err
			}
			if f != nil {
				p.Frames = append(p.Frames, f)
			}
		}
		data = data[n:]
	}
	return nil
}

// openEnvelope returns the frame in an envelope, nil if it is of a kind that is
// not known.
func openEnvelope(data []byte) (Frame, error) {
	var frame Frame
	for len(data) > 0 {
		num, typ, value, n := takeField(data)
		if n < 0 {
			return nil, errCutShort
		}
		data = data[n:]
		f := newFrame(uint64(num))
		switch {
		case f == nil:
			continue
		case frame != nil:
			return nil, errTwoFrames
		case typ != protowire.BytesType:
			return nil, fmt.Errorf("%v has wire type %d", f.kind(), typ)
		}
		if err := fields.Unmarshal(value, f); err != nil {
			return nil, fmt.Errorf("%v: %w", f.kind(), err)
		}
		frame = f
	}
	return frame, nil
}

// takeField returns the first field of data, its bytes if it is length-delimited,
// and its size; n is negative if there is none.
func takeField(data []byte) (num protowire.Number, typ protowire.Type, value []byte, n int) {
	num, typ, tag := protowire.ConsumeTag(data)
	if tag < 0 {
		return 0, 0, nil, tag
	}
	if n = protowire.ConsumeFieldValue(num, typ, data[tag:]); n < 0 {
		return 0, 0, nil, n
	}
	if typ == protowire.BytesType {
		value, _ = protowire.ConsumeBytes(data[tag:])
	}
	return num, typ, value, tag + n
}
