package wire

import (
	"timberline/events/fields"
)

// A Frame is one of the types in kinds, as a pointer.
type Frame interface {
	fields.Message
	kind() kind
}

// A kind is a frame's type: its field number in the envelope of a packet. The
// numbers are the protocol.
type kind uint8

// kinds lists the types of frames by their kind: their names in JSON, and how to
// make one.
var kinds = [...]struct {
	name string
	make func() Frame
}{
	1:  {"login", func() Frame { return new(Login) }},
	2:  {"accepted", func() Frame { return new(Accepted) }},
	3:  {"denied", func() Frame { return new(Denied) }},
	4:  {"send", func() Frame { return new(Send) }},
	5:  {"ack", func() Frame { return new(Ack) }},
	6:  {"busy", func() Frame { return new(Busy) }},
	7:  {"push", func() Frame { return new(Push) }},
	8:  {"part", func() Frame { return new(Part) }},
	9:  {"got", func() Frame { return new(Got) }},
	10: {"sync", func() Frame { return new(Sync) }},
	11: {"page", func() Frame { return new(Page) }},
	12: {"ping", func() Frame { return new(Ping) }},
	13: {"pong", func() Frame { return new(Pong) }},
	14: {"settled", func() Frame { return new(Settled) }},
	15: {"closed", func() Frame { return new(Closed) }},
	16: {"bye", func() Frame { return new(Bye) }},
	17: {"challenge", func() Frame { return new(Challenge) }},
	18: {"echo", func() Frame { return new(Echo) }},
}

func (*Login) kind() kind     { return 1 }
func (*Accepted) kind() kind  { return 2 }
func (*Denied) kind() kind    { return 3 }
func (*Send) kind() kind      { return 4 }
func (*Ack) kind() kind       { return 5 }
func (*Busy) kind() kind      { return 6 }
func (*Push) kind() kind      { return 7 }
func (*Part) kind() kind      { return 8 }
func (*Got) kind() kind       { return 9 }
func (*Sync) kind() kind      { return 10 }
func (*Page) kind() kind      { return 11 }
func (*Ping) kind() kind      { return 12 }
func (*Pong) kind() kind      { return 13 }
func (*Settled) kind() kind   { return 14 }
func (*Closed) kind() kind    { return 15 }
func (*Bye) kind() kind       { return 16 }
func (*Challenge) kind() kind { return 17 }
func (*Echo) kind() kind      { return 18 }

// String returns the name in JSON.
func (k kind) String() string { return kinds[k].name }

// newFrame returns an empty frame of a kind, nil if the kind is of a later
// version.
func newFrame(k uint64) Frame {
	if k == 0 || k >= uint64(len(kinds)) {
		return nil
	}
	return kinds[k].make()
}
