package wire

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protowire"

	"timberline/events"
)

// plain returns a plain packet whose session is of zeros, with bytes behind the
// header.
func plain(body ...byte) string {
	return string(AppendHeader(nil, Proto, events.SessionID{})) + string(body)
}

// packet encodes frames that a correct sender would not.
func packet(c Codec, frames ...Frame) string {
	p := Packet{Codec: c, Frames: frames}
	return string(p.Encode())
}

func TestMalformedPacketsAreRefusedWithTheReason(t *testing.T) {
	for name, x := range map[string]struct{ data, want string }{
		"nothing":               {"", "neither a plain packet"},
		"packet of sealed mode": {"\x01" + strings.Repeat("x", 40), "neither a plain packet"},
		"half a header":         {plain()[:plainHeader-1], "neither a plain packet"},
		"white space first":     {` {"ping":{}}`, "neither a plain packet"},
		"too long":              {plain() + strings.Repeat("\x00", MaxPacket), "1217 bytes, at most 1200"},
		"too long in JSON":      {`{"ping":{}}` + strings.Repeat(" ", MaxPacket), "at most 1200"},

		"tag of field 0":            {plain(0x02, 0), "cut short"},
		"tag without an end":        {plain(0xff), "cut short"},
		"envelope cut short":        {plain(0x0a, 5, 0x62), "cut short"},
		"length beyond the packet":  {plain(0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f), "cut short"},
		"envelope is a number":      {plain(0x08, 1), "envelope has wire type 0"},
		"frame cut short":           {plain(0x0a, 2, 0x62, 9), "cut short"},
		"frame is a number":         {plain(0x0a, 2, 0x60, 1), "ping has wire type 0"},
		"two frames in an envelope": {plain(0x0a, 4, 0x62, 0, 0x6a, 0), "two frames"},
		"same frame twice":          {plain(0x0a, 4, 0x62, 0, 0x62, 0), "two frames"},
		"field cut short":           {plain(0x0a, 4, 0x62, 2, 0x12, 9), "ping: malformed message: field 2 is cut short"},
		"number as bytes":           {plain(0x0a, 4, 0x62, 2, 0x0a, 0), "field 1 has wire type 2, want 0"},
		"id of one byte":            {plain(0x0a, 5, 0x0a, 3, 0x12, 1, 7), "id in field 2 has 1 bytes, want 16"},
		"text is not UTF-8":         {plain(0x0a, 5, 0x0a, 3, 0x1a, 1, 0xff), "field 3 is not UTF-8"},
		"group":                     {plain(0x0a, 1, 0x63), "cut short"},
		"packed number cut short":   {plain(0x0a, 5, 0x72, 3, 0x12, 1, 0x80), "field 2 is cut short"},

		"not JSON":              {`{"ping":`, "not a JSON object"},
		"second value":          {`{"ping":{}} {}`, "not a JSON object"},
		"list for an object":    {`{"ping":[]}`, "not a JSON object"},
		"text for an object":    {`{"ping":"x"}`, "not a JSON object"},
		"list of a number":      {`{"sync":{"ranges":[1]}}`, "not a JSON object"},
		"object for a list":     {`{"sync":{"ranges":{}}}`, `"ranges"`},
		"text for a number":     {`{"ping":{"id":"x"}}`, "not a whole number"},
		"negative number":       {`{"ping":{"id":-1}}`, "not a whole number"},
		"number with a point":   {`{"ping":{"id":1.0}}`, "not a whole number"},
		"number beyond 64 bits": {`{"ping":{"id":18446744073709551616}}`, "not a whole number"},
		"number for text":       {`{"login":{"token":1}}`, `"token"`},
		"id of a wrong length":  {`{"login":{"attempt":"123"}}`, "want 26 characters"},
		"id of wrong letters":   {`{"login":{"attempt":"UUUUUUUUUUUUUUUUUUUUUUUUUU"}}`, "want 26 characters"},
		"base64 that is none":   {`{"send":{"n":1,"body":"***"}}`, `"body"`},
		"two frames in a line":  {`{"ping":{},"bye":{}}`, "two frames"},
		"not UTF-8":             {"{\"login\":{\"token\":\"\xff\"}}", "not UTF-8"},
		"another session":       {`{"bye":{}}` + "\n" + `{"session":"1044H269154RKJGA9A5CP2TBHF","bye":{}}`, "two sessions"},
		"no session later":      {`{"session":"1044H269154RKJGA9A5CP2TBHF","bye":{}}` + "\n" + `{"bye":{}}`, "two sessions"},

		"send without a number":    {packet(Proto, &Send{}), "send 0 is fragment 0 of 0"},
		"fragment behind the last": {packet(Proto, &Send{Number: 9, Fragment: 3, Fragments: 3}), "fragment 3 of 3"},
		"fragment of a whole send": {packet(JSON, &Send{Number: 9, Fragment: 1}), "fragment 1 of 0"},
		"fragment before number 1": {packet(JSON, &Send{Number: 2, Fragment: 2, Fragments: 3}), "send 2 is fragment 2"},
		"too many fragments":       {packet(Proto, &Send{Number: 9, Fragments: MaxFragments + 1}), "fragment 0 of 65"},
		"too many ranges":          {packet(Proto, &Sync{Ranges: make([]Range, MaxRanges+1)}), "9 ranges, at most 8"},
		"too many sessions":        {packet(JSON, &Login{Settle: make([]OldSession, MaxSettle+1)}), "5 sessions, at most 4"},
		"too many refusals":        {packet(Proto, &Ack{Refused: make([]Refusal, MaxRefusals+1)}), "65 refusals, at most 64"},
		"half a run":               {packet(JSON, &Settled{Numbers: []uint64{1, 2, 3}}), "half a run"},
		"good frames before":       {packet(Proto, &Bye{}, &Send{}), "send 0"},
	} {
		p, err := Decode([]byte(x.data))
		if !errors.Is(err, ErrMalformed) || !strings.Contains(err.Error(), x.want) {
			t.Errorf("%s: %v, want a malformed packet because of %q", name, err, x.want)
		}
		if len(p.Frames) > 0 {
			t.Errorf("%s: %d frames came with the error", name, len(p.Frames))
		}
	}
}

func TestFramesAtTheirLimitsAreTaken(t *testing.T) {
	for _, f := range []Frame{
		&Send{Number: 1}, &Send{Number: 1, Fragments: 1}, &Send{Number: 64, Fragment: 63, Fragments: MaxFragments},
		&Sync{Ranges: make([]Range, MaxRanges)}, &Login{Settle: make([]OldSession, MaxSettle)},
		&Ack{Refused: make([]Refusal, MaxRefusals)},
	} {
		for _, c := range bothCodecs {
			p, err := Decode([]byte(packet(c, f)))
			if err != nil || len(p.Frames) != 1 {
				t.Errorf("%v of %+v: %d frames, %v", c, f, len(p.Frames), err)
				continue
			}
			if diff := cmp.Diff(f, p.Frames[0]); diff != "" {
				t.Errorf("%v (- sent, + arrived):\n%s", c, diff)
			}
		}
	}
}

func TestPacketsOfALaterVersionAreReadAsFarAsKnown(t *testing.T) {
	ping := &Ping{ID: 7, Cursor: 3}
	for name, x := range map[string]struct {
		data string
		want []Frame
	}{
		"no frame":                         {plain(), nil},
		"empty envelope":                   {plain(0x0a, 0), nil},
		"frame of an unknown kind":         {plain(0x0a, 3, 0x9a, 6, 0), nil},
		"unknown kind beside a known one":  {plain(0x0a, 9, 0x62, 4, 8, 7, 16, 3, 0xa2, 6, 0), []Frame{ping}},
		"field of the packet":              {plain(0x12, 1, 9, 0x0a, 6, 0x62, 4, 8, 7, 16, 3), []Frame{ping}},
		"fields of the frame":              {later(), []Frame{ping}},
		"field given twice: the last":      {plain(0x0a, 8, 0x62, 6, 8, 1, 8, 7, 16, 3), []Frame{ping}},
		"numbers not packed":               {plain(0x0a, 6, 0x72, 4, 16, 1, 16, 2), []Frame{&Settled{Numbers: []uint64{1, 2}}}},
		"number larger than its type":      {plain(0x0a, 8, 0x62, 6, 8, 0xff, 0xff, 0xff, 0xff, 0x7f), []Frame{&Ping{ID: 1<<32 - 1}}},
		"reason larger than its type":      {plain(0x0a, 5, 0x7a, 3, 8, 0xac, 2), []Frame{&Closed{Reason: 255}}},
		"empty field is none":              {plain(0x0a, 6, 0x22, 4, 8, 1, 0x32, 0), []Frame{&Send{Number: 1}}},
		"JSON without a frame":             {`{}`, nil},
		"JSON: unknown kind":               {`{"wave":{"a":1}}`, nil},
		"JSON: unknown name":               {`{"ping":{"id":"7","cursor":"3","mood":[{}]},"x":1}`, []Frame{ping}},
		"JSON: numbers as numbers":         {`{"ping":{"id":7,"cursor":3}}`, []Frame{ping}},
		"JSON: null is nothing":            {`{"bye":null,"ping":{"id":7,"cursor":3,"low":null}}`, []Frame{ping}},
		"JSON: spaces and empty lines":     {"{ \"ping\" : { \"id\" : \"7\" , \"cursor\":3 } }\r\n\n  \n{\"bye\":{}}", []Frame{ping, &Bye{}}},
		"JSON: body of text as base64":     {`{"send":{"n":1,"body":"aGk="}}`, []Frame{&Send{Number: 1, Body: []byte("hi")}}},
		"JSON: text before body":           {`{"send":{"n":1,"body":"eA==","text":"hi"}}`, []Frame{&Send{Number: 1, Body: []byte("hi")}}},
		"JSON: reason without a name":      {`{"closed":{"reason":"77"}}`, []Frame{&Closed{Reason: 77}}},
		"JSON: name of a later reason":     {`{"closed":{"reason":"tired"},"x":1}`, []Frame{&Closed{Reason: 255}}},
		"JSON: reason as a number":         {`{"closed":{"reason":9}}`, []Frame{&Closed{Reason: ReasonReplaced}}},
		"JSON: id in small letters":        {`{"denied":{"attempt":"2ga5956n2nasbngpatbde5tqjz"}}`, []Frame{&Denied{Attempt: sampleID(5)}}},
		"JSON: empty id":                   {`{"denied":{"attempt":""}}`, []Frame{&Denied{}}},
		"JSON: a later frame of a session": {`{"session":"1044H269154RKJGA9A5CP2TBHF"}`, nil},
	} {
		p, err := Decode([]byte(x.data))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if diff := cmp.Diff(x.want, p.Frames); diff != "" {
			t.Errorf("%s (- want, + got):\n%s", name, diff)
		}
	}
}

// later returns a Ping with fields of every wire type that it does not know.
func later() string {
	frame := []byte{8, 7}
	frame = protowire.AppendVarint(protowire.AppendTag(frame, 50, protowire.VarintType), 1<<60)
	frame = protowire.AppendFixed32(protowire.AppendTag(frame, 51, protowire.Fixed32Type), 1)
	frame = protowire.AppendFixed64(protowire.AppendTag(frame, 52, protowire.Fixed64Type), 1)
	frame = protowire.AppendString(protowire.AppendTag(frame, 53, protowire.BytesType), "new")
	frame = append(frame, 16, 3)
	envelope := protowire.AppendBytes([]byte{0x62}, frame)
	return plain(protowire.AppendBytes([]byte{0x0a}, envelope)...)
}

func TestEventsPassThroughAsTheyAre(t *testing.T) {
	raw := append(sampleEventRaw(), protowire.AppendString(protowire.AppendTag(nil, 90, protowire.BytesType), "of a later version")...)
	p, err := Decode([]byte(packet(Proto, &Push{From: 1, Events: [][]byte{raw}})))
	if err != nil {
		t.Fatal(err)
	}
	if got := p.Frames[0].(*Push).Events[0]; !bytes.Equal(got, raw) {
		t.Errorf("arrived as %x, want %x", got, raw)
	}
}

func sampleEventRaw() []byte {
	e := sampleEvent("hello")
	return e.Encode()
}

func TestSessionIsSeenWithoutDecoding(t *testing.T) {
	session := events.SessionID(sampleID(2))
	p := Packet{Session: session, Frames: []Frame{&Ping{}}}
	data := p.Encode()
	for name, x := range map[string]struct {
		data []byte
		want events.SessionID
	}{
		"whole packet": {data, session},
		"header only":  {data[:plainHeader], session},
		"cut short":    {data[:plainHeader-1], events.SessionID{}},
		"nothing":      {nil, events.SessionID{}},
		"no session":   {[]byte(plain()), events.SessionID{}},
		"sealed mode":  {append([]byte{1}, data[1:]...), events.SessionID{}},
		"JSON":         {[]byte(`{"session":"1044H269154RKJGA9A5CP2TBHF","ping":{}}`), events.SessionID{}},
	} {
		if got, ok := PeekSession(x.data); got != x.want || ok != (x.want != events.SessionID{}) {
			t.Errorf("%s: %v, %v; want %v", name, got, ok, x.want)
		}
	}
}
