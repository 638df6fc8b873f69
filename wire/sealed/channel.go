package sealed

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"errors"

	"github.com/flynn/noise"

	"timberline/events"
	"timberline/sim/planted"
	"timberline/wire"
)

// MaxPackets bounds the packets of a channel in each direction. Then the session
// is over. With so many of up to 2 KiB, AES-GCM is as good as RFC 9001 asks for
// (appendix B.1: an attacker's advantage below 2⁻⁵⁷).
const MaxPackets = 1 << 28

// What can be wrong with a packet.
var (
	ErrForged   = errors.New("packet is forged or damaged") // drop it
	ErrReplayed = errors.New("packet came before")          // drop it
	ErrWornOut  = errors.New("keys of the channel are used up")
)

// A Channel seals the packets of one connection and opens those of the other end.
type Channel struct {
	session    events.SessionID
	send, recv half
	sent       uint64 // the counter of the next packet
	window     window
}

// A half is one direction's key.
type half struct {
	key   [32]byte
	nonce [12]byte    // 4 zeros and the counter, as Noise has it for AESGCM
	aead  cipher.AEAD // nil: not ready for use
}

func newChannel(s events.SessionID, send, recv *noise.CipherState) *Channel {
	return &Channel{session: s, send: half{key: send.UnsafeKey()}, recv: half{key: recv.UnsafeKey()}}
}

// ready returns the cipher. Ready for use it takes some 800 bytes, and half a
// microsecond to become so.
func (h *half) ready() cipher.AEAD {
	if h.aead != nil {
		return h.aead
	}
	block, err := aes.NewCipher(h.key[:])
	if err != nil {
		panic(err) // 32 bytes are a key
	}
	if h.aead, err = cipher.NewGCM(block); err != nil {
		panic(err) // AES has the block size of GCM
	}
	return h.aead
}

// Rest makes the channel as small as it can be until it is used again: for one that
// is used now and then only.
func (c *Channel) Rest() { c.send.aead, c.recv.aead = nil, nil }

func (h *half) at(counter uint64) []byte {
	binary.BigEndian.PutUint64(h.nonce[4:], counter)
	return h.nonce[:]
}

// Session returns the session that the packets belong to.
func (c *Channel) Session() events.SessionID { return c.session }

// Seal turns a packet that begins with wire.SealedHeader bytes of anything, and
// frames behind them, into a DATA packet, in place. It allocates nothing if the
// packet has room for wire.SealedTag more bytes. The error is ErrWornOut.
func (c *Channel) Seal(packet []byte) ([]byte, error) {
	if c.sent >= MaxPackets {
		return nil, ErrWornOut
	}
	head, frames := packet[:wire.SealedHeader], packet[wire.SealedHeader:]
	header(head, c.session, c.sent)
	sealed := c.send.ready().Seal(head, c.send.at(c.sent), frames, head) // behind the header, where the frames are
	c.sent++
	return sealed, nil
}

// Open opens a DATA packet of this session (see PeekData) in place and returns
// its frames. newest says that no later packet was opened before. It proves that
// the other end made the packet, and that it was not opened before; otherwise the
// error is ErrForged or ErrReplayed, and the channel is as if it had never come.
func (c *Channel) Open(packet []byte) (frames []byte, newest bool, err error) {
	counter := counterOf(packet)
	if counter >= MaxPackets || c.window.seen(counter) && !planted.Is(planted.ReplayWindowOff) {
		return nil, false, ErrReplayed
	}
	head, body := packet[:wire.SealedHeader], packet[wire.SealedHeader:]
	frames, err = c.recv.ready().Open(body[:0], c.recv.at(counter), body, head)
	if err != nil {
		return nil, false, ErrForged
	}
	return frames, c.window.add(counter) || planted.Is(planted.ReplayWindowOff), nil
}

// Worn reports whether the channel should be replaced by a new one soon.
func (c *Channel) Worn() bool { return max(c.sent, c.window.next) >= MaxPackets-MaxPackets/16 }
