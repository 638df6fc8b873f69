package projections

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"timberline/bus/local"
	"timberline/events"
)

// withRules3 gives the program a third version of the rules: reactions are placed as
// messages were, what was read is not, and messages stand in the timeline of whom they are
// sent to only.
func withRules3(t *testing.T) {
	rules = append(rules, func(raw []byte, mine func(events.User) bool) (placed, bool, bool, error) {
		e, err := events.Raw(raw).Decode()
		if err != nil || e.Kind != events.KindMessage && e.Kind != events.KindReaction {
			return placed{}, false, false, err
		}
		p, ok, odd := between(e.ID, raw, e.Conversation, func(u events.User) bool {
			peer, _ := e.Conversation.Peer(e.Sender)
			return mine(u) && (e.Kind == events.KindReaction || u == peer)
		})
		return p, ok, odd, nil
	})
	t.Cleanup(func() { rules = rules[:3] })
}

// older makes a projector one of a program that has rules 1 only.
func older(p *Projector) *Projector { return of(1, p) }

// of makes a projector one of a program whose newest rules are these.
func of(rules uint32, p *Projector) *Projector {
	p.cfg.rules = rules
	for _, s := range p.shards {
		s.rules = rules
	}
	return p
}

// rulesOf counts the checkpoints of a shard by their rules. These only rise.
func rulesOf(t *testing.T, m *memory, s Shard) map[uint32]int {
	t.Helper()
	count, before := make(map[uint32]int), uint32(1)
	for i, data := range m.checkpoints[s] {
		cp, err := DecodeCheckpoint(s, CheckpointNumber(i+1), data)
		if err != nil {
			t.Fatal(err)
		}
		if cp.Rules < before {
			t.Fatalf("checkpoint %d of shard %d has rules %d, behind %d", i+1, s, cp.Rules, before)
		}
		before = cp.Rules
		count[before]++
	}
	return count
}

// A newer program goes on from what an older one wrote, and that stops there.
func TestEachCheckpointIsAppliedByItsOwnRules(t *testing.T) {
	withRules3(t)
	oneAtATime(t)
	m := newMemory()
	w := &scribe{t: t, m: m, r: rand.New(rand.NewPCG(1, 14))}
	j := w.open()
	old, next, now := older(newProjector(t, m.by(always), new(local.Bus), 2)), of(2, newProjector(t, m.by(always), new(local.Bus), 2)), newProjector(t, m.by(always), new(local.Bus), 2)
	send := func(p *Projector) {
		t.Helper()
		for range 20 {
			w.append(j, w.message(6), w.sent(events.KindReaction, 6), w.sent(events.KindReadUpTo, 6), w.message(6), w.sent(events.KindReaction, 6))
			if err := p.catchUp(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	send(old)
	send(next)
	send(now)
	for s := range Shard(2) {
		if n := rulesOf(t, m, s); n[1] < 10 || n[2] < 10 || n[3] < 10 {
			t.Fatalf("shard %d has so many checkpoints of rules: %v", s, n)
		}
	}
	want := m.replay(t, 2)
	m.wantItems(t, 0, want)

	w.append(j, w.message(6))
	before := fmt.Sprint(m.checkpoints)
	ctx, stop := context.WithTimeout(t.Context(), 10*time.Second) // in which it would go on
	defer stop()
	for _, p := range []*Projector{old, next} {
		if err := p.Run(ctx); !errors.Is(err, ErrRules) || !errors.Is(err, events.ErrFormat) {
			t.Errorf("the program with rules %d ends with %v, want ErrRules", p.cfg.rules, err)
		}
	}
	if err := older(newProjector(t, m.by(always), new(local.Bus), 2)).Run(ctx); !errors.Is(err, ErrRules) {
		t.Errorf("the older program, started again, ends with %v, want ErrRules", err)
	}
	if fmt.Sprint(m.checkpoints) != before {
		t.Error("the older program has appended a checkpoint")
	}
	m.wantItems(t, 0, want)
}

// A hasty program has another one go first, now and then, when it is about to append.
type hasty struct {
	Checkpoints
	first func()
}

func (h hasty) Commit(ctx context.Context, s Shard, n CheckpointNumber, cp []byte, items []Stored) ([]byte, error) {
	h.first()
	return h.Checkpoints.Commit(ctx, s, n, cp, items)
}

// Everybody who goes through the checkpoints applies each by its own rules, whoever is
// stopped where, while a program that has rules 1 only and one that has both work on the same
// shards.
func TestTwoVersionsOfTheRulesLeaveTimelinesWhole(t *testing.T) {
	withRules3(t)
	both, stopped := 0, 0
	for seed := range seeds(150) {
		b := newBustle(t, seed)
		b.others = []events.Kind{events.KindReaction, events.KindReadUpTo}
		all := b.projectors
		b.projectors = nil
		newer := false                     // programs have begun to work
		for i := 0; i < len(all); i += 2 { // two of each shard
			old, now := older(all[i]), all[i+1]
			old.cfg.Checkpoints = hasty{old.cfg.Checkpoints, func() {
				if newer && b.r.IntN(4) == 0 {
					b.round(now)
				}
			}}
			b.projectors = append(b.projectors, old)
		}
		for range 60 {
			b.act()
		}
		newer = true
		for i := 1; i < len(all); i += 2 {
			b.projectors = append(b.projectors, all[i])
		}
		for range 60 {
			b.act()
		}
		s := Shard(b.r.IntN(int(b.shards)))
		if n, err := b.rebuild(s, 1, 0); err != nil || n != b.versions(s).Since {
			t.Fatalf("seed %d: switched at %d, %v; the checkpoints say %+v", seed, n, err, b.versions(s))
		}
		for range 30 {
			b.act()
		}
		b.settle(fmt.Sprintf("seed %d", seed))
		for s := range Shard(b.shards) {
			if n := rulesOf(t, b.m, s); n[1] > 0 && n[3] > 0 {
				both++
			}
		}
		if found, _ := verify(t, b.m, b.shards, false); len(found) > 0 {
			t.Fatalf("seed %d: %v", seed, found)
		}
		want := maps.Clone(b.m.items)
		clear(b.m.items)
		replayAll(t, b.m.by(always), b.shards, true, b.r) // into version 0
		for s := range Shard(b.shards) {
			if v := b.versions(s).Live; v > 0 {
				r := b.to(b.m.by(always), s, v, 0).Replay
				if err := r.Run(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
		}
		for at, items := range want {
			if v := b.versions(ShardOf(at.User.Slot(), b.shards)); v.Live != at.Version {
				continue // it may lack what came since
			}
			if !slices.EqualFunc(items, b.m.items[at], func(x, y Stored) bool { return x.Last == y.Last && bytes.Equal(x.Data, y.Data) }) {
				t.Fatalf("seed %d: %s replayed is not as it was", seed, at)
			}
		}
		stopped += b.stopped
	}
	if int(seeds(150)) > both || int(seeds(150)) > stopped {
		t.Errorf("%d shards have checkpoints of both rules, and %d programs stopped: that proves little", both, stopped)
	}
}

// Whose timeline an event stands in follows from the checkpoint that covers it.
func TestPlacementsFollowTheRulesOfTheCheckpoint(t *testing.T) {
	withRules3(t)
	oneAtATime(t)
	m := newMemory()
	w := &scribe{t: t, m: m, r: rand.New(rand.NewPCG(1, 15))}
	j := w.open()
	var raws [][]byte
	for rules := range uint32(3) {
		p := of(rules+1, newProjector(t, m.by(always), new(local.Bus), 1))
		for _, k := range []events.Kind{events.KindMessage, events.KindReadUpTo, events.KindReaction} {
			e := events.Event{ID: events.ID{1, byte(len(raws))}, Kind: k, Conversation: events.Direct("alice", "bob"), Sender: "alice", Device: "d", Number: 1}
			raws = append(raws, e.Encode())
			w.append(j, raws[len(raws)-1])
		}
		if err := p.catchUp(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for i, want := range []string{"alice 1, bob 1", "", "", "alice 2, bob 2", "alice 3, bob 3", "", "bob 4", "", "alice 4, bob 5"} {
		all, err := Placements(t.Context(), m.by(always), Meta{Shards: 1}, 1, events.Offset(i+1), raws[i])
		var got []string
		for _, p := range all {
			got = append(got, fmt.Sprint(p.Timeline.User, " ", p.Seq))
		}
		slices.Sort(got)
		if err != nil || strings.Join(got, ", ") != want {
			t.Errorf("event %d is at %q, %v, want %q", i+1, got, err, want)
		}
	}
}

// Its memory is used again, for as long as a walk goes on, but not what stood in it.
func TestEmptiedCoverHoldsNoRecord(t *testing.T) {
	m := newMemory()
	w := &scribe{t: t, m: m, r: rand.New(rand.NewPCG(1, 1))}
	j := w.open()
	w.append(j, w.message(30), w.message(30))
	var c cover
	c.empty(rules[newestRules()])
	if err := c.take(record{1, 1, m.records[j][0]}, func(events.User) bool { return true }); err != nil {
		t.Fatal(err)
	}
	ends, _ := known[tail](&c, nil)
	c.gifts(1, ends)
	if len(c.events) != 2 || len(c.entries) != 4 {
		t.Fatalf("%d events give %d entries, want 2 and 4", len(c.events), len(c.entries))
	}
	c.empty(c.place)
	for _, p := range c.events[:2] {
		if p.raw != nil {
			t.Errorf("event %s is held still", p.id)
		}
	}
	for i, e := range c.entries[:4] {
		if e.Event != nil {
			t.Errorf("entry %d is held still", i)
		}
	}
}
