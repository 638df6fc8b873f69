package network

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/bits"
	"strings"

	"timberline/events"
	"timberline/wire"
	"timberline/wire/sealed"
)

// words says in words what a datagram holds, as far as one can see who has no
// keys.
func words(data []byte) string {
	if len(data) > 0 && !wire.IsPlain(data) {
		return sealedWords(data)
	}
	p, err := wire.Decode(data)
	if err != nil {
		return "no packet"
	}
	var list []string
	for _, f := range p.Frames {
		list = append(list, describe(f))
	}
	if len(list) == 0 {
		return "no frames"
	}
	return strings.Join(list, "; ")
}

// sealedWords says what a packet of a sealed socket is.
func sealedWords(data []byte) string {
	h, noHello := sealed.ParseHello(data)
	session, isData := sealed.PeekData(data)
	switch kind, size := data[0], len(data); {
	case noHello == nil && h.Cookie == sealed.Cookie{}:
		return "hello " + echoWords(data[helloEcho:])
	case noHello == nil:
		return "hello " + echoWords(data[helloEcho:]) + " with a cookie"
	case kind == sealed.TypeRetry && size == sealed.RetrySize:
		return fmt.Sprintf("retry %s, cause %d", echoWords(data[retryEcho:]), data[2])
	case kind == sealed.TypeWelcome && size >= sealed.WelcomeSize:
		return "welcome " + echoWords(data[welcomeEcho:])
	case isData:
		counter := binary.BigEndian.Uint64(data[len(session)+1:])
		return fmt.Sprintf("data %d of %v, %dB of frames", counter, session, size-sealed.DataSize)
	case kind == sealed.TypeReset && size == sealed.ResetSize:
		return fmt.Sprintf("reset of %v", events.SessionID(data[1:]))
	}
	return "no packet"
}

// Where the echo of a HELLO stands, in it and in its answers (docs/protocol.md,
// section 12).
const (
	helloEcho   = 10
	retryEcho   = 3
	welcomeEcho = 1
)

// echoWords names a HELLO by the first bytes of its echo.
func echoWords(echo []byte) string { return hex.EncodeToString(echo[:4]) }

func describe(f wire.Frame) string {
	switch f := f.(type) {
	case *wire.Login:
		return fmt.Sprintf("login at cursor %d, settles %d", f.Cursor, len(f.Settle))
	case *wire.Accepted:
		return fmt.Sprintf("accepted, %s behind %d, head %d", f.Journal, f.Offset, f.Head)
	case *wire.Denied:
		return fmt.Sprintf("denied: %v", f.Reason)
	case *wire.Send:
		return describeSend(f)
	case *wire.Ack:
		return describeAck(f)
	case *wire.Busy:
		return fmt.Sprintf("busy from %d", f.From)
	case *wire.Push:
		return fmt.Sprintf("push %d to %d", f.From, int(f.From)+len(f.Events)-1)
	case *wire.Part:
		return fmt.Sprintf("part %d of %d of entry %d", f.Index+1, f.Count, f.Seq)
	case *wire.Got:
		return fmt.Sprintf("got %d", f.Cursor)
	case *wire.Sync:
		return fmt.Sprintf("sync %d %v", f.ID, f.Ranges)
	case *wire.Page:
		return fmt.Sprintf("page of %d: %d to %d, head %d, last %t", f.Sync, f.From, int(f.From)+len(f.Events)-1, f.Head, f.Last)
	case *wire.Ping:
		return fmt.Sprintf("ping %d, cursor %d", f.ID, f.Cursor)
	case *wire.Pong:
		return fmt.Sprintf("pong %d, head %d", f.ID, f.Head)
	case *wire.Settled:
		return fmt.Sprintf("settled %v, unknown %t", f.Numbers, f.Unknown)
	case *wire.Closed:
		return fmt.Sprintf("closed: %v", f.Reason)
	}
	return strings.ToLower(strings.TrimPrefix(fmt.Sprintf("%T", f), "*wire."))
}

func describeSend(f *wire.Send) string {
	s := fmt.Sprintf("send %d to %s, %dB", f.Number, f.To, len(f.Body))
	if f.Fragments > 1 {
		s += fmt.Sprintf(", fragment %d of %d", f.Fragment+1, f.Fragments)
	}
	return s
}

func describeAck(f *wire.Ack) string {
	s := fmt.Sprintf("ack %d", f.Through)
	held := 0
	for _, b := range f.Held {
		held += bits.OnesCount8(b)
	}
	if held > 0 {
		s += fmt.Sprintf(", holds %d", held)
	}
	if len(f.Refused) > 0 {
		s += fmt.Sprintf(", refused %v", f.Refused)
	}
	return s
}
