package sim

import (
	"bytes"
	"crypto/ecdh"
	"encoding/binary"
	"io"
	"net/netip"
	"sync"
	"testing"

	"github.com/flynn/noise"

	"timberline/events"
	"timberline/sim/check"
	"timberline/wire"
	"timberline/wire/sealed"
)

// A hastyConn does without challenges: it has a session be wherever its newest
// packet came from, and tells the edge nothing of that.
type hastyConn struct {
	wire.PacketConn
	mu    sync.Mutex
	seats map[events.SessionID]*movingSeat
}

type movingSeat struct {
	home, at netip.AddrPort // as the edge has it; as it is
	counter  uint64         // of the newest packet
}

func (c *hastyConn) ReadBatch(ds []wire.Datagram) (int, error) {
	n, err := c.PacketConn.ReadBatch(ds)
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range ds[:n] {
		d := &ds[i]
		id, ok := sealed.PeekData(d.Data)
		if !ok {
			continue
		}
		s, counter := c.seats[id], counterOf(d.Data)
		if s == nil {
			s = &movingSeat{home: d.Addr, at: d.Addr}
			c.seats[id] = s
		}
		if counter > s.counter {
			s.counter, s.at = counter, d.Addr
		}
		d.Addr = s.home
	}
	return n, err
}

func (c *hastyConn) WriteBatch(ds []wire.Datagram) error {
	c.mu.Lock()
	for i := range ds {
		if id, ok := sealed.PeekData(ds[i].Data); ok && c.seats[id] != nil {
			ds[i].Addr = c.seats[id].at
		}
	}
	c.mu.Unlock()
	return c.PacketConn.WriteBatch(ds)
}

func TestCatchesSessionsThatMoveUnchallenged(t *testing.T) {
	wantCaught(t, func() *Seams {
		return &Seams{Conn: func(c wire.PacketConn) wire.PacketConn {
			return &hastyConn{PacketConn: c, seats: make(map[events.SessionID]*movingSeat)}
		}}
	}, check.Strangers)
}

// counterAt is where the counter of a DATA packet stands.
const counterAt = 1 + len(events.SessionID{})

func counterOf(data []byte) uint64 { return binary.BigEndian.Uint64(data[counterAt:]) }

// A keyring learns the keys that devices draw, and with them what their packets
// are sealed with.
type keyring struct {
	mu       sync.Mutex
	servers  map[sealed.KeyID]sealed.PublicKey // of all seeds
	private  map[[32]byte][]byte               // ephemeral keys, by their public halves
	hellos   map[sealed.Echo][]byte
	channels map[events.SessionID]*unwindowed
}

// An unwindowed is one direction of a connection: its keys, and the counter that
// the next packet is given.
type unwindowed struct {
	keys *noise.CipherState
	next uint64
}

func newKeyring(t *testing.T) *keyring {
	servers := make(map[sealed.KeyID]sealed.PublicKey)
	for seed := uint64(1); seed <= within; seed++ {
		w := &world{seed: seed}
		if err := w.drawKeys(); err != nil {
			t.Fatal(err)
		}
		servers[w.serverKey.Public.ID()] = w.serverKey.Public
	}
	return &keyring{
		servers: servers,
		private: make(map[[32]byte][]byte), hellos: make(map[sealed.Echo][]byte),
		channels: make(map[events.SessionID]*unwindowed),
	}
}

// drawn returns a source of randomness that the keyring learns from.
func (k *keyring) drawn(r io.Reader) io.Reader { return keyReader{r, k} }

type keyReader struct {
	io.Reader
	ring *keyring
}

func (r keyReader) Read(b []byte) (int, error) {
	n, err := r.Reader.Read(b)
	if key, bad := ecdh.X25519().NewPrivateKey(b[:n]); bad == nil {
		r.ring.mu.Lock()
		defer r.ring.mu.Unlock()
		r.ring.private[[32]byte(key.PublicKey().Bytes())] = bytes.Clone(b[:n])
	}
	return n, err
}

// welcome finishes a handshake as the client does.
func (k *keyring) welcome(packet []byte) {
	const prologue, body = 10, 17 // the size of a HELLO's; where a WELCOME's message is
	hello := k.hellos[sealed.Echo(packet[1:])]
	if hello == nil {
		return
	}
	server, private := k.servers[sealed.KeyID(hello[2:])], k.private[[32]byte(hello[prologue:])]
	state, err := noise.NewHandshakeState(noise.Config{
		CipherSuite: noise.NewCipherSuite(noise.DH25519, noise.CipherAESGCM, noise.HashSHA256),
		Pattern:     noise.HandshakeNK, Initiator: true, PeerStatic: server[:],
		Prologue: hello[:prologue], Random: bytes.NewReader(private),
	})
	if err != nil {
		return
	}
	if _, _, _, err := state.WriteMessage(nil, nil); err != nil {
		return
	}
	payload, toServer, _, err := state.ReadMessage(nil, packet[body:])
	if err != nil {
		return
	}
	if id := events.SessionID(payload); k.channels[id] == nil {
		k.channels[id] = &unwindowed{keys: toServer}
	}
}

// A forgetfulConn has the edge take each packet of a session as often as it comes:
// it seals it again, with the next counter.
type forgetfulConn struct {
	wire.PacketConn
	ring *keyring
}

func (c forgetfulConn) ReadBatch(ds []wire.Datagram) (int, error) {
	n, err := c.PacketConn.ReadBatch(ds)
	c.ring.mu.Lock()
	defer c.ring.mu.Unlock()
	for _, d := range ds[:n] {
		if h, err := sealed.ParseHello(d.Data); err == nil {
			c.ring.hellos[h.Echo()] = bytes.Clone(d.Data)
		}
		if id, ok := sealed.PeekData(d.Data); ok && c.ring.channels[id] != nil {
			c.ring.channels[id].renew(d.Data)
		}
	}
	return n, err
}

// renew seals a packet again, in place, if it is a true one.
func (u *unwindowed) renew(packet []byte) {
	head, body := packet[:wire.SealedHeader], packet[wire.SealedHeader:]
	u.keys.SetNonce(counterOf(packet))
	frames, err := u.keys.Decrypt(nil, head, body)
	if err != nil {
		return
	}
	binary.BigEndian.PutUint64(head[counterAt:], u.next)
	u.keys.SetNonce(u.next)
	if again, err := u.keys.Encrypt(nil, head, frames); err == nil {
		copy(body, again)
	}
	u.next++
}

func (c forgetfulConn) WriteBatch(ds []wire.Datagram) error {
	c.ring.mu.Lock()
	for _, d := range ds {
		if len(d.Data) >= sealed.WelcomeSize && d.Data[0] == sealed.TypeWelcome {
			c.ring.welcome(d.Data)
		}
	}
	c.ring.mu.Unlock()
	return c.PacketConn.WriteBatch(ds)
}

func TestCatchesRepeatsThatAreTakenIn(t *testing.T) {
	wantCaught(t, func() *Seams {
		ring := newKeyring(t)
		return &Seams{
			Drawn: ring.drawn,
			Conn:  func(c wire.PacketConn) wire.PacketConn { return forgetfulConn{c, ring} },
		}
	}, check.Strangers)
}
