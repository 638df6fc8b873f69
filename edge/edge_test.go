package edge

import (
	"bytes"
	"context"
	"math"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sync/errgroup"

	"timberline/wire"
	"timberline/wire/sealed"
	"timberline/wire/udp"
)

func listenUDP(t *testing.T) *udp.Conn {
	t.Helper()
	c, err := udp.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func newEdge(t *testing.T, conn wire.PacketConn) *Edge {
	t.Helper()
	e, err := New(Config{
		Sockets: []Socket{{PacketConn: conn}},
		Keys:    func() []sealed.ServerKey { return nil }, Secret: sealed.Secret{1},
	})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// From the socket to the table, whose own work is next to none here: nothing of
// these packets is known.
func TestPacketsReachTheTableWithoutAllocating(t *testing.T) {
	if raceEnabled {
		t.Skip("allocations are counted without -race")
	}
	server, peer := listenUDP(t), listenUDP(t)
	e := newEdge(t, server)
	for _, size := range []int{1, 8, batchSize} {
		ds := make([]wire.Datagram, size)
		for i := range ds {
			ds[i] = wire.Datagram{Addr: server.LocalAddr(), Data: bytes.Repeat([]byte{0xff}, 160)}
		}
		before, runs := e.table.counts.malformed.Load(), uint64(0)
		n := testing.AllocsPerRun(100, func() {
			runs++
			if err := peer.WriteBatch(ds); err != nil {
				t.Error(err)
			}
			for got := 0; got < size; {
				if err := e.readBatch(0); err != nil {
					t.Fatal(err)
				}
				j := <-e.inbox
				got += j.batch.n
				e.perform(time.Now(), j)
			}
		})
		if n != 0 {
			t.Errorf("%v allocations for %d packets, want none", n, size)
		}
		if got, want := e.table.counts.malformed.Load()-before, runs*uint64(size); got != want {
			t.Errorf("the table got %d packets, want %d", got, want)
		}
	}
}

// While the loop is busy, datagrams wait where the system bounds and drops them.
func TestReaderWaitsWhileTheLoopIsBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn := new(flood)
		e := newEdge(t, conn)
		var g errgroup.Group
		g.Go(func() error { return e.read(0) })
		for done := range 3 * batchesPerSocket {
			synctest.Wait()
			if want := batchesPerSocket + done; conn.reads != want {
				t.Errorf("the loop is done with %d batches, and %d were read, want %d", done, conn.reads, want)
			}
			e.perform(time.Now(), <-e.inbox)
		}
		close(e.gone)
		if err := g.Wait(); err != nil {
			t.Errorf("the reader ended with %v", err)
		}
	})
}

// A flood is a socket that always has another datagram.
type flood struct {
	wire.PacketConn
	reads int
}

func (f *flood) ReadBatch(ds []wire.Datagram) (int, error) {
	f.reads++
	ds[0].Data = append(ds[0].Data[:0], 0xff)
	return 1, nil
}

// A drip is a socket into which datagrams of strangers come one by one. It is empty when
// it is looked at first, and then full while the test says so.
type drip struct {
	wire.PacketConn
	left  int           // of them
	every time.Duration // comes one
	done  chan struct{} // closed when the test is over
	full  atomic.Bool
	lost  atomic.Uint32
	looks atomic.Int32 // times that it was asked how full it is
}

func (d *drip) ReadBatch(ds []wire.Datagram) (int, error) {
	if d.left == 0 {
		<-d.done
		return 0, net.ErrClosed
	}
	time.Sleep(d.every)
	d.left--
	d.lost.Add(2) // beside each
	ds[0].Data = append(ds[0].Data[:0], 0xff)
	return 1, nil
}

func (d *drip) backlog() (full float64, lost uint32) {
	if first := d.looks.Add(1) == 1; d.full.Load() && !first {
		return 1, d.lost.Load()
	}
	return 0, d.lost.Load()
}

// serve has an edge serve the socket, and returns when all has come and the edge is at
// rest.
func (d *drip) serve(t *testing.T) *Edge {
	t.Helper()
	e := newEdge(t, d)
	e.cfg.Sockets[0].Backlog, e.cfg.Writer = d.backlog, newScribe()
	d.done = make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(func() {
		cancel()
		close(d.done)
		synctest.Wait()
	})
	lasts := time.Duration(d.left) * d.every
	go e.loop(ctx, ctx)
	go e.read(0)
	time.Sleep(lasts)
	synctest.Wait()
	return e
}

func TestPressureGoesThoughNobodyComes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &drip{left: 100, every: standing / 10}
		d.full.Store(true)
		e := d.serve(t)
		if p := pressure(e.table.counts.pressure.Load()); p != crowded {
			t.Fatalf("the socket was full of strangers for %v: pressure %d", 10*standing, p)
		}
		time.Sleep(10 * standing)
		synctest.Wait()
		if p := pressure(e.table.counts.pressure.Load()); p != crowded {
			t.Errorf("it is full, and nobody comes: pressure %d", p)
		}
		d.full.Store(false)
		time.Sleep(standing)
		synctest.Wait()
		if p := pressure(e.table.counts.pressure.Load()); p != calm {
			t.Errorf("it is empty: pressure %d", p)
		}
		looks := d.looks.Load()
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := d.looks.Load() - looks; n > 0 {
			t.Errorf("the idle edge has looked %d times in a minute", n)
		}
	})
}

// What the looks tell weighs as much as if there was one beside each packet.
func TestSocketsAreLookedAtOnceInAMillisecond(t *testing.T) {
	const perLook, looks = 10, int(standing / lookEvery)
	for full, wantTaken := range map[bool]float64{false: 0, true: 1 - 1/math.E} { // for as long as the time constant
		synctest.Test(t, func(t *testing.T) {
			d := &drip{left: looks * perLook, every: lookEvery / perLook}
			d.full.Store(full)
			e := d.serve(t)
			var came int
			var taken float64
			e.post(job{do: func(time.Time) { came, taken = e.table.came, e.table.load.taken }})
			synctest.Wait()
			if n := int(d.looks.Load()); n != looks || came != perLook-1 {
				t.Errorf("%d looks in %v, want %d; %d packets since the last, want %d", n, standing, looks, came, perLook-1)
			}
			if math.Abs(taken-wantTaken) > 0.01 {
				t.Errorf("full is %v, and %.3f is taken, want %.3f", full, taken, wantTaken)
			}
			time.Sleep(standing)
			synctest.Wait()
			if got, want := e.table.counts.noRoom.Load(), uint64(d.lost.Load()); got != want {
				t.Errorf("full is %v, nobody comes any more: %d are told to have found no room, want %d", full, got, want)
			}
		})
	}
}

func TestFirstHeartbeatAfterADistrustIsNotAnsweredFromMemory(t *testing.T) {
	e := newEdge(t, noConn{})
	s := &session{deliver: delivery{read: time.Now()}}
	e.distrust.Store(true)
	e.perform(time.Now(), job{do: func(now time.Time) {
		if !e.table.stale(now, s) {
			t.Error("the head is still trusted")
		}
	}})
}
