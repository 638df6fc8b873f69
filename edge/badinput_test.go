package edge

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"

	"timberline/events"
	"timberline/wire"
	"timberline/wire/sealed"
)

// counted returns how often something has happened: packets that were dropped for a
// cause, or anything else that is counted.
func (tl *tale) counted(name string) uint64 {
	tl.t.Helper()
	for _, m := range tl.table.counts.metrics() {
		if m.count != nil && ("packets_"+m.cause == name || m.name == name+"_total") {
			return m.count.Load()
		}
	}
	tl.t.Fatalf("nothing is counted as %s", name)
	return 0
}

// A nuisance is a packet that an edge must not take in.
type nuisance struct {
	what, count string
	packet      []byte
	from        netip.AddrPort
}

// suffer hands nuisances to an edge, each some times, and holds against it what it
// answers: each is counted by its cause, and gets no more bytes than it has.
func (tl *tale) suffer(ns []nuisance) {
	tl.t.Helper()
	for _, n := range ns {
		before := tl.counted(n.count)
		sent, got := 0, 0
		for range 3 {
			sent += len(n.packet)
			tl.table.packet(tl.now, from{addr: n.from}, bytes.Clone(n.packet))
			for len(tl.table.tasks) > 0 {
				for _, task := range tl.table.takeTasks() {
					task.do(tl.t.Context())(tl.now)
				}
			}
			for _, d := range tl.packets()[0] {
				if d.Addr != n.from {
					tl.t.Errorf("%s: %d bytes went to %v, who has not asked", n.what, len(d.Data), d.Addr)
				}
				got += len(d.Data)
			}
		}
		if now := tl.counted(n.count); now != before+3 {
			tl.t.Errorf("%s: counted %d times as %s, want 3", n.what, now-before, n.count)
		}
		if got > sent {
			tl.t.Errorf("%s: %d bytes were answered by %d", n.what, sent, got)
		}
	}
}

func TestBadPacketsOnASealedSocketAreCountedAndGetNoMoreThanTheyHave(t *testing.T) {
	for _, codec := range []wire.Codec{wire.Proto, wire.JSON} {
		tl := newSealedTale(t)
		alice := tl.guest("192.0.2.1:1000")
		alice.codec = codec
		alice.enter("alice/phone")
		alice.say(&wire.Ping{ID: 1})
		replayed := bytes.Clone(alice.last)
		forged := alice.seal(&wire.Ping{ID: 2})
		forged[len(forged)-1] ^= 1
		unknown := bytes.Clone(forged)
		unknown[9] ^= 1
		half := tl.guest("192.0.2.7:1000")
		half.put(half.begun.Hello(tl.table.cfg.Secret.Cookie(half.at.Addr(), tl.now)))
		half.heard = nil
		nobody := netip.MustParseAddrPort("203.0.113.5:666")
		hello := alice.begun.Hello(sealed.Cookie{})
		old := bytes.Clone(hello)
		old[1] = 99
		p := wire.Packet{Codec: codec, Frames: []wire.Frame{&wire.Login{Version: 1, Attempt: events.MessageID{1}, Token: strings.Repeat("x", 100)}}}
		broken := func(frames string) []byte {
			packet, err := alice.channel.Seal(append(make([]byte, wire.SealedHeader), frames...))
			if err != nil {
				t.Fatal(err)
			}
			return packet
		}
		tl.suffer([]nuisance{
			{"nothing", "packets_malformed", nil, nobody},
			{"a type that there is not", "packets_malformed", bytes.Repeat([]byte{99}, 300), nobody},
			{"a HELLO that is cut off", "packets_malformed", hello[:255], nobody},
			{"a HELLO of another version", "hellos", old, nobody},
			{"a HELLO without a cookie", "retries", hello, nobody},
			{"a DATA packet that is cut off", "packets_malformed", replayed[:40], alice.at},
			{"an oversized packet", "packets_oversized", append(bytes.Clone(replayed), make([]byte, 1200)...), alice.at},
			{"a forged packet", "packets_forged", forged, alice.at},
			{"a forged packet from elsewhere", "packets_forged", forged, nobody},
			{"a replayed packet", "packets_replayed", replayed, alice.at},
			{"a replayed packet from elsewhere", "packets_replayed", replayed, nobody},
			{"a session that there is not", "packets_unknown_session", unknown, nobody},
			{"a RESET", "packets_malformed", sealed.AppendReset(nil, alice.channel.Session(), alice.reset), alice.at},
			{"a LOGIN that is not sealed", "packets_plain_on_sealed", p.Encode(), nobody},
			{"half-open, forged", "packets_forged", bytes.Repeat(half.seal(&wire.Ping{ID: 1}), 2), half.at},
		})
		before := tl.counted("packets_malformed")
		alice.put(broken("\x0a\x7f"))
		alice.put(broken(`{"ping":`))
		half.say(&wire.Ping{ID: 1})
		alice.put(broken("\x07"))
		if n := tl.counted("packets_malformed") - before; n != 4 {
			t.Errorf("%v: frames that are none, true packets around them: %d counted as malformed, want 4", codec, n)
		}
		alice.heard = nil
		alice.say(&wire.Ping{ID: 3})
		alice.want("the session lives", "pong 3 head 0")
	}
}

func TestBadPacketsOnAPlainSocketAreCountedAndGetNoMoreThanTheyHave(t *testing.T) {
	for _, codec := range []wire.Codec{wire.Proto, wire.JSON} {
		tl := newTale(t)
		tl.codec = codec
		alice := tl.login(1, "alice/phone")
		tl.heard(1)
		encode := func(c wire.Codec, s events.SessionID, fs ...wire.Frame) []byte {
			p := wire.Packet{Codec: c, Session: s, Frames: fs}
			return p.Encode()
		}
		nobody := netip.MustParseAddrPort("203.0.113.5:666")
		good := encode(codec, alice, &wire.Ping{ID: 1})
		tl.suffer([]nuisance{
			{"nothing", "packets_malformed", nil, nobody},
			{"noise", "packets_malformed", bytes.Repeat([]byte{99}, 300), nobody},
			{"a sealed packet", "packets_malformed", bytes.Repeat([]byte{sealed.TypeData}, 300), nobody},
			{"a packet that is cut off", "packets_malformed", good[:len(good)-2], address(1)},
			{"an oversized packet", "packets_oversized", append(bytes.Clone(good), bytes.Repeat([]byte(" "), 1200)...), address(1)},
			{"a session that there is not", "packets_unknown_session", encode(codec, events.SessionID{5}, &wire.Ping{ID: 1}), nobody},
			{"the other codec", "packets_wrong_codec", encode(1-codec, alice, &wire.Ping{ID: 1}), address(1)},
			{"no session, and no LOGIN", "packets_malformed", encode(codec, events.SessionID{}, &wire.Ping{ID: 1}), nobody},
			{"a token that is none", "logins_denied", encode(codec, events.SessionID{}, &wire.Login{Version: 1, Token: strings.Repeat("x", 300)}), nobody},
			{"a token that is over", "logins_denied", encode(codec, events.SessionID{}, &wire.Login{Version: 1, Token: "old"}), nobody},
		})
		tl.packet(1, alice, &wire.Ping{ID: 3})
		tl.want(1, "the session lives", "pong 3 head 0")
	}
}

func TestRefusalsSayWhyInBothCodecsAndModes(t *testing.T) {
	for _, codec := range []wire.Codec{wire.Proto, wire.JSON} {
		for _, c := range []struct {
			want string
			send wire.Send
		}{
			{"recipient", wire.Send{To: "no such name!"}},
			{"recipient", wire.Send{To: ""}},
			{"recipient", wire.Send{To: events.User(strings.Repeat("x", 65))}},
			{"too_large", wire.Send{To: "bob", Body: []byte("12345")}},
			{"malformed", wire.Send{To: "bob", Type: strings.Repeat("x", 65)}},
			{"not_allowed", wire.Send{To: "eve"}},
			{"recipient", wire.Send{With: "bob"}},
			{"recipient", wire.Send{Read: events.ID{1}}},
			{"recipient", wire.Send{With: "no such name!", Read: events.ID{1}}},
			{"not_allowed", wire.Send{With: "eve", Read: events.ID{1}}},
			{"malformed", wire.Send{To: "bob", With: "bob", Read: events.ID{1}}},
			{"malformed", wire.Send{To: "bob", With: "bob"}},
			{"malformed", wire.Send{To: "bob", Read: events.ID{1}}},
			{"malformed", wire.Send{With: "bob", Read: events.ID{1}, Body: []byte("hi")}},
			{"malformed", wire.Send{With: "bob", Read: events.ID{1}, Type: "x/y"}},
		} {
			sealedTale, plainTale := newSealedTale(t), newTale(t)
			for _, tl := range []*tale{sealedTale, plainTale} {
				tl.table.cfg.MaxBody, tl.table.cfg.Policy, tl.codec = 4, notEve{}, codec
			}
			c.send.Number = 1
			want := "ack 1 refused 1-1 " + c.want
			alice := sealedTale.guest("192.0.2.1:1000")
			alice.codec = codec
			alice.enter("alice/phone")
			session := plainTale.login(1, "alice/phone")
			plainTale.heard(1)
			alice.say(&c.send)
			alice.want("sealed, "+codec.String(), want)
			plainTale.packet(1, session, &c.send)
			plainTale.want(1, "plain, "+codec.String(), want)
		}
	}
}

// notEve lets everybody write to everybody but to eve.
type notEve struct{}

func (notEve) MayWrite(_, to events.User) bool { return to != "eve" }
