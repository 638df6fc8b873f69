package sealed

import (
	"bytes"
	"crypto/ecdh"
	"encoding/binary"
	"errors"
)

// A noiseClient and a noiseEdge lay out packets as docs/protocol.md §12 has them,
// over noise_test.go: what another implementation would be. They use nothing of
// this package, either.
type noiseClient struct {
	hs  handshakeState
	key []byte // the server's
	msg []byte // Noise message 1
}

var errNotOpened = errors.New("packet was not opened")

// newNoiseClient begins a handshake.
func newNoiseClient(server *ecdh.PublicKey, e *ecdh.PrivateKey) (*noiseClient, error) {
	c := &noiseClient{hs: handshakeState{initiator: true, rs: server, e: e}, key: server.Bytes()}
	c.hs.Initialize(c.prologue())
	var err error
	c.msg, err = c.hs.WriteMessage(nil)
	return c, err
}

func (c *noiseClient) prologue() []byte {
	return append([]byte{1, 1}, c.key[:8]...)
}

// hello returns the packet with a cookie, nil for none.
func (c *noiseClient) hello(cookie []byte) []byte {
	packet := append(c.prologue(), c.msg...)
	packet = append(packet, cookie...)
	return append(packet, make([]byte, 256-len(packet))...)
}

// finish reads the WELCOME.
func (c *noiseClient) finish(welcome []byte) (ch *noiseChannel, reset []byte, err error) {
	if welcome[0] != 3 || !bytes.Equal(welcome[1:17], c.msg[:16]) {
		return nil, nil, errNotOpened
	}
	hs := c.hs
	payload, err := hs.ReadMessage(welcome[17:])
	if err != nil {
		return nil, nil, err
	}
	c.hs = hs
	ours, theirs := c.hs.Split()
	return &noiseChannel{session: payload[:16], send: ours, recv: theirs}, payload[16:32], nil
}

// A noiseEdge is the responder in one handshake.
type noiseEdge struct{ hs handshakeState }

// respond answers a HELLO with a WELCOME that has this payload: session and reset
// token.
func (n *noiseEdge) respond(s, e *ecdh.PrivateKey, hello, payload []byte) (packet []byte, ch *noiseChannel, err error) {
	n.hs = handshakeState{s: s, e: e}
	n.hs.Initialize(hello[:10])
	if _, err := n.hs.ReadMessage(hello[10:58]); err != nil {
		return nil, nil, err
	}
	message, err := n.hs.WriteMessage(payload)
	if err != nil {
		return nil, nil, err
	}
	theirs, ours := n.hs.Split()
	packet = append([]byte{3}, hello[10:26]...)
	return append(packet, message...), &noiseChannel{session: payload[:16], send: ours, recv: theirs}, nil
}

// A noiseChannel is one end of a connection. It has no replay window.
type noiseChannel struct {
	session    []byte
	send, recv cipherState
}

func (c *noiseChannel) seal(counter uint64, frames []byte) []byte {
	header := append([]byte{4}, c.session...)
	header = binary.BigEndian.AppendUint64(header, counter)
	c.send.n = counter
	return append(header, c.send.EncryptWithAd(header, frames)...)
}

func (c *noiseChannel) open(packet []byte) ([]byte, error) {
	if len(packet) < 25 || packet[0] != 4 || !bytes.Equal(packet[1:17], c.session) {
		return nil, errNotOpened
	}
	c.recv.n = binary.BigEndian.Uint64(packet[17:])
	return c.recv.DecryptWithAd(packet[:25], packet[25:])
}
