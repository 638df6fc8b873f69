package wire

import (
	"bytes"
	"errors"

	"timberline/events"
	"timberline/events/fields"
)

// A line is one frame of a packet in JSON: an object with the session's text,
// left out where there is none, and the frame under its name:
//
//	{"session":"01J…","ping":{"id":"7"}}
type line struct {
	session events.SessionID
	frame   Frame
	inner   inner
	twice   bool // decoded: there are two frames
}

// inner is the member that is visited: the frame itself, or one yet to be made.
type inner struct {
	frame Frame // nil: make one
	kind  int
}

// Fields makes the frame if there is none, and visits it.
func (in *inner) Fields(v fields.Visitor) {
	if in.frame == nil {
		in.frame = kinds[in.kind].make()
	}
	in.frame.Fields(v)
}

// Fields lists the session and every kind of frame.
func (l *line) Fields(v fields.Visitor) {
	const sessionNumber = 100 // JSON has names only
	fields.ID(v, sessionNumber, "session", &l.session)
	given := l.frame
	for k := 1; k < len(kinds); k++ {
		if given != nil && given.kind() != kind(k) {
			continue
		}
		l.inner = inner{frame: given, kind: k}
		if !v.Embed(k, kinds[k].name, &l.inner, given != nil) {
			continue
		}
		l.twice = l.twice || given == nil && l.frame != nil
		l.frame = l.inner.frame
	}
}

// appendLine adds a frame's line.
func appendLine(b []byte, s events.SessionID, f Frame) []byte {
	return append(fields.AppendJSON(b, &line{session: s, frame: f}), '\n')
}

// decodeLines reads a packet in JSON. Empty lines are skipped.
func decodeLines(data []byte) (Packet, error) {
	p := Packet{Codec: JSON}
	first := true
	for text := range bytes.Lines(data) {
		if text = bytes.TrimSpace(text); len(text) == 0 {
			continue
		}
		var l line
		switch err := fields.UnmarshalJSON(text, &l); {
		case err != nil:
			return p, err
		case l.twice:
			return p, errTwoFrames
		case !first && l.session != p.Session:
			return p, errors.New("lines of two sessions")
		}
		first, p.Session = false, l.session
		if l.frame != nil {
			p.Frames = append(p.Frames, l.frame)
		}
	}
	return p, nil
}
