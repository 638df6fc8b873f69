package sim

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"timberline/sim/network"
)

// Shrink looks for less that fails as a seed did: without its faults, its mishaps and
// most of what devices do. It returns the smallest run that it found in so many, which
// may be the seed's own.
func Shrink(t *testing.T, failed *Outcome, seams func() *Seams, runs int) *Outcome {
	s := &shrinking{t: t, most: runs, seams: seams, kinds: failed.kinds(), plan: newPlan(failed.Seed), least: failed}
	for _, cut := range cuts {
		s.try(cut)
	}
	for i := len(s.plan.devices) - 1; i >= 0; i-- {
		s.try(func(p *plan) { p.without(i) })
	}
	for parts := 2; parts <= 64 && s.runs < s.most; parts *= 2 {
		for part := parts - 1; part >= 0; part-- {
			s.try(func(p *plan) { p.dropChores(part, parts) })
		}
	}
	s.least.Shrunk = fmt.Sprintf("shrunk in %d runs to %s", s.runs, s.plan)
	return s.least
}

// A shrinking is a search for a smaller run.
type shrinking struct {
	t     *testing.T
	seams func() *Seams
	kinds []string // of the failure
	plan  *plan    // of the smallest so far
	least *Outcome
	runs  int
	most  int // of them
}

// try runs the plan with a cut, and keeps that if it still fails.
func (s *shrinking) try(cut func(*plan)) {
	p := s.plan.clone()
	if cut(p); s.runs == s.most || p.String() == s.plan.String() || len(p.devices) == 0 {
		return
	}
	s.runs++
	o := run(s.t, s.least.Seed, p, s.seams())
	if slices.ContainsFunc(o.kinds(), func(k string) bool { return slices.Contains(s.kinds, k) }) {
		s.plan, s.least = p, o
	}
}

// kinds says in words how the run failed: there are none if it did not.
func (o *Outcome) kinds() (kinds []string) {
	for k := range o.Report.Broken {
		kinds = append(kinds, string(k))
	}
	switch {
	case o.Err() == nil || len(kinds) > 0:
		return kinds
	case len(o.Errs) > 0:
		return []string{"error"}
	}
	return []string{"unanswered"}
}

// cuts take one thing after the other out of a plan, the most confusing first.
var cuts = []func(*plan){
	func(p *plan) { p.hostile = hostilePlan{} },
	func(p *plan) { p.network = network.Faults{Delay: p.network.Delay} },
	func(p *plan) { p.full = diskFull{} },
	func(p *plan) { p.limits = limits{} },
	func(p *plan) { p.nodes, p.kills, p.stalls, p.clockSets = 1, nil, nil, nil; p.apart() },
	(*plan).apart,
	func(p *plan) { p.mistakes = nil },
	func(p *plan) { p.outages = nil },
	func(p *plan) { p.upkeep = nil },
	func(p *plan) {
		for i := range p.stops {
			p.stops[i].loses = false
		}
	},
	func(p *plan) { p.kills = nil },
	func(p *plan) { p.stalls = nil },
	func(p *plan) { p.clockSets = nil },
	func(p *plan) { p.refused, p.lost, p.late, p.unread, p.saves = 0, 0, 0, 0, 0 },
	func(p *plan) { p.hints, p.pushes = 0, 0 },
	func(p *plan) { p.stops = nil },
	func(p *plan) { p.keep(chore.sends) },
}

// apart has nodes share the store and nothing else.
func (p *plan) apart() {
	p.many, p.lacks, p.handover, p.unconfirmed = false, [maxNodes]roles{}, false, 0
}

func (p *plan) clone() *plan {
	c := *p
	c.stops = slices.Clone(p.stops)
	c.devices = slices.Clone(p.devices)
	for i := range c.devices {
		c.devices[i].chores = slices.Clone(c.devices[i].chores)
	}
	return &c
}

// without drops a device, if there is one of that number, and what others send to its
// user, if that has no other: nobody would read it.
func (p *plan) without(i int) {
	if i >= len(p.devices) {
		return
	}
	user := p.devices[i].user
	p.devices = slices.Delete(p.devices, i, i+1)
	if !slices.ContainsFunc(p.devices, func(d devicePlan) bool { return d.user == user }) {
		p.keep(func(c chore) bool { return c.what != send || c.to != user })
	}
}

// keep drops the chores that good does not want.
func (p *plan) keep(good func(chore) bool) {
	for i := range p.devices {
		d := &p.devices[i]
		d.chores = slices.DeleteFunc(d.chores, func(c chore) bool { return !good(c) })
	}
}

// dropChores drops one of so many parts of the time in which there are chores.
func (p *plan) dropChores(part, parts int) {
	p.keep(func(c chore) bool { return int(c.at*time.Duration(parts)/chatFor) != part })
}

// String says how much is in the plan.
func (p *plan) String() string {
	sends, mishaps := 0, 0
	for _, d := range p.devices {
		for _, c := range d.chores {
			if c.sends() {
				sends++
			} else {
				mishaps++
			}
		}
	}
	return fmt.Sprintf("%d sends and %d mishaps of %d devices, %d nodes, %d stops, %d kills, %d stalls, %d clocks set, %d times taken for dead, %d outages; network %+v; hostile %v, disk full %v, tight limits %v, failing accesses %v, lost on the bus %v",
		sends, mishaps, len(p.devices), max(p.nodes, 1), len(p.stops), len(p.kills), len(p.stalls), len(p.clockSets), len(p.mistakes), len(p.outages), p.network,
		p.hostile.hellos > 0 || len(p.hostile.replays) > 0 || p.hostile.races > 0, p.full.lasts > 0, p.limits.sessions > 0,
		p.refused+p.lost+p.late+p.unread+p.saves > 0, p.hints+p.pushes > 0)
}
