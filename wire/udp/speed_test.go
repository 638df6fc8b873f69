package udp

import (
	"bytes"
	"fmt"
	"testing"

	"timberline/wire"
)

// payload is the bytes of a datagram with one message, about.
var payload = bytes.Repeat([]byte("x"), 160)

// datagrams returns n with that payload.
func datagrams(to *Conn, n int) []wire.Datagram {
	ds := make([]wire.Datagram, n)
	for i := range ds {
		ds[i] = wire.Datagram{Addr: to.LocalAddr(), Data: payload}
	}
	return ds
}

// reset makes datagrams ready to be read into again.
func reset(ds []wire.Datagram) []wire.Datagram {
	for i := range ds {
		ds[i].Data = ds[i].Data[:wire.MaxPacket+1]
	}
	return ds
}

// drain reads n datagrams.
func drain(t testing.TB, c *Conn, ds []wire.Datagram, n int) {
	for n > 0 {
		got, err := c.ReadBatch(reset(ds))
		if err != nil {
			t.Fatal(err)
		}
		n -= got
	}
}

func TestPacketsAreMovedWithoutAllocating(t *testing.T) {
	if raceEnabled {
		t.Skip("allocations are counted without -race")
	}
	for family, address := range families {
		for _, size := range []int{1, 8, 64, 100} {
			each(t, func(t *testing.T, on system) {
				a, b := on.listen(t, address), on.listen(t, address)
				out, in := datagrams(b, size), room(size)
				n := testing.AllocsPerRun(100, func() {
					write(t, a, out...)
					drain(t, b, in, size)
				})
				if n != 0 {
					t.Errorf("%s: %v allocations to write and read %d packets, want none", family, n, size)
				}
			})
		}
	}
}

// measure runs a benchmark on each kind of system, in batches of several sizes.
func measure(b *testing.B, run func(b *testing.B, on system, size int)) {
	for name, on := range systems {
		for _, size := range []int{1, 8, 64} {
			b.Run(fmt.Sprintf("%s/batch=%d", name, size), func(b *testing.B) { run(b, on, size) })
		}
	}
}

// perSecond reports packets instead of batches.
func perSecond(b *testing.B, packets int) {
	b.ReportMetric(float64(packets)/b.Elapsed().Seconds(), "packets/s")
}

// BenchmarkWriteBatch writes to a socket that nobody reads; the system drops what
// finds no room there.
func BenchmarkWriteBatch(b *testing.B) {
	measure(b, func(b *testing.B, on system, size int) {
		from, to := on.listen(b, "127.0.0.1:0"), on.listen(b, "127.0.0.1:0")
		ds := datagrams(to, size)
		b.ReportAllocs()
		for b.Loop() {
			write(b, from, ds...)
		}
		perSecond(b, b.N*size)
	})
}

// BenchmarkReadBatch reads what is there; writing it is not measured.
func BenchmarkReadBatch(b *testing.B) {
	measure(b, func(b *testing.B, on system, size int) {
		const burst = 512
		from, to := on.listen(b, "127.0.0.1:0"), on.listen(b, "127.0.0.1:0")
		out, in := datagrams(to, burst), room(size)
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			if i*size%burst == 0 {
				b.StopTimer()
				write(b, from, out...)
				b.StartTimer()
			}
			drain(b, to, in, size)
		}
		perSecond(b, b.N*size)
	})
}

// BenchmarkEcho has two sockets throw the same packets to and fro, each with a
// goroutine, and counts round trips: the most that a server on this machine can
// answer to clients on the same machine.
func BenchmarkEcho(b *testing.B) {
	measure(b, func(b *testing.B, on system, size int) {
		const inFlight = 128
		client, server := on.listen(b, "127.0.0.1:0"), on.listen(b, "127.0.0.1:0")
		go func() {
			for ds := room(size); bounce(server, ds) > 0; {
			}
		}()
		write(b, client, datagrams(server, inFlight)...)
		ds, n := room(size), 0
		b.ReportAllocs()
		for b.Loop() {
			n += bounce(client, ds)
		}
		perSecond(b, n)
	})
}

// bounce sends back what comes, and returns how many; none when c is closed.
func bounce(c *Conn, ds []wire.Datagram) int {
	n, err := c.ReadBatch(reset(ds))
	if err != nil || c.WriteBatch(ds[:n]) != nil {
		return 0
	}
	return n
}
