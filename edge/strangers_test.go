package edge

import (
	"crypto/rand"
	"testing"
	"time"

	"timberline/events"
	"timberline/wire"
	"timberline/wire/sealed"
)

// Answers to unknown sessions are few, and one source must not have them all:
// after a restart everybody needs one.
func TestOneSourceDoesNotUseUpTheResetsOfAll(t *testing.T) {
	tl := newSealedTale(t)
	alice := tl.guest("192.0.2.1:1000")
	alice.enter("alice/phone")
	delete(tl.table.sessions, alice.channel.Session()) // as after a restart
	for range 5 * maxResets {
		packet := make([]byte, sealed.DataSize)
		packet[0] = sealed.TypeData
		id, err := events.NewSessionID(tl.table.cfg.Tag, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		copy(packet[1:], id[:])
		tl.now = tl.now.Add(time.Second / (5 * maxResets))
		tl.table.packet(tl.now, from{addr: address(666)}, packet)
	}
	tl.packets()
	alice.say(&wire.Ping{ID: 1})
	alice.want("whatever others do", "reset")
}
