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
	// maxBody is the server's limit: low, so that some sends exceed it.
	maxBody = 4 << 10
)

// A plan is all that a seed has decided beforehand.
type plan struct {
	network   network.Faults
	hints     float64       // the part of hints that the bus loses
	pushes    float64       // the part of pushes that the bus loses
	refused   float64       // the part of appends that fail, and do nothing
	lost      float64       // the part of appends that fail, but land
	late      float64       // the part of appends that fail, and land later
	saves     float64       // the part of saves of a device that fail
	sync      time.Duration // the most that a sync takes
	tokenLife time.Duration
	hostile   hostilePlan
	halfOpen  int // connections of the server that nobody has logged in on
	stops     []stop
	devices   []devicePlan
}

// A stop is one end of the server.
type stop struct {
	at     time.Duration
	crash  bool          // false: a clean stop
	inSync bool          // crash in the middle of the first sync from then on
	down   time.Duration // until it starts again
	clock  time.Duration // how far off its clock is then
}

// A devicePlan is what a device is and does.
type devicePlan struct {
	user   events.User
	name   events.Device
	codec  wire.Codec
	plain  bool          // speaks plain mode
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
		pushes:    oneOf(r, 0, 0.1, 1),
		refused:   oneOf(r, 0, 0.05),
		lost:      oneOf(r, 0, 0.05),
		late:      oneOf(r, 0, 0.05),
		saves:     oneOf(r, 0, 0.02),
		sync:      oneOf(r, time.Millisecond, 5*time.Millisecond, 50*time.Millisecond),
		tokenLife: 24 * time.Hour,
		stops:     newStops(r),
	}
	p.hostile, p.halfOpen = newHostilePlan(r), oneOf(r, 8, 4096)
	if chance(r, 0.3) { // tokens end while sessions last; clocks that jump would end all of them
		p.tokenLife = 20 * time.Second
		for i := range p.stops {
			p.stops[i].clock = 0
		}
	}
	for _, d := range who {
		d.clock = between(r, -time.Hour, time.Hour)
		d.plain = chance(r, 0.2)
		p.devices = append(p.devices, d)
	}
	p.devices[r.IntN(2)+1].plain = false // one at least is sealed, with JSON
	for range sends {
		p.send(r)
	}
	for i := range p.devices {
		d := &p.devices[i]
		d.mishaps(r)
		slices.SortFunc(d.chores, func(a, b chore) int { return int(a.at - b.at) })
	}
	return p
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
			clock:  between(r, -2*time.Hour, 2*time.Hour),
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

// String says what a device goes through.
func (c chore) String() string {
	switch c.what {
	case send:
		return fmt.Sprintf("sends %d bytes to %s", c.size, c.to)
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
