package sealed

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"timberline/events"
	"timberline/wire"
)

const packetFolder = "../testdata/packets"

// A dataVector is a DATA packet of the connection in handshake.json.
type dataVector struct {
	Name    string   `json:"name"`
	From    string   `json:"from"` // client or edge
	Counter uint64   `json:"counter"`
	Frames  hexBytes `json:"frames"`
	Packet  hexBytes `json:"packet"`
}

func (v dataVector) name() string { return v.Name }

// A dataSample is what a dataVector is made of.
type dataSample struct {
	name    string
	frames  []wire.Frame
	counter uint64
}

// from says who sends such a packet.
func (s dataSample) from() string {
	if len(s.frames) == 0 {
		return "client"
	}
	switch s.frames[0].(type) {
	case *wire.Login, *wire.Send, *wire.Got, *wire.Sync, *wire.Ping, *wire.Bye, *wire.Echo:
		return "client"
	}
	return "edge"
}

// encode returns what is sealed.
func (s dataSample) encode(c wire.Codec) []byte {
	var b []byte
	for _, f := range s.frames {
		b = wire.AppendFrame(b, c, events.SessionID{}, f)
	}
	return b
}

// dataSamples returns the packets of testdata in a codec, and what sealing adds
// to them.
func dataSamples(t *testing.T, c wire.Codec) []dataSample {
	t.Helper()
	pattern := packetFolder + "/*.hex"
	if c == wire.JSON {
		pattern = packetFolder + "/*.json"
	}
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("no packets in %s: %v", packetFolder, err)
	}
	var all []dataSample
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), filepath.Ext(file))
		all = append(all, dataSample{name, readPacket(t, file, c), counterFor(name, c)})
	}
	all = append(all, dataSample{"largest", largestFrames(t, c), counterFor("largest", c)})
	if c == wire.Proto { // a counter is used once in a direction
		all = append(all, dataSample{"no-frames", nil, 0}, dataSample{"highest-counter", []wire.Frame{&wire.Bye{}}, MaxPackets - 1})
	}
	return all
}

// readPacket returns the frames of a plain packet in a file.
func readPacket(t *testing.T, file string, c wire.Codec) []wire.Frame {
	t.Helper()
	data, err := os.ReadFile(file)
	if c == wire.Proto && err == nil {
		data, err = hex.DecodeString(strings.Join(strings.Fields(string(data)), ""))
	}
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	p, err := wire.Decode(data)
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return p.Frames
}

// counterFor returns a counter below 2²⁴ that follows from the name alone, so that
// it stays as it is when samples are added.
func counterFor(name string, c wire.Codec) uint64 {
	sum := sha256.Sum256(fmt.Append(nil, name, " in ", c))
	return uint64(binary.BigEndian.Uint32(sum[:]) >> 8)
}

// largestFrames returns a send that fills a packet to its last byte.
func largestFrames(t *testing.T, c wire.Codec) []wire.Frame {
	t.Helper()
	const room = wire.MaxPacket - DataSize
	for n := range room {
		frames := []wire.Frame{&wire.Send{Number: 1, To: "bob", Body: bytes.Repeat([]byte("x"), room-n)}}
		if len(dataSample{frames: frames}.encode(c)) == room {
			return frames
		}
	}
	t.Fatalf("no send makes a packet of %d bytes", wire.MaxPacket)
	return nil
}

func TestGoldenDataIsSealedAndOpenedAsEver(t *testing.T) {
	used := make(map[string]string)
	for _, c := range []wire.Codec{wire.Proto, wire.JSON} {
		_, otherClient, otherEdge := noiseVectors(t)
		samples := make(map[string]dataSample)
		var want []dataVector
		for _, s := range dataSamples(t, c) {
			frames, other := s.encode(c), otherEdge
			if s.from() == "client" {
				other = otherClient
			}
			samples[s.name] = s
			want = append(want, dataVector{s.name, s.from(), s.counter, frames, other.seal(s.counter, frames)})
		}
		for _, v := range goldenList(t, "data-"+c.String(), want) {
			place := fmt.Sprint(v.From, v.Counter)
			if used[place] != "" {
				t.Errorf("%s and %s in %v have the same counter", v.Name, used[place], c)
			}
			used[place] = v.Name
			client, edge := goldenChannels(t)
			from, to, other := client, edge, otherEdge
			if v.From == "edge" {
				from, to, other = edge, client, otherClient
			}
			from.sent = v.Counter
			wantPacket(t, v.Name, seal(t, from, string(v.Frames)), v.Packet)
			if got, err := other.open(v.Packet); err != nil || !bytes.Equal(got, v.Frames) {
				t.Errorf("%s in %v: another implementation opened %x, %v", v.Name, c, got, err)
			}
			frames, newest, err := to.Open(bytes.Clone(v.Packet))
			if err != nil || !newest || !bytes.Equal(frames, v.Frames) {
				t.Errorf("%s in %v: opened %x, %v, %v", v.Name, c, frames, newest, err)
				continue
			}
			got, err := wire.DecodeSealed(goldenWelcome.Session, frames)
			if err != nil {
				t.Errorf("%s in %v: %v", v.Name, c, err)
			}
			plain := wire.Packet{Session: goldenWelcome.Session, Frames: samples[v.Name].frames}
			if len(v.Frames) > 0 {
				plain.Codec = c
			}
			if diff := cmp.Diff(plain, got); diff != "" {
				t.Errorf("%s in %v (- sample, + file):\n%s", v.Name, c, diff)
			}
		}
	}
}
