package projections

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"timberline/bus"
	"timberline/bus/local"
	"timberline/events"
)

func newProjector(t *testing.T, v *view, b bus.Bus, shards uint32) *Projector {
	t.Helper()
	p, err := NewProjector(Config{
		Log: v, Journals: v, Checkpoints: v, Items: v, Meta: Meta{Store: events.StoreID{7}, Shards: shards}, Bus: b, Publish: b.PublishPushes,
		Random: rand.NewChaCha8([32]byte{1}), Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// wantExact holds the timelines against the replay, and against the log: every
// message once in the timeline of each of its users.
func wantExact(t *testing.T, m *memory, shards uint32) {
	t.Helper()
	if diff := cmp.Diff(m.replay(t, shards), m.items); diff != "" {
		t.Fatalf("timelines differ from what log and checkpoints say (-want +got)\n%s", diff)
	}
	places := make(map[events.ID]map[events.User]int)
	for u, items := range m.items {
		next := events.Seq(1)
		for _, s := range items {
			item, err := s.Decode()
			if err != nil {
				t.Fatal(err)
			}
			if item.First != next {
				t.Errorf("timeline of %s has %d behind %d", u, item.First, next-1)
			}
			next = item.Last() + 1
			for _, e := range item.Entries {
				id := events.Raw(e.Event).EventID()
				if places[id] == nil {
					places[id] = make(map[events.User]int)
				}
				places[id][u.User]++
			}
		}
	}
	for j, recs := range m.records {
		for i, rec := range recs {
			raws, err := rec.Events(j, events.Offset(i+1))
			if err != nil {
				t.Fatal(err)
			}
			for _, raw := range raws {
				e, _ := events.Raw(raw).Decode()
				want := make(map[events.User]int)
				if a, b, ok := e.Conversation.Users(); ok && e.Kind == events.KindMessage {
					want[a], want[b] = 1, 1
				}
				if diff := cmp.Diff(want, places[e.ID]); diff != "" && len(want)+len(places[e.ID]) > 0 {
					t.Errorf("message %v in %s/%d: places (-want +got)\n%s", e.ID, j, i+1, diff)
				}
			}
		}
	}
}

var always = func(string) (bool, error) { return true, nil }

func TestProjectorPlacesEveryMessageOnce(t *testing.T) {
	for _, shards := range []uint32{1, 3} {
		m := newMemory()
		w := &scribe{t: t, m: m, r: rand.New(rand.NewPCG(1, 1))}
		a, b := w.open(), w.open()
		w.open() // never written to
		for range 30 {
			w.append(a, w.message(5), w.message(5))
			w.append(b, w.message(5), w.other(events.KindSessionClosed))
		}
		w.append(a, w.other(events.KindJournalEnded))
		p := newProjector(t, m.by(always), new(local.Bus), shards)
		if err := p.catchUp(t.Context()); err != nil {
			t.Fatal(err)
		}
		wantExact(t, m, shards)
		last := len(m.checkpoints[0])
		if err := p.catchUp(t.Context()); err != nil {
			t.Fatal(err)
		}
		if len(m.checkpoints[0]) != last {
			t.Error("a checkpoint was written though nothing was new")
		}
	}
}

func TestProjectorComesBackAndReadsNothingTwice(t *testing.T) {
	m := newMemory()
	w := &scribe{t: t, m: m, r: rand.New(rand.NewPCG(1, 1))}
	for round := range 8 {
		j := w.open()
		for range 3 {
			w.append(j, w.message(4))
		}
		if round%2 == 0 {
			w.append(j, w.other(events.KindJournalEnded))
		}
		// A new projector each time: all it knows is what stands.
		p := newProjector(t, m.by(always), new(local.Bus), 2)
		if err := p.catchUp(t.Context()); err != nil {
			t.Fatal(err)
		}
		wantExact(t, m, 2)
	}
}

func TestEndedJournalsLeaveThePositions(t *testing.T) {
	m := newMemory()
	w := &scribe{t: t, m: m, r: rand.New(rand.NewPCG(1, 1))}
	for range 5 {
		j := w.open()
		w.append(j, w.message(2))
		w.append(j, w.other(events.KindJournalEnded))
	}
	w.append(w.open(), w.message(2))
	p := newProjector(t, m.by(always), new(local.Bus), 1)
	if err := p.catchUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := slices.Sorted(maps.Keys(p.shards[0].committed.at)); !cmp.Equal(got, []uint64{6}) {
		t.Errorf("positions of journals %v, want the live one only", got)
	}
}

// Whatever fails, and whatever lands in spite of its failure, the timelines come
// out exact.
func TestTimelinesAreExactUnderFaults(t *testing.T) {
	for seed := range seeds(200) {
		r := rand.New(rand.NewPCG(seed, 2))
		m := newMemory()
		w := &scribe{t: t, m: m, r: r}
		shards := uint32(1 + r.IntN(3))
		faulty := true
		var mu sync.Mutex // shards work at a time
		v := m.by(func(string) (bool, error) {
			mu.Lock()
			defer mu.Unlock()
			if !faulty || r.IntN(8) > 0 {
				return true, nil
			}
			return r.IntN(2) == 0, errors.New("throttled")
		})
		p := newProjector(t, v, new(local.Bus), shards)
		journals := []events.Journal{w.open(), w.open()}
		for range 25 {
			mu.Lock()
			switch r.IntN(10) {
			case 0:
				journals = append(journals, w.open())
			case 1:
				p = newProjector(t, v, new(local.Bus), shards) // a crash
			default:
				w.append(journals[r.IntN(len(journals))], w.message(4), w.message(4))
			}
			mu.Unlock()
			if err := p.catchUp(t.Context()); errors.Is(err, events.ErrCorrupt) {
				t.Fatalf("seed %d: %v", seed, err)
			}
		}
		faulty = false
		for err := errors.New("again"); err != nil; err = p.catchUp(t.Context()) {
			if errors.Is(err, events.ErrCorrupt) {
				t.Fatalf("seed %d: %v", seed, err)
			}
		}
		wantExact(t, m, shards)
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

// Two projectors work on one shard, each stopped before any of its reads and
// writes while the other goes on; writes may land after their projector went on.
func TestTwoProjectorsOnOneShardAreHarmless(t *testing.T) {
	for seed := range seeds(60) {
		synctest.Test(t, func(t *testing.T) { twoProjectors(t, seed) })
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func twoProjectors(t *testing.T, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 3))
	m := newMemory()
	w := &scribe{t: t, m: m, r: r}
	journals := []events.Journal{w.open(), w.open(), w.open()}
	ctx, cancel := context.WithCancel(t.Context())

	const count = 2
	var gates [count]chan struct{}
	var waiting [count]int // steps, each of which a gate lets pass
	var mu sync.Mutex
	var done sync.WaitGroup
	for i := range count {
		gates[i] = make(chan struct{})
		p := newProjector(t, m.by(func(string) (bool, error) {
			mu.Lock()
			waiting[i]++
			mu.Unlock()
			select {
			case <-gates[i]:
				return true, nil
			case <-ctx.Done():
				return false, ctx.Err()
			}
		}), new(local.Bus), 1)
		p.cfg.Poll = time.Duration(10+i) * time.Millisecond
		done.Go(func() {
			if err := p.Run(ctx); err != nil {
				t.Errorf("projector %d: %v", i, err)
			}
		})
	}
	// Enough steps for both to have seen everything long before the end.
	for step := range 2500 {
		if step < 1200 && r.IntN(20) == 0 {
			w.append(journals[r.IntN(len(journals))], w.message(3))
		}
		time.Sleep(time.Millisecond)
		synctest.Wait()
		i := r.IntN(count)
		mu.Lock()
		ready := waiting[i] > 0
		if ready {
			waiting[i]--
		}
		mu.Unlock()
		if ready {
			gates[i] <- struct{}{}
		}
	}
	cancel()
	done.Wait()
	m.mu.Lock()
	defer m.mu.Unlock()
	wantExact(t, m, 1)
}

// Shards go from one projector to another, with or without the first knowing: some are
// both's for a while, some nobody's.
func TestShardsThatChangeHandsStayExact(t *testing.T) {
	const shards = 5
	for seed := range seeds(40) {
		r := rand.New(rand.NewPCG(seed, 3))
		m := newMemory()
		w := &scribe{t: t, m: m, r: r}
		journals := []events.Journal{w.open(), w.open()}
		var ps []*Projector
		for range 2 {
			ps = append(ps, newProjector(t, m.by(always), new(local.Bus), shards))
		}
		for range 60 {
			w.append(journals[r.IntN(2)], w.message(6), w.message(6))
			p := ps[r.IntN(2)]
			if r.IntN(2) == 0 {
				var owned []Shard
				for s := range Shard(shards) {
					if r.IntN(2) == 0 {
						owned = append(owned, s)
					}
				}
				p.Own(owned)
			}
			if err := p.catchUp(t.Context()); err != nil && !errors.Is(err, errOvertaken) {
				t.Fatalf("seed %d: %v", seed, err)
			}
		}
		ps[0].Own([]Shard{0, 1, 2, 3, 4})
		for err := errOvertaken; err != nil; {
			if err = ps[0].catchUp(t.Context()); err != nil && !errors.Is(err, errOvertaken) {
				t.Fatalf("seed %d: %v", seed, err)
			}
		}
		wantExact(t, m, shards)
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func TestProjectorThatOwnsNothingWritesNothing(t *testing.T) {
	m := newMemory()
	w := &scribe{t: t, m: m, r: rand.New(rand.NewPCG(1, 1))}
	w.append(w.open(), w.message(5))
	p := newProjector(t, m.by(always), new(local.Bus), 2)
	p.Own(nil)
	if err := p.catchUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(m.checkpoints) > 0 {
		t.Error("checkpoints were written for shards of others")
	}
}

func TestHintedRecordIsFoundThoughReadsLag(t *testing.T) {
	m := newMemory()
	w := &scribe{t: t, m: m, r: rand.New(rand.NewPCG(1, 1))}
	v := m.by(always)
	v.lags = true
	p := newProjector(t, v, new(local.Bus), 1)
	j := w.open()
	w.append(j, w.message(5))
	p.onHint(bus.Hint{Store: events.StoreID{7}, Journal: j, Offset: 1})
	if err := p.round(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	wantExact(t, m, 1)
}

// While a round waits for the store others append, and from another process a hint
// brings no record.
func TestHintsThatBringNoRecordAreBoundedToo(t *testing.T) {
	p := newProjector(t, newMemory().by(always), new(local.Bus), 1)
	for at := range events.Offset(1_000_000) {
		p.onHint(bus.Hint{Store: events.StoreID{7}, Journal: "j:1", Offset: at + 1})
	}
	if n := len(p.hints); n > maxHintBytes/bareHint {
		t.Errorf("%d hints wait", n)
	}
}

func TestHintedRecordsAreNotReadFromTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		w := &scribe{t: t, m: m, r: rand.New(rand.NewPCG(1, 1))}
		j := w.open()
		reads := 0
		var mu sync.Mutex
		b := new(local.Bus)
		p := newProjector(t, m.by(func(what string) (bool, error) {
			mu.Lock()
			defer mu.Unlock()
			if what == "read log" {
				reads++
			}
			return true, nil
		}), b, 2)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- p.Run(ctx) }()
		synctest.Wait()
		mu.Lock()
		before := reads
		mu.Unlock()
		var pushed []bus.Push
		b.OnPushes(func(ps []bus.Push) { pushed = append(pushed, ps...) }, func() {})
		for at := events.Offset(1); at <= 20; at++ {
			w.append(j, w.message(3))
			m.mu.Lock()
			rec := m.records[j][at-1]
			m.mu.Unlock()
			b.PublishHint(bus.Hint{Store: events.StoreID{7}, Journal: j, Offset: at, Record: rec})
			synctest.Wait()
		}
		mu.Lock()
		if reads != before {
			t.Errorf("the log was read %d times for records that came with hints", reads-before)
		}
		mu.Unlock()
		heads := make(map[events.User]events.Seq)
		for _, p := range pushed {
			if p.First != heads[p.User]+1 || p.Store != (events.StoreID{7}) {
				t.Errorf("push of %s at %d behind %d", p.User, p.First, heads[p.User])
			}
			heads[p.User] = p.Head()
		}
		// A hint is lost: the next one tells that something is missing.
		w.append(j, w.message(3))
		w.append(j, w.message(3))
		b.PublishHint(bus.Hint{Store: events.StoreID{7}, Journal: j, Offset: 22})
		synctest.Wait()
		m.mu.Lock()
		wantExact(t, m, 2)
		m.mu.Unlock()
		// All hints are lost: the poll finds it.
		w.append(j, w.message(3))
		time.Sleep(1100 * time.Millisecond)
		synctest.Wait()
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		wantExact(t, m, 2)
	})
}

func TestCheckpointsKeepTheirLimits(t *testing.T) {
	m := newMemory()
	w := &scribe{t: t, m: m, r: rand.New(rand.NewPCG(1, 1))}
	j := w.open()
	body := make([]byte, 16<<10)
	for range 100 {
		e := events.Event{ID: events.ID{0, 0, byte(w.clock >> 8), byte(w.clock)}, Kind: events.KindMessage, Conversation: "d:a,b", Sender: "a", Device: "d", Body: body}
		w.clock++
		w.append(j, e.Encode())
	}
	for range 100 {
		var raws [][]byte
		for range 100 {
			raws = append(raws, w.message(3000))
		}
		w.append(j, raws...)
	}
	p := newProjector(t, m.by(always), new(local.Bus), 1)
	if err := p.catchUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	for u, items := range m.items {
		for _, s := range items {
			if len(s.Data) > maxUserBytes+1000 {
				t.Errorf("an item of %s has %d bytes", u, len(s.Data))
			}
		}
	}
	if n := len(m.checkpoints[0]); n < 100*16/256 {
		t.Errorf("%d checkpoints for 1.6 MB for one user", n)
	}
}

func TestCheckpointWithoutEntriesIsWrittenRarely(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		w := &scribe{t: t, m: m, r: rand.New(rand.NewPCG(1, 1))}
		j := w.open()
		p := newProjector(t, m.by(always), new(local.Bus), 1)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- p.Run(ctx) }()
		for range 9 {
			time.Sleep(time.Minute)
			w.append(j, w.other(events.KindSessionClosed))
		}
		synctest.Wait()
		m.mu.Lock()
		if n := len(m.checkpoints[0]); n != 0 {
			t.Errorf("%d checkpoints though nobody got an entry", n)
		}
		m.mu.Unlock()
		time.Sleep(2 * time.Minute)
		cancel()
		<-ended
		if n := len(m.checkpoints[0]); n != 1 {
			t.Errorf("%d checkpoints after ten minutes, want 1", n)
		}
	})
}

func TestFullCheckpointsListEveryLiveJournal(t *testing.T) {
	m := newMemory()
	w := &scribe{t: t, m: m, r: rand.New(rand.NewPCG(1, 1))}
	quiet, busy := w.open(), w.open()
	w.append(quiet, w.message(2))
	v := m.by(always)
	p := newProjector(t, v, new(local.Bus), 1)
	for range fullEvery + 10 {
		w.append(busy, w.message(2))
		if err := p.catchUp(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	s := newShard(&p.cfg, newMetrics(nil), 0)
	if err := s.load(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s.full != fullEvery+1 {
		t.Errorf("the last full checkpoint is %d, want %d", s.full, fullEvery+1)
	}
	want := map[uint64]events.Offset{1: 1, 2: fullEvery + 10}
	if diff := cmp.Diff(want, s.committed.at); diff != "" {
		t.Errorf("positions loaded (-want +got)\n%s", diff)
	}
}

func TestDamageStopsTheProjectorAndNamesThePlace(t *testing.T) {
	m := newMemory()
	w := &scribe{t: t, m: m, r: rand.New(rand.NewPCG(1, 1))}
	j := w.open()
	w.append(j, w.message(2))
	w.append(j, w.message(2))
	m.records[j][1][20] ^= 1
	p := newProjector(t, m.by(always), new(local.Bus), 1)
	err := p.Run(t.Context())
	if !errors.Is(err, events.ErrCorrupt) {
		t.Fatalf("Run: %v, want ErrCorrupt", err)
	}
	if !strings.Contains(err.Error(), "record 2 of journal j:1") {
		t.Errorf("error %q does not name record 2 of journal j:1", err)
	}
}

func TestDamagedCheckpointOrItemStopsTheProjectorAndIsNamed(t *testing.T) {
	for what, damage := range map[string]func(m *memory){
		"checkpoint 1 of shard 0": func(m *memory) { m.checkpoints[0][0][7] ^= 1 },
		"item ending at 1": func(m *memory) {
			for _, items := range m.items {
				items[0].Data[9] ^= 1
			}
		},
	} {
		m := newMemory()
		w := &scribe{t: t, m: m, r: rand.New(rand.NewPCG(1, 1))}
		w.append(w.open(), w.message(2))
		if err := newProjector(t, m.by(always), new(local.Bus), 1).catchUp(t.Context()); err != nil {
			t.Fatal(err)
		}
		damage(m)
		err := newProjector(t, m.by(always), new(local.Bus), 1).Run(t.Context())
		if !errors.Is(err, events.ErrCorrupt) || !strings.Contains(err.Error(), what) {
			t.Errorf("Run: %v, want ErrCorrupt with %q", err, what)
		}
	}
}

func TestUnknownRulesStopTheProjector(t *testing.T) {
	m := newMemory()
	cp := Checkpoint{Rules: newestRules() + 1, Full: 1}
	m.checkpoints[0] = [][]byte{cp.Encode(0, 1)}
	p := newProjector(t, m.by(always), new(local.Bus), 1)
	if err := p.Run(t.Context()); !errors.Is(err, ErrRules) {
		t.Errorf("Run: %v, want ErrRules", err)
	}
}

func TestMessagesThatTheRulesCannotPlaceAreCounted(t *testing.T) {
	m := newMemory()
	w := &scribe{t: t, m: m, r: rand.New(rand.NewPCG(1, 1))}
	odd := events.Event{ID: events.ID{0, 0, 1}, Kind: events.KindMessage, Conversation: "g:01ARZ3NDEKTSV4RRFFQ69G5FAV"}
	w.append(w.open(), odd.Encode(), w.message(2))
	p := newProjector(t, m.by(always), new(local.Bus), 1)
	if err := p.catchUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	if p.Misplaced() != 1 {
		t.Errorf("%d misplaced, want 1", p.Misplaced())
	}
}

func TestRebuiltTimelinesAreTheSameBytes(t *testing.T) {
	m := newMemory()
	w := &scribe{t: t, m: m, r: rand.New(rand.NewPCG(5, 1))}
	j := w.open()
	p := newProjector(t, m.by(always), new(local.Bus), 1)
	for range 50 {
		w.append(j, w.message(6), w.message(6))
		if err := p.catchUp(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(m.replay(t, 1), m.items); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestJournalThatIsAlwaysWrittenKeepsNothingElseWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		w := &scribe{t: t, m: m, r: rand.New(rand.NewPCG(1, 1))}
		busy := w.open()
		var writing atomic.Bool
		writing.Store(true)
		p := newProjector(t, m.by(func(what string) (bool, error) {
			if what == "read log" && writing.Load() {
				time.Sleep(10 * time.Millisecond)
				w.append(busy, w.message(20)) // by the time of each read there is more
			}
			return true, nil
		}), new(local.Bus), 2)
		p.own([]Shard{0})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- p.Run(ctx) }()
		time.Sleep(3 * time.Second)
		other := &scribe{t: t, m: m, r: rand.New(rand.NewPCG(2, 2)), clock: 1 << 15}
		late := other.open() // of which no hint comes
		for range 20 {
			other.append(late, other.message(20))
		}
		p.Own([]Shard{0, 1})
		time.Sleep(2*p.cfg.Poll + time.Second)
		for s := range Shard(2) {
			if at := m.covered(t, s, 2); at != 20 {
				t.Errorf("shard %d has %d records of the new journal while another is written, want 20", s, at)
			}
		}
		writing.Store(false)
		time.Sleep(2 * p.cfg.Poll)
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		wantExact(t, m, 2)
	})
}

// covered returns how far the checkpoints of a shard lead in a journal.
func (m *memory) covered(t *testing.T, s Shard, journal uint64) (at events.Offset) {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, data := range m.checkpoints[s] {
		cp, err := DecodeCheckpoint(s, CheckpointNumber(i+1), data)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range cp.Moved {
			if p.Journal == journal {
				at = p.Offset
			}
		}
	}
	return at
}

// From another machine each read takes milliseconds, and a checkpoint may give entries to
// thousands of users of whom nothing is known yet, or whose items are missing.
func TestEndsOfManyTimelinesAreReadAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		w := &scribe{t: t, m: m, r: rand.New(rand.NewPCG(1, 1))}
		j := w.open()
		for range 10 {
			var raws [][]byte
			for range 200 {
				raws = append(raws, w.message(10_000))
			}
			w.append(j, raws...)
		}
		died := errors.New("the projector died between checkpoint and items")
		step := func(what string) (bool, error) {
			switch {
			case what == "newest":
				time.Sleep(5 * time.Millisecond)
			case what == "item" && died != nil:
				return false, died
			}
			return true, nil
		}
		for range 2 {
			p := newProjector(t, m.by(step), new(local.Bus), 1)
			began := time.Now()
			if err := p.catchUp(t.Context()); !errors.Is(err, died) {
				t.Fatal(err)
			}
			if took := time.Since(began); took > 3*time.Second {
				t.Errorf("it took %v", took)
			}
			died = nil
		}
		wantExact(t, m, 1)
	})
}

// A sized log has as much of every journal as is asked for, and notes how much that is.
type sized struct {
	*view
	asked atomic.Int64
}

func (l *sized) ReadLog(_ context.Context, _ events.Journal, _ events.Offset, size int, _ events.Consistency) ([]events.Record, error) {
	l.asked.Add(int64(size))
	return nil, nil
}

func TestProjectorThatComesBackAfterLongTakesInNoMoreAtATime(t *testing.T) {
	m := newMemory()
	w := &scribe{t: t, m: m, r: rand.New(rand.NewPCG(1, 1))}
	for range 300 {
		w.open()
	}
	log := &sized{view: m.by(always)}
	p := newProjector(t, log.view, new(local.Bus), 1)
	p.cfg.Log = log
	if err := p.catchUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	if asked := log.asked.Load(); asked > 16<<20 {
		t.Errorf("%d MB of the log are wanted at once", asked>>20)
	}
}

// manyEvents is how many covering covers.
const manyEvents = 1000

// covering returns what covers the same records once more, as a walk does, and has the items
// made that they give.
func covering() (again func() error) {
	m := newMemory()
	w := &scribe{m: m, r: rand.New(rand.NewPCG(1, 1))}
	j := w.open()
	for range 10 {
		var raws [][]byte
		for range manyEvents / 10 {
			raws = append(raws, w.message(300))
		}
		w.append(j, raws...)
	}
	var c cover
	var in room
	mine, tails := func(events.User) bool { return true }, make(map[events.User]*tail)
	return func() error {
		c.empty(rules[1])
		for i, rec := range m.records[j] {
			if err := c.take(record{1, events.Offset(i + 1), rec}, mine); err != nil {
				return err
			}
		}
		ends, unknown := known(&c, tails)
		for _, at := range unknown {
			ends[at] = new(tail)
			tails[c.order[at]] = ends[at]
		}
		for g := range c.gifts(1, ends) {
			_ = g.item.encodeIn(Timeline{User: g.user}, &in)
			in.bytes = in.bytes[:0]
		}
		return nil
	}
}

func BenchmarkGifts(b *testing.B) {
	again := covering()
	b.ReportAllocs()
	for b.Loop() {
		if err := again(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(manyEvents*b.N)/b.Elapsed().Seconds(), "events/s")
}

// Else whoever goes through many checkpoints cleans up for a third of the time.
func TestCoverUsesItsMemoryAgain(t *testing.T) {
	if raceEnabled {
		t.Skip("allocations are counted without -race")
	}
	again := covering()
	var err error
	n := testing.AllocsPerRun(10, func() { err = errors.Join(err, again()) })
	if err != nil || n > 1.1*manyEvents { // the name of a conversation for each
		t.Errorf("%.0f allocations for %d events, error %v", n, manyEvents, err)
	}
}

// Else it is one round or two, as it happens, and a seed of the simulation is not always
// the same run.
func TestOvertakenProjectorGoesOnInOneRoundAlsoIfAHintCame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		w := &scribe{t: t, m: m, r: rand.New(rand.NewPCG(1, 1))}
		j := w.open()
		b := new(local.Bus)
		other := newProjector(t, m.by(always), new(local.Bus), 1)
		var mu sync.Mutex
		overtaken, reads := false, 0
		p := newProjector(t, m.by(func(what string) (bool, error) {
			mu.Lock()
			defer mu.Unlock()
			switch {
			case what == "checkpoint" && !overtaken:
				overtaken, reads = true, 0
				b.PublishHint(bus.Hint{Store: events.StoreID{7}, Journal: j, Offset: 1})
				return true, other.catchUp(t.Context())
			case what == "read log":
				reads++
			}
			return true, nil
		}), b, 1)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- p.Run(ctx) }()
		synctest.Wait()
		w.append(j, w.message(3))
		b.PublishHint(bus.Hint{Store: events.StoreID{7}, Journal: j, Offset: 1})
		synctest.Wait()
		mu.Lock()
		if !overtaken || reads != 2 {
			t.Errorf("overtaken: %v, and the log was read %d times since, want 2: for the last checkpoint, and for what is new", overtaken, reads)
		}
		mu.Unlock()
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}
