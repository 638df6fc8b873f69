package edge

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"testing"

	"timberline/edge/auth"
	"timberline/events"
	"timberline/wire"
)

// What is wrong with a token may be said in more words than the token has, and
// partly in its own.
func TestDenialOfAnyTokenFitsIntoAPacket(t *testing.T) {
	public, _, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	encode := base64.RawURLEncoding.EncodeToString
	claims := append(append([]byte(`{"exp":"`), bytes.Repeat([]byte{0xff}, 600)...), `"}`...)
	token := encode([]byte(`{"alg":"EdDSA"}`)) + "." + encode(claims) + "." + encode(make([]byte, 64))
	for _, codec := range []wire.Codec{wire.Proto, wire.JSON} {
		tl := newSealedTale(t)
		g := tl.guest("192.0.2.1:1000")
		g.codec = codec
		tl.table.cfg.Verify = auth.NewVerifier(public).Verify
		g.put(g.begun.Hello(tl.table.cfg.Secret.Cookie(g.at.Addr(), tl.now)))
		g.want("a connection", "welcome")
		g.got = 0
		g.say(&wire.Login{Version: 1, Attempt: events.MessageID{1}, Token: token})
		g.want("a token that is none", "denied bad_token")
		if g.got > wire.MaxPacket {
			t.Errorf("%v: denied by a packet of %d bytes, at most %d are allowed", codec, g.got, wire.MaxPacket)
		}
		tl.table.cfg.Verify = verify
		g.say(&wire.Login{Version: 1, Attempt: events.MessageID{2}, Token: "alice/phone"})
		g.want("a good one", "accepted head 0")
		tl.table.cfg.Verify = auth.NewVerifier(public).Verify
		g.got = 0
		g.say(&wire.Login{Version: 1, Attempt: events.MessageID{3}, Token: token})
		g.want("a renewal by one that is none", "denied bad_token")
		if g.got > wire.MaxPacket {
			t.Errorf("%v: a renewal denied by a packet of %d bytes, at most %d are allowed", codec, g.got, wire.MaxPacket)
		}
	}
}
