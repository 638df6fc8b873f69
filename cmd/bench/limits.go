package bench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/sync/errgroup"

	"timberline/wire"
	"timberline/wire/udp"
)

// Limits is what the machine can do: no server can do more.
type Limits struct {
	EchoPerS  float64 `json:"echo_per_s"`  // round trips of a bare UDP echo
	FsyncPerS float64 `json:"fsync_per_s"` // of 16 KiB, one after the other
	Fsync     Times   `json:"fsync_ms"`
}

// Times is how long something takes, in milliseconds.
type Times struct {
	P50  float64 `json:"p50"`
	P99  float64 `json:"p99"`
	P999 float64 `json:"p999,omitzero"`
}

// timesOf reads a histogram of microseconds.
func timesOf(h *hdrhistogram.Histogram) Times {
	ms := func(q float64) float64 { return float64(h.ValueAtQuantile(q)) / 1000 }
	return Times{P50: ms(50), P99: ms(99), P999: ms(99.9)}
}

// echoInFlight is how many datagrams are on their way on one socket.
const echoInFlight = 4 * batchSize

// Echo sends back whatever comes, until ctx ends.
func Echo(ctx context.Context, conns []*udp.Conn) error {
	var g errgroup.Group
	for _, c := range conns {
		g.Go(func() error {
			ds, raw := make([]wire.Datagram, batchSize), make([]byte, batchSize*wire.MaxPacket)
			for {
				for i := range ds {
					ds[i].Data = raw[i*wire.MaxPacket : (i+1)*wire.MaxPacket]
				}
				n, err := c.ReadBatch(ds)
				switch {
				case errors.Is(err, net.ErrClosed):
					return nil
				case err != nil:
					return err
				}
				c.WriteBatch(ds[:n])
			}
		})
	}
	<-ctx.Done()
	for _, c := range conns {
		c.Close()
	}
	return g.Wait()
}

// measureEcho returns how many round trips a second an echo server in another
// process answers, for datagrams of a size, from so many sockets.
func measureEcho(ctx context.Context, server netip.AddrPort, sockets, size int, d time.Duration) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	var trips atomic.Int64
	var g errgroup.Group
	began := time.Now()
	for range sockets {
		c, err := udp.Listen(netip.AddrPortFrom(server.Addr(), 0).String())
		if err != nil {
			return 0, err
		}
		defer c.Close()
		g.Go(func() error { return bounce(ctx, c, server, size, &trips) })
	}
	if err := g.Wait(); err != nil {
		return 0, fmt.Errorf("bench: echo: %w", err)
	}
	return float64(trips.Load()) / time.Since(began).Seconds(), nil
}

// bounce keeps datagrams on their way until ctx ends.
func bounce(ctx context.Context, c *udp.Conn, server netip.AddrPort, size int, trips *atomic.Int64) error {
	in, raw := make([]wire.Datagram, batchSize), make([]byte, batchSize*wire.MaxPacket)
	out := make([]wire.Datagram, batchSize)
	for i := range out {
		out[i] = wire.Datagram{Addr: server, Data: make([]byte, size)}
	}
	for ctx.Err() == nil {
		for range echoInFlight / batchSize { // at first, and again when all were lost
			c.WriteBatch(out)
		}
		for ctx.Err() == nil {
			for i := range in {
				in[i].Data = raw[i*wire.MaxPacket : (i+1)*wire.MaxPacket]
			}
			c.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
			n, err := c.ReadBatch(in)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				break
			}
			if err != nil {
				return err
			}
			trips.Add(int64(n))
			c.WriteBatch(out[:n])
		}
	}
	return nil
}

// fsyncSize is what is written before each sync, in bytes: some group commits'
// worth.
const fsyncSize = 16 << 10

// measureFsync writes and syncs a file in a folder, again and again.
func measureFsync(ctx context.Context, folder string, d time.Duration) (perS float64, times Times, err error) {
	path := filepath.Join(folder, "fsync")
	f, err := os.Create(path)
	if err != nil {
		return 0, Times{}, fmt.Errorf("bench: fsync: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(path)) }()
	data := make([]byte, fsyncSize)
	took := newResults().ack
	n, began := 0, time.Now()
	for ; time.Since(began) < d && ctx.Err() == nil; n++ {
		start := time.Now()
		if _, err := f.Write(data); err != nil {
			return 0, Times{}, fmt.Errorf("bench: fsync: %w", err)
		}
		if err := f.Sync(); err != nil {
			return 0, Times{}, fmt.Errorf("bench: fsync: %w", err)
		}
		took.RecordValue(time.Since(start).Microseconds())
	}
	times = timesOf(took)
	times.P999 = 0
	return float64(n) / time.Since(began).Seconds(), times, ctx.Err()
}

// mean returns what lies between two measurements.
func (l Limits) mean(o Limits) Limits {
	return Limits{
		EchoPerS: (l.EchoPerS + o.EchoPerS) / 2, FsyncPerS: (l.FsyncPerS + o.FsyncPerS) / 2,
		Fsync: Times{P50: (l.Fsync.P50 + o.Fsync.P50) / 2, P99: (l.Fsync.P99 + o.Fsync.P99) / 2},
	}
}
