package projections

import (
	"context"
	"errors"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"timberline/bus/local"
	"timberline/events"
)

// trims returns what trims timelines and journals of a bustle now and then.
func (b *bustle) trims(r *rand.Rand, journals *int) func() {
	trimming := false
	trim := &Trim{Store: b.m.by(always), Meta: Meta{Shards: b.shards}}
	return func() {
		if trimming || r.IntN(40) > 0 {
			return
		}
		trimming = true
		defer func() { trimming = false }()
		trim.Keep = uint64(1 + r.IntN(5))
		_, err := trim.Run(b.t.Context())
		if err == nil && r.IntN(2) == 0 {
			var gone []uint64
			gone, err = trim.TrimJournals(b.t.Context())
			*journals += len(gone)
		}
		if err != nil {
			b.t.Fatal(err)
		}
	}
}

// A rebuild that is interrupted, or in the middle of which journals are trimmed, comes to its
// end by itself: what nobody has any more it leaves out.
func TestRebuildGoesOnWhileTimelinesAndJournalsAreTrimmed(t *testing.T) {
	gone, interrupted := 0, 0
	for seed := range seeds(300) {
		b := newBustle(t, seed)
		r := rand.New(rand.NewPCG(seed, 14))
		trim := b.trims(r, &gone)
		for range 200 {
			b.act()
		}
		s := b.m.by(func(string) (bool, error) {
			b.actSometimes()
			trim()
			if r.IntN(60) == 0 {
				return r.IntN(2) == 0, errThrottled
			}
			return true, nil
		})
		shard := Shard(r.IntN(int(b.shards)))
		n := CheckpointNumber(1)
		for into := range Version(2) {
			into := 1 - into // there, and back
			for {
				rebuild := b.to(s, shard, into, max(n, 2)-2)
				rebuild.maxTails, rebuild.PutBytes, rebuild.KeepEvery = 1+r.IntN(8), 1+r.IntN(1000), 1
				at, err := rebuild.Run(t.Context())
				if err == nil {
					n = at
					break
				}
				if !errors.Is(err, errThrottled) {
					t.Fatalf("seed %d: %v", seed, err)
				}
				interrupted++
			}
			b.complete()
			if all, p := verify(t, b.m, b.shards, false); len(all) > 0 {
				t.Fatalf("seed %d, version %d: %v, %+v", seed, into, all, p)
			}
			for _, u := range b.users() {
				b.look(u)
			}
		}
	}
	if gone < int(seeds(300)) || interrupted < int(seeds(300)) {
		t.Errorf("%d journals were trimmed, rebuilds interrupted %d times: that proves little", gone, interrupted)
	}
}

var errThrottled = errors.New("throttled")

// users returns those who write to each other.
func (b *bustle) users() []events.User { return []events.User{"u0", "u1", "u2", "u3", "u4", "u5"} }

// What is trimmed under a verification is no finding.
func TestVerificationBesideTrimsFindsNothing(t *testing.T) {
	gone := 0
	for seed := range seeds(300) {
		b := newBustle(t, seed)
		r := rand.New(rand.NewPCG(seed, 15))
		trim := b.trims(r, &gone)
		for range 200 {
			b.act()
		}
		b.complete()
		v := Verification{Store: b.m.by(func(string) (bool, error) {
			b.actSometimes()
			trim()
			return true, nil
		}), Meta: Meta{Shards: b.shards}, Found: func(f Finding) { t.Errorf("seed %d: %+v", seed, f) }}
		if _, err := v.Run(t.Context()); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
	if gone < int(seeds(300)) {
		t.Errorf("%d journals were trimmed: that proves little", gone)
	}
}

// Who trims journals every so often does not read the whole log each time.
func TestTrimmingJournalsReadsOnlyWhatIsRemoved(t *testing.T) {
	b := newBustle(t, 3)
	for range 3000 {
		b.act()
	}
	b.complete()
	records := func() (n int) {
		for j := range b.m.records {
			n += len(b.m.records[j])
		}
		return n
	}
	reads := 0
	s := b.m.by(func(what string) (bool, error) {
		if what == "read log" {
			reads++
		}
		return true, nil
	})
	all := records()
	if gone, err := (&Trim{Store: s, Meta: Meta{Shards: b.shards}}).TrimJournals(t.Context()); err != nil || len(gone) > 0 {
		t.Fatalf("journals %v are gone, %v", gone, err)
	}
	if most := int(b.shards) * len(b.m.rows); reads > most || all < 4*most {
		t.Errorf("%d reads where nothing is to be removed, of %d records in %d journals", reads, all, len(b.m.rows))
	}
}

// A growing is a view that has one checkpoint more whenever checkpoints are read.
type growing struct {
	*view
	grow func()
}

func (g growing) ReadCheckpoints(ctx context.Context, s Shard, from CheckpointNumber, size int) ([][]byte, error) {
	g.grow()
	return g.view.ReadCheckpoints(ctx, s, from, size)
}

// Who trims journals is through with the checkpoints that there were, however slowly he goes.
func TestTrimmingJournalsEndsThoughCheckpointsComeAsFast(t *testing.T) {
	b := newBustle(t, 3)
	b.shards = 1
	projector := newProjector(t, b.m.by(always), new(local.Bus), b.shards)
	grown := 0
	s := growing{b.m.by(always), func() {
		if grown++; grown == 1000 {
			t.Fatal("a thousand checkpoints, and no end")
		}
		for range 3 { // as many as are read at a time
			b.append(b.journals[0], b.message(1))
			if err := projector.catchUp(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}}
	s.grow()
	if _, err := (&Trim{Store: s, Meta: Meta{Shards: 1}, Keep: 1}).TrimJournals(t.Context()); err != nil {
		t.Error(err)
	}
}

// One user's timeline is written again in its place, also while others, and it, are trimmed.
func TestUserIsRebuiltInPlaceWhileTimelinesAndJournalsAreTrimmed(t *testing.T) {
	gone := 0
	for seed := range seeds(300) {
		b := newBustle(t, seed)
		r := rand.New(rand.NewPCG(seed, 17))
		trim := b.trims(r, &gone)
		for range 250 {
			b.act()
		}
		b.complete()
		for _, u := range b.users() {
			shard := ShardOf(u.Slot(), b.shards)
			replay := Replay{Meta: Meta{Shards: b.shards}, Shard: shard, Version: b.versions(shard).Live, User: u, Store: b.m.by(func(string) (bool, error) {
				b.actSometimes()
				trim()
				return true, nil
			})}
			b.m.over = true
			if err := replay.Run(t.Context()); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			b.m.over = false
		}
		b.complete()
		if all, p := verify(t, b.m, b.shards, false); len(all) > 0 {
			t.Fatalf("seed %d: %v, %+v", seed, all, p)
		}
	}
	if gone < int(seeds(300)) {
		t.Errorf("%d journals were trimmed: that proves little", gone)
	}
}

func TestTrimKeepsToItsRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := used(t, 6, 400)
		items := 0
		for _, all := range b.m.items {
			items += len(all)
		}
		trim := &Trim{Store: b.m.by(always), Meta: Meta{Shards: b.shards}, Keep: 7, Rate: 100}
		began := time.Now()
		if _, err := trim.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		left := 0
		for _, all := range b.m.items {
			left += len(all)
		}
		want := time.Duration(items+deleteCosts*(items-left)) * time.Second / 100
		if took := time.Since(began); items-left < 50 || took > want || took < want-leastPause {
			t.Errorf("%d of %d items were trimmed in %v, want %v", items-left, items, took, want)
		}
		ctx, stop := context.WithCancel(t.Context())
		stop()
		trim.Rate = 0
		if _, err := trim.Run(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("it goes on though it is to end: %v", err)
		}
	})
}

func TestPaceMakesUpForLittleThatWasLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPace(1000)
		did := func(n int) {
			for range n {
				if err := p.did(t.Context(), 1); err != nil {
					t.Fatal(err)
				}
			}
		}
		did(100)
		time.Sleep(time.Minute) // the store is away
		began := time.Now()
		did(5000)
		if took := time.Since(began); took < 4900*time.Millisecond || took > 5000*time.Millisecond {
			t.Errorf("behind a minute of nothing, 5,000 at 1,000 a second took %v", took)
		}
	})
}

func TestPaceRestsAfterASpell(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, c := range []struct{ rate, spell, rest int }{
			{rate: 1000, spell: 99, rest: 0},
			{rate: 1000, spell: 100, rest: 50},
			{rate: 0, spell: 1000, rest: 0},
		} {
			p := newPace(float64(c.rate))
			time.Sleep(time.Duration(c.spell) * time.Microsecond) // it works
			began := time.Now()
			if err := errors.Join(p.rest(t.Context()), p.rest(t.Context())); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(began); took != time.Duration(c.rest)*time.Microsecond {
				t.Errorf("at a rate of %d, after %d µs of work, it rests for %v, want %d µs", c.rate, c.spell, took, c.rest)
			}
		}
	})
}

// A rate at which the work takes longer than a time can say is none at all otherwise.
func TestPaceHoldsToTheLowestRates(t *testing.T) {
	for _, rate := range []float64{1e-6, 5e-324} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
			defer cancel()
			if err := newPace(rate).did(ctx, 10_000); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("10,000 at %v a second: %v within an hour", rate, err)
			}
		})
	}
}

// What a rebuild has made of a timeline, and has not put yet, it knows also behind a trim.
func TestRebuildKnowsWhatIsOnItsWayBehindATrim(t *testing.T) {
	b := newBustle(t, 1)
	f := filler{Replay: &Replay{Store: b.m.by(always), Version: 1}, tails: make(map[events.User]*tail)}
	for _, made := range []tail{{last: 7, checkpoint: 3}, {last: 9, checkpoint: 4}, {last: 11, checkpoint: 5}} {
		f.empty = made.last == 9 // whether or not something stood there before
		f.tails["u0"] = &made
		f.trimmed()
		if got, err := f.tailOf(t.Context(), "u0"); err != nil || got != made || len(f.tails) > 0 {
			t.Errorf("it ends at %+v, %v; want %+v. %d others are known, want that where they begin is read anew", got, err, made, len(f.tails))
		}
	}
}
