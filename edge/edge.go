package edge

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"timberline/bus"
	"timberline/ingest"
	"timberline/wire"
)

// An Edge serves sessions on its sockets.
type Edge struct {
	cfg   Config
	inbox chan func(now time.Time) // what the loop does next; senders wait when it is full
	tasks chan task                // for the workers; never waits: see dispatch
	gone  chan struct{}            // closed when the loop is over

	distrust atomic.Bool // pushes were lost on the way: read heads again
	table    *table      // of the loop
}

// inboxSize bounds what waits for the loop.
const inboxSize = 256

// New returns an edge for Run.
func New(c Config) (*Edge, error) {
	if err := c.setDefaults(); err != nil {
		return nil, err
	}
	e := &Edge{
		cfg:   c,
		inbox: make(chan func(time.Time), inboxSize),
		tasks: make(chan task, c.MaxTasks),
		gone:  make(chan struct{}),
	}
	e.table = newTable(&e.cfg)
	return e, nil
}

// Report tells the edge what an append settled. It is the Report of the Writer's
// configuration.
func (e *Edge) Report(r ingest.Report) {
	e.post(func(now time.Time) { e.table.reported(now, r) })
}

// Counts returns how often each thing has happened. The order is fixed.
func (e *Edge) Counts() []Count { return e.table.counts.list() }

// post hands work to the loop; it waits for room.
func (e *Edge) post(do func(now time.Time)) {
	select {
	case e.inbox <- do:
	case <-e.gone:
	}
}

// Run serves until ctx ends, then lets the Writer append what has gathered and
// end its journal, acknowledges that, tells the clients, and returns. Ending
// hard stops it at once, as does a socket that cannot be read any more, which is
// the error that Run returns.
func (e *Edge) Run(ctx, hard context.Context) error {
	hard, cancel := context.WithCancel(hard)
	defer cancel()
	stopHearing := e.cfg.Bus.OnPushes(e.onPushes, func() { e.distrust.Store(true) })
	defer stopHearing()

	var g errgroup.Group
	for i := range e.cfg.Sockets {
		g.Go(func() error {
			err := e.read(i)
			if err != nil {
				cancel() // a socket is broken: so is the edge
			}
			return err
		})
	}
	for range e.cfg.Workers {
		g.Go(func() error { return e.work(hard) })
	}
	e.loop(ctx, hard)
	close(e.gone)
	cancel()
	for _, c := range e.cfg.Sockets {
		c.Close()
	}
	return g.Wait()
}

// onPushes never waits: what finds no room is lost, and noted as such.
func (e *Edge) onPushes(ps []bus.Push) {
	select {
	case e.inbox <- func(now time.Time) { e.table.pushed(now, ps) }:
	default:
		e.distrust.Store(true)
	}
}

// A batch is the buffers of one read. The loop gives it back when it is done
// with the frames in it.
type batch struct {
	datagrams []wire.Datagram
	buffers   []byte
}

const (
	batchSize  = 64 // datagrams
	bufferSize = wire.MaxPacket + 1
)

func newBatch() *batch {
	return &batch{datagrams: make([]wire.Datagram, batchSize), buffers: make([]byte, batchSize*bufferSize)}
}

// reset makes the datagrams ready to be read into.
func (b *batch) reset() []wire.Datagram {
	for i := range b.datagrams {
		b.datagrams[i].Data = b.buffers[i*bufferSize : (i+1)*bufferSize : (i+1)*bufferSize]
	}
	return b.datagrams
}

var batches = sync.Pool{New: func() any { return newBatch() }}

// read passes on what comes in on one socket.
func (e *Edge) read(conn int) error {
	for {
		b := batches.Get().(*batch)
		n, err := e.cfg.Sockets[conn].ReadBatch(b.reset())
		switch {
		case errors.Is(err, net.ErrClosed):
			return nil
		case err != nil:
			return err
		}
		e.post(func(now time.Time) {
			for _, d := range b.datagrams[:n] {
				e.table.packet(now, from{conn: conn, addr: d.Addr}, d.Data)
			}
			batches.Put(b)
		})
	}
}

// loop owns the table.
func (e *Edge) loop(ctx, hard context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	done := ctx.Done()
	for {
		select {
		case do := <-e.inbox:
			do(time.Now())
			e.more()
		case <-timer.C:
		case <-done:
			done = nil
			e.table.drain()
		case <-hard.Done():
			return
		}
		now := time.Now()
		if e.distrust.Swap(false) {
			e.table.distrust(now)
		}
		next := e.table.tick(now)
		e.flush(now)
		if e.table.drained {
			return
		}
		timer.Reset(next)
	}
}

// more does what else is waiting, so that its frames share packets.
func (e *Edge) more() {
	for range inboxSize {
		select {
		case do := <-e.inbox:
			do(time.Now())
		default:
			return
		}
	}
}

// flush starts what the table wants done and sends what it has to say.
func (e *Edge) flush(now time.Time) {
	for tasks := e.table.takeTasks(); len(tasks) > 0; tasks = e.table.takeTasks() {
		for _, t := range tasks {
			select {
			case e.tasks <- t:
			default:
				t.refuse(now) // which may want the next one
			}
		}
	}
	for conn, ds := range e.table.packets(now) {
		if len(ds) > 0 {
			e.cfg.Sockets[conn].WriteBatch(ds) // a datagram that cannot be sent is lost, as on any network
		}
	}
	e.table.sent()
}

// work does tasks until ctx ends.
func (e *Edge) work(ctx context.Context) error {
	for {
		select {
		case t := <-e.tasks:
			apply := t.do(ctx)
			e.post(apply)
		case <-ctx.Done():
			return nil
		}
	}
}
