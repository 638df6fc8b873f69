package edge

import (
	"cmp"
	"container/heap"
	"context"
	"crypto/rand"
	"flag"
	"fmt"
	"log/slog"
	randv2 "math/rand/v2"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"timberline/bus/local"
	"timberline/edge/auth"
	"timberline/events"
	"timberline/ingest"
	"timberline/projections"
	"timberline/store/pebble"
	"timberline/wire"
	"timberline/wire/sealed"
)

// What an hour of comings and goings may leave on the heap, in bytes: maps keep the room
// that they had once, some 250 bytes for each device. A session alone has a kilobyte or
// more, and each device has about three of them in the hour.
const (
	churnLeaves    = 256 << 10
	churnLeavesPer = 400 // for each device
)

// churnDevices is how many come and go. make leaks has 10,000, which takes about a minute
// of a machine with two cores.
var churnDevices = flag.Int("edge.churn", 300, "how many `devices` come and go in an hour of virtual time")

// Sessions log in, send a little, move, fall silent, log out, expire and are
// replaced, for an hour; strangers shake hands and do no more.
func TestNothingLeaksInAnHourOfChurn(t *testing.T) {
	devices := *churnDevices
	goroutines := runtime.NumGoroutine()
	_, least := leftBy(t, 10, time.Minute) // what a server has that nobody uses
	stats, left := leftBy(t, devices, time.Hour)
	for late := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > goroutines; time.Sleep(time.Millisecond) {
		if time.Now().After(late) {
			t.Fatalf("%d goroutines are left behind", runtime.NumGoroutine()-goroutines)
		}
	}
	t.Logf("%d logins, %d sends acknowledged, %d moves, ends %v; %d bytes of heap are left, %d by a server that nobody uses",
		stats.logins, stats.acked, stats.moves, stats.ends, left, least)
	if most := int64(churnLeaves + churnLeavesPer*devices); left-least > most {
		t.Errorf("%d bytes of heap are left behind, want at most %d", left-least, most)
	}
	if stats.logins < devices || stats.acked < devices || stats.moves < devices/20 {
		t.Errorf("%d logins, %d sends and %d moves are too few for %d devices", stats.logins, stats.acked, stats.moves, devices)
	}
	for end, n := range stats.ends {
		if n < devices/20 {
			t.Errorf("end %d came %d times, too rarely for %d devices", end, n, devices)
		}
	}
}

// leftBy returns the bytes of heap that edge and writer hold when all is over.
func leftBy(t *testing.T, devices int, lasts time.Duration) (stats churned, bytes int64) {
	before := heapInUse()
	var w *town
	synctest.Test(t, func(t *testing.T) {
		w = newTown(t)
		stats = w.live(t, devices, lasts)
	})
	bytes = heapInUse() - before
	runtime.KeepAlive(w)
	return stats, bytes
}

// heapInUse returns the bytes of the heap that somebody holds.
func heapInUse() int64 {
	for range 3 { // pools are emptied by the second
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// A town is a whole server, without a process of its own: edge and writer are at hand
// when it is over.
type town struct {
	edge   *Edge
	writer *ingest.Writer
	store  *cutOff
	bus    *local.Bus
	ways   [2]*way // a sealed one and a plain one
}

// A cutOff is a store that can be taken away from all who have it.
type cutOff struct{ *pebble.Store }

func newTown(t *testing.T) *town {
	store, err := pebble.Open("data", pebble.Options{FS: vfs.NewMem()})
	if err != nil {
		t.Fatal(err)
	}
	clock, err := events.NewClock(time.Now, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	w := &town{store: &cutOff{store}, bus: new(local.Bus), ways: [2]*way{newWay(1), newWay(2)}}
	logger := slog.New(slog.DiscardHandler)
	w.writer = ingest.NewWriter(ingest.Config{
		Log: w.store, Journals: w.store, Clock: clock, Store: store.Meta().Store, Tag: store.Tag(), Random: rand.Reader, Logger: logger,
		Appended: w.bus.PublishHint,
		Report:   func(r ingest.Report) { w.edge.Report(r) },
	})
	if err := w.writer.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.edge, err = New(Config{
		Sockets: []Socket{{PacketConn: w.ways[0]}, {PacketConn: w.ways[1], Plain: true}},
		Writer:  w.writer, Bus: w.bus, Clock: clock, Store: store.Meta().Store, Tag: store.Tag(), Random: rand.Reader, Now: time.Now, Logger: logger,
		Settler:   &ingest.Settler{Log: w.store, Journals: w.store, Clock: clock, Logger: logger, Close: w.writer.CloseSession},
		Timelines: projections.NewReader(w.store, w.store.Meta()), Verify: verifyUntil,
		Keys: func() []sealed.ServerKey { return []sealed.ServerKey{testKey} }, Secret: sealed.Secret{1}, HalfOpen: 256,
	})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// verifyUntil takes "user/device/expiry" for a token, the expiry in Unix seconds.
func verifyUntil(token string, now time.Time) (auth.Identity, error) {
	words := strings.Split(token, "/")
	seconds, err := strconv.ParseInt(words[2], 10, 64)
	if err != nil {
		return auth.Identity{}, err
	}
	id := auth.Identity{User: events.User(words[0]), Device: events.Device(words[1]), Expires: time.Unix(seconds, 0)}
	if !id.Expires.After(now) {
		return id, auth.ErrExpired
	}
	return id, nil
}

// live lets devices come and go for so long, waits until the last session is over,
// and looks at what is left before it ends the server.
func (w *town) live(t *testing.T, devices int, lasts time.Duration) churned {
	projector, err := projections.NewProjector(projections.Config{
		Log: w.store, Journals: w.store, Checkpoints: w.store, Items: w.store,
		Meta: w.store.Meta(), Bus: w.bus, Publish: w.bus.PublishPushes, Random: rand.Reader, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	serving, stop := context.WithCancel(t.Context())
	projecting, stopProjecting := context.WithCancel(t.Context())
	var front, back sync.WaitGroup
	front.Go(func() { w.writer.Run(t.Context()) })
	front.Go(func() { w.edge.Run(serving, t.Context()) })
	back.Go(func() { projector.Run(projecting) })

	c := newCrowd(w.ways, devices)
	synctest.Wait()
	goroutines := bubbled()
	c.live(lasts)
	stats := c.churned
	time.Sleep(idleHeartbeats*w.edge.cfg.MaxHeartbeat + time.Second)
	synctest.Wait()
	if after := bubbled(); after.n > goroutines.n || after.n == 0 {
		t.Errorf("%d goroutines, %d before anybody came:\n%s", after.n, goroutines.n, after.stacks)
	}
	w.wantEmpty(t)

	stop()
	front.Wait()
	stopProjecting()
	back.Wait()
	if err := w.store.Close(); err != nil {
		t.Error(err)
	}
	w.store.Store = nil
	return stats
}

// A bubbleful is the goroutines of a bubble. Others, such as one that finalizes what
// another test has left, come and go as they like.
type bubbleful struct {
	n      int
	stacks string
}

func bubbled() bubbleful {
	stacks := make([]byte, 1<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	return bubbleful{strings.Count(string(stacks), "synctest bubble"), string(stacks)}
}

// wantEmpty holds what the edge's loop owns against what it was at the start. The loop
// is at rest.
func (w *town) wantEmpty(t *testing.T) {
	t.Helper()
	tb := w.edge.table
	for name, n := range map[string]int{
		"sessions": len(tb.sessions), "devices": len(tb.devices), "users": len(tb.users), "attempts": len(tb.attempts),
		"journals that are asked about": len(tb.asking), "timers": len(tb.timers), "sessions with something to say": len(tb.dirty),
		"tasks": len(tb.tasks) + len(w.edge.tasks), "bytes of answers to Sync": tb.paced, "sends that wait": tb.load.waiting,
		"jobs": len(w.edge.inbox), "batches that are not free": cap(w.edge.free) - len(w.edge.free) - len(w.ways),
	} {
		if n != 0 {
			t.Errorf("%d %s are left, want none", n, name)
		}
	}
	inSlots := 0
	for _, h := range tb.ring.slots {
		if h != nil {
			inSlots++
		}
	}
	if len(tb.ring.sessions) != inSlots || len(tb.ring.hellos) != inSlots || len(tb.ring.slots) != w.edge.cfg.HalfOpen {
		t.Errorf("%d of %d half-open connections are in slots, %d known by session, %d by HELLO: want the same",
			inSlots, len(tb.ring.slots), len(tb.ring.sessions), len(tb.ring.hellos))
	}
}

// A way is an edge's socket and all that is at its other end. It loses one packet in
// fifty. (package sim/network would keep a trace of them, and a socket's room for each
// device.)
type way struct {
	at     netip.AddrPort
	up     chan wire.Datagram
	down   chan wire.Datagram
	closed chan struct{}
	close  sync.Once
}

// wayRoom bounds what waits at either end. What finds no room is lost.
const wayRoom = 4096

func newWay(n byte) *way {
	return &way{
		at: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 255, 0, n}), 4747),
		up: make(chan wire.Datagram, wayRoom), down: make(chan wire.Datagram, wayRoom), closed: make(chan struct{}),
	}
}

// carry puts a copy of a datagram to the other end.
func carry(to chan<- wire.Datagram, d wire.Datagram) {
	if randv2.N(50) == 0 {
		return
	}
	d.Data = slices.Clone(d.Data)
	select {
	case to <- d:
	default:
	}
}

// ReadBatch implements wire.PacketConn.
func (w *way) ReadBatch(ds []wire.Datagram) (int, error) {
	select {
	case d := <-w.up:
		ds[0].Addr, ds[0].Data = d.Addr, ds[0].Data[:copy(ds[0].Data, d.Data)]
		return 1, nil
	case <-w.closed:
		return 0, net.ErrClosed
	}
}

// WriteBatch implements wire.PacketConn.
func (w *way) WriteBatch(ds []wire.Datagram) error {
	for _, d := range ds {
		carry(w.down, d)
	}
	return nil
}

// LocalAddr implements wire.PacketConn.
func (w *way) LocalAddr() netip.AddrPort { return w.at }

// Close implements wire.PacketConn.
func (w *way) Close() error {
	w.close.Do(func() { close(w.closed) })
	return nil
}

// An ending is how a connection ends.
type ending int

const (
	leaves      ending = iota // says BYE
	fallsSilent               // says nothing any more, with a send on its way or not
	expires                   // its token does
	isReplaced                // by the device's next one, with a send on its way
	neverLogsIn               // after the handshake: a stranger
	endings
)

// churned counts what happened.
type churned struct {
	logins, acked, moves int
	ends                 [endings]int
}

// A crowd is the devices, all in one goroutine.
type crowd struct {
	churned
	ways   [2]*way
	byAddr map[netip.AddrPort]*visitor
	all    []*visitor
	due    appointments
}

func newCrowd(ways [2]*way, devices int) *crowd {
	c := &crowd{ways: ways, byAddr: make(map[netip.AddrPort]*visitor)}
	for i := range devices {
		c.all = append(c.all, &visitor{crowd: c, index: i, user: userOf(i), plain: i%3 > 0})
	}
	return c
}

// userOf returns whose a device is: some have two.
func userOf(device int) events.User { return events.User(fmt.Sprintf("u%d", device*2/3)) }

// live is their life, for so long. Then all are gone without a word.
func (c *crowd) live(lasts time.Duration) {
	until := time.Now().Add(lasts)
	for _, v := range c.all {
		v.meet(time.Now().Add(randv2.N(lasts / 4)))
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for now := time.Now(); now.Before(until); now = time.Now() {
		for len(c.due) > 0 && !c.due[0].at.After(now) {
			a := heap.Pop(&c.due).(appointment)
			if a.at.Equal(a.with.next) {
				a.with.next = time.Time{}
				a.with.act(now)
			}
		}
		timer.Reset(c.due[0].at.Sub(now))
		select {
		case d := <-c.ways[0].down:
			c.take(d)
		case d := <-c.ways[1].down:
			c.take(d)
		case <-timer.C:
		}
	}
}

func (c *crowd) take(d wire.Datagram) {
	if v := c.byAddr[d.Addr]; v != nil {
		v.take(time.Now(), d.Data)
	}
}

// appointments is a heap by time. One that was moved stays, and counts for nothing.
type appointments []appointment

type appointment struct {
	at   time.Time
	with *visitor
}

// Len, Less, Swap, Push and Pop serve container/heap.
func (a appointments) Len() int           { return len(a) }
func (a appointments) Less(i, j int) bool { return a[i].at.Before(a[j].at) }
func (a appointments) Swap(i, j int)      { a[i], a[j] = a[j], a[i] }

// Push adds one.
func (a *appointments) Push(x any) { *a = append(*a, x.(appointment)) }

// Pop takes the last one off.
func (a *appointments) Pop() any {
	last := (*a)[len(*a)-1]
	*a = (*a)[:len(*a)-1]
	return last
}

// A visitor is one device: a client with next to nothing of its own.
type visitor struct {
	crowd *crowd
	index int
	user  events.User
	plain bool
	addrs int // so far
	addr  netip.AddrPort
	phase visit
	next  time.Time // when to act; zero: never
	end   ending
	endAt time.Time

	begun   *sealed.Initiator
	cookie  sealed.Cookie
	channel *sealed.Channel
	login   wire.Login
	tries   int
	open    wire.Accepted

	last, answered events.Number // of its sends
	sendAt, moveAt time.Time
	pingAt         time.Time
	cursor         events.Seq
	old            []wire.OldSession // to be settled by the next login
	settling       bool
}

type visit uint8

const (
	away visit = iota
	greeting
	joining
	inside
)

const (
	visitPing  = time.Minute
	visitRetry = time.Second
)

// meet has the visitor act at a time, no later than before.
func (v *visitor) meet(at time.Time) {
	if v.next.IsZero() || at.Before(v.next) {
		v.next = at
		heap.Push(&v.crowd.due, appointment{at, v})
	}
}

// move gives the visitor another address.
func (v *visitor) move() {
	delete(v.crowd.byAddr, v.addr)
	v.addrs++
	v.addr = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(v.index >> 16), byte(v.index >> 8), byte(v.index)}), uint16(v.addrs))
	v.crowd.byAddr[v.addr] = v
}

func (v *visitor) act(now time.Time) {
	switch v.phase {
	case away:
		v.arrive(now)
	case greeting, joining:
		if v.tries++; v.tries > 20 {
			v.goAway(now)
			return
		}
		v.ask(now)
	case inside:
		v.stay(now)
	}
}

// arrive begins a connection, and decides how it will end.
func (v *visitor) arrive(now time.Time) {
	v.move()
	v.end = ending(randv2.N(int(endings)))
	if v.plain && v.end == neverLogsIn {
		v.end = leaves
	}
	v.tries, v.last, v.answered, v.channel, v.settling = 0, 0, 0, nil, false
	v.endAt = now.Add(time.Minute + randv2.N(20*time.Minute))
	expiry := now.Add(time.Hour)
	if v.end == expires {
		expiry, v.endAt = v.endAt, now.Add(time.Hour)
	}
	v.login = wire.Login{
		Version: wire.Version, Attempt: events.NewMessageID(), Cursor: v.cursor, Store: v.open.Store, Settle: v.old,
		Token: fmt.Sprintf("%s/d%d/%d", v.user, v.index, expiry.Unix()),
	}
	v.phase = joining
	if !v.plain {
		v.phase = greeting
		v.begun, _ = sealed.NewInitiator(testKey.Public, rand.Reader)
	}
	v.ask(now)
}

// ask sends HELLO or LOGIN, once more.
func (v *visitor) ask(now time.Time) {
	v.meet(now.Add(visitRetry))
	if v.phase == greeting {
		v.put(v.begun.Hello(v.cookie))
		return
	}
	v.say(&v.login)
}

func (v *visitor) put(packet []byte) {
	way := v.crowd.ways[0]
	if v.plain {
		way = v.crowd.ways[1]
	}
	carry(way.up, wire.Datagram{Addr: v.addr, Data: packet})
}

func (v *visitor) say(fs ...wire.Frame) {
	if v.plain {
		p := wire.Packet{Session: v.session(), Frames: fs}
		v.put(p.Encode())
		return
	}
	p := wire.NewSealedPacker(wire.Proto)
	for _, f := range fs {
		p.Add(f)
	}
	packet, err := v.channel.Seal(p.Packets()[0])
	if err != nil {
		panic(err)
	}
	v.put(packet)
}

// session returns the one that plain packets belong to.
func (v *visitor) session() (id events.SessionID) {
	if v.phase == inside {
		id = v.open.Session
	}
	return id
}

// take takes in a packet.
func (v *visitor) take(now time.Time, data []byte) {
	var p wire.Packet
	var err error
	switch {
	case v.plain:
		p, err = wire.Decode(data)
	case data[0] == sealed.TypeRetry:
		if r, err := v.begun.Retry(data); err == nil && v.phase == greeting {
			v.cookie = r.Cookie
			v.ask(now)
		}
		return
	case data[0] == sealed.TypeWelcome:
		v.welcome(now, data)
		return
	case data[0] == sealed.TypeReset:
		v.goAway(now) // whoever says so: nobody lies here
		return
	case v.channel == nil:
		return
	default:
		var frames []byte
		if frames, _, err = v.channel.Open(data); err == nil {
			p, err = wire.DecodeSealed(v.channel.Session(), frames)
		}
	}
	if err != nil {
		return // of an earlier connection
	}
	for _, f := range p.Frames {
		v.frame(now, f)
	}
}

func (v *visitor) welcome(now time.Time, data []byte) {
	if v.phase != greeting {
		return
	}
	channel, _, err := v.begun.Finish(data)
	if err != nil {
		return
	}
	if v.end == neverLogsIn {
		v.crowd.ends[v.end]++
		v.goAway(now)
		return
	}
	v.channel, v.phase, v.tries = channel, joining, 0
	v.ask(now)
}

func (v *visitor) frame(now time.Time, f wire.Frame) {
	switch f := f.(type) {
	case *wire.Accepted:
		if v.phase == joining && f.Attempt == v.login.Attempt {
			v.enter(now, f)
		}
	case *wire.Denied:
		v.goAway(now)
	case *wire.Closed:
		if v.end == expires && f.Reason == wire.ReasonExpired {
			v.crowd.ends[v.end]++
		}
		v.goAway(now)
	case *wire.Settled:
		v.old, v.settling = nil, false
	case *wire.Challenge:
		v.say(&wire.Echo{Token: f.Token})
	case *wire.Ack:
		if f.Through > v.answered && f.Through <= v.last {
			v.crowd.acked += int(f.Through - v.answered)
			v.answered = f.Through
		}
		if f.Through == v.answered && f.Offset > 0 {
			v.open.Offset = f.Offset
		}
	case *wire.Push:
		v.entries(f.From, len(f.Events), f.From+events.Seq(len(f.Events))-1)
	case *wire.Page:
		v.entries(f.From, len(f.Events), f.Head)
	case *wire.Pong:
		v.entries(0, 0, f.Head)
	}
}

// entries takes in entries of the timeline, which ends at head at least.
func (v *visitor) entries(first events.Seq, n int, head events.Seq) {
	if v.phase != inside {
		return
	}
	if end := first + events.Seq(n) - 1; n > 0 && first <= v.cursor+1 && end > v.cursor {
		v.cursor = end
		v.say(&wire.Got{Cursor: v.cursor})
	}
	if n == 0 && head > v.cursor {
		v.say(&wire.Sync{ID: 1, Ranges: []wire.Range{{After: v.cursor}}})
	}
}

// enter begins a session.
func (v *visitor) enter(now time.Time, f *wire.Accepted) {
	v.crowd.logins++
	v.phase, v.open, v.settling = inside, *f, len(v.old) > 0
	v.sendAt = now.Add(randv2.N(time.Minute))
	v.moveAt, v.pingAt = time.Time{}, now.Add(visitPing)
	if randv2.N(3) == 0 {
		v.moveAt = now.Add(randv2.N(2 * time.Minute))
	}
	v.stay(now)
}

// stay does what is due in a session.
func (v *visitor) stay(now time.Time) {
	if v.settling {
		v.say(&v.login) // its answer was lost
	}
	switch {
	case !now.Before(v.endAt):
		v.part(now)
		return
	case !v.moveAt.IsZero() && !now.Before(v.moveAt):
		v.crowd.moves++
		v.moveAt, v.pingAt = time.Time{}, now
		v.move()
	}
	if v.answered < v.last {
		v.send(v.last) // once more
	} else if !v.settling && !now.Before(v.sendAt) && v.last < 3 {
		v.sendAt = now.Add(randv2.N(2 * time.Minute))
		v.last++
		v.send(v.last)
	}
	if !now.Before(v.pingAt) {
		v.pingAt = now.Add(visitPing)
		v.say(&wire.Ping{ID: 1, Cursor: v.cursor, Low: v.answered + 1, Next: uint32(visitPing.Milliseconds()), Padding: make([]byte, 32)})
	}
	next := slices.MinFunc([]time.Time{v.endAt, v.pingAt, v.dueAt(now)}, time.Time.Compare)
	v.meet(next)
}

// dueAt returns when something is to be sent, again or anew, or the visitor moves.
func (v *visitor) dueAt(now time.Time) time.Time {
	at := v.endAt
	switch {
	case v.answered < v.last, v.settling:
		at = now.Add(visitRetry)
	case v.last < 3:
		at = v.sendAt
	}
	if !v.moveAt.IsZero() && v.moveAt.Before(at) {
		at = v.moveAt
	}
	return at
}

func (v *visitor) send(n events.Number) {
	v.say(&wire.Send{
		Number: n, Low: v.answered + 1, To: userOf(randv2.N(len(v.crowd.all))), Message: events.NewMessageID(),
		Body: []byte("good morning, and see you at the market"),
	})
}

// part ends the session.
func (v *visitor) part(now time.Time) {
	v.crowd.ends[v.end]++
	switch v.end {
	case leaves:
		v.say(new(wire.Bye))
	case fallsSilent, isReplaced:
		if v.last++; v.settling || v.end == fallsSilent && randv2.N(4) > 0 {
			break
		}
		v.send(v.last)
		v.old = []wire.OldSession{{Session: v.open.Session, Journal: v.open.Journal, Offset: v.open.Offset}}
	}
	v.goAway(now)
	if v.end == isReplaced {
		v.meet(now.Add(time.Millisecond))
	}
}

// goAway forgets the connection.
func (v *visitor) goAway(now time.Time) {
	delete(v.crowd.byAddr, v.addr)
	v.phase, v.next = away, time.Time{}
	v.meet(now.Add(time.Second + randv2.N(cmp.Or(awayFor[v.end], 30*time.Minute))))
}

// awayFor is for how long visitors stay away, at most, where it is not long.
var awayFor = map[ending]time.Duration{neverLogsIn: time.Minute}
