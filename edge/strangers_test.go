package edge

import (
	"crypto/rand"
	"fmt"
	"net/netip"
	"runtime"
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

// What a flood of strangers may leave on the heap while a table is not touched by
// anything else, in bytes.
const (
	floodLeaves   = 64 << 10 // of HELLOs: nothing is kept, whatever came before
	halfOpenTakes = 3 << 10  // for each half-open connection that has said something and was answered
)

// Whoever has not proved its address leaves nothing behind (promise 8): every HELLO is
// of another address and gets its RETRY, and a million of them take as much memory as
// none.
func TestNothingLeaksInAFloodOfHellos(t *testing.T) {
	tl := newSealedTale(t)
	hello := tl.guest("192.0.2.1:1000").begun.Hello(sealed.Cookie{})
	flood := func(n int) {
		for i := range n {
			addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 1000)
			tl.now = tl.now.Add(time.Microsecond)
			tl.table.packet(tl.now, from{addr: addr}, hello)
			tl.table.packets(tl.now)
			tl.table.sent()
		}
	}
	flood(1000) // buffers find their size
	before := heapInUse()
	hellos := 1_000_000
	if raceEnabled {
		hellos = 20_000
	}
	flood(hellos)
	grown := heapInUse() - before
	t.Logf("%d HELLOs, %d RETRYs, %d bytes", hellos, tl.table.counts.retries.Load(), grown)
	if grown > floodLeaves {
		t.Errorf("%d HELLOs leave %d bytes behind, want at most %d", hellos, grown, floodLeaves)
	}
	if n := len(tl.table.ring.sessions); n > 0 {
		t.Errorf("%d half-open connections, want none: no address was proved", n)
	}
	if tl.table.counts.retries.Load() < 1000 {
		t.Errorf("%d RETRYs, want that most HELLOs are answered", tl.table.counts.retries.Load())
	}
	runtime.KeepAlive(tl)
}

// Whoever shakes hands and never logs in takes a place in the ring, of which there are
// so many and no more: four times as many strangers take as much memory as the first.
func TestNothingLeaksOfHalfOpenConnections(t *testing.T) {
	tl := newSealedTale(t)
	const places = 128
	next := 0
	flood := func(n int) {
		for range n {
			next++
			g := tl.guest(fmt.Sprintf("192.0.%d.%d:1000", next>>8, next&255))
			g.put(g.begun.Hello(tl.table.cfg.Secret.Cookie(g.at.Addr(), tl.now)))
			g.say(&wire.Login{Version: 1, Attempt: events.MessageID{1}, Token: "nonsense"})
			g.want("the address is proved, and nothing else", "welcome, denied bad_token")
			tl.now = tl.now.Add(10 * time.Millisecond)
		}
	}
	tl.table.ring = newRing(places)
	for range 2000 { // buffers for packets are kept for use again: as many as may be
		tl.table.packer.Recycle(make([]byte, 0, wire.MaxPacket))
	}
	before := heapInUse()
	flood(places)
	full := heapInUse()
	t.Logf("%d half-open connections take %d bytes each", places, (full-before)/places)
	if took := full - before; took > places*halfOpenTakes {
		t.Errorf("%d half-open connections take %d bytes, want at most %d", places, took, places*halfOpenTakes)
	}
	flood(3 * places)
	if more := heapInUse() - full; more > floodLeaves {
		t.Errorf("%d more take %d bytes more, want at most %d", 3*places, more, floodLeaves)
	}
	if n := len(tl.table.ring.sessions); n != places || len(tl.table.ring.hellos) != places {
		t.Errorf("%d half-open connections by session and %d by HELLO, want %d", n, len(tl.table.ring.hellos), places)
	}
	if len(tl.table.sessions) > 0 || tl.table.timers.Len() > 0 {
		t.Error("there are sessions or timers, though nobody has logged in")
	}
	runtime.KeepAlive(tl)
}
