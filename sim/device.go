package sim

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"timberline/client"
	"timberline/edge/auth"
	"timberline/events"
	"timberline/sim/check"
)

// A device is one life of an app after the other, each with what the one before
// has left in its store.
type device struct {
	w      *world
	plan   *devicePlan
	number byte
	moves  atomic.Uint32
	lives  int
	sent   int
	outbox *outbox
	reader *check.Reader
	life   *life // nil: none was begun yet

	shown atomic.Pointer[shown]
	read  events.ID // it has said that it has read up to there
}

// shown is the last message that a device was shown from somebody else.
type shown struct {
	from events.User
	id   events.ID
}

func newDevice(w *world, p *devicePlan, n int) *device {
	return &device{
		w: w, plan: p, number: byte(n),
		outbox: w.newOutbox(p, n), reader: w.history.Reader(p.user, p.name),
	}
}

// newOutbox returns an empty one.
func (w *world) newOutbox(p *devicePlan, n int) *outbox {
	o := &outbox{memory: client.NewMemory()}
	if p.file {
		o.path = filepath.Join(w.folder, fmt.Sprint(n), "outbox")
	}
	return o
}

// String names the device.
func (d *device) String() string { return fmt.Sprintf("%s/%s", d.plan.user, d.plan.name) }

// host is where the device is now.
func (d *device) host() netip.Addr {
	return deviceHost(d.number, byte(d.moves.Load()))
}

// deviceHost is where a device is after so many moves.
func deviceHost(device, moves byte) netip.Addr { return netip.AddrFrom4([4]byte{10, 1, device, moves}) }

// token returns one that is good by the server's clock: the app has it from a
// service that stands next to the server.
func (w *world) token(u events.User, d events.Device) func(context.Context) (string, error) {
	return func(context.Context) (string, error) {
		return auth.Sign(w.tokenKey, auth.Identity{User: u, Device: d, Expires: w.server.hosts[0].now().Add(w.plan.tokenLife)})
	}
}

// resolve is the client's Resolve: of several nodes each login takes one that is
// drawn.
func (d *device) resolve(context.Context, int) (netip.AddrPort, error) {
	h := oneOf(d.w.draws.next(d.String()+" resolves"), d.w.server.hosts...)
	if d.plan.plain {
		return h.plainAddr(), nil
	}
	return h.sealedAddr(), nil
}

// open begins a life.
func (d *device) open() error {
	d.lives++
	life, err := newLife(d)
	if err == nil {
		d.life = life
	}
	return err
}

// reopen begins another life, after a while.
func (d *device) reopen(ctx context.Context, after time.Duration) error {
	d.close()
	if err := sleep(ctx, after); err != nil {
		return err
	}
	return d.open()
}

func (d *device) close() {
	if d.life != nil {
		d.life.close()
	}
}

// chat lives through all that the plan has for the device.
func (d *device) chat(ctx context.Context) error {
	if err := d.open(); err != nil {
		return err
	}
	for i := range d.plan.chores {
		c := &d.plan.chores[i]
		if err := d.until(ctx, c.at); err != nil {
			return err
		}
		if err := d.do(ctx, c); err != nil {
			return err
		}
	}
	return nil
}

// until waits for a time, in more than one life if need be, and in any case for a
// moment: the device has to come to rest between two chores.
func (d *device) until(ctx context.Context, at time.Duration) error {
	moment := between(d.w.draws.next(d.String()+" rests"), time.Microsecond, 2*time.Millisecond)
	timer := time.NewTimer(max(at-d.w.time(), moment))
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
			return nil
		case <-d.life.over.Done():
			d.w.note("%s is killed, for %v", d, d.life.down)
			if err := d.reopen(ctx, d.life.down); err != nil {
				return err
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (d *device) do(ctx context.Context, c *chore) error {
	switch c.what {
	case send:
		d.w.net.Note(fmt.Sprintf("%s %s", d, c))
		return d.send(ctx, c)
	case markRead:
		return d.markRead(ctx)
	}
	d.w.note("%s %s", d, c)
	switch c.what {
	case restart:
		return d.reopen(ctx, c.down)
	case die:
		d.life.die()
		return d.reopen(ctx, c.down)
	case dieSaving:
		d.life.dieAt(c.save, c.kept, c.down)
	case move:
		d.moves.Add(1)
		d.life.move()
	case roam:
		d.moves.Add(1)
		d.life.move()
		d.life.client.NetworkChanged()
	case cutOff:
		host := d.host()
		for _, h := range d.w.server.hosts {
			d.w.net.Cut(host, h.addr)
			d.w.net.At(c.down, func() { d.w.net.Heal(host, h.addr) })
		}
	}
	return nil
}

// send hands a message to the SDK.
func (d *device) send(ctx context.Context, c *chore) error {
	d.sent++
	body := fmt.Appendf(nil, "%s %d ", d, d.sent)
	body = append(body, bytes.Repeat([]byte("."), max(c.size-len(body), 0))...)
	kept, err := d.hand(ctx, d.reader.Send(c.to, body), func(ctx context.Context) (events.MessageID, error) {
		return d.life.client.Send(ctx, c.to, body)
	}, func(s *client.SavedSend) bool { return bytes.Equal(s.Body, body) })
	switch {
	case errors.Is(err, events.ErrTooLarge) && len(body) > maxBody:
		return nil
	case kept && (len(body) > maxBody || c.to == barred):
		d.w.count(&d.w.outcome.Refusable)
	}
	return err
}

// markRead has the SDK say that the message shown last was read, if that is news.
func (d *device) markRead(ctx context.Context) error {
	last := d.shown.Load()
	if last == nil || last.id.Compare(d.read) <= 0 {
		return nil
	}
	d.w.net.Note(fmt.Sprintf("%s has read up to %s, from %s", d, last.id, last.from))
	d.read = last.id
	kept, err := d.hand(ctx, d.reader.MarkRead(last.from, last.id), func(ctx context.Context) (events.MessageID, error) {
		return d.life.client.MarkRead(ctx, last.from, last.id)
	}, func(s *client.SavedSend) bool { return s.Read == last.id })
	if kept {
		d.w.count(&d.w.outcome.Marks)
	}
	return err
}

// hand has the SDK take something to send. If that fails because the process was killed it
// may have been kept or not: the history is told the truth, by what the device's life has left.
func (d *device) hand(ctx context.Context, s check.Sending, call func(context.Context) (events.MessageID, error), is func(*client.SavedSend) bool) (kept bool, err error) {
	id, err := d.life.unless(ctx, call)
	switch {
	case err == nil:
	case d.life.over.Err() != nil:
		saved, err := d.outbox.look()
		i := slices.IndexFunc(saved.Sends, func(s client.SavedSend) bool { return is(&s) })
		if err != nil || i < 0 {
			return false, err
		}
		id = saved.Sends[i].Message
	case errors.Is(err, client.ErrStore):
		return false, nil
	default:
		return false, err
	}
	s.Kept(id)
	return true, nil
}

// flush waits until everything that was sent is answered.
func (d *device) flush(ctx context.Context) error {
	d.life.spare()
	if d.life.over.Err() != nil {
		if err := d.reopen(ctx, 0); err != nil {
			return err
		}
	}
	if err := d.life.client.Flush(ctx); err != nil {
		return fmt.Errorf("flush: %w", err)
	}
	return nil
}

// projectWithin is how soon what was acknowledged is in all timelines: a look at
// the log without a hint is due every second, and may fail a few times.
const projectWithin = 10 * time.Second

// leasesWithin is how soon the leases of a node that was killed have run out, each of which
// stands for 10 s, and are another's.
const leasesWithin = 20 * time.Second

// projectLate is how much later that is where reads fail, too: each try of a round has many,
// and the next one begins up to 7.5 s after one that failed.
const projectLate = 6 * 7500 * time.Millisecond

// rest gives the projector the time that it may take. The leases of one that was killed as
// the chat ended have to run out first.
func (d *device) rest(ctx context.Context) error {
	within := projectWithin
	if d.w.plan.many {
		within += leasesWithin
	}
	if d.w.plan.unread > 0 {
		within += projectLate
	}
	return sleep(ctx, within)
}

// catchUpWithin is the bound of promise 7: a head read again after 5 minutes, one
// heartbeat, which is up to 2 minutes, and the way of the entries.
const catchUpWithin = 5*time.Minute + 2*time.Minute + time.Minute

// catchUpWithin is later where reads of heads fail: the next heartbeat tries again.
func (p *plan) catchUpWithin() time.Duration {
	if p.unread > 0 {
		return catchUpWithin + 3*2*time.Minute
	}
	return catchUpWithin
}

// catchUp waits until the device has its whole timeline. It does not ask for it.
func (d *device) catchUp(ctx context.Context) error {
	head := d.w.heads[d.plan.user].Load()
	within := d.w.plan.catchUpWithin()
	for begun := d.w.time(); uint64(d.reader.Cursor()) < head; {
		if d.w.time()-begun > within {
			return fmt.Errorf("has entry %d of %d after %v", d.reader.Cursor(), head, within)
		}
		if err := sleep(ctx, time.Second); err != nil {
			return err
		}
	}
	d.reader.Complete()
	return nil
}

// again has a new device read the whole timeline.
func (d *device) again(ctx context.Context) error {
	fresh := &device{
		w: d.w, number: 100 + d.number, outbox: &outbox{memory: client.NewMemory()},
		plan: &devicePlan{user: d.plan.user, name: "new-" + d.plan.name, codec: d.plan.codec, plain: d.plan.plain},
	}
	fresh.reader = d.w.history.Reader(fresh.plan.user, fresh.plan.name)
	if err := fresh.open(); err != nil {
		return err
	}
	defer fresh.close()
	if err := fresh.life.client.Sync(ctx); err != nil {
		return fmt.Errorf("a new device syncs: %w", err)
	}
	fresh.reader.Complete()
	d.w.heads[d.plan.user].Store(uint64(fresh.reader.Cursor()))
	return nil
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
