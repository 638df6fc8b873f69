package sealed

import (
	"bytes"
	"errors"
	"testing"

	"github.com/flynn/noise"

	"timberline/wire"
)

func TestPacketLargerThanAnyIsDropped(t *testing.T) {
	key := serverKey(t, 1)
	i, err := NewInitiator(key.Public, source(1))
	if err != nil {
		t.Fatal(err)
	}
	hello := i.Hello(Cookie{})
	h, err := ParseHello(hello)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ParseHello(pad(hello, wire.MaxPacket)); err != nil {
		t.Errorf("a HELLO as large as a packet may be: %v", err)
	}
	if _, err := ParseHello(pad(hello, wire.MaxPacket+1)); !errors.Is(err, ErrMalformed) {
		t.Errorf("a HELLO of a byte more: %v, want ErrMalformed", err)
	}

	answer := longWelcome(t, &h, key, wire.MaxPacket-WelcomeSize+1)
	if _, _, err := i.Finish(answer); !errors.Is(err, ErrMalformed) {
		t.Errorf("a WELCOME of %d bytes: %v, want ErrMalformed", len(answer), err)
	}
	answer = longWelcome(t, &h, key, wire.MaxPacket-WelcomeSize)
	if _, w, err := i.Finish(answer); err != nil || w != welcome {
		t.Errorf("a WELCOME of %d bytes says %+v, %v, want %+v", len(answer), w, err, welcome)
	}

	client, server := connect(t)
	largest := seal(t, client, string(make([]byte, wire.MaxPacket-DataSize)))
	if _, ok := PeekData(largest); !ok || len(largest) != wire.MaxPacket {
		t.Errorf("a DATA packet of %d bytes was not taken for one", len(largest))
	}
	if frames, _, err := open(server, largest); err != nil || len(frames) != wire.MaxPacket-DataSize {
		t.Errorf("the largest packet: %d bytes of frames, %v", len(frames), err)
	}
	larger := seal(t, client, string(make([]byte, wire.MaxPacket-DataSize+1)))
	if _, ok := PeekData(larger); ok {
		t.Errorf("a DATA packet of %d bytes was taken for one", len(larger))
	}
}

// pad returns a copy of a packet with so many bytes: cut, or with zeros behind.
func pad(packet []byte, size int) []byte {
	b := make([]byte, size)
	copy(b, packet)
	return b
}

// longWelcome answers a HELLO with a WELCOME that has so many bytes more of
// payload than this version gives, or fewer.
func longWelcome(t *testing.T, h *Hello, k ServerKey, more int) []byte {
	t.Helper()
	state, err := newState(noise.Config{StaticKeypair: k.pair}, h, source(2))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := state.ReadMessage(nil, h.message[:]); err != nil {
		t.Fatal(err)
	}
	echo := h.Echo()
	payload := append(welcome.Session[:], welcome.Reset[:]...)
	packet, _, _, err := state.WriteMessage(append([]byte{TypeWelcome}, echo[:]...), pad(payload, len(payload)+more))
	if err != nil {
		t.Fatal(err)
	}
	return packet
}

func TestWelcomeMaySayMoreAndNeverLess(t *testing.T) {
	key := serverKey(t, 1)
	for more := -welcomePayload; more <= 100; more++ {
		i, err := NewInitiator(key.Public, source(1))
		if err != nil {
			t.Fatal(err)
		}
		h, err := ParseHello(i.Hello(Cookie{}))
		if err != nil {
			t.Fatal(err)
		}
		_, w, err := i.Finish(longWelcome(t, &h, key, more))
		switch {
		case more < 0 && !errors.Is(err, ErrMalformed):
			t.Errorf("%d bytes of payload: %v, want ErrMalformed", welcomePayload+more, err)
		case more >= 0 && (err != nil || w != welcome):
			t.Errorf("%d bytes of payload say %+v, %v, want %+v", welcomePayload+more, w, err, welcome)
		}
	}
}

// Every packet is cut to every length, or lengthened, and read by everything that
// reads packets: only those of a true length are taken.
func TestPacketsOfEveryLengthAreReadOrRefused(t *testing.T) {
	key := serverKey(t, 1)
	i, err := NewInitiator(key.Public, source(1))
	if err != nil {
		t.Fatal(err)
	}
	hello := i.Hello(Cookie{9})
	h, err := ParseHello(hello)
	if err != nil {
		t.Fatal(err)
	}
	answer, server, err := h.Respond(key, welcome, source(2))
	if err != nil {
		t.Fatal(err)
	}
	data := seal(t, server, "hello")
	client, _ := connect(t)
	for _, packet := range [][]byte{
		hello, h.AppendRetry(nil, Retry{Version: 1}), answer, data, AppendReset(nil, welcome.Session, welcome.Reset),
	} {
		for size := range 1301 {
			changed := pad(packet, size)
			read := 0
			if h, err := ParseHello(changed); err == nil {
				read++
				if size >= HelloSize && size%100 == 0 {
					if _, _, err := h.Respond(key, welcome, source(2)); err != nil {
						t.Errorf("HELLO of %d bytes: %v", size, err)
					}
				}
			}
			if _, err := i.Retry(changed); err == nil {
				read++
			}
			if IsReset(changed, welcome.Session, welcome.Reset) {
				read++
			}
			if size != len(packet) {
				if _, _, err := i.Finish(changed); err == nil {
					t.Errorf("type %d: %d bytes were taken for WELCOME", packet[0], size)
				}
			}
			if _, ok := PeekData(changed); ok && size != len(packet) {
				if _, _, err := client.Open(bytes.Clone(changed)); !errors.Is(err, ErrForged) {
					t.Errorf("type %d: %d bytes opened: %v, want ErrForged", packet[0], size, err)
				}
			}
			want := 0
			if packet[0] == TypeHello && size >= HelloSize && size <= wire.MaxPacket || (packet[0] == TypeRetry || packet[0] == TypeReset) && size == len(packet) {
				want = 1
			}
			if read != want {
				t.Errorf("type %d: %d bytes were read as %d packets, want %d", packet[0], size, read, want)
			}
		}
	}
	if got, _, err := open(client, data); err != nil || got != "hello" {
		t.Errorf("the true packet after all of them: %q, %v", got, err)
	}
	if _, _, err := i.Finish(answer); err != nil {
		t.Errorf("the true WELCOME after all of them: %v", err)
	}
}
