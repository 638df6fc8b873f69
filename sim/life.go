package sim

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"timberline/client"
	"timberline/events"
	"timberline/sim/network"
	"timberline/wire"
)

// A life is one process of a device's app.
type life struct {
	d      *device
	client *client.Client
	over   context.Context // ends when the process is killed
	kill   context.CancelFunc

	mu    sync.Mutex
	conns []*network.Conn
	store client.Store // on what the process leaves
	saves int          // until it is killed
	last  bool         // whether the save it is killed in survives
	doom  bool         // saves counts those that something is to be sent after
	down  time.Duration
}

// newLife starts the client.
func newLife(d *device) (*life, error) {
	store, err := d.outbox.open()
	if err != nil {
		return nil, err
	}
	l := &life{d: d, store: through(d.w.seams.Outbox, store)}
	l.over, l.kill = context.WithCancel(context.Background())
	key := d.w.serverKey.Public.String()
	if d.plan.plain {
		key = ""
	}
	l.client, err = client.Dial("timberline:4747", client.Options{
		ServerKey: key, Plain: d.plan.plain,
		Token: d.w.token(d.plan.user, d.plan.name),
		Store: l, Codec: d.plan.codec, OutboxLimit: 32,
		OnMessage: l.message, OnResult: l.result, OnReset: d.reader.Reset,
		OnTrimmed: func(_, last events.Seq) { d.reader.Trimmed(last) },
		Resolve:   d.resolve, Listen: l.listen,
		Now:    func() time.Time { return time.Now().Add(d.plan.clock) },
		Random: through(d.w.seams.Drawn, network.Random(d.w.seed, fmt.Sprintf("%s, life %d", d, d.lives))),
	})
	return l, err
}

// errKilled is what a killed process gets from everything.
var errKilled = errors.New("the process is killed")

// message is the client's OnMessage.
func (l *life) message(m client.Message) error {
	if l.over.Err() != nil {
		return errKilled
	}
	e := &m.Event
	l.d.reader.Entry(m.Seq, e)
	if e.Kind == events.KindMessage && e.Sender != l.d.plan.user {
		l.d.shown.Store(&shown{e.Sender, e.ID})
	}
	return nil
}

// result is the client's OnResult.
func (l *life) result(r client.Result) {
	switch {
	case l.over.Err() != nil:
	case r.Err == nil:
		l.d.w.history.Acked(r.Message)
	case errors.Is(r.Err, client.ErrRefused):
		l.d.w.history.Refused(r.Message)
	default:
		l.d.w.history.Unknown(r.Message)
	}
}

// listen is the client's Listen.
func (l *life) listen() (wire.PacketConn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over.Err() != nil {
		return nil, errKilled
	}
	c, err := l.d.w.net.Listen(netip.AddrPortFrom(l.d.host(), 0))
	if err != nil {
		return nil, err
	}
	l.conns = append(l.conns, c)
	return c, nil
}

// move takes the newest socket to where the device is now.
func (l *life) move() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := len(l.conns); n > 0 {
		l.conns[n-1].Move(netip.AddrPortFrom(l.d.host(), 0))
	}
}

// unless calls the SDK, unless the process is killed meanwhile.
func (l *life) unless(ctx context.Context, call func(context.Context) (events.MessageID, error)) (events.MessageID, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(l.over, cancel)()
	return call(ctx)
}

// die kills the process: nothing of it leaves the device any more, nothing is
// kept, nothing shown.
func (l *life) die() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dieLocked()
}

func (l *life) dieLocked() {
	l.kill()
	for _, c := range l.conns {
		c.Close()
	}
}

// dieAt has the process killed in the middle of a save, so many saves from now.
func (l *life) dieAt(save int, survives bool, down time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.doom, l.saves, l.last, l.down = true, save, survives, down
}

// spare takes back dieAt.
func (l *life) spare() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.doom = false
}

// close ends what is left of the process. If it was not killed, that is a clean
// end.
func (l *life) close() {
	if err := l.client.Close(); err != nil {
		l.d.w.fail(fmt.Errorf("%s is closed: %w", l.d, err))
	}
	l.kill()
}

// Load implements client.Store.
func (l *life) Load() (client.Saved, error) { return l.store.Load() }

// errFull is what a save that fails returns. Nothing of it is kept.
var errFull = errors.New("no space on the device")

// Save implements client.Store.
func (l *life) Save(changes []client.Change) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over.Err() != nil {
		return errKilled
	}
	if !slices.ContainsFunc(changes, first) {
		return l.store.Save(changes)
	}
	if l.doom {
		if l.saves--; l.saves < 0 {
			return l.lastSave(changes)
		}
	}
	if chance(l.d.w.draws.next(l.d.String()+" saves"), l.d.w.plan.saves) {
		return errFull
	}
	return l.store.Save(changes)
}

// first tells the changes that are saved before something is sent. Others follow
// what the app takes, on two goroutines: how many saves they make of it is not the
// same in every run.
func first(c client.Change) bool { return c.Send != nil || c.Session != nil }

// lastSave is the save in which the process is killed.
func (l *life) lastSave(changes []client.Change) error {
	l.dieLocked()
	save := func() error { return l.store.Save(changes) }
	return errors.Join(errKilled, l.d.outbox.lastSave(save, l.last, l.d.w.draws.next(l.d.String()+" dies saving")))
}

// Close implements client.Store. What is kept stays.
func (l *life) Close() error { return l.store.Close() }
