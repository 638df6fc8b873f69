package sealed

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/flynn/noise"

	"timberline/events"
)

var suite = noise.NewCipherSuite(noise.DH25519, noise.CipherAESGCM, noise.HashSHA256)

// ErrHandshake is wrapped by the errors of handshakes that fail: a message is
// forged, or for another key.
var ErrHandshake = errors.New("handshake failed")

// A Welcome is what the edge tells the client of its connection.
type Welcome struct {
	Session events.SessionID
	Reset   Token // that a RESET of the session will show
}

// An Initiator is the client's side of one handshake.
type Initiator struct {
	state *noise.HandshakeState
	hello Hello
}

// NewInitiator begins a handshake with the server that has a key. It draws the 32
// bytes of an ephemeral key, which must be good.
func NewInitiator(server PublicKey, random io.Reader) (*Initiator, error) {
	i := &Initiator{hello: Hello{Version: Version, Key: server.ID()}}
	state, err := newState(noise.Config{Initiator: true, PeerStatic: server[:]}, &i.hello, random)
	if err != nil {
		return nil, err
	}
	i.state = state
	message, _, _, err := state.WriteMessage(nil, nil)
	if err != nil {
		return nil, fmt.Errorf("%w: server key %v: %w", ErrHandshake, server, err)
	}
	i.hello.message = [dhSize + tagSize]byte(message)
	return i, nil
}

// newState returns the state of a handshake before its first message.
func newState(c noise.Config, h *Hello, random io.Reader) (*noise.HandshakeState, error) {
	var ephemeral [dhSize]byte
	if _, err := io.ReadFull(random, ephemeral[:]); err != nil {
		return nil, fmt.Errorf("draw an ephemeral key: %w", err)
	}
	c.CipherSuite, c.Pattern, c.Prologue = suite, noise.HandshakeNK, h.prologue()
	c.Random = bytes.NewReader(ephemeral[:])
	return noise.NewHandshakeState(c)
}

// Hello returns the packet. It differs in the cookie only.
func (i *Initiator) Hello(c Cookie) []byte {
	i.hello.Cookie = c
	return i.hello.encode()
}

// Retry reads a RETRY that answers the HELLO. The error wraps ErrMalformed if the
// packet does not.
func (i *Initiator) Retry(data []byte) (Retry, error) { return parseRetry(data, i.hello.Echo()) }

// Finish reads the WELCOME that answers the HELLO. It proves that the server has
// its key, and can be called again after an error, which wraps ErrMalformed or
// ErrHandshake.
func (i *Initiator) Finish(data []byte) (*Channel, Welcome, error) {
	if !is(data, TypeWelcome, WelcomeSize) || Echo(data[1:]) != i.hello.Echo() {
		return nil, Welcome{}, fmt.Errorf("%w: not a WELCOME for this HELLO", ErrMalformed)
	}
	message := data[1+echoSize:]
	if _, err := suite.DH(i.state.LocalEphemeral().Private, message[:dhSize]); err != nil {
		return nil, Welcome{}, fmt.Errorf("%w: %w", ErrHandshake, err) // ReadMessage would not undo what it did before
	}
	payload, send, recv, err := i.state.ReadMessage(nil, message)
	if err != nil {
		return nil, Welcome{}, fmt.Errorf("%w: %w", ErrHandshake, err)
	}
	w := Welcome{Session: events.SessionID(payload), Reset: Token(payload[sessionSize:])}
	return newChannel(w.Session, send, recv), w, nil
}

// Respond answers a HELLO that names this key: with the WELCOME packet and the
// server's end of the channel. It draws 32 bytes, which must be good. The error
// wraps ErrHandshake if the HELLO was not made for the key.
func (h *Hello) Respond(k ServerKey, w Welcome, random io.Reader) ([]byte, *Channel, error) {
	state, err := newState(noise.Config{StaticKeypair: k.pair}, h, random)
	if err != nil {
		return nil, nil, err
	}
	if _, _, _, err := state.ReadMessage(nil, h.message[:]); err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrHandshake, err)
	}
	echo := h.Echo()
	packet := append(make([]byte, 0, WelcomeSize), TypeWelcome)
	packet = append(packet, echo[:]...)
	packet, recv, send, err := state.WriteMessage(packet, append(w.Session[:], w.Reset[:]...))
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrHandshake, err)
	}
	return packet, newChannel(w.Session, send, recv), nil
}
