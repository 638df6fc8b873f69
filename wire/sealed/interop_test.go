package sealed

import (
	"bytes"
	"crypto/ecdh"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"testing"

	"timberline/events"
	"timberline/wire"
)

// randomKey returns an X25519 key.
func randomKey(t *testing.T, r *rand.ChaCha8) *ecdh.PrivateKey {
	t.Helper()
	key, err := ecdh.X25519().NewPrivateKey(randomBytes(r, dhSize))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func randomBytes(r *rand.ChaCha8, n int) []byte {
	b := make([]byte, n)
	r.Read(b)
	return b
}

func TestAnotherClientConnectsToThisEdge(t *testing.T) {
	for seed := range byte(50) {
		r := source(100 + seed)
		static := randomKey(t, r)
		client, err := newNoiseClient(static.PublicKey(), randomKey(t, r))
		if err != nil {
			t.Fatal(err)
		}
		cookie := Cookie(randomBytes(r, CookieSize))
		h, err := ParseHello(client.hello(cookie[:]))
		if err != nil {
			t.Fatal(err)
		}
		key := NewServerKey(static)
		if h.Version != Version || h.Key != key.Public.ID() || h.Cookie != cookie {
			t.Errorf("HELLO reads as version %d, key %x, cookie %x", h.Version, h.Key, h.Cookie)
		}
		w := Welcome{Session: events.SessionID(randomBytes(r, 16)), Reset: Token(randomBytes(r, 16))}
		answer, edge, err := h.Respond(key, w, r)
		if err != nil {
			t.Fatal(err)
		}
		other, reset, err := client.finish(answer)
		if err != nil || Token(reset) != w.Reset || events.SessionID(other.session) != w.Session {
			t.Fatalf("WELCOME: session %x, reset token %x, %v, want %+v", other.session, reset, err, w)
		}
		exchange(t, r, other, edge)
	}
}

func TestThisClientConnectsToAnotherEdge(t *testing.T) {
	for seed := range byte(50) {
		r := source(150 + seed)
		static := randomKey(t, r)
		i, err := NewInitiator(NewServerKey(static).Public, r)
		if err != nil {
			t.Fatal(err)
		}
		var edge noiseEdge
		payload := randomBytes(r, 32+int(r.Uint64()%16)) // a later version may say more
		answer, other, err := edge.respond(static, randomKey(t, r), i.Hello(Cookie{}), payload)
		if err != nil {
			t.Fatal(err)
		}
		client, w, err := i.Finish(answer)
		if want := (Welcome{Session: events.SessionID(payload), Reset: Token(payload[16:])}); err != nil || w != want {
			t.Fatalf("WELCOME says %+v, %v, want %+v", w, err, want)
		}
		exchange(t, r, other, client)
	}
}

// exchange sends packets of many sizes both ways.
func exchange(t *testing.T, r *rand.ChaCha8, other *noiseChannel, ours *Channel) {
	t.Helper()
	for n := range uint64(20) {
		frames := randomBytes(r, int(r.Uint64()%(wire.MaxPacket-DataSize+1)))
		if got, err := other.open(seal(t, ours, string(frames))); err != nil || !bytes.Equal(got, frames) {
			t.Errorf("our packet %d of %d bytes: opened %x, %v", n, len(frames), got, err)
		}
		counter := n * n * 1000
		if got, newest, err := open(ours, other.seal(counter, frames)); err != nil || got != string(frames) || !newest {
			t.Errorf("their packet %d of %d bytes: opened %x, %v, %v", counter, len(frames), got, newest, err)
		}
	}
}

// The specification's section 12.4: the nonce of AESGCM is 32 bits of zeros and
// then n, big-endian.
func TestNonceIsFourZerosAndTheCounter(t *testing.T) {
	client, server := connect(t)
	for counter, want := range map[uint64]string{
		0: "000000000000000000000000", 1: "000000000000000000000001", 0x01020304: "000000000000000001020304", MaxPackets - 1: "00000000000000000fffffff",
	} {
		raw, err := hex.DecodeString(want)
		if err != nil {
			t.Fatal(err)
		}
		client.sent, server.window = counter, window{}
		packet := seal(t, client, "hello")
		if got := binary.BigEndian.Uint64(packet[17:]); got != counter {
			t.Errorf("packet %d says counter %d", counter, got)
		}
		frames, err := client.send.aead.Open(nil, raw, packet[25:], packet[:25])
		if err != nil || string(frames) != "hello" {
			t.Errorf("packet %d is not sealed with nonce %s: %v", counter, want, err)
		}
		if _, _, err := open(server, packet); err != nil {
			t.Errorf("packet %d: %v", counter, err)
		}
	}
}

func TestDirectionsHaveKeysOfTheirOwn(t *testing.T) {
	client, server := connect(t)
	for range 3 {
		a, b := seal(t, client, "the same"), seal(t, server, "the same")
		if !bytes.Equal(a[:wire.SealedHeader], b[:wire.SealedHeader]) || bytes.Equal(a, b) {
			t.Errorf("client and edge sealed the same counter as\n%x\n%x", a, b)
		}
	}
}

func TestCounterBehindTheLastIsRefused(t *testing.T) {
	r := source(5)
	static := randomKey(t, r)
	i, err := NewInitiator(NewServerKey(static).Public, r)
	if err != nil {
		t.Fatal(err)
	}
	var edge noiseEdge
	answer, other, err := edge.respond(static, randomKey(t, r), i.Hello(Cookie{}), randomBytes(r, 32))
	if err != nil {
		t.Fatal(err)
	}
	client, _, err := i.Finish(answer)
	if err != nil {
		t.Fatal(err)
	}
	for _, counter := range []uint64{MaxPackets, MaxPackets + 1, 1 << 31, 1 << 32, 1 << 63, 1<<64 - windowSize, 1<<64 - 1} {
		if _, _, err := open(client, other.seal(counter, []byte("x"))); !errors.Is(err, ErrReplayed) {
			t.Errorf("counter %d: %v, want ErrReplayed", counter, err)
		}
	}
	for _, counter := range []uint64{0, MaxPackets - 1, MaxPackets - windowSize} {
		if _, _, err := open(client, other.seal(counter, []byte("x"))); err != nil {
			t.Errorf("counter %d: %v", counter, err)
		}
	}
}

func TestHelloWithAPointOfSmallOrderIsRefused(t *testing.T) {
	key := serverKey(t, 1)
	eachSmallOrder(t, func(point [dhSize]byte) {
		h, err := ParseHello(zeroHello(key.Public[:], point, nil))
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := h.Respond(key, welcome, source(2)); !errors.Is(err, ErrHandshake) {
			t.Errorf("HELLO with point %x: %v, want ErrHandshake", point, err)
		}
	})
}

// zeroHello returns a HELLO whose sender has no key for the point: it knows that
// the shared secret is zero, and otherwise does as it should.
func zeroHello(server []byte, point [dhSize]byte, cookie []byte) []byte {
	c := noiseClient{key: server}
	c.hs.InitializeSymmetric(protocolName)
	c.hs.MixHash(c.prologue())
	c.hs.MixHash(server)
	c.hs.MixHash(point[:])
	c.hs.MixKey(make([]byte, dhSize))
	c.msg = append(point[:], c.hs.EncryptAndHash(nil)...)
	return c.hello(cookie)
}
