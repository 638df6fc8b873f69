package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"

	"timberline/wire/sealed"
)

// memory returns what the server has in RAM, in bytes.
func (p *process) memory(t *testing.T) int { return int(p.metric(t, "process_resident_memory_bytes")) }

// A flood is HELLOs from sources that are made up: each of them another address of
// the loopback. The answers come to the same socket.
type flood struct {
	conn      *ipv4.PacketConn
	server    *net.UDPAddr
	key       sealed.KeyID
	sent      int
	got, size atomic.Int64
}

func newFlood(t *testing.T, address string, key sealed.KeyID) *flood {
	t.Helper()
	server, err := net.ResolveUDPAddr("udp4", address)
	if err != nil {
		t.Fatal(err)
	}
	loopback := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
		c.Control(func(fd uintptr) { err = unix.BindToDevice(int(fd), "lo") })
		return err
	}}
	conn, err := loopback.ListenPacket(t.Context(), "udp4", ":0") // all addresses of the loopback
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	f := &flood{conn: ipv4.NewPacketConn(conn), server: server, key: key}
	go f.count()
	return f
}

// count takes in the answers until the socket is closed.
func (f *flood) count() {
	ms := make([]ipv4.Message, 64)
	for i := range ms {
		ms[i].Buffers = [][]byte{make([]byte, 2000)}
	}
	for {
		n, err := f.conn.ReadBatch(ms, 0)
		if err != nil {
			return
		}
		for _, m := range ms[:n] {
			f.got.Add(1)
			f.size.Add(int64(m.N))
		}
	}
}

// pour sends so many HELLOs, every other one with a cookie that is made up, too.
func (f *flood) pour(t *testing.T, hellos int) {
	t.Helper()
	ms := make([]ipv4.Message, 50)
	for i := range ms {
		ms[i].Buffers = [][]byte{make([]byte, sealed.HelloSize)}
		ms[i].Addr = f.server
	}
	thief := &sealed.Secret{1} // not the server's
	for done := 0; done < hellos; done += len(ms) {
		for i := range ms {
			hello, n := ms[i].Buffers[0], done+i
			source := netip.AddrFrom4([4]byte{127, byte(1 + n>>16), byte(n >> 8), byte(n)})
			hello[0], hello[1] = sealed.TypeHello, sealed.Version
			copy(hello[2:], f.key[:])
			rand.Read(hello[10:58]) // never fails
			cookie := sealed.Cookie{}
			if n%2 == 0 {
				cookie = thief.Cookie(source, time.Now())
			}
			copy(hello[58:], cookie[:])
			ms[i].OOB = (&ipv4.ControlMessage{Src: source.AsSlice()}).Marshal()
		}
		if n, err := f.conn.WriteBatch(ms, 0); err != nil || n != len(ms) {
			t.Fatalf("%d of %d HELLOs were sent: %v", n, len(ms), err)
		}
		f.sent += len(ms) * sealed.HelloSize
		time.Sleep(time.Millisecond) // 50,000 a second at most
	}
}

func TestFloodOfHellosLeavesAServerAsItWas(t *testing.T) {
	p, flags := newServer(t)
	key, err := sealed.ParseKey(p.ServerKey)
	if err != nil {
		t.Fatal(err)
	}
	f := newFlood(t, p.Listen[0], key.ID())
	f.pour(t, 20_000) // what a server of this size has at hand
	before := p.memory(t)

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	honest := make(chan outcome, 1)
	go func() {
		defer close(honest)
		for i := 0; ctx.Err() == nil; i++ {
			o := tl(t, with("send", flags, "--as", "alice", "--to", "bob", fmt.Sprint("meanwhile ", i))...)
			select {
			case honest <- o:
			default:
			}
		}
	}()
	f.pour(t, 100_000)
	cancel()
	o, ok := <-honest
	if !ok || o.status != exitOK {
		t.Errorf("an honest client meanwhile: %+v", o)
	}
	for range honest {
	}
	time.Sleep(100 * time.Millisecond) // the last answers
	got, size := f.got.Load(), f.size.Load()
	t.Logf("%d bytes sent, %d received in %d answers; memory %d KiB, then %d KiB", f.sent, size, got, before>>10, p.memory(t)>>10)
	if size > int64(f.sent) || got < 10_000 {
		t.Errorf("%d bytes in HELLOs were answered by %d, in %d packets", f.sent, size, got)
	}
	if after := p.memory(t); after > before+8<<20 {
		t.Errorf("the server has %d MiB, had %d", after>>20, before>>20)
	}
	tl(t, with("send", flags, "--as", "alice", "--to", "bob", "afterwards")...).want(t, exitOK, "", "")
}
