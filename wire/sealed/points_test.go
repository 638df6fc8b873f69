package sealed

import (
	"bytes"
	"encoding/hex"
	"errors"
	"testing"
)

// smallOrder are the points of X25519 that make every shared secret zero: whoever
// shows one has no key for it.
var smallOrder = []string{
	"0000000000000000000000000000000000000000000000000000000000000000",
	"0100000000000000000000000000000000000000000000000000000000000000",
	"e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
	"5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
	"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
}

// eachSmallOrder calls f with each of those points, also as they are written with
// the highest bit set, which X25519 does not look at.
func eachSmallOrder(t *testing.T, f func(point [dhSize]byte)) {
	t.Helper()
	for _, text := range smallOrder {
		raw, err := hex.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		point := [dhSize]byte(raw)
		f(point)
		point[dhSize-1] |= 0x80
		f(point)
	}
}

func TestForgedWelcomeWithAPointOfSmallOrderSpoilsNothing(t *testing.T) {
	key := serverKey(t, 1)
	eachSmallOrder(t, func(point [dhSize]byte) {
		i, err := NewInitiator(key.Public, source(1))
		if err != nil {
			t.Fatal(err)
		}
		h, err := ParseHello(i.Hello(Cookie{}))
		if err != nil {
			t.Fatal(err)
		}
		answer, _, err := h.Respond(key, welcome, source(2))
		if err != nil {
			t.Fatal(err)
		}
		forged := bytes.Clone(answer)
		copy(forged[1+echoSize:], point[:])
		if _, _, err := i.Finish(forged); !errors.Is(err, ErrHandshake) {
			t.Errorf("WELCOME with point %x: %v, want ErrHandshake", point, err)
		}
		if _, w, err := i.Finish(answer); err != nil || w != welcome {
			t.Errorf("the true WELCOME after one with point %x: %+v, %v", point, w, err)
		}
	})
}

func TestKeyOfSmallOrderIsNoServersKey(t *testing.T) {
	eachSmallOrder(t, func(point [dhSize]byte) {
		if _, err := ParseKey(PublicKey(point).String()); err == nil {
			t.Errorf("point %x was taken for a server's key", point)
		}
		if _, err := NewInitiator(point, source(1)); !errors.Is(err, ErrHandshake) {
			t.Errorf("a handshake with the key %x: %v, want ErrHandshake", point, err)
		}
	})
}
