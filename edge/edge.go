package edge

import (
	"context"
	"errors"
	"fmt"
	"net"
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
	inbox chan job      // what the loop does next; senders wait when it is full
	free  chan *batch   // readers wait while there is none: datagrams stay in the sockets
	tasks chan task     // for the workers; never waits: see flush
	gone  chan struct{} // closed when the loop is over

	distrust atomic.Bool // pushes were lost on the way: read heads again
	table    *table      // of the loop
}

// A job is what the loop does next: it takes in a batch, or calls do.
type job struct {
	batch *batch
	do    func(now time.Time)
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
		inbox: make(chan job, inboxSize),
		free:  make(chan *batch, len(c.Sockets)*batchesPerSocket),
		tasks: make(chan task, c.MaxTasks),
		gone:  make(chan struct{}),
	}
	for range cap(e.free) {
		e.free <- new(batch)
	}
	e.table = newTable(&e.cfg)
	return e, nil
}

// Report tells the edge what an append settled. It is the Report of the Writer's
// configuration.
func (e *Edge) Report(r ingest.Report) {
	e.post(job{do: func(now time.Time) { e.table.reported(now, r) }})
}

// Alive returns once the loop has done what it had to do when it was asked; an error
// says that it did not in time, or that Run is over.
func (e *Edge) Alive(ctx context.Context) error { return e.ask(ctx, func() {}) }

// ask has the loop call what asks, and returns when it has. After an error it may do so yet.
func (e *Edge) ask(ctx context.Context, asks func()) error {
	done := make(chan struct{})
	select {
	case e.inbox <- job{do: func(time.Time) { asks(); close(done) }}:
	case <-e.gone:
		return errStopped
	case <-ctx.Done():
		return fmt.Errorf("the edge has no room for more: %w", ctx.Err())
	}
	select {
	case <-done:
		return nil
	case <-e.gone:
		return errStopped
	case <-ctx.Done():
		return fmt.Errorf("the edge is busy: %w", ctx.Err())
	}
}

var errStopped = errors.New("the edge has stopped")

// post hands a job to the loop; it waits for room.
func (e *Edge) post(j job) {
	select {
	case e.inbox <- j:
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
	case e.inbox <- job{do: func(now time.Time) { e.table.pushed(now, ps) }}:
	default:
		e.distrust.Store(true)
	}
}

// A batch is what one read has got, and its buffers. The loop gives it back when
// it is done with the frames in it.
type batch struct {
	conn      int
	n         int // datagrams that came
	datagrams [batchSize]wire.Datagram
	buffers   [batchSize][wire.MaxPacket + 1]byte
}

const (
	batchSize        = 64 // datagrams
	batchesPerSocket = 8
)

// room returns the datagrams to be read into.
func (b *batch) room() []wire.Datagram {
	for i := range b.datagrams {
		b.datagrams[i].Data = b.buffers[i][:]
	}
	return b.datagrams[:]
}

// read passes on what comes in on one socket.
func (e *Edge) read(conn int) error {
	for {
		switch err := e.readBatch(conn); {
		case errors.Is(err, net.ErrClosed):
			return nil
		case err != nil:
			return err
		}
	}
}

// readBatch passes on one batch.
func (e *Edge) readBatch(conn int) (err error) {
	var b *batch
	select {
	case b = <-e.free:
	case <-e.gone:
		return net.ErrClosed
	}
	b.conn = conn
	if b.n, err = e.cfg.Sockets[conn].ReadBatch(b.room()); err != nil {
		return err
	}
	e.post(job{batch: b})
	return nil
}

// loop owns the table.
func (e *Edge) loop(ctx, hard context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	done := ctx.Done()
	for {
		select {
		case j := <-e.inbox:
			e.perform(time.Now(), j)
			e.more()
		case <-timer.C:
		case <-done:
			done = nil
			e.table.drain()
		case <-hard.Done():
			return
		}
		now := time.Now()
		e.look(now)
		e.table.tick(now)
		e.flush(now)
		if e.table.drained {
			return
		}
		timer.Reset(e.table.next(now))
	}
}

// look tells the table how much waits in the sockets, unless it was told just now.
func (e *Edge) look(now time.Time) {
	if now.Sub(e.table.load.looked) < lookEvery {
		return
	}
	var taken float64
	var lost uint64
	for i := range e.cfg.Sockets {
		if backlog := e.cfg.Sockets[i].Backlog; backlog != nil {
			t, l := backlog()
			taken, lost = max(taken, t), lost+uint64(l)
		}
	}
	e.table.press(now, taken, lost)
}

// more does what else is waiting by now, so that its frames share packets.
func (e *Edge) more() {
	for range len(e.inbox) { // nobody else receives
		e.perform(time.Now(), <-e.inbox)
	}
}

// perform does a job. What it says of heads must not be what is distrusted by now.
func (e *Edge) perform(now time.Time, j job) {
	if e.distrust.Swap(false) {
		e.table.distrust(now)
	}
	if j.batch == nil {
		j.do(now)
		return
	}
	for _, d := range j.batch.datagrams[:j.batch.n] {
		e.table.packet(now, from{conn: j.batch.conn, addr: d.Addr}, d.Data)
	}
	e.free <- j.batch
}

// flush starts what the table wants done and sends what it has to say.
func (e *Edge) flush(now time.Time) {
	e.cfg.Writer.Commit()
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
	for ctx.Err() == nil {
		select {
		case t := <-e.tasks:
			if ctx.Err() == nil { // of several that are due select takes any
				e.post(job{do: t.do(ctx)})
			}
		case <-ctx.Done():
		}
	}
	return nil
}
