package projections

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"timberline/bus/local"
	"timberline/events"
)

// JournalEnds implements Upkeep.
func (m *memory) JournalEnds(context.Context) (map[uint64]events.Offset, error) {
	ends := make(map[uint64]events.Offset)
	for j, recs := range m.records {
		if n, ok := j.Number(); ok && len(recs) > 0 && recs[0] != nil {
			ends[n] = events.Offset(len(recs))
		}
	}
	return ends, nil
}

// write fills the memory: journals that begin and end, and checkpoints of all shards.
func write(t *testing.T, m *memory, r *rand.Rand, shards uint32) *scribe {
	t.Helper()
	w := &scribe{t: t, m: m, r: r}
	journals := []events.Journal{w.open(), w.open()}
	p := newProjector(t, m.by(always), new(local.Bus), shards)
	for range 40 {
		i := r.IntN(len(journals))
		switch r.IntN(8) {
		case 0:
			w.append(journals[i], w.other(events.KindJournalEnded))
			journals[i] = w.open()
		case 1:
			w.append(journals[i], w.other(events.KindSessionClosed))
		default:
			for range 1 + r.IntN(9) {
				w.append(journals[i], w.message(6), w.message(6))
			}
		}
		if r.IntN(4) == 0 {
			continue
		}
		if err := p.catchUp(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

// replayAll replays all shards, each until it has come through, and returns how often
// one did not.
func replayAll(t *testing.T, v *view, shards uint32, empty bool, r *rand.Rand) (failed int) {
	t.Helper()
	for s := range Shard(shards) {
		replay := Replay{Store: v, Meta: Meta{Shards: shards}, Shard: s, Empty: empty}
		replay.maxTails, replay.PutBytes = 1+r.IntN(5), 1+r.IntN(1000)
		var put uint64
		replay.Told = func(p ReplayProgress) { put = p.Items }
		for err := replay.Run(t.Context()); err != nil; err = replay.Run(t.Context()) {
			if events.Final(err) {
				t.Fatal(err)
			}
			failed++
			replay.Empty = false
		}
		if have := v.shardItems(s, shards); empty && failed == 0 && int(put) != have {
			t.Errorf("%d items put, shard %d has %d", put, s, have)
		}
	}
	return failed
}

// wantItems holds the timelines against others. (cmp.Diff takes long to find nothing.)
func (m *memory) wantItems(t *testing.T, seed uint64, want map[Timeline][]Stored) {
	t.Helper()
	if !reflect.DeepEqual(want, m.items) {
		t.Fatalf("seed %d: (-want +got)\n%s", seed, cmp.Diff(want, m.items))
	}
}

func (m *memory) shardItems(s Shard, shards uint32) (n int) {
	for u, items := range m.items {
		if ShardOf(u.User.Slot(), shards) == s {
			n += len(items)
		}
	}
	return n
}

func TestReplayPutsTheSameItems(t *testing.T) {
	for seed := range seeds(100) {
		r := rand.New(rand.NewPCG(seed, 5))
		m := newMemory()
		shards := uint32(1 + r.IntN(3))
		write(t, m, r, shards)
		before := maps.Clone(m.items)
		clear(m.items)
		replayAll(t, m.by(always), shards, true, r)
		m.wantItems(t, seed, before)
		replayAll(t, m.by(always), shards, false, r) // and once more: nothing changes
		m.wantItems(t, seed, before)
	}
}

// Whatever fails, and lands in spite of it: replays that go on where one was interrupted
// come out exact.
func TestReplayGoesOnWhereItWasInterrupted(t *testing.T) {
	oneAtATime(t)
	failures := 0
	for seed := range seeds(100) {
		r := rand.New(rand.NewPCG(seed, 6))
		m := newMemory()
		shards := uint32(1 + r.IntN(3))
		write(t, m, r, shards)
		before := maps.Clone(m.items)
		clear(m.items)
		faults := rand.New(rand.NewPCG(seed, 7))
		failures += replayAll(t, m.by(func(string) (bool, error) {
			if faults.IntN(60) > 0 {
				return true, nil
			}
			return faults.IntN(2) == 0, errors.New("throttled")
		}), shards, true, r)
		m.wantItems(t, seed, before)
	}
	if failures < int(seeds(100)) {
		t.Errorf("%d replays were interrupted: that proves little", failures)
	}
}

// Each table is restored to a moment of its own: the log ends somewhere before what the
// checkpoints cover. What is left leads to timelines that are exact, now and later.
func TestCheckpointsThatCoverMoreThanTheLogAreFound(t *testing.T) {
	cut, whole := 0, 0
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 8))
		m := newMemory()
		shards := uint32(1 + r.IntN(3))
		w := write(t, m, r, shards)
		if r.IntN(10) > 0 { // else the log is the newest
			for _, j := range slices.Sorted(maps.Keys(m.records)) {
				if recs := m.records[j]; r.IntN(3) > 0 {
					m.records[j] = recs[:len(recs)-r.IntN(1+len(recs)/3)]
				}
			}
		}
		ends, _ := m.JournalEnds(t.Context())
		for s := range Shard(shards) {
			all := m.checkpoints[s]
			n, err := Covered(t.Context(), m.by(always), s, ends)
			if err != nil {
				t.Fatal(err)
			}
			m.checkpoints[s] = all[:n]
			if int(n) == len(all) {
				whole++
				continue
			}
			cut++
			next, err := DecodeCheckpoint(s, n+1, all[n])
			if err != nil {
				t.Fatal(err)
			}
			if !slices.ContainsFunc(next.Moved, func(p Position) bool { return p.Offset > ends[p.Journal] }) {
				t.Errorf("seed %d: checkpoint %d of shard %d covers what the log has", seed, n+1, s)
			}
		}
		clear(m.items)
		replayAll(t, m.by(always), shards, true, r)
		m.wantItems(t, seed, m.replay(t, shards))
		w.append(w.open(), w.message(6)) // life goes on
		if err := newProjector(t, m.by(always), new(local.Bus), shards).catchUp(t.Context()); err != nil {
			t.Fatal(err)
		}
		wantExact(t, m, shards)
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	if cut < 15 || whole < 3 {
		t.Errorf("%d shards were cut, %d were not: that proves little", cut, whole)
	}
}

func TestReplayNamesWhatTheLogLacks(t *testing.T) {
	m := newMemory()
	r := rand.New(rand.NewPCG(1, 9))
	write(t, m, r, 1)
	m.records["j:1"] = m.records["j:1"][:1]
	v := m.by(always)
	clear(m.items)
	replay := Replay{Store: v, Meta: Meta{Shards: 1}, Empty: true}
	if err := replay.Run(t.Context()); !errors.Is(err, events.ErrCorrupt) {
		t.Errorf("%v, want ErrCorrupt", err)
	}
}

func TestReplayRefusesUnknownRules(t *testing.T) {
	m := newMemory()
	cp := Checkpoint{Rules: newestRules() + 1, Full: 1}
	m.checkpoints[0] = [][]byte{cp.Encode(0, 1)}
	v := m.by(always)
	replay := Replay{Store: v, Meta: Meta{Shards: 1}}
	if err := replay.Run(t.Context()); !errors.Is(err, ErrRules) {
		t.Errorf("replay: %v, want ErrRules", err)
	}
	if _, err := Covered(t.Context(), v, 0, nil); !errors.Is(err, ErrRules) {
		t.Errorf("covered: %v, want ErrRules", err)
	}
}

func TestReplayEndsWhenItIsStopped(t *testing.T) {
	m := newMemory()
	write(t, m, rand.New(rand.NewPCG(1, 10)), 1)
	v := m.by(always)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	replay := Replay{Store: v, Meta: Meta{Shards: 1}}
	if err := replay.Run(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want context.Canceled", err)
	}
}

// paced notes what is put when.
type paced struct {
	*view
	puts []put
}

type put struct {
	at    time.Time
	items int
	bytes int // before the last item
}

func (p *paced) PutItems(ctx context.Context, items []Stored) error {
	x := put{at: time.Now(), items: len(items)}
	for i := range items[1:] {
		x.bytes += len(items[i].Data)
	}
	p.puts = append(p.puts, x)
	return p.view.PutItems(ctx, items)
}

// With a rate a checkpoint that gives much is put little by little, over all the time that
// the rate gives it, so that whoever appends meanwhile never waits long.
func TestReplayWithARateHoldsNobodyUp(t *testing.T) {
	const events, rate, little = 400, 100, 2000
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		w := &scribe{t: t, m: m, r: rand.New(rand.NewPCG(1, 1))}
		j := w.open()
		for range events / 4 {
			w.append(j, w.message(6), w.message(6), w.message(6), w.message(6))
		}
		if err := newProjector(t, m.by(always), new(local.Bus), 1).catchUp(t.Context()); err != nil {
			t.Fatal(err)
		}
		want := maps.Clone(m.items)
		clear(m.items)
		p := &paced{view: m.by(always)}
		r := &Replay{Store: p, Meta: Meta{Shards: 1}, Empty: true, Rate: rate, PutBytes: little}
		began := time.Now()
		if err := r.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		m.wantItems(t, 1, want)
		if took := time.Since(began); took != events/rate*time.Second {
			t.Errorf("it took %v, want %v", took, events/rate*time.Second)
		}
		last := began
		for _, x := range p.puts {
			if x.bytes >= little || x.at.Sub(last) > time.Second {
				t.Errorf("%d bytes, %d items, %v after those before", x.bytes, x.items, x.at.Sub(last))
			}
			last = x.at
		}
		if len(p.puts) < 10 {
			t.Errorf("%d puts, want many", len(p.puts))
		}
	})
}
