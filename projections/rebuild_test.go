package projections

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"timberline/bus/local"
	"timberline/events"
)

// seeds returns how many seeds to run: a tenth where each takes five times as long.
func seeds(n uint64) uint64 {
	if raceEnabled {
		return n / 10
	}
	return n
}

// A bustle is what goes on around a rebuild: edges that append, projectors that fail, are
// stopped between any two writes and whose writes land late, and readers that must never
// see less than before.
type bustle struct {
	*scribe
	shards     uint32
	journals   []events.Journal
	projectors []*Projector
	reader     *Reader
	seen       map[events.User][][]byte // by readers
	late       []Stored                 // to land some time
	acting     bool
	others     []events.Kind // that are sent, too
	stopped    int           // projectors that met rules they do not have
}

func newBustle(t *testing.T, seed uint64) *bustle {
	m := newMemory()
	r := rand.New(rand.NewPCG(seed, 11))
	b := &bustle{scribe: &scribe{t: t, m: m, r: r}, shards: uint32(1 + r.IntN(3)), seen: make(map[events.User][][]byte)}
	b.journals = []events.Journal{b.open(), b.open()}
	oneAtATime(t)
	for n := range 2 * b.shards {
		v := m.by(func(what string) (bool, error) {
			switch {
			case what == "item" && r.IntN(12) == 0:
				return false, errLate
			case r.IntN(15) == 0:
				return r.IntN(2) == 0, errors.New("throttled")
			}
			return true, nil
		})
		p := newProjector(t, v, new(local.Bus), b.shards)
		p.cfg.Checkpoints = lateItems{v, b}
		p.cfg.Items = lateItems{v, b}
		p.own([]Shard{Shard(n / 2)})
		b.projectors = append(b.projectors, p)
	}
	b.reader = NewReader(m.by(always), Meta{Shards: b.shards})
	return b
}

// used returns a bustle after so many acts, with all projected.
func used(t *testing.T, seed uint64, acts int) *bustle {
	t.Helper()
	b := newBustle(t, seed)
	for range acts {
		b.act()
	}
	b.settle("before")
	return b
}

var errLate = errors.New("no answer; it lands some time")

// lateItems is a view some of whose items land when their caller has gone on.
type lateItems struct {
	*view
	b *bustle
}

func (l lateItems) PutItems(ctx context.Context, items []Stored) error {
	for i := range items {
		if err := l.view.PutItems(ctx, items[i:i+1]); err != nil {
			if errors.Is(err, errLate) {
				l.b.late = append(l.b.late, items[i])
			}
			return err
		}
	}
	return nil
}

func (l lateItems) Commit(ctx context.Context, s Shard, n CheckpointNumber, cp []byte, items []Stored) ([]byte, error) {
	if stands, err := l.view.Commit(ctx, s, n, cp, nil); err != nil {
		return stands, err
	}
	return nil, l.PutItems(ctx, items)
}

// act has one of them do something.
func (b *bustle) act() {
	if b.acting {
		return
	}
	b.acting = true
	defer func() { b.acting = false }()
	switch b.r.IntN(6) {
	case 0, 1:
		i := b.r.IntN(len(b.journals))
		if b.r.IntN(6) == 0 {
			b.append(b.journals[i], b.other(events.KindJournalEnded))
			b.journals[i] = b.open()
		}
		b.append(b.journals[i], b.message(6), b.message(6))
		for _, k := range b.others {
			b.append(b.journals[i], b.sent(k, 6), b.message(6))
		}
	case 2, 3:
		b.round(b.projectors[b.r.IntN(len(b.projectors))])
	case 4:
		if len(b.late) > 0 {
			i := b.r.IntN(len(b.late))
			b.m.putItem(b.late[i])
			b.late = slices.Delete(b.late, i, i+1)
		}
	case 5:
		b.look(events.User([]string{"u0", "u1", "u2", "u3", "u4", "u5"}[b.r.IntN(6)]))
	}
}

// actSometimes leaves a rebuild time to get to the end of what is there.
func (b *bustle) actSometimes() {
	if b.r.IntN(8) == 0 {
		b.act()
	}
}

func (b *bustle) round(p *Projector) {
	err := p.round(b.t.Context(), true)
	if i := slices.Index(b.projectors, p); errors.Is(err, ErrRules) && p.cfg.rules > 0 && i >= 0 {
		b.projectors = slices.Delete(slices.Clone(b.projectors), i, i+1)
		b.stopped++
		return
	}
	if err != nil && events.Final(err) {
		b.t.Fatal(err)
	}
}

// look reads a user's timeline: what was there before still is, and nothing is missing.
func (b *bustle) look(u events.User) {
	m, err := readMark(b.t.Context(), b.m.by(always), u)
	if err != nil {
		b.t.Fatal(err)
	}
	run, err := b.reader.Read(b.t.Context(), u, m.first-1, 0, 1<<30)
	if err != nil {
		b.t.Fatal(err)
	}
	before := b.seen[u][min(int(m.first)-1, len(b.seen[u])):]
	if len(run.Events) < len(before) || !slices.EqualFunc(run.Events[:len(before)], before, bytes.Equal) {
		b.t.Fatalf("%s had %d entries from %d on, and has %d now, or others", u, len(before), m.first, len(run.Events))
	}
	b.seen[u] = append(slices.Grow(b.seen[u][:0:0], int(m.first)-1)[:m.first-1], run.Events...)
}

// rebuild rebuilds into a version, while all go on; what fails is tried again.
func (b *bustle) rebuild(s Shard, into Version, behind CheckpointNumber) (CheckpointNumber, error) {
	failing := b.m.by(func(string) (bool, error) {
		b.actSometimes()
		if b.r.IntN(500) == 0 {
			return b.r.IntN(2) == 0, errors.New("throttled")
		}
		return true, nil
	})
	for {
		r := b.to(failing, s, into, behind)
		r.maxTails, r.PutBytes, r.KeepEvery = 1+b.r.IntN(5), 1+b.r.IntN(1000), 1
		r.Rate = []float64{0, 1e9}[b.r.IntN(2)] // a checkpoint in one put, or in several
		n, err := r.Run(b.t.Context())
		if err == nil || events.Final(err) || errors.Is(err, ErrDropped) {
			return n, err
		}
	}
}

func (b *bustle) to(v *view, s Shard, into Version, behind CheckpointNumber) *Rebuild {
	return &Rebuild{Replay: Replay{Store: v, Meta: Meta{Shards: b.shards}, Shard: s, Version: into}, Behind: behind}
}

// settle has everything come to its end, and holds the timelines that are read against
// log and checkpoints.
func (b *bustle) settle(when string) {
	b.t.Helper()
	for _, item := range b.late {
		b.m.putItem(item)
	}
	b.late = nil
	p := newProjector(b.t, b.m.by(always), new(local.Bus), b.shards)
	for range 2 {
		if err := p.catchUp(b.t.Context()); err != nil {
			b.t.Fatal(err)
		}
	}
	for t, items := range b.m.replay(b.t, b.shards) {
		v := b.versions(ShardOf(t.User.Slot(), b.shards))
		have := b.m.items[Timeline{v.Live, t.User}]
		same := func(x, y Stored) bool { return x.Last == y.Last && bytes.Equal(x.Data, y.Data) }
		if !slices.EqualFunc(items, have, same) {
			b.t.Fatalf("%s, %s: %d items, want %d, or others", when, Timeline{v.Live, t.User}, len(have), len(items))
		}
		b.look(t.User)
	}
}

func (b *bustle) versions(s Shard) Versions {
	v, err := ReadVersions(b.t.Context(), b.m.by(always), s)
	if err != nil {
		b.t.Fatal(err)
	}
	return v
}

// Readers see no difference, whoever is stopped or overtaken where.
func TestRebuiltTimelinesTakeThePlaceOfThoseThatAreRead(t *testing.T) {
	for seed := range seeds(150) {
		b := newBustle(t, seed)
		for range 150 {
			b.act()
		}
		s := Shard(b.r.IntN(int(b.shards)))
		for into := range Version(2) {
			into, before := 1-into, into // there, and back
			v := b.versions(s)
			at, err := b.rebuild(s, into, v.Whole())
			if err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			if v := b.versions(s); v.Live != into || v.Before != before || v.Since != at || v.Next != 2 {
				t.Fatalf("seed %d: switched to %d at %d, but the checkpoints say %+v", seed, into, at, v)
			}
			for range 100 {
				b.act()
			}
			b.settle(fmt.Sprintf("version %d", into))
		}
	}
}

func TestNoWayLeadsBackToWhatWasDropped(t *testing.T) {
	v := newVersions()
	for n, c := range []Checkpoint{{}, {Version: 1}, {Version: 1, Drops: true, Dropped: 2}, {Version: 1, Drops: true}} {
		v.apply(CheckpointNumber(n+1), &c)
		if before, ok := v.Back(); before != 0 || ok != (n == 1 || n == 2) {
			t.Errorf("as of checkpoint %d a way leads back: %v, to version %d", n+1, ok, before)
		}
	}
}

// The way back adds what the version before lacks, and puts nothing of what it has.
func TestWayBackPutsOnlyWhatIsMissing(t *testing.T) {
	b := used(t, 7, 200)
	to := func(into Version) (put uint64) {
		t.Helper()
		v := b.versions(0)
		r := b.to(b.m.by(always), 0, into, v.Whole())
		r.Told = func(p ReplayProgress) { put = p.Items }
		if _, err := r.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		return put
	}
	if all, back := to(1), to(0); all < 20 || back > 0 {
		t.Errorf("%d items are put on the way there, %d on the way back, want some and none", all, back)
	}
}

// interrupted begins a rebuild of shard 0 into version 1, and interrupts it when 200 items are put.
func (b *bustle) interrupted() {
	b.t.Helper()
	puts := 0
	r := b.to(b.m.by(func(what string) (bool, error) {
		if what == "item" {
			if puts++; puts > 200 {
				return false, errors.New("interrupted")
			}
		}
		return true, nil
	}), 0, 1, 0)
	r.PutBytes, r.KeepEvery = 1000, 1
	if _, err := r.Run(b.t.Context()); err == nil || puts < 200 {
		b.t.Fatalf("%d items were put, then %v", puts, err)
	}
}

// A restore empties all timelines. A rebuild that had begun would go on behind what is not there.
func TestRebuildBeginsAnewWhereTimelinesAndRowsAreEmptied(t *testing.T) {
	b := used(t, 4, 1500)
	b.interrupted()
	maps.DeleteFunc(b.m.items, func(t Timeline, _ []Stored) bool { return t.Version == 1 })
	if err := EmptyRows(t.Context(), b.m.by(always)); err != nil {
		t.Fatal(err)
	}
	if _, err := b.to(b.m.by(always), 0, 1, 0).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.settle("rebuilt")
}

func TestRebuildGoesOnWhereItWasInterrupted(t *testing.T) {
	b := used(t, 4, 1500)
	b.interrupted()
	again := b.to(b.m.by(always), 0, 1, 0)
	var first, last ReplayProgress
	again.PutBytes, again.Told = 1000, func(p ReplayProgress) {
		if last = p; first.Checkpoint == 0 {
			first = p
		}
	}
	if _, err := again.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if all := b.m.shardItems(0, b.shards) / 2; int(last.Items) > all-150 || first.Checkpoint < 5 {
		t.Errorf("it began with checkpoint %d, and put %d items of %d, though 200 had been put", first.Checkpoint, last.Items, all)
	}
	b.settle("rebuilt")
}

// Two rebuild the same version at the same time.
func TestTwoRebuildsAreHarmless(t *testing.T) {
	for seed := range seeds(50) {
		b := newBustle(t, seed)
		for range 100 {
			b.act()
		}
		other := b.to(b.m.by(always), 0, 1, 0)
		other.PutBytes = 1
		did := false
		v := b.m.by(func(string) (bool, error) {
			b.actSometimes()
			if !did && b.r.IntN(40) == 0 {
				did = true
				if _, err := other.Run(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			return true, nil
		})
		r := b.to(v, 0, 1, 0)
		r.PutBytes = 1 + b.r.IntN(500)
		n, err := r.Run(t.Context())
		if since := b.versions(0).Since; err != nil || n != since {
			t.Fatalf("seed %d: switched at %d, %v; the checkpoints say %d", seed, n, err, since)
		}
		b.settle("rebuilt twice")
	}
}

func TestDroppedVersionNeverBecomesLive(t *testing.T) {
	for seed := range seeds(50) {
		b := newBustle(t, seed)
		for range 100 {
			b.act()
		}
		dropped := false
		v := b.m.by(func(string) (bool, error) {
			b.actSometimes()
			if !dropped && b.r.IntN(30) == 0 {
				dropped = true
				if err := b.to(b.m.by(always), 0, 1, 0).Drop(t.Context(), b.m); err != nil {
					t.Fatal(err)
				}
			}
			return true, nil
		})
		r := b.to(v, 0, 1, 0)
		r.PutBytes = 1 + b.r.IntN(500)
		_, err := r.Run(t.Context())
		if dropped != errors.Is(err, ErrDropped) {
			t.Fatalf("seed %d: dropped: %v, but the rebuild says %v", seed, dropped, err)
		}
		if v := b.versions(0); dropped && (v.Live != 0 || v.Next != 2 || !v.Dropped[1]) {
			t.Fatalf("seed %d: the checkpoints say %+v", seed, v)
		}
		b.settle("dropped")
		if v := b.versions(0); dropped {
			if err := b.to(b.m.by(always), 0, 1, 0).Drop(t.Context(), b.m); err != nil { // what the rebuild has put since
				t.Fatal(err)
			}
			for t1, items := range b.m.items {
				if t1.Version == 1 && ShardOf(t1.User.Slot(), b.shards) == 0 && len(items) > 0 {
					t.Errorf("seed %d: %d items of version 1 are left, %+v", seed, len(items), v)
				}
			}
		}
	}
	b := newBustle(t, 1)
	if err := b.to(b.m.by(always), 0, 0, 0).Drop(t.Context(), b.m); !errors.Is(err, ErrIsLive) {
		t.Error("the version that is live was dropped")
	}
}

// While a version is given up another becomes live, and a projector stops between the next
// checkpoint and its items: behind the checkpoint that drops, nobody looks for those any more.
func TestVersionIsGivenUpInTheMiddleOfASwitch(t *testing.T) {
	b := used(t, 3, 300)
	always := b.m.by(always)
	halfway := newProjector(t, b.m.by(func(what string) (bool, error) {
		if what == "item" {
			return false, errors.New("stopped")
		}
		return true, nil
	}), new(local.Bus), b.shards)
	tries := 0
	v := b.m.by(func(what string) (bool, error) {
		if what != "checkpoint" {
			return true, nil
		}
		switch tries++; tries {
		case 1:
			if _, err := b.to(always, 0, 2, 0).Run(t.Context()); err != nil {
				t.Fatal(err)
			}
		case 2:
			for range 20 { // so that shard 0 has some of them
				b.append(b.journals[0], b.message(6))
			}
			before := len(b.m.checkpoints[0])
			if err := halfway.round(t.Context(), true); err == nil || len(b.m.checkpoints[0]) != before+1 {
				t.Fatalf("%d checkpoints, had %d; %v", len(b.m.checkpoints[0]), before, err)
			}
		}
		return true, nil
	})
	if err := b.to(v, 0, 1, 0).GiveUp(t.Context()); err != nil || tries < 3 {
		t.Fatalf("given up with try %d: %v", tries, err)
	}
	if v := b.versions(0); v.Live != 2 || !v.Dropped[1] {
		t.Errorf("the checkpoints say %+v", v)
	}
	b.settle("given up")
}

// heard counts the items of which somebody is told, and those that are quiet.
type heard struct {
	*view
	loud, quiet int
}

func (h *heard) PutItems(ctx context.Context, items []Stored) error {
	for i := range items {
		if items[i].Quiet {
			h.quiet++
		} else {
			h.loud++
		}
	}
	return h.view.PutItems(ctx, items)
}

// Of items in a version that is not read nobody is told: who asks for them finds them nowhere.
// Those of one that is are told of, as its projector may not have come to it.
func TestNobodyIsToldOfAVersionThatIsNotRead(t *testing.T) {
	b := used(t, 3, 300)
	all := b.m.shardItems(0, b.shards)
	beside := &heard{view: b.m.by(always)}
	if _, err := (&Rebuild{Replay: Replay{Store: beside, Meta: Meta{Shards: b.shards}, Version: 1}}).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if beside.loud > 0 || beside.quiet != all {
		t.Errorf("a rebuild tells of %d items, and puts %d quietly; want 0 and %d", beside.loud, beside.quiet, all)
	}
	clear(b.m.items)
	live := &heard{view: b.m.by(always)}
	if err := (&Replay{Store: live, Meta: Meta{Shards: b.shards}, Version: 1}).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if live.loud != all || live.quiet > 0 {
		t.Errorf("a replay tells of %d items, and puts %d quietly; want %d and 0", live.loud, live.quiet, all)
	}
}

// likesMany is a BulkWriter that notes how many bytes it is given at a time.
type likesMany struct {
	*view
	bytes int
	puts  []int
}

func (l *likesMany) BulkBytes() int { return l.bytes }

func (l *likesMany) PutItems(ctx context.Context, items []Stored) error {
	size := 0
	for i := range items {
		size += len(items[i].Data)
	}
	l.puts = append(l.puts, size)
	return l.view.PutItems(ctx, items)
}

func TestRebuildPutsAsManyItemsAtATimeAsTheEngineLikes(t *testing.T) {
	b := used(t, 3, 300)
	run := func(v Version, change func(*Rebuild)) []int {
		l := &likesMany{view: b.m.by(always), bytes: 5000}
		r := b.to(nil, 0, v, 0)
		r.Store = l
		change(r)
		if _, err := r.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		return l.puts[:len(l.puts)-1] // the last put has what is left
	}
	if puts := run(1, func(*Rebuild) {}); len(puts) == 0 || slices.Min(puts) < 5000 || slices.Max(puts) > 6000 {
		t.Errorf("puts of %v bytes, want a little more than 5000 each", puts)
	}
	if puts := run(2, func(r *Rebuild) { r.Rate = 1e9 }); len(puts) == 0 || slices.Min(puts) > 4999 {
		t.Errorf("puts of %v bytes though others are not to be held up, want less", puts)
	}
	if puts := run(3, func(r *Rebuild) { r.PutBytes = 500 }); len(puts) == 0 || slices.Max(puts) > 1500 {
		t.Errorf("puts of %v bytes, want about the 500 asked for", puts)
	}
}
