package sim

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"timberline/events"
	"timberline/sim/network"
	"timberline/wire"
)

// The size of a run.
const (
	sends   = 200
	crashes = 2
	chatFor = 30 * time.Second
	// maxNodes share a store.
	maxNodes = 2
	// maxBody is the server's limit: low, so that some sends exceed it.
	maxBody = 4 << 10
)

// A plan is all that a seed has decided beforehand.
type plan struct {
	network     network.Faults
	hints       float64       // the part of hints that the bus loses
	early       bool          // hints come before records are durable, too
	pushes      float64       // the part of pushes that the bus loses
	refused     float64       // the part of appends that fail, and do nothing
	lost        float64       // the part of appends that fail, but land
	late        float64       // the part of appends that fail, and land later
	unread      float64       // the part of reads that fail
	saves       float64       // the part of saves of a device that fail
	sync        time.Duration // the most that a sync takes
	tables      int           // from how many bytes on items of a rebuild are put as a table; 0: as on a server
	tokenLife   time.Duration
	hostile     hostilePlan
	limits      limits          // of a node
	nodes       int             // of the server; 0: one
	many        bool            // they share work as many machines do: by leases, with relays
	handover    bool            // a node that stops sends its clients to the other
	lacks       [maxNodes]roles // what nodes are not
	unconfirmed float64         // the part of what relays publish that the bus does not confirm
	clocks      []time.Duration // how far off their clocks are at first
	stops       []stop
	full        diskFull
	clockSets   []clockSet
	kills       []kill
	stalls      []stall
	mistakes    []mistake
	outages     []outage
	upkeep      []upkeep
	devices     []devicePlan
}

// A stop is one end of the server.
type stop struct {
	at     time.Duration
	crash  bool                    // false: a clean stop
	inSync bool                    // crash in the middle of the first sync from then on
	down   time.Duration           // until it starts again
	loses  bool                    // the disk is lost, and a copy takes its place
	clocks [maxNodes]time.Duration // how far off its nodes' clocks are then
}

// A kill is the end of one node, while others go on.
type kill struct {
	at   time.Duration
	host int
	down time.Duration // until the next one starts there
}

// A diskFull is a while in which the disk takes no more data.
type diskFull struct{ at, lasts time.Duration }

// A clockSet is somebody setting the clock of a node that runs.
type clockSet struct {
	at   time.Duration
	host int
	to   time.Duration // how far off it is then
}

// An outage is a while in which the store answers nobody.
type outage struct{ at, lasts time.Duration }

// A mistake is somebody taking all nodes for dead that run, and ending their journals.
type mistake struct{ at time.Duration }

// A stall has a part of a node stand still, while others go on.
type stall struct {
	at    time.Duration
	host  int
	what  part
	lasts time.Duration
}

// A devicePlan is what a device is and does.
type devicePlan struct {
	user   events.User
	name   events.Device
	codec  wire.Codec
	plain  bool          // speaks plain mode
	file   bool          // keeps its outbox in a file
	clock  time.Duration // how far off its clock is
	chores []chore       // in the order of their times
}

// A chore is one thing that happens on a device, or to it.
type chore struct {
	at   time.Duration
	what what
	to   events.User   // send
	size int           // send: bytes of the body
	down time.Duration // how long it takes
	save int           // dieSaving: at which save from now
	kept bool          // dieSaving: whether that save survives
}

type what uint8

const (
	send      what = iota
	markRead       // the device says what it has read
	restart        // the app is closed, and opened again
	die            // the process is killed, and started again
	dieSaving      // the same, in the middle of a save
	move           // the device gets another address, and does not notice
	roam           // the device gets another address, and the app says so
	cutOff         // the network is gone for a while
)

// who are the devices. One user has two devices that read and send at a time.
var who = []devicePlan{
	{user: "ann", name: "phone", codec: wire.Proto},
	{user: "ann", name: "laptop", codec: wire.JSON},
	{user: "ben", name: "phone", codec: wire.JSON},
	{user: "cat", name: "tablet", codec: wire.Proto},
	{user: "dan", name: "phone", codec: wire.JSON},
}

var users = []events.User{"ann", "ben", "cat", "dan"}

// barred is a user to whom nobody may write.
const barred events.User = "eve"

// newPlan draws the plan of a seed.
func newPlan(seed uint64) *plan {
	r := network.Source(seed, "plan", 0)
	p := &plan{
		network: network.Faults{
			Loss:      r.Float64() * 0.2,
			Duplicate: r.Float64() * 0.1,
			Reorder:   r.Float64() * 0.2,
			Delay:     between(r, time.Millisecond, 40*time.Millisecond),
			Jitter:    between(r, time.Millisecond, 60*time.Millisecond),
		},
		hints:     oneOf(r, 0, 0.1, 1),
		early:     chance(r, 0.5),
		pushes:    oneOf(r, 0, 0.1, 1),
		refused:   oneOf(r, 0, 0.05),
		lost:      oneOf(r, 0, 0.05),
		late:      oneOf(r, 0, 0.05),
		saves:     oneOf(r, 0, 0.02),
		sync:      oneOf(r, time.Millisecond, 5*time.Millisecond, 50*time.Millisecond),
		tokenLife: 24 * time.Hour,
		stops:     newStops(r),
	}
	p.hostile, p.limits.halfOpen = newHostilePlan(r), oneOf(r, 8, 4096)
	if chance(r, 0.3) { // tokens end while sessions last; clocks that jump would end all of them
		p.tokenLife = 20 * time.Second
		for i := range p.stops {
			p.stops[i].clocks = [maxNodes]time.Duration{}
		}
	}
	for _, d := range who {
		d.clock = between(r, -time.Hour, time.Hour)
		d.plain = chance(r, 0.2)
		d.file = chance(network.Source(seed, "outbox of "+string(d.user+"/")+string(d.name), 0), 0.8)
		p.devices = append(p.devices, d)
	}
	p.devices[r.IntN(2)+1].plain = false // one at least is sealed, with JSON
	for range sends {
		p.send(r)
	}
	for i := range p.devices {
		p.devices[i].mishaps(r)
	}
	p.markRead(network.Source(seed, "what was read", 0))
	p.share(network.Source(seed, "nodes", 0))
	p.setClocks(network.Source(seed, "clocks", 0))
	p.mistake(network.Source(seed, "mistakes", 0))
	p.outage(network.Source(seed, "outages", 0))
	p.keepUp(network.Source(seed, "upkeep", 0))
	p.tables = oneOf(network.Source(seed, "tables", 0), 0, 1, 400)
	p.unread = oneOf(network.Source(seed, "reads", 0), 0, 0, 0.05)
	if r := network.Source(seed, "limits", 0); chance(r, 0.2) {
		p.limits = tight(r)
		p.flock(r)
	}
	if r := network.Source(seed, "barred", 0); chance(r, 0.5) {
		p.bar(r)
	}
	if r := network.Source(seed, "disk", 0); chance(r, 0.15) {
		p.full = diskFull{at: between(r, 0, chatFor), lasts: between(r, 10*time.Millisecond, oneOf(r, time.Second, 10*time.Second))}
	}
	for _, d := range p.devices {
		slices.SortStableFunc(d.chores, func(a, b chore) int { return int(a.at - b.at) })
	}
	return p
}

// markRead has devices say what they have read, now and then.
func (p *plan) markRead(r *rand.Rand) {
	for i := range p.devices {
		d := &p.devices[i]
		for range r.IntN(8) {
			d.chores = append(d.chores, chore{what: markRead, at: between(r, 0, chatFor)})
		}
	}
}

// share has two nodes share the store in most seeds, with clocks that differ.
func (p *plan) share(r *rand.Rand) {
	p.nodes = 1
	if !chance(r, 0.6) {
		return
	}
	p.nodes = maxNodes
	skew := oneOf(r, time.Second, 3*time.Minute, 2*time.Hour)
	if p.tokenLife < time.Hour {
		skew = time.Second
	}
	p.clocks = []time.Duration{0, between(r, -skew, skew)}
	for i := range p.stops {
		p.stops[i].clocks[1] = p.stops[i].clocks[0] + between(r, -skew, skew)
	}
	for range r.IntN(4) {
		p.kills = append(p.kills, kill{
			at: between(r, time.Second, chatFor), host: r.IntN(maxNodes),
			down: between(r, 10*time.Millisecond, oneOf(r, 100*time.Millisecond, 5*time.Second)),
		})
	}
	for range r.IntN(8) {
		s := stall{
			at: between(r, 0, chatFor), host: r.IntN(maxNodes), what: part(r.IntN(int(parts) + 1)),
			lasts: between(r, time.Millisecond, oneOf(r, 100*time.Millisecond, time.Second, 10*time.Second)),
		}
		p.stalls = append(p.stalls, s)
		if s.what != projector && chance(r, 0.7) {
			p.devices[r.IntN(len(p.devices))].leave(r, s.at)
		}
	}
	p.handover = chance(r, 0.5)
	if p.many = chance(r, 0.6); p.many {
		p.unconfirmed = oneOf(r, 0, 0.1)
		one := &p.lacks[r.IntN(maxNodes)]
		one.projector, one.relay = chance(r, 0.5), chance(r, 0.5)
	}
}

// roles are what a node may be besides an edge. Each is all of it unless it lacks some.
type roles struct{ projector, relay bool }

// setClocks has clocks set, unless that would end all sessions.
func (p *plan) setClocks(r *rand.Rand) {
	if p.tokenLife < time.Hour {
		return
	}
	for range r.IntN(4) {
		most := oneOf(r, time.Second, time.Minute, 2*time.Hour)
		p.clockSets = append(p.clockSets, clockSet{at: between(r, 0, chatFor), host: r.IntN(p.nodes), to: between(r, -most, most)})
	}
}

// mistake has nodes taken for dead, in some seeds.
func (p *plan) mistake(r *rand.Rand) {
	if !chance(r, 0.3) {
		return
	}
	for range 1 + r.IntN(3) {
		p.mistakes = append(p.mistakes, mistake{at: between(r, 0, chatFor)})
	}
}

// outage has the store not answer for a while, in some seeds.
func (p *plan) outage(r *rand.Rand) {
	if !chance(r, 0.2) {
		return
	}
	for range 1 + r.IntN(2) {
		p.outages = append(p.outages, outage{at: between(r, 0, chatFor), lasts: between(r, 10*time.Millisecond, oneOf(r, 500*time.Millisecond, 5*time.Second))})
	}
}

// bar makes some sends such that the server refuses them.
func (p *plan) bar(r *rand.Rand) {
	for _, d := range p.devices {
		for i := range d.chores {
			if c := &d.chores[i]; c.what == send && chance(r, 0.1) {
				c.to = barred
			}
		}
	}
}

// flock has all devices send much at a time, a few times.
func (p *plan) flock(r *rand.Rand) {
	for range 3 {
		at := between(r, 0, chatFor)
		for i := range p.devices {
			for range 15 {
				p.devices[i].chores = append(p.devices[i].chores, chore{
					what: send, at: at + between(r, 0, 500*time.Millisecond), to: oneOf(r, users...), size: 100 + r.IntN(500),
				})
			}
		}
	}
}

// leave has a device send something while a node stalls, and be killed before it can
// have an answer. If it comes to the other node, its old session is closed there.
func (d *devicePlan) leave(r *rand.Rand, at time.Duration) {
	for range 1 + r.IntN(4) {
		d.chores = append(d.chores, chore{what: send, at: at + between(r, 0, 300*time.Millisecond), to: oneOf(r, users...), size: r.IntN(100)})
	}
	d.chores = append(d.chores, chore{
		what: die, at: at + between(r, 300*time.Millisecond, time.Second), down: between(r, 10*time.Millisecond, 100*time.Millisecond),
	})
}

func oneOf[T any](r *rand.Rand, list ...T) T { return list[r.IntN(len(list))] }

// newStops draws the crashes, and sometimes a clean stop.
func newStops(r *rand.Rand) []stop {
	n := crashes + r.IntN(2)
	clean := r.IntN(n)
	var stops []stop
	for i := range n {
		part := chatFor / time.Duration(n)
		stops = append(stops, stop{
			at:     part*time.Duration(i) + between(r, part/10, part*9/10),
			crash:  n == crashes || i != clean,
			inSync: chance(r, 0.7),
			down:   between(r, 10*time.Millisecond, 3*time.Second),
			clocks: [maxNodes]time.Duration{between(r, -2*time.Hour, 2*time.Hour)},
		})
	}
	return stops
}

// send gives some device something to send.
func (p *plan) send(r *rand.Rand) {
	d := &p.devices[r.IntN(len(p.devices))]
	c := chore{what: send, at: between(r, 0, chatFor), to: oneOf(r, users...), size: r.IntN(100)}
	if last := len(d.chores) - 1; last >= 0 && chance(r, 0.4) {
		c.at = d.chores[last].at + between(r, 0, time.Millisecond) // several in a row
	}
	if chance(r, 0.05) {
		c.size = r.IntN(maxBody + maxBody/10) // fragments; some are too large
	}
	d.chores = append(d.chores, c)
}

// mishaps draws what happens to a device.
func (d *devicePlan) mishaps(r *rand.Rand) {
	var last time.Duration
	for range 2 + r.IntN(4) {
		c := chore{
			at:   between(r, time.Second, chatFor),
			what: oneOf(r, restart, die, die, dieSaving, dieSaving, move, move, roam, cutOff),
			down: between(r, 10*time.Millisecond, oneOf(r, 50*time.Millisecond, 6*time.Second)),
			save: r.IntN(6),
			kept: chance(r, 0.5),
		}
		if last > 0 && chance(r, 0.3) {
			c.at = last + between(r, 0, 500*time.Millisecond) // what it left on the way meets the next life
		}
		last = c.at
		d.chores = append(d.chores, c)
	}
}

// sends reports whether the device sends something.
func (c chore) sends() bool { return c.what == send || c.what == markRead }

// String says what a device goes through.
func (c chore) String() string {
	switch c.what {
	case send:
		return fmt.Sprintf("sends %d bytes to %s", c.size, c.to)
	case markRead:
		return "says what it has read"
	case restart:
		return fmt.Sprintf("is closed for %v", c.down)
	case die:
		return fmt.Sprintf("is killed, for %v", c.down)
	case dieSaving:
		return fmt.Sprintf("will be killed in save %d from now, for %v", c.save+1, c.down)
	case move:
		return "gets another address"
	case roam:
		return "gets another address, and says so"
	}
	return fmt.Sprintf("is cut off for %v", c.down)
}
