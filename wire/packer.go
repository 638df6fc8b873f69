package wire

import (
	"errors"
	"fmt"
	"math"

	"timberline/events"
)

// A Packer puts the frames of one session into as few packets as they fit into.
// Its zero value is ready for Begin.
type Packer struct {
	codec   Codec
	sealed  bool
	session events.SessionID // of plain packets
	done    [][]byte
	current []byte   // the packet being filled
	frames  int      // in current
	free    [][]byte // buffers to be used again
}

// NewPacker returns a Packer for plain packets of that session.
func NewPacker(c Codec, s events.SessionID) *Packer {
	p := new(Packer)
	p.Begin(c, s)
	return p
}

// NewSealedPacker returns a Packer for packets that are to be sealed.
func NewSealedPacker(c Codec) *Packer {
	p := new(Packer)
	p.BeginSealed(c)
	return p
}

// Begin makes the Packer ready for plain packets of that session.
func (p *Packer) Begin(c Codec, s events.SessionID) { p.codec, p.session, p.sealed = c, s, false }

// BeginSealed makes the Packer ready for packets that are to be sealed: each
// begins with SealedHeader bytes, and has room for SealedTag more than it has.
func (p *Packer) BeginSealed(c Codec) {
	p.codec, p.session, p.sealed = c, events.SessionID{}, true
}

// Recycle takes back the buffer of a packet that nobody needs any more.
func (p *Packer) Recycle(packet []byte) {
	if cap(packet) == MaxPacket && len(p.free) < maxFree {
		p.free = append(p.free, packet[:0])
	}
}

// maxFree bounds the buffers that a Packer keeps.
const maxFree = 1024

// fresh returns a packet without frames.
func (p *Packer) fresh() []byte {
	var b []byte
	if last := len(p.free) - 1; last >= 0 {
		b, p.free = p.free[last], p.free[:last]
	} else {
		b = make([]byte, 0, MaxPacket)
	}
	if p.sealed {
		return append(b, make([]byte, SealedHeader)...)
	}
	return AppendHeader(b, p.codec, p.session)
}

// limit returns how large a packet may become.
func (p *Packer) limit() int {
	if p.sealed {
		return MaxPacket - SealedTag
	}
	return MaxPacket
}

// Add appends a frame to the current packet, or begins the next with it. An Ack
// or Settled too large for a packet is made to say less. Any other frame must fit
// into a packet alone: see AppendPushes, AppendPages and Fragment for those that
// may not.
func (p *Packer) Add(f Frame) {
	f = p.shorten(f)
	if p.frames == 0 {
		p.current = p.fresh()
	}
	before := len(p.current)
	grown := AppendFrame(p.current, p.codec, p.session, f)
	if len(grown) <= p.limit() || p.frames == 0 {
		p.current = grown
		p.frames++
		return
	}
	frame := grown[before:]
	p.done = append(p.done, p.current[:before])
	p.current, p.frames = append(p.fresh(), frame...), 1
}

// shorten returns what is true of an Ack or Settled and fits into a packet. An
// Ack answers fewer sends, with no offset: theirs may stand before it. The rest is
// told when the client's Low has made room. A Settled cannot leave runs out.
func (p *Packer) shorten(f Frame) Frame {
	switch f := f.(type) {
	case *Ack:
		for n := len(f.Refused) - 1; n >= 0 && p.size(f) > p.limit(); n-- {
			f = &Ack{Through: f.Refused[n].From - 1, Refused: f.Refused[:n]}
		}
		return f
	case *Settled:
		if len(f.Numbers) > 0 && p.size(f) > p.limit() {
			return &Settled{Session: f.Session, Unknown: true}
		}
	}
	return f
}

// Packets returns the packets and begins anew, with the same session.
func (p *Packer) Packets() [][]byte {
	packets := p.done
	if p.frames > 0 {
		packets = append(packets, p.current)
	}
	p.done, p.current, p.frames = nil, nil, 0
	return packets
}

// size returns what a packet with that frame alone has before it is sealed.
func (p *Packer) size(f Frame) int {
	size := len(AppendFrame(nil, p.codec, p.session, f))
	switch {
	case p.sealed:
		return SealedHeader + size
	case p.codec == JSON:
		return size
	}
	return plainHeader + size
}

// AppendPushes adds the entries that stand at from, from+1, … as Push frames,
// and an entry too large for a packet as Part frames.
func AppendPushes(p *Packer, from events.Seq, raws [][]byte, omitted bool) {
	p.entries(0, from, raws, func(from events.Seq, raws [][]byte) Frame {
		return &Push{From: from, Events: raws, Omitted: omitted}
	})
}

// AppendPages adds the entries that stand at template.From and behind it as Page
// frames that are otherwise like template, and an entry too large for a packet
// as Part frames. If template is the last, or there are no entries, a Page
// without any ends them.
func AppendPages(p *Packer, template Page, raws [][]byte) {
	p.entries(template.Sync, template.From, raws, func(from events.Seq, raws [][]byte) Frame {
		f := template
		f.From, f.Events, f.Last = from, raws, false
		return &f
	})
	if template.Last || len(raws) == 0 {
		template.From, template.Events = 0, nil
		p.Add(&template)
	}
}

// entries adds events in frames as large as fit.
func (p *Packer) entries(sync uint32, from events.Seq, raws [][]byte, frame func(events.Seq, [][]byte) Frame) {
	if len(raws) == 0 {
		return
	}
	const lengths = 8 // the list's brackets, or longer lengths of what encloses it
	limit := p.limit() - lengths - p.size(frame(from, nil))
	for len(raws) > 0 {
		n, size := 0, 0
		for n < len(raws) {
			size += p.eventSize(raws[n])
			if size > limit {
				break
			}
			n++
		}
		if n == 0 {
			p.parts(sync, from, raws[0])
			n = 1
		} else {
			p.Add(frame(from, raws[:n]))
		}
		from, raws = from+events.Seq(n), raws[n:]
	}
}

// eventSize returns no less than the bytes an event takes in a Push or Page.
func (p *Packer) eventSize(raw []byte) int {
	if p.codec == Proto {
		return 1 + 3 + len(raw)
	}
	const list = `"events":[],`
	return len(list) + len((&Push{Events: [][]byte{raw}}).json())
}

func (f *Push) json() []byte { return AppendFrame(nil, JSON, events.SessionID{}, f) }

// parts adds an entry in pieces, cut alike for every sync and for pushes: a
// client puts together whichever come.
func (p *Packer) parts(sync uint32, seq events.Seq, raw []byte) {
	room := room(p.codec, &Part{Sync: math.MaxUint32, Seq: seq, Index: 1 << 16, Count: 1 << 16, Data: []byte{0}})
	count := (len(raw) + room - 1) / room
	for i := range count {
		p.Add(&Part{
			Sync: sync, Seq: seq, Index: uint32(i), Count: uint32(count),
			Data: raw[i*room : min((i+1)*room, len(raw))],
		})
	}
}

// room returns how many bytes of data fit into a packet besides the frame,
// sealed or plain: sealing takes more than a plain header, or a line's session.
func room(c Codec, f Frame) int {
	room := MaxPacket - sealedSize(c, f) - 4 // two longer lengths, or base64's padding
	if c == JSON {
		room = room / 4 * 3
	}
	return room
}

// sealedSize returns what a sealed packet with that frame alone has.
func sealedSize(c Codec, f Frame) int {
	return SealedHeader + len(AppendFrame(nil, c, events.SessionID{}, f)) + SealedTag
}

// ErrTooManyFragments says that a body does not fit into MaxFragments packets.
var ErrTooManyFragments = errors.New("body does not fit into the fragments of one send")

// Fragment splits a send over as many frames as it needs for each to fit into a
// packet, numbered from whole.Number on. The error wraps ErrTooManyFragments.
func Fragment(c Codec, whole Send) ([]Send, error) {
	whole.Fragment, whole.Fragments = 0, 0
	if sealedSize(c, &whole) <= MaxPacket {
		return []Send{whole}, nil
	}
	first := whole
	first.Body, first.Fragments = []byte{0xff}, MaxFragments // not UTF-8: the longer of the two forms in JSON
	next := Send{Number: whole.Number + MaxFragments, Low: whole.Low, Body: first.Body, Fragment: MaxFragments, Fragments: MaxFragments}
	if room(c, &first) < 1 {
		return nil, fmt.Errorf("%w: recipient and content type, with %d bytes, leave no room for it", ErrTooManyFragments, len(whole.To)+len(whole.Type))
	}
	var all []Send
	for rest, has := whole.Body, room(c, &first); len(rest) > 0; has = room(c, &next) {
		n := fit(c, rest, has)
		f := Send{Number: whole.Number + events.Number(len(all)), Low: whole.Low, Body: rest[:n], Fragment: uint32(len(all))}
		if len(all) == 0 {
			f.To, f.Message, f.Type = whole.To, whole.Message, whole.Type
		}
		all, rest = append(all, f), rest[n:]
	}
	if len(all) > MaxFragments {
		return nil, fmt.Errorf("%w: %d bytes need %d, at most %d are allowed", ErrTooManyFragments, len(whole.Body), len(all), MaxFragments)
	}
	for i := range all {
		all[i].Fragments = uint32(len(all))
	}
	return all, nil
}

// fit returns how many bytes of body fit where room bytes of base64 would: as
// many, or fewer where JSON's text needs more than base64 for them.
func fit(c Codec, body []byte, room int) int {
	n := min(room, len(body))
	if c == Proto {
		return n
	}
	for text := room / 3 * 4; n > 1 && jsonSize(body[:n]) > text; {
		n -= (n + 7) / 8
	}
	return n
}

// jsonSize returns the bytes of a body in JSON, quotes and name left out.
func jsonSize(body []byte) int {
	with := (&Send{Body: body}).json()
	without := (&Send{}).json()
	return len(with) - len(without) - len(`"text":"",`)
}

func (f *Send) json() []byte { return AppendFrame(nil, JSON, events.SessionID{}, f) }
