package wire

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"

	"timberline/events"
	"timberline/events/fields"
)

// A sample is a packet whose encodings are kept in testdata.
type sample struct {
	name    string // of its files
	session events.SessionID
	frames  []Frame
}

// packet returns the sample in a codec.
func (s sample) packet(c Codec) Packet {
	return Packet{Codec: c, Session: s.session, Frames: s.frames}
}

// sampleID returns an id that is easy to tell from others.
func sampleID(n byte) (id [16]byte) {
	for i := range id {
		id[i] = n<<4 | byte(i)
	}
	return id
}

// sampleEvent returns an event with every field that a message has.
func sampleEvent(body string) events.Event {
	return events.Event{
		ID: sampleID(1), Kind: events.KindMessage, Conversation: "d:alice,bob", Sender: "alice", Device: "phone",
		Session: sampleID(2), Number: 7, Message: sampleID(3), Body: []byte(body),
	}
}

// samples returns each kind of frame with every field set, each without any, and
// what is hard about the encodings.
func samples() []sample {
	plain, odd := sampleEvent("hello"), sampleEvent("\xff\x00")
	odd.GroupVersion, odd.ContentType, odd.Target = 9, "application/octet-stream", sampleID(4)
	raws := [][]byte{plain.Encode(), odd.Encode()}
	var none events.SessionID
	session := events.SessionID(sampleID(2))
	all := []sample{
		{"login", none, []Frame{&Login{
			Version: 1, Attempt: sampleID(5), Token: "header.claims.signature", Cursor: 41, Store: sampleID(6),
			Settle: []OldSession{{Session: sampleID(7), Journal: "j0", Offset: 12}, {Session: sampleID(8), Journal: "j1", Offset: 13}},
		}}},
		{"accepted", session, []Frame{&Accepted{
			Attempt: sampleID(5), Session: session, Journal: "j0", Offset: 14, Store: sampleID(6), Head: 43, First: 2,
			Heartbeat: 15_000, MaxBody: 16 << 10, Address: "[::1]:4747",
		}}},
		{"denied", none, []Frame{&Denied{Attempt: sampleID(5), Reason: ReasonBusy, Detail: "over capacity", RetryAfter: 2000}}},
		{"send", session, []Frame{&Send{
			Number: 9, Low: 3, To: "bob", Message: sampleID(3), Type: "text/markdown", Body: []byte("hello"), Fragment: 1, Fragments: 3,
		}}},
		{"send-read", session, []Frame{&Send{Number: 10, Low: 3, Message: sampleID(9), With: "bob", Read: sampleID(4)}}},
		{"ack", session, []Frame{&Ack{
			Through: 9, Offset: 15, Held: []byte{0b101},
			Refused: []Refusal{{From: 4, To: 4, Reason: ReasonRecipient}, {From: 6, To: 8, Reason: ReasonTooLarge}},
		}}},
		{"busy", session, []Frame{&Busy{From: 10, RetryAfter: 250}}},
		{"push", session, []Frame{&Push{From: 42, Events: raws, Omitted: true}}},
		{"part", session, []Frame{&Part{Sync: 3, Seq: 42, Index: 1, Count: 2, Data: plain.Encode()[60:]}}},
		{"got", session, []Frame{&Got{Cursor: 43}}},
		{"sync", session, []Frame{&Sync{ID: 3, Ranges: []Range{{After: 10, Upto: 20}, {After: 30}}, Budget: 9000}}},
		{"page", session, []Frame{&Page{Sync: 3, From: 42, Events: raws, Head: 43, First: 2, Last: true, Status: StatusTooOld}}},
		{"ping", session, []Frame{&Ping{ID: 4, Cursor: 43, Low: 10}}},
		{"pong", session, []Frame{&Pong{ID: 4, Head: 43, First: 2}}},
		{"settled", session, []Frame{&Settled{Session: sampleID(7), Numbers: []uint64{1, 3, 300, 300}, Unknown: true}}},
		{"closed", session, []Frame{&Closed{Reason: ReasonReplaced, Detail: "the device has logged in anew", RetryAfter: 1000}}},
		{"bye", session, []Frame{&Bye{}}},
		{"challenge", session, []Frame{&Challenge{Token: []byte("\x01\x02\x03\x04\x05\x06\x07\x08")}}},
		{"echo", session, []Frame{&Echo{Token: []byte("\x01\x02\x03\x04\x05\x06\x07\x08")}}},
		{"accepted-sealed", session, []Frame{&Accepted{
			Attempt: sampleID(5), Session: session, Journal: "j:1", Store: sampleID(6), Head: 43, First: 2, Heartbeat: 15_000, MaxBody: 16 << 10,
			Expires: 86_400_000, Cookie: bytes.Repeat([]byte("c"), 24), MaxHeartbeat: 120_000,
		}}},
		{"ping-sealed", session, []Frame{&Ping{ID: 4, Cursor: 43, Low: 10, Next: 30_000, Padding: make([]byte, 24)}}},
		{"sync-spread", session, []Frame{&Sync{ID: 3, Ranges: []Range{{After: 10}}, Spread: 40}}},
		{"closed-final", session, []Frame{&Closed{Reason: ReasonShutdown, Final: true, Through: 41, Address: "chat.example:4747"}}},

		{"empty", session, emptyFrames(1, 16)},
		{"empty-sealed", session, emptyFrames(17, len(kinds)-1)},
		{"largest-numbers", session, []Frame{
			&Busy{From: 1<<64 - 1, RetryAfter: 1<<32 - 1}, &Settled{Numbers: []uint64{1<<64 - 1, 1<<64 - 1}}, &Closed{Reason: 255},
		}},
		{"text", session, []Frame{&Send{Number: 1, Body: []byte("\"\\/\b\f\n\r\t\x00\x7f<&>\u2028 ä€𝄞")}}},
		{"body-that-is-not-text", session, []Frame{&Send{Number: 1, Body: []byte("a\xc3")}}},
		{"length-of-two-bytes", session, []Frame{&Send{Number: 1, Body: []byte(strings.Repeat("x", 200))}}},
		{"event-of-a-later-kind", session, []Frame{&Push{From: 1, Events: [][]byte{(&events.Event{Kind: 200}).Encode()}}}},
	}
	return all
}

// emptyFrames returns a frame of each kind in a range, with as few fields as may
// be.
func emptyFrames(first, last int) []Frame {
	var all []Frame
	for k := first; k <= last; k++ {
		f := kinds[k].make()
		if send, ok := f.(*Send); ok {
			send.Number = 1
		}
		all = append(all, f)
	}
	return all
}

// randomSamples returns n packets of one random frame each.
func randomSamples(n int) []sample {
	r := rand.New(rand.NewPCG(1, 1))
	var all []sample
	for i := range n {
		k := 1 + i%(len(kinds)-1)
		all = append(all, sample{fmt.Sprintf("random %d", i), sampleID(2), []Frame{randomFrame(r, k)}})
	}
	return all
}

// randomFrame returns a frame of a kind that keeps the limits of its type.
func randomFrame(r *rand.Rand, k int) Frame {
	for {
		f := kinds[k].make()
		f.Fields(&filler{r})
		if check(f) == nil {
			return f
		}
	}
}

// A filler visits a message as a decoder of random input would.
type filler struct{ *rand.Rand }

// length returns how long something is: often nothing, seldom long.
func (v *filler) length() int { return v.IntN(1 + v.IntN(12)) }

func (v *filler) Uint(int, string, uint64) uint64 { return v.Uint64() >> v.IntN(65) }
func (v *filler) Bool(int, string, bool) bool     { return v.IntN(2) == 1 }
func (v *filler) Unknown(x []byte) []byte         { return x }

func (v *filler) String(int, string, string) string {
	alphabet := []rune("abc\"\\\n\x00<\u2028ä€𝄞\ufffd")
	text := make([]rune, v.length())
	for i := range text {
		text[i] = alphabet[v.IntN(len(alphabet))]
	}
	return string(text)
}

func (v *filler) Bytes(int, string, []byte) []byte {
	var data []byte
	for range v.length() {
		data = append(data, byte(v.Uint32()))
	}
	return data
}

func (v *filler) Text(num int, name string, x []byte) []byte {
	if text := v.String(num, name, ""); text != "" && v.IntN(2) == 1 {
		return []byte(text)
	}
	return v.Bytes(num, name, x)
}

func (v *filler) ID(int, string, [16]byte) (id [16]byte) {
	if v.IntN(3) == 0 {
		return id
	}
	for i := range id {
		id[i] = byte(v.Uint32())
	}
	return id
}

func (v *filler) Enum(_ int, _ string, _ uint64, names []string) uint64 {
	if v.IntN(4) == 0 {
		return v.Uint64N(256)
	}
	return v.Uint64N(uint64(len(names)))
}

func (v *filler) Embed(_ int, _ string, m fields.Message, _ bool) bool {
	present := v.IntN(2) == 1
	if present {
		m.Fields(v)
	}
	return present
}

func (v *filler) List(_ int, _ string, n int, item func(int) fields.Message) {
	for i := range v.length() {
		item(n + i).Fields(v)
	}
}

func (v *filler) Uints(num int, name string, x []uint64) []uint64 {
	for range v.length() {
		x = append(x, v.Uint(num, name, 0))
	}
	return x
}

func (v *filler) RawList(_ int, _ string, x [][]byte, m func() fields.Message) [][]byte {
	for range v.length() {
		msg := m()
		msg.Fields(v)
		x = append(x, fields.Append([]byte{}, msg))
	}
	return x
}
