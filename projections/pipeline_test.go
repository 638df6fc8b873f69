package projections

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"timberline/bus/local"
	"timberline/events"
)

// A slow store takes a while for each call.
type slow struct {
	*view
	each    time.Duration
	calls   int
	commits int
	putting atomic.Int32
}

func (s *slow) wait() {
	s.calls++
	time.Sleep(s.each)
}

func (s *slow) ReadLog(ctx context.Context, j events.Journal, from events.Offset, size int, c events.Consistency) ([]events.Record, error) {
	s.wait()
	return s.view.ReadLog(ctx, j, from, size, c)
}

func (s *slow) LastCheckpoint(ctx context.Context, shard Shard, c events.Consistency) (CheckpointNumber, []byte, error) {
	s.wait()
	return s.view.LastCheckpoint(ctx, shard, c)
}

func (s *slow) ReadCheckpoints(ctx context.Context, shard Shard, from CheckpointNumber, size int) ([][]byte, error) {
	s.wait()
	return s.view.ReadCheckpoints(ctx, shard, from, size)
}

func (s *slow) NewestItem(ctx context.Context, t Timeline, c events.Consistency) (Stored, error) {
	time.Sleep(s.each) // many at a time
	return s.view.NewestItem(ctx, t, c)
}

func (s *slow) Commit(ctx context.Context, shard Shard, n CheckpointNumber, cp []byte, items []Stored) ([]byte, error) {
	s.commits++
	s.wait()
	if stands, err := s.view.Commit(ctx, shard, n, cp, nil); err != nil || len(items) == 0 {
		return stands, err
	}
	return nil, s.PutItems(ctx, items)
}

func (s *slow) PutItems(ctx context.Context, items []Stored) error {
	s.putting.Add(1)
	defer s.putting.Add(-1)
	time.Sleep(s.each)
	return s.view.PutItems(ctx, items)
}

// backlog returns a memory whose log has so many records, of which a projector has been
// through none.
func backlog(t *testing.T, records int) *memory {
	m := newMemory()
	w := &scribe{t: t, m: m, r: rand.New(rand.NewPCG(1, 16))}
	j := w.open()
	for range records {
		w.append(j, w.message(6), w.message(6))
	}
	return m
}

// neverResting has something done beside a projector that appends checkpoints as fast as the
// store takes them, beginning at ten places in its step. told is called with how many tries to
// append what was done took, and how many records the projector was still to go through.
func neverResting(t *testing.T, do func(ctx context.Context, phase int, m *memory, s *slow) error, told func(t *testing.T, phase, tries, left int, err error)) {
	const each = 10 * time.Millisecond
	for phase := range 10 {
		synctest.Test(t, func(t *testing.T) {
			m := backlog(t, 3000)
			at := &slow{view: m.by(always), each: each}
			p := newProjector(t, at.view, new(local.Bus), 1)
			p.cfg.Log, p.cfg.Checkpoints, p.cfg.Items = at, at, at
			ctx, stop := context.WithCancel(t.Context())
			done := make(chan error)
			go func() { done <- p.Run(ctx) }()
			time.Sleep(3*time.Second + time.Duration(phase)*(each/3+1)) // a hundred checkpoints
			s := &slow{view: m.by(always), each: each + 1}              // of what is due at a time nobody knows the order
			err := do(ctx, phase, m, s)
			left := 3000 - int(p.shards[0].committed.at[1])
			stop()
			<-done
			told(t, phase, s.commits, left, err)
		})
	}
}

// A projector that never rests does not keep a rebuild from switching, wherever in the
// projector's step that has caught up.
func TestRebuildSwitchesWhileTheProjectorNeverRests(t *testing.T) {
	const most = 6
	var n CheckpointNumber
	neverResting(t, func(ctx context.Context, phase int, _ *memory, s *slow) (err error) {
		r := &Rebuild{Replay: Replay{Store: s, Meta: Meta{Shards: 1}, Version: 1}}
		if phase%2 == 1 {
			r.Rate = 1000 // more than the projector's
		}
		n, err = r.Run(ctx)
		return err
	}, func(t *testing.T, phase, tries, left int, err error) {
		if err != nil || tries > most || left < 100 {
			t.Errorf("phase %d: switched at checkpoint %d with try %d, %v, %d records before the end of the log; want %d tries at most",
				phase, n, tries, err, left, most)
		}
	})
}

// Likewise a drop: it has a checkpoint to append, too.
func TestDropGetsThroughWhileTheProjectorNeverRests(t *testing.T) {
	const most = 8
	neverResting(t, func(ctx context.Context, _ int, m *memory, s *slow) error {
		return (&Replay{Store: s, Meta: Meta{Shards: 1}, Version: 1}).Drop(ctx, m)
	}, func(t *testing.T, phase, tries, left int, err error) {
		if err != nil || tries > most || left < 100 {
			t.Errorf("phase %d: dropped with try %d, %v, %d records before the end of the log; want %d tries at most", phase, tries, err, left, most)
		}
	})
}

// replaying returns what replays a backlog, whose items fill many puts.
func replaying(t *testing.T) (*slow, *Replay) {
	m := backlog(t, 300)
	if err := newProjector(t, m.by(always), new(local.Bus), 1).catchUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	clear(m.items)
	s := &slow{view: m.by(always), each: time.Millisecond}
	return s, &Replay{Store: s, Meta: Meta{Shards: 1}, Empty: true, PutBytes: 1}
}

func TestReplayReadsOnWhileItPuts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, r := replaying(t)
		r.PutBytes = 2000 // some items at a time: the puts take as long as the reads
		puts := 0
		s.step = func(what string) (bool, error) {
			if what == "item" {
				puts++
			}
			return true, nil
		}
		began := time.Now()
		if err := r.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		reads := time.Duration(s.calls) * s.each
		if took := time.Since(began); took > reads+10*s.each || puts < 200 {
			t.Errorf("it took %v, and reading takes %v; %d items were put", took, reads, puts)
		}
	})
}

// Whatever ends a replay, nothing is on its way when it has ended.
func TestNothingIsOnItsWayWhenAReplayHasEnded(t *testing.T) {
	broken := errors.New("broken")
	for name, test := range map[string]struct {
		step func(n int, stop func()) error // of the n-th item put
		want error
	}{
		"stopped":    {func(n int, stop func()) error { stop(); return nil }, context.Canceled},
		"put failed": {func(n int, stop func()) error { return broken }, broken},
	} {
		synctest.Test(t, func(t *testing.T) {
			s, r := replaying(t)
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			items := 0
			s.step = func(what string) (bool, error) {
				if what != "item" {
					return true, nil
				}
				if items++; items > 20 {
					return true, test.step(items, stop)
				}
				return true, nil
			}
			err := r.Run(ctx)
			if n := s.putting.Load(); !errors.Is(err, test.want) || n > 0 {
				t.Errorf("%s: %v, want %v; %d puts are on their way", name, err, test.want, n)
			}
		})
	}
}

// What a replay says is durable is, and so is what it keeps to go on from.
func TestReplayTellsOfWhatIsPut(t *testing.T) {
	for seed := range seeds(20) {
		synctest.Test(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 17))
			m := newMemory()
			write(t, m, r, 1)
			want := m.replay(t, 1)
			s := &slow{view: m.by(always), each: time.Millisecond}
			whole := func(what string, upto CheckpointNumber) {
				m.mu.Lock()
				defer m.mu.Unlock()
				for at, items := range want {
					for i, stored := range items {
						item, err := stored.Decode()
						if err != nil {
							t.Fatal(err)
						}
						if have := m.items[Timeline{1, at.User}]; item.Checkpoint <= upto && len(have) <= i {
							t.Fatalf("seed %d: %s is checkpoint %d, and %s has %d items, want %d and more", seed, what, upto, at, len(have), i+1)
						}
					}
				}
			}
			kept, told := 0, 0
			rebuild := &Rebuild{Replay: Replay{Store: keeper{s, func(row Row) { whole("kept", row.Checkpoint); kept++ }}, Meta: Meta{Shards: 1}, Version: 1}}
			rebuild.PutBytes, rebuild.KeepEvery, rebuild.maxTails = 1+r.IntN(500), 1, 1+r.IntN(6)
			rebuild.Told = func(p ReplayProgress) { whole("told", p.Checkpoint); told++ }
			n, err := rebuild.Run(t.Context())
			if err != nil || kept == 0 || told == 0 {
				t.Fatalf("seed %d: %v, kept %d times, told %d times", seed, err, kept, told)
			}
			whole("switched at", n)
		})
	}
}

// A keeper looks at what is kept.
type keeper struct {
	*slow
	look func(Row)
}

func (k keeper) PutRows(ctx context.Context, rows []Row) error {
	for _, row := range rows {
		k.look(row)
	}
	return k.slow.PutRows(ctx, rows)
}
