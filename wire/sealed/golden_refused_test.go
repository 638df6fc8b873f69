package sealed

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"timberline/wire"
)

// A refusedVector is a packet that must not be taken in by its reader, who is in
// the connection of handshake.json.
type refusedVector struct {
	Name   string   `json:"name"`
	Reader string   `json:"reader"` // client or edge
	Why    string   `json:"why"`
	Must   string   `json:"must"`
	Packet hexBytes `json:"packet"`
	Answer hexBytes `json:"answer,omitempty"`
}

func (v refusedVector) name() string { return v.Name }

// What readers must do.
const (
	mustDrop      = "drop it"
	mustWait      = "drop it; the true one opens after it"
	mustAnswer    = "say no more than the answer"
	mustStayAsWas = "drop it; the session goes on, and the true packet opens after it"
)

// refusedCounter is that of the DATA packets which were changed.
const refusedCounter = 7

// refusedData returns the true DATA packet of a direction.
func refusedData(c *noiseChannel) []byte {
	return c.seal(refusedCounter, []byte("\n\x04\x62\x02\x08\x04"))
}

// flipped returns a copy of a packet with the lowest bit of a byte changed.
func flipped(packet []byte, at int) []byte {
	packet = bytes.Clone(packet)
	packet[at] ^= 1
	return packet
}

func refusedVectors(t *testing.T) []refusedVector {
	t.Helper()
	v, client, edge := noiseVectors(t)
	return append(refusedHandshakes(t, v), append(refusedResets(v), refusedDatas(client, edge)...)...)
}

// refusedHandshakes returns what a client that waits for an answer, and an edge
// that waits for a HELLO, must not take in.
func refusedHandshakes(t *testing.T, v handshakeVector) []refusedVector {
	t.Helper()
	retry, hello, welcome := v.Retries[0].Packet, v.HelloWithCookie, v.Welcome
	zeroWelcome := append(bytes.Clone(welcome[:17]), append(make([]byte, dhSize), welcome[49:]...)...)
	var n noiseEdge
	short, _, err := n.respond(goldenStatic, goldenEdge, hello, counted(0x20, welcomePayload-1))
	if err != nil {
		t.Fatal(err)
	}
	otherVersion, otherKey := flipped(hello, 1), flipped(hello, 2)
	answer := func(cause byte) []byte {
		return append(append([]byte{2, 1, cause}, hello[10:26]...), make([]byte, CookieSize)...)
	}
	return []refusedVector{
		{"retry-other-echo", "client", "bytes 3 to 18 are not the echo of the HELLO", mustDrop, flipped(retry, 3), nil},
		{"retry-cut-short", "client", "a byte is missing", mustDrop, retry[:RetrySize-1], nil},
		{"retry-too-long", "client", "a byte is too much", mustDrop, append(bytes.Clone(retry), 0), nil},
		{"welcome-other-echo", "client", "bytes 1 to 16 are not the echo of the HELLO", mustDrop, flipped(welcome, 1), nil},
		{"welcome-other-key", "client", "a bit of e is changed", mustWait, flipped(welcome, 17), nil},
		{"welcome-other-payload", "client", "a bit of the sealed session is changed", mustWait, flipped(welcome, 49), nil},
		{"welcome-other-tag", "client", "a bit of the tag is changed", mustWait, flipped(welcome, len(welcome)-1), nil},
		{"welcome-cut-short", "client", "a byte is missing", mustWait, welcome[:len(welcome)-1], nil},
		{"welcome-short-payload", "client", "well sealed, but the payload has 31 bytes", mustWait, short, nil},
		{"welcome-zero-key", "client", "e is a point of small order: the shared secret ee is zero", mustWait, zeroWelcome, nil},
		{"hello-cut-short", "edge", "a byte of the padding is missing", mustDrop, hello[:HelloSize-1], nil},
		{"hello-other-version", "edge", "byte 1 is not 1", mustAnswer, otherVersion, answer(1)},
		{"hello-other-server-key", "edge", "bytes 2 to 9 name a key that the edge does not have", mustAnswer, otherKey, answer(2)},
		{"hello-other-key", "edge", "a bit of e is changed", mustDrop, flipped(hello, 10), nil},
		{"hello-other-tag", "edge", "a bit of the tag is changed", mustDrop, flipped(hello, 57), nil},
		{"hello-zero-key", "edge", "e is a point of small order: the shared secret es is zero, and the tag is right for it", mustDrop, zeroHello(v.ServerPublic, [dhSize]byte{}, goldenCookie[:]), nil},
	}
}

func refusedResets(v handshakeVector) []refusedVector {
	return []refusedVector{
		{"reset-other-token", "client", "the token is not the one of WELCOME", mustStayAsWas, flipped(v.Reset, ResetSize-1), nil},
		{"reset-other-session", "client", "it names another session", mustStayAsWas, flipped(v.Reset, 1), nil},
		{"reset-too-long", "client", "a byte is too much", mustStayAsWas, append(bytes.Clone(v.Reset), 0), nil},
		{"reset-cut-short", "client", "a byte is missing", mustStayAsWas, v.Reset[:ResetSize-1], nil},
	}
}

func refusedDatas(client, edge *noiseChannel) []refusedVector {
	toEdge, toClient := refusedData(client), refusedData(edge)
	wrongKey := noiseChannel{session: client.session, send: edge.send}
	sealed := func(counter uint64, size int) []byte { return client.seal(counter, bytes.Repeat([]byte{0}, size)) }
	return []refusedVector{
		{"data-other-type", "edge", "a bit of byte 0 is changed", mustStayAsWas, flipped(toEdge, 0), nil},
		{"data-other-session", "edge", "a bit of the session is changed", mustStayAsWas, flipped(toEdge, 1), nil},
		{"data-other-counter", "edge", "a bit of the counter is changed", mustStayAsWas, flipped(toEdge, 24), nil},
		{"data-other-frames", "edge", "a bit of the sealed frames is changed", mustStayAsWas, flipped(toEdge, 25), nil},
		{"data-other-tag", "edge", "a bit of the tag is changed", mustStayAsWas, flipped(toEdge, len(toEdge)-1), nil},
		{"data-cut-short", "edge", "a byte is missing", mustStayAsWas, toEdge[:len(toEdge)-1], nil},
		{"data-longer", "edge", "a byte is too much", mustStayAsWas, append(bytes.Clone(toEdge), 0), nil},
		{"data-too-small", "edge", "there is no room for a tag", mustStayAsWas, toEdge[:DataSize-1], nil},
		{"data-header-only", "edge", "there is nothing behind the header", mustStayAsWas, toEdge[:wire.SealedHeader], nil},
		{"data-too-large", "edge", "well sealed, but of 1,201 bytes", mustStayAsWas, sealed(8, wire.MaxPacket-DataSize+1), nil},
		{"data-counter-too-high", "edge", "well sealed, but with counter 2^28", mustStayAsWas, sealed(1<<28, 0), nil},
		{"data-counter-highest", "edge", "well sealed, but with counter 2^64-1", mustStayAsWas, sealed(1<<64-1, 0), nil},
		{"data-key-of-other-direction", "edge", "sealed with the key of the edge's own packets", mustStayAsWas, refusedData(&wrongKey), nil},
		{"data-sent-back", "edge", "a packet of the edge itself", mustStayAsWas, toClient, nil},
		{"data-sent-back-to-client", "client", "a packet of the client itself", mustStayAsWas, toEdge, nil},
		{"data-of-edge-changed", "client", "a bit of the sealed frames is changed", mustStayAsWas, flipped(toClient, 25), nil},
	}
}

func TestGoldenRefusalsAreRefusedAsEver(t *testing.T) {
	whole, otherClient, otherEdge := noiseVectors(t)
	for _, v := range goldenList(t, "refused", refusedVectors(t)) {
		i, _ := goldenHello(t)
		client, edge := goldenChannels(t)
		key, to, truth := NewServerKey(goldenStatic), client, refusedData(otherEdge)
		if v.Reader == "edge" {
			to, truth = edge, refusedData(otherClient)
		}
		if h, err := ParseHello(v.Packet); err == nil {
			checkRefusedHello(t, v, h, key)
		}
		if _, err := i.Retry(v.Packet); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: as a RETRY: %v, want ErrMalformed", v.Name, err)
		}
		if _, _, err := i.Finish(v.Packet); !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrHandshake) {
			t.Errorf("%s: as a WELCOME: %v, want an error", v.Name, err)
		}
		if IsReset(v.Packet, goldenWelcome.Session, goldenWelcome.Reset) {
			t.Errorf("%s: taken for the session's RESET", v.Name)
		}
		if s, ok := PeekData(v.Packet); ok && s == goldenWelcome.Session {
			if frames, _, err := open(to, v.Packet); err == nil {
				t.Errorf("%s: opened as %x", v.Name, frames)
			}
		}
		if _, _, err := i.Finish(whole.Welcome); err != nil {
			t.Errorf("%s: the true WELCOME after it: %v", v.Name, err)
		}
		if _, newest, err := open(to, truth); err != nil || !newest {
			t.Errorf("%s: the true packet after it: %v, %v", v.Name, newest, err)
		}
	}
}

// checkRefusedHello answers a HELLO as an edge with one key does.
func checkRefusedHello(t *testing.T, v refusedVector, h Hello, key ServerKey) {
	t.Helper()
	retry := Retry{Version: Version}
	switch {
	case h.Version != Version:
		retry.Cause = CauseVersion
	case h.Key != key.Public.ID():
		retry.Cause = CauseKey
	default:
		if _, _, err := h.Respond(key, goldenWelcome, source(1)); !errors.Is(err, ErrHandshake) {
			t.Errorf("%s: %v, want ErrHandshake", v.Name, err)
		}
		return
	}
	wantPacket(t, v.Name, h.AppendRetry(nil, retry), v.Answer)
}

// A windowVector is a counter that comes, behind those before it.
type windowVector struct {
	Counter uint64 `json:"counter"`
	Taken   bool   `json:"taken"`
}

// windowCounters are what comes, in order: in a row, out of order, repeats, jumps
// smaller and larger than the window and by many windows, and both its edges.
var windowCounters = []uint64{
	0, 0, 1, 3, 2, 2, 3, 1, 0,
	511, 0, 4, 4, 512, 1, 5, 513, 6, 2, 512,
	1023, 511, 512, 514, 514, 1022, 1023,
	1024, 1025, 514, 515, 515,
	1536, 1025, 1026, 1024, 1025, 1535,
	2049, 1536, 1537, 1538, 1537, 2048, 2048, 2049,
	100_000, 2048, 2049, 99_488, 99_489, 99_489, 99_999, 99_999, 100_000,
	100_511, 99_999, 100_000, 100_001, 100_510,
	1 << 27, 100_512, 1<<29 - 512, 1<<29 - 511, 1<<29 - 511, 1<<29 - 1,
	1<<28 - 1, 1 << 27, 1<<28 - 512, 1<<28 - 513, 1<<28 - 2, 1<<28 - 1,
	1 << 28, 1<<28 + 1, 1 << 53, 1<<28 - 3, 1<<28 - 3,
}

// windowVectors says what becomes of them by the words of docs/protocol.md §12.
func windowVectors() []windowVector {
	var all []windowVector
	taken := make(map[uint64]bool)
	highest := uint64(0)
	for _, c := range windowCounters {
		v := windowVector{c, c < 1<<28 && !taken[c] && c+512 > highest}
		if v.Taken {
			taken[c], highest = true, max(highest, c)
		}
		all = append(all, v)
	}
	return all
}

func TestGoldenWindowTakesWhatItEverTook(t *testing.T) {
	_, otherClient, _ := noiseVectors(t)
	_, edge := goldenChannels(t)
	for n, v := range golden(t, "window.json", windowVectors()) {
		packet := otherClient.seal(v.Counter, nil)
		if got := binary.BigEndian.Uint64(packet[17:]); got != v.Counter {
			t.Fatalf("packet %d has counter %d", v.Counter, got)
		}
		_, _, err := open(edge, packet)
		if taken := err == nil; taken != v.Taken {
			t.Errorf("counter %d, which comes as number %d: taken %v, want %v", v.Counter, n+1, taken, v.Taken)
		}
		if err != nil && !errors.Is(err, ErrReplayed) {
			t.Errorf("counter %d: %v, want ErrReplayed", v.Counter, err)
		}
	}
}
