package client

import (
	"encoding/binary"
	"fmt"
	"slices"
	"sync"
	"time"

	"timberline/events"
	"timberline/wire"
)

// saveAgain is how long to wait after the Store failed.
const saveAgain = time.Second

// A loop is the one goroutine that owns a client's state: it hands the device
// what comes, and does what the device asks for.
type loop struct {
	c    *Client
	d    *device
	conn wire.PacketConn // nil: none

	incoming chan incoming
	notices  chan notice
	told     chan uint64
	notified chan struct{} // closed when the goroutine of notices is over

	adds      []*sendCall // taken in, not kept yet
	unsaved   []Change    // that the Store failed to keep
	saveAt    time.Time   // not before; zero: at once
	unmet     bool        // no store's id is kept yet: the app is shown nothing
	pending   []notice    // for the app
	states    int         // among them
	waiters   []*waiter
	resets    int          // of the device, that waiters know of
	pull      chan<- batch // who waits for messages; nil: nobody
	rebinding bool         // another socket is being opened
	phase     time.Duration
	timer     *time.Timer
	tasks     sync.WaitGroup // the goroutines that prepare and read
}

// incoming is datagrams from a socket, or why it is over.
type incoming struct {
	conn      wire.PacketConn
	datagrams []wire.Datagram
	err       error
}

// A notice is a state or a result for the app.
type notice struct {
	state  State
	send   uint64 // of a result; 0: it is a state
	result Result
}

// maxStates bounds the states that wait for a slow app.
const maxStates = 16

// A sendCall is a Send or MarkRead under way.
type sendCall struct {
	send  SavedSend
	reply chan error // has room
}

func newLoop(c *Client, d *device) *loop {
	l := &loop{
		c: c, d: d,
		incoming: make(chan incoming),
		notices:  make(chan notice),
		told:     make(chan uint64),
		notified: make(chan struct{}),
		unmet:    d.in.store == (events.StoreID{}),
	}
	var b [8]byte
	d.random.Read(b[:]) // never fails
	l.phase = time.Duration(binary.LittleEndian.Uint64(b[:]) % uint64(grain))
	return l
}

// run is the goroutine.
func (l *loop) run() {
	defer close(l.c.gone)
	go l.notify()
	l.timer = time.NewTimer(time.Hour)
	defer l.timer.Stop()
	l.d.link.retry = l.c.o.Now()
	for l.step(); l.wait(); l.step() {
	}
	l.shutDown()
}

// wait takes in one thing, or as many sends as there are. It reports whether the
// loop goes on.
func (l *loop) wait() bool {
	sends, notices, first := l.c.sends, l.notices, notice{}
	if l.full() {
		sends = nil
	}
	if len(l.pending) == 0 {
		notices = nil
	} else {
		first = l.pending[0]
	}
	l.setTimer()
	select {
	case <-l.c.stop:
		return false
	case f := <-l.c.calls:
		f(l.now())
	case s := <-sends:
		l.add(s)
		l.addMore()
	case in := <-l.incoming:
		l.receive(in)
	case notices <- first:
		l.dropNotice(0)
	case id := <-l.told:
		l.d.out.done(id)
	case <-l.timer.C:
	}
	return true
}

func (l *loop) now() time.Time { return l.c.o.Now() }

// grain is how exactly the loop wakes up. The place within a grain is drawn at
// the start, so that of many clients no two do so at the same instant.
const grain = time.Millisecond

// setTimer makes the loop wake up when there is something to do.
func (l *loop) setTimer() {
	now := l.now()
	at := l.d.next(now)
	if len(l.unsaved) > 0 || l.d.out.waitsForStore() {
		at = sooner(at, l.saveAt)
	}
	wait := time.Hour
	if !at.IsZero() {
		wait = max(at.Sub(now), 0)
	}
	beyond := (time.Duration(now.Add(wait).UnixNano()) - l.phase) % grain
	if beyond > 0 {
		wait += grain - beyond
	}
	l.timer.Reset(wait)
}

// full reports whether the outbox has no room. After the end for good it takes
// sends in order to refuse them.
func (l *loop) full() bool {
	return l.d.link.phase != over && l.d.out.size()+len(l.adds) >= l.c.o.OutboxLimit
}

// add takes in a send; save keeps it and replies.
func (l *loop) add(s *sendCall) {
	switch limit := l.d.maxBody; {
	case l.d.link.phase == over:
		s.reply <- l.c.Err()
	case limit > 0 && len(s.send.Body) > limit:
		s.reply <- fmt.Errorf("%w: body has %d bytes, the server takes %d", events.ErrTooLarge, len(s.send.Body), limit)
	default:
		s.send.Message = l.d.messageID()
		l.adds = append(l.adds, s)
	}
}

// addMore takes in the other sends that wait, so that they share what the Store
// writes and packets.
func (l *loop) addMore() {
	for !l.full() {
		select {
		case s := <-l.c.sends:
			l.add(s)
		default:
			return
		}
	}
}

// receive takes in datagrams.
func (l *loop) receive(in incoming) {
	if in.conn != l.conn {
		return // of a socket that was given up
	}
	now := l.now()
	if in.err != nil {
		l.c.o.Logger.Warn("socket failed", "err", in.err)
		if l.d.link.seal != nil && l.d.link.phase == joined {
			l.closeConn()
			l.d.rebind = l.d.rebind || !l.rebinding // the session need not end for that
			return
		}
		l.d.rest(now, 0)
		return
	}
	for _, d := range in.datagrams {
		l.d.packet(now, d.Addr, d.Data)
	}
}

// step does everything that is to be done now.
func (l *loop) step() {
	now := l.now()
	l.d.tick(now)
	l.gather()
	l.save(now)
	l.gather() // what save answered
	l.write(l.d.emit(now))
	if l.d.hangUp {
		l.d.hangUp = false
		l.closeConn()
	}
	if l.d.refresh {
		l.d.refresh = false
		l.tasks.Go(l.refresh)
	}
	if l.d.rebind && !l.rebinding {
		l.d.rebind, l.rebinding = false, true
		session := l.d.link.session
		l.tasks.Go(func() { l.rebind(session) })
	}
	if l.d.prepare {
		l.d.prepare = false
		try, handover := l.d.link.vain, l.d.link.handover
		l.d.link.handover = ""
		l.tasks.Go(func() { l.prepare(try, handover) })
	}
	l.serve()
}

// gather turns what the device has to say into notices for the app.
func (l *loop) gather() {
	if err := l.d.trouble; err != nil {
		l.d.trouble = nil
		l.inTrouble(err)
	}
	for _, x := range l.d.out.takeResults() {
		if l.c.o.OnResult == nil {
			l.d.out.done(x.ID)
			continue
		}
		l.pending = append(l.pending, notice{send: x.ID, result: Result{Message: x.Message, Err: x.Answer.err()}})
	}
	for _, s := range l.d.states {
		if s == StateClosed && l.d.link.err != nil {
			err := fmt.Errorf("%w: %w", ErrClosed, l.d.link.err)
			l.c.err.Store(&err)
		}
		if s == StateOnline {
			l.c.trouble.Store(nil)
		}
		l.c.state.Store(uint32(s))
		l.noticeState(s)
	}
	l.d.states = l.d.states[:0]
}

// inTrouble notes why there is no connection.
func (l *loop) inTrouble(err error) {
	l.c.o.Logger.Warn("no connection", "err", err)
	l.c.trouble.Store(&err)
}

func (l *loop) noticeState(s State) {
	if l.c.o.OnState == nil {
		return
	}
	if l.states == maxStates {
		for i, n := range l.pending {
			if n.send == 0 {
				l.dropNotice(i)
				break
			}
		}
	}
	l.states++
	l.pending = append(l.pending, notice{state: s})
}

func (l *loop) dropNotice(i int) {
	if l.pending[i].send == 0 {
		l.states--
	}
	if i == 0 {
		l.pending[0] = notice{}
		l.pending = l.pending[1:]
		return
	}
	l.pending = slices.Delete(l.pending, i, i+1)
}

// save has the Store keep what changed, before anything of it shows.
func (l *loop) save(now time.Time) {
	adds := l.adopt()
	began := false
	if len(adds) > 0 || !now.Before(l.saveAt) {
		began = l.d.out.begin()
	}
	changes := superseded(append(l.unsaved, l.d.out.takeChanges()...))
	l.unsaved = nil
	if len(changes) == 0 {
		l.d.out.kept()
		return
	}
	if len(adds) == 0 && now.Before(l.saveAt) {
		l.unsaved = changes
		return
	}
	l.saveAt = time.Time{}
	err := l.c.o.Store.Save(changes)
	if err == nil {
		l.d.out.kept()
		l.unmet = l.unmet && !slices.ContainsFunc(changes, func(c Change) bool { return c.Cursor != nil })
	}
	if err != nil {
		l.c.o.Logger.Error("device store failed", "err", err)
		err = fmt.Errorf("%w: %w", ErrStore, err)
		l.saveAt = now.Add(saveAgain)
		l.unsaved = l.d.out.rollBack(changes, began, len(adds))
	}
	for _, s := range adds {
		s.reply <- err
	}
}

// superseded leaves out cursors, offsets and answers that later ones replace.
// While the Store fails there are ever more of them; all else is bounded by the
// outbox.
func superseded(changes []Change) []Change {
	cursor, offset := false, false
	var answered map[uint64]bool
	for i, c := range slices.Backward(changes) {
		switch {
		case c.Cursor != nil && cursor, c.Offset != 0 && offset, c.Answer != nil && answered[c.Answer.ID]:
			changes = slices.Delete(changes, i, i+1)
		case c.Answer != nil && answered == nil:
			answered = map[uint64]bool{c.Answer.ID: true}
		case c.Answer != nil:
			answered[c.Answer.ID] = true
		}
		cursor, offset = cursor || c.Cursor != nil, offset || c.Offset != 0
	}
	return changes
}

// adopt puts the sends taken in into the outbox, and returns those that fit.
func (l *loop) adopt() (adopted []*sendCall) {
	for _, s := range l.adds {
		if err := l.d.out.add(s.send); err != nil {
			s.reply <- err
			continue
		}
		adopted = append(adopted, s)
	}
	l.adds = nil
	return adopted
}

// write sends packets to the server.
func (l *loop) write(packets [][]byte) {
	if l.conn == nil || len(packets) == 0 {
		return
	}
	ds := make([]wire.Datagram, len(packets))
	for i, p := range packets {
		ds[i] = wire.Datagram{Addr: l.d.link.server, Data: p}
	}
	l.conn.WriteBatch(ds) // what cannot be sent is lost, as on any network
}

func (l *loop) closeConn() {
	if l.conn != nil {
		l.conn.Close()
		l.conn = nil
	}
}

// notify is the goroutine that calls OnState and OnResult.
func (l *loop) notify() {
	defer close(l.notified)
	for n := range l.notices {
		if n.send == 0 {
			l.c.o.OnState(n.state)
			continue
		}
		l.c.o.OnResult(n.result)
		l.told <- n.send
	}
}

// shutDown ends everything the loop has started.
func (l *loop) shutDown() {
	if bye := l.d.bye(); bye != nil {
		l.write([][]byte{bye})
	}
	if l.d.link.phase != over {
		l.d.end(nil)
		l.c.err.Store(&ErrClosed)
	}
	l.closeConn()
	l.tasks.Wait()
	if d := l.d.dropped; d != (dropped{}) {
		l.c.o.Logger.Debug("dropped packets", "malformed", d.malformed, "stranger", d.stranger, "other_session", d.otherSession)
	}
	l.gather()
	l.dismiss()
	if changes := append(l.unsaved, l.d.out.takeChanges()...); len(changes) > 0 {
		if err := l.c.o.Store.Save(changes); err != nil {
			l.c.o.Logger.Error("device store failed", "err", err)
		}
	}
}

// dismiss ends the goroutine of notices, after it has told the last state.
// Results it was not told of come again from the Store.
func (l *loop) dismiss() {
	var last []notice
	for _, n := range l.pending {
		if n.send == 0 && n.state == StateClosed {
			last = append(last, n)
		}
	}
	for len(last) > 0 {
		select {
		case l.notices <- last[0]:
			last = last[1:]
		case id := <-l.told:
			l.d.out.done(id)
		}
	}
	close(l.notices)
	for {
		select {
		case id := <-l.told:
			l.d.out.done(id)
		case <-l.notified:
			return
		}
	}
}
