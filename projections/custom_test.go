package projections

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"timberline/bus/local"
	"timberline/events"
)

// GetRow implements Rows.
func (v *view) GetRow(_ context.Context, space, key string) (Row, error) {
	if _, err := v.step("get row"); err != nil {
		return Row{}, err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	row, stands := v.kept[[2]string{space, key}]
	if !stands {
		return Row{}, events.ErrNotFound
	}
	return row, nil
}

// ReadRows implements Rows.
func (m *memory) ReadRows(_ context.Context, space, from string, _ int) (all []Row, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for at, row := range m.kept {
		if at[0] == space && at[1] >= from {
			all = append(all, row)
		}
	}
	slices.SortFunc(all, func(a, b Row) int { return cmp.Compare(a.Key, b.Key) })
	return all, nil
}

// PutRows implements Rows.
func (v *view) PutRows(_ context.Context, rows []Row) error {
	if err := ValidateRows(rows); err != nil {
		return err
	}
	return putEach(v, "row", rows, v.putRow)
}

func (m *memory) putRow(row Row) {
	m.mu.Lock()
	defer m.mu.Unlock()
	at := [2]string{row.Space, row.Key}
	if stands, there := m.kept[at]; there && stands.Checkpoint >= row.Checkpoint {
		return
	}
	m.kept[at] = row
}

// DeleteRows implements Rows.
func (m *memory) DeleteRows(_ context.Context, prefix string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for at := range m.kept {
		if strings.HasPrefix(at[0], prefix) {
			delete(m.kept, at)
		}
	}
	return nil
}

// counting is a projection: how many messages each user has had, and for each other user
// the how manieth the last one with them was. A row of the latter kind whose number can be
// divided by the divisor is gone until the next message.
func counting(version uint32, divisor int) *Projection {
	return &Projection{Name: "counts", Version: version, Apply: func(given []Given, t *Table) error {
		for _, g := range given {
			for _, u := range g.Users {
				is, err := t.Get(RowKey{u, "all"})
				if err != nil {
					return err
				}
				n, _ := strconv.Atoi(string(is))
				n++
				peer, _ := g.Event.Conversation.Peer(u)
				all, with := strconv.AppendInt(nil, int64(n), 10), strconv.AppendInt(nil, int64(n), 10)
				if divisor > 0 && n%divisor == 0 {
					with = nil
				}
				if err := errors.Join(t.Set(RowKey{u, "all"}, all), t.Set(RowKey{u, "with " + string(peer)}, with)); err != nil {
					return err
				}
			}
		}
		return nil
	}}
}

// counted is what the projection has to come to, by the timelines.
func (b *bustle) counted() map[RowKey]int {
	want := make(map[RowKey]int)
	for t, items := range b.m.replay(b.t, b.shards) {
		for _, i := range items {
			item, err := i.Decode()
			if err != nil {
				b.t.Fatal(err)
			}
			for _, raw := range item.Events() {
				e, err := events.Raw(raw).Decode()
				if err != nil {
					b.t.Fatal(err)
				}
				peer, _ := e.Conversation.Peer(t.User)
				want[RowKey{t.User, "all"}]++
				want[RowKey{t.User, "with " + string(peer)}] = want[RowKey{t.User, "all"}]
			}
		}
	}
	return want
}

// rowsOf returns the rows that stand.
func (b *bustle) rowsOf(p *Projection) map[RowKey]int {
	got := make(map[RowKey]int)
	for n := range 6 {
		u := events.User(fmt.Sprint("u", n))
		rows, err := ReadProjection(b.t.Context(), b.m.by(always), p, u, "", 1<<20)
		if err != nil {
			b.t.Fatal(err)
		}
		for _, r := range rows {
			n, err := strconv.Atoi(string(r.Value))
			if err != nil {
				b.t.Fatal(err)
			}
			got[RowKey{u, r.Name}] = n
		}
	}
	return got
}

func (b *bustle) follower(v *view, p *Projection, s Shard) *Follower {
	return &Follower{Store: v, Meta: Meta{Shards: b.shards}, Shard: s, Projection: p}
}

// Whoever is interrupted, fails, or follows beside another: each message counts once.
func TestProjectionCountsEveryMessageOnce(t *testing.T) {
	interrupted := 0
	for seed := range seeds(150) {
		b := newBustle(t, seed)
		p := counting(1, 0)
		r := rand.New(rand.NewPCG(seed, 12))
		other := false
		var late []Row
		var failing *view
		failing = b.m.by(func(what string) (bool, error) {
			if r.IntN(4) == 0 {
				b.act()
			}
			if !other && r.IntN(12) == 0 { // somebody else follows the same shard
				other = true
				defer func() { other = false }()
				if _, err := b.follower(failing, p, Shard(r.IntN(int(b.shards)))).Run(t.Context()); err != nil && events.Final(err) {
					t.Fatal(err)
				}
			}
			if r.IntN(25) == 0 {
				return r.IntN(2) == 0, errors.New("throttled")
			}
			return true, nil
		})
		for range 120 {
			b.act()
			if r.IntN(6) == 0 {
				f := b.follower(failing, p, Shard(r.IntN(int(b.shards))))
				f.Store = lateRows{failing, r, &late}
				if _, err := f.Run(t.Context()); err != nil {
					interrupted++
				}
				if len(late) > 0 && r.IntN(2) == 0 {
					b.m.putRow(late[0])
					late = late[1:]
				}
			}
		}
		b.settle("before")
		for s := range Shard(b.shards) {
			if _, err := b.follower(b.m.by(always), p, s).Run(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		for _, row := range late { // of those who were overtaken long ago
			b.m.putRow(row)
		}
		if d := gocmp.Diff(b.counted(), b.rowsOf(p)); d != "" {
			t.Fatalf("seed %d (-want +got):\n%s", seed, d)
		}
	}
	if interrupted < int(seeds(150)) {
		t.Errorf("%d runs were interrupted: that proves little", interrupted)
	}
}

// lateRows is a view some of whose rows land when their writer has gone on.
type lateRows struct {
	*view
	r    *rand.Rand
	late *[]Row
}

func (l lateRows) PutRows(ctx context.Context, rows []Row) error {
	for i := range rows {
		if l.r.IntN(20) == 0 {
			*l.late = append(*l.late, rows[i])
			return errLate
		}
		if err := l.view.PutRows(ctx, rows[i:i+1]); err != nil {
			return err
		}
	}
	return nil
}

func TestAnotherVersionTakesOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := used(t, 7, 200)
		s, m := b.m.by(always), Meta{Shards: b.shards}
		old, changed := counting(1, 0), counting(2, 2)
		live := func(want uint32) {
			t.Helper()
			if v, err := LiveVersion(t.Context(), s, "counts"); err != nil || v != want {
				t.Fatalf("version %d is read, %v; want %d", v, err, want)
			}
		}
		live(0)
		if err := old.Switch(t.Context(), s, s, m); !errors.Is(err, ErrBehind) {
			t.Errorf("a version that was never run is read: %v", err)
		}
		run := func(p *Projection) {
			t.Helper()
			for shard := range Shard(b.shards) {
				if _, err := b.follower(s, p, shard).Run(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
		}
		run(old)
		for range 2 {
			if err := old.Switch(t.Context(), s, s, m); err != nil {
				t.Fatal(err)
			}
			live(1)
		}
		if err := changed.Switch(t.Context(), s, s, m); !errors.Is(err, ErrBehind) {
			t.Errorf("a version that was never run is read: %v", err)
		}
		run(changed)
		if err := errors.Join(changed.Switch(t.Context(), s, s, m)); err != nil {
			t.Fatal(err)
		}
		live(2)
		if err := changed.Drop(t.Context(), s); !errors.Is(err, ErrIsLive) {
			t.Errorf("the version that is read was dropped: %v", err)
		}
		if err := old.Drop(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		if rows := b.rowsOf(old); len(rows) > 0 {
			t.Errorf("the dropped version still has %d rows", len(rows))
		}
		for k, n := range b.rowsOf(changed) {
			if strings.HasPrefix(k.Name, "with") && n%2 == 0 {
				t.Errorf("%v is %d, though even ones are gone", k, n)
			}
		}
	})
}

// Whoever comes first: a version that is dropped is never read, and one that is read keeps
// its rows. Who runs a dropped one ends, and nobody begins it again, over rows that are left.
func TestDroppedVersionOfAProjectionIsNeverReadOrRun(t *testing.T) {
	for seed := range seeds(40) {
		b := used(t, seed, 200)
		r := rand.New(rand.NewPCG(seed, 31))
		meta, p := Meta{Shards: b.shards}, counting(2, 0)
		did, dropped := false, false
		drop := func() {
			err := p.Drop(t.Context(), b.m.by(always))
			if dropped = err == nil; err != nil && !errors.Is(err, ErrIsLive) {
				t.Fatal(err)
			}
			did = true
		}
		odds := 1000
		s := b.m.by(func(string) (bool, error) {
			if !did && r.IntN(odds) == 0 {
				drop()
			}
			return true, nil
		})
		run := func() error {
			var err error
			for shard := range Shard(b.shards) {
				if _, failed := b.follower(s, p, shard).Run(t.Context()); failed != nil {
					err = failed
				}
			}
			return err
		}
		ran := run()
		var switched error
		if ran == nil {
			odds = 4
			switched = p.Switch(t.Context(), s, s, meta)
		}
		if !did {
			drop()
		}
		for what, err := range map[string]error{"the run": ran, "the switch": switched} {
			if err != nil && (!dropped || !errors.Is(err, ErrDropped)) {
				t.Fatalf("seed %d: dropped: %v; %s: %v", seed, dropped, what, err)
			}
		}
		live, err := LiveVersion(t.Context(), s, p.Name)
		if err != nil || dropped == (live == p.Version) {
			t.Fatalf("seed %d: dropped: %v, version %d is read, %v", seed, dropped, live, err)
		}
		again := run()
		if !dropped {
			if want, got := b.counted(), b.rowsOf(p); again != nil || !gocmp.Equal(want, got) {
				t.Fatalf("seed %d: run again: %v (-want +got)\n%s", seed, again, gocmp.Diff(want, got))
			}
			continue
		}
		if err := p.Drop(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		if rows := b.rowsOf(p); !errors.Is(again, ErrDropped) || len(rows) > 0 {
			t.Fatalf("seed %d: run again: %v; %d rows are left", seed, again, len(rows))
		}
		if err := Follow(t.Context(), *b.follower(s, p, 0), 0, nil); !errors.Is(err, ErrDropped) {
			t.Fatalf("seed %d: followed: %v", seed, err)
		}
	}
}

// However many are dropped, and whichever is read since.
func TestVersionsOfAProjectionStayDropped(t *testing.T) {
	b := newBustle(t, 11)
	s, meta := b.m.by(always), Meta{Shards: b.shards}
	read := func(p *Projection) {
		t.Helper()
		for shard := range Shard(b.shards) {
			if err := b.follower(s, p, shard).keep(t.Context(), 1, step{4, 4}); err != nil {
				t.Fatal(err)
			}
		}
		if err := p.Switch(t.Context(), s, s, meta); err != nil {
			t.Fatal(err)
		}
	}
	drop := func(p *Projection) {
		t.Helper()
		if err := p.Drop(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	read(counting(1, 0))
	drop(counting(2, 0))
	drop(counting(3, 0))
	read(counting(4, 0))
	drop(counting(1, 0))
	read(counting(5, 0))
	for v := range uint32(3) {
		p := counting(v+1, 0)
		if err := p.Switch(t.Context(), s, s, meta); !errors.Is(err, ErrDropped) {
			t.Errorf("version %d is switched to: %v, want ErrDropped", p.Version, err)
		}
		if _, err := b.follower(s, p, 0).Run(t.Context()); !errors.Is(err, ErrDropped) {
			t.Errorf("version %d is run: %v, want ErrDropped", p.Version, err)
		}
	}
}

// A journal may be trimmed between the look at which are, and the first record that a step has
// of it.
func TestFollowerGoesOnWithoutAJournalThatIsTrimmedUnderIt(t *testing.T) {
	b := used(t, 7, 200)
	asked := 0
	s := b.m.by(func(what string) (bool, error) {
		if what != "read log" {
			return true, nil
		}
		if asked++; asked == 1 {
			for i := range b.m.rows {
				b.m.rows[i].Trimmed = true
				clear(b.m.records[b.m.rows[i].Journal()])
			}
		}
		if asked > 100 {
			return false, errors.New("it asks for ever")
		}
		return true, nil
	})
	n, err := b.follower(s, counting(1, 0), 0).Run(t.Context())
	if last := len(b.m.checkpoints[0]); err != nil || int(n) != last {
		t.Errorf("followed up to checkpoint %d of %d, %v", n, last, err)
	}
}

// What a version has begun to write was perhaps read already, so the next one has to have it.
func TestSwitchWaitsForWhatTheOtherVersionHasBegun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBustle(t, 11)
		s, meta := b.m.by(always), Meta{Shards: b.shards}
		places := func(p *Projection, k CheckpointNumber, st step) {
			for shard := range Shard(b.shards) {
				if err := b.follower(s, p, shard).keep(t.Context(), k, st); err != nil {
					t.Fatal(err)
				}
			}
		}
		old, next := counting(1, 0), counting(2, 0)
		places(old, 1, step{4, 4})
		places(next, 1, step{4, 4})
		if err := old.Switch(t.Context(), s, s, meta); err != nil {
			t.Fatal(err)
		}
		places(old, 2, step{4, 9})
		if err := next.Switch(t.Context(), s, s, meta); !errors.Is(err, ErrBehind) {
			t.Errorf("switched: %v, want ErrBehind", err)
		}
		places(next, 2, step{9, 9})
		if err := next.Switch(t.Context(), s, s, meta); err != nil {
			t.Error(err)
		}
	})
}

// A follower looks once in a second only, and is nearly always a checkpoint behind.
func TestSwitchWaitsForAFollower(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBustle(t, 11)
		s := b.m.by(always)
		busy := func() {
			for range 20 {
				b.act()
			}
			b.settle("busy")
		}
		busy()
		p := counting(1, 0)
		follow := func() {
			for shard := range Shard(b.shards) {
				if _, err := b.follower(s, p, shard).Run(t.Context()); err != nil {
					t.Error(err)
				}
			}
		}
		follow()
		busy() // so it is behind again
		go func() {
			for range 3 {
				time.Sleep(time.Second)
				follow()
				busy()
			}
		}()
		if err := p.Switch(t.Context(), s, s, Meta{Shards: b.shards}); err != nil {
			t.Errorf("not switched: %v", err)
		}
		time.Sleep(time.Minute) // for the follower
	})
}

func TestFollowGoesOnWithWhatComes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBustle(t, 9)
		b.settle("before")
		p := counting(1, 0)
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			done <- Follow(ctx, *b.follower(b.m.by(always), p, 0), time.Second, func(Shard, CheckpointNumber, error) {})
		}()
		for range 3 {
			for range 40 {
				b.act()
			}
			b.settle("meanwhile")
			time.Sleep(2 * time.Second)
			synctest.Wait()
			if d := gocmp.Diff(b.counted(), b.rowsOf(p)); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		}
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// In one shard there is another checkpoint whenever somebody asks: the others have their turn all
// the same.
func TestNoShardKeepsAFollowerFromTheOthers(t *testing.T) {
	b := newBustle(t, 3)
	b.shards = 2
	projector := newProjector(t, b.m.by(always), new(local.Bus), b.shards)
	more := func() {
		b.append(b.journals[0], b.message(1)) // of u0
		if err := projector.catchUp(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	more()
	shard := ShardOf(events.User("u0").Slot(), b.shards)
	asked := 0
	s := b.m.by(func(what string) (bool, error) {
		if what == "last checkpoint" {
			if asked++; asked == 1000 {
				t.Fatalf("%d checkpoints of one shard, and no end", len(b.m.checkpoints[shard]))
			}
			more()
		}
		return true, nil
	})
	ctx, stop := context.WithCancel(t.Context())
	had := make(map[Shard]CheckpointNumber)
	err := Follow(ctx, *b.follower(s, counting(1, 0), 0), time.Second, func(s Shard, n CheckpointNumber, err error) {
		if err != nil {
			t.Error(err)
		}
		if had[s] = n; len(had) == int(b.shards) {
			stop()
		}
	})
	if err != nil || had[shard] == 0 {
		t.Errorf("followed %v, %v", had, err)
	}
}

// Follow tries again what the store cannot do, even if Apply says nothing of it, and ends
// when it is Apply that fails.
func TestFollowOutlivesErrorsOfTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := used(t, 9, 100)
		steps, failed := 0, 0
		away := b.m.by(func(string) (bool, error) {
			if steps++; steps%61 == 0 {
				return false, errThrottled
			}
			return true, nil
		})
		p := counting(1, 0)
		deaf := *p
		deaf.Apply = func(given []Given, table *Table) error {
			p.Apply(given, table)
			return nil
		}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			done <- Follow(ctx, *b.follower(away, &deaf, 0), time.Second, func(_ Shard, _ CheckpointNumber, err error) {
				if err != nil {
					failed++
				}
			})
		}()
		time.Sleep(time.Hour)
		if d := gocmp.Diff(b.counted(), b.rowsOf(p)); d != "" || failed < 3 {
			t.Errorf("after %d errors (-want +got):\n%s", failed, d)
		}
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
		deaf.Name, deaf.Apply = "broken", func([]Given, *Table) error { return errThrottled }
		if err := Follow(t.Context(), *b.follower(b.m.by(always), &deaf, 0), time.Second, nil); !errors.Is(err, errThrottled) {
			t.Errorf("Apply fails, and it is told as %v", err)
		}
	})
}

func TestProjectionThatCannotBeIsRefused(t *testing.T) {
	b := newBustle(t, 1)
	apply := counting(1, 0).Apply
	for _, p := range []*Projection{{Name: "A", Version: 1, Apply: apply}, {Version: 1, Apply: apply}, {Name: "a", Apply: apply}, {Name: "a", Version: 1}, {Name: strings.Repeat("a", 41), Version: 1, Apply: apply}} {
		if _, err := b.follower(b.m.by(always), p, 0).Run(t.Context()); err == nil {
			t.Errorf("%+v follows", p)
		}
	}
	broken := errors.New("not today")
	for range 50 {
		b.act()
	}
	b.settle("before")
	p := &Projection{Name: "broken", Version: 1, Apply: func([]Given, *Table) error { return broken }}
	if _, err := b.follower(b.m.by(always), p, 0).Run(t.Context()); !errors.Is(err, broken) {
		t.Errorf("what Apply says is told as %v", err)
	}
}

// A row that has been as long as may be can be that again: what it was before is kept, too.
func TestRowsBeyondTheirLimitsAreRefused(t *testing.T) {
	b := newBustle(t, 4)
	set := func(version uint32, name string, size int) error {
		long := &Projection{Name: strings.Repeat("n", 40), Version: version, Apply: func(given []Given, t *Table) error {
			return t.Set(RowKey{given[0].Users[0], name}, bytes.Repeat([]byte{byte('a' + b.r.IntN(26))}, size))
		}}
		for s := range Shard(b.shards) {
			if _, err := b.follower(b.m.by(always), long, s).Run(t.Context()); err != nil {
				return err
			}
		}
		return nil
	}
	for range 3 {
		for range 60 {
			b.act()
		}
		b.settle("now and then")
		if err := set(1<<32-1, strings.Repeat("n", 200), MaxValue); err != nil {
			t.Fatalf("as long as may be: %v", err)
		}
	}
	for i, refused := range []struct {
		name string
		size int
	}{{"", 1}, {"n\x00", 1}, {"\xff", 1}, {strings.Repeat("n", 201), 1}, {"n", MaxValue + 1}} {
		if err := set(uint32(i+1), refused.name, refused.size); !errors.Is(err, ErrRow) {
			t.Errorf("name %.10q, %d bytes: %v, want ErrRow", refused.name, refused.size, err)
		}
	}
}

func TestDamagedRowIsNamed(t *testing.T) {
	b := used(t, 2, 100)
	p := counting(1, 0)
	if _, err := b.follower(b.m.by(always), p, 0).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	for at, row := range b.m.kept {
		row.Data = b.flip(row.Data)
		b.m.kept[at] = row
		if at[0] == p.places() {
			if _, err := b.follower(b.m.by(always), p, 0).Run(t.Context()); !events.Final(err) || !strings.Contains(err.Error(), "row 0 of p/counts.1/*") {
				t.Errorf("its place is damaged, and it says %v", err)
			}
			continue
		}
		u := events.User(strings.TrimPrefix(at[0], p.prefix()))
		if _, err := ReadProjection(t.Context(), b.m.by(always), p, u, "", 1<<20); !events.Final(err) || !strings.Contains(err.Error(), "of "+at[0]) {
			t.Errorf("row %s of %s is damaged, and a reader gets %v", at[1], at[0], err)
		}
	}
}

// A row of somebody whom Given does not name may be another shard's, whose checkpoints have
// other numbers: it would be written by neither, or waited for without end.
func TestRowOfAUserOfAnotherShardIsRefused(t *testing.T) {
	bySender := &Projection{Name: "by-sender", Version: 1, Apply: func(given []Given, t *Table) error {
		for _, g := range given {
			k := RowKey{g.Event.Sender, "sent"}
			is, err := t.Get(k)
			if err == nil {
				err = t.Set(k, append(slices.Clone(is), 'x'))
			}
			if err != nil {
				return err
			}
		}
		return nil
	}}
	refused := 0
	for seed := range seeds(20) {
		b := used(t, seed, 300)
		for s := range Shard(b.shards) {
			steps := 0
			v := b.m.by(func(string) (bool, error) {
				if steps++; steps > 100_000 {
					return false, errors.New("it never ends")
				}
				return true, nil
			})
			_, err := b.follower(v, bySender, s).Run(t.Context())
			if errors.Is(err, ErrRow) {
				refused++
			} else if err != nil || b.shards > 1 && len(b.m.checkpoints[s]) > 20 {
				t.Errorf("seed %d, shard %d of %d: %v, want it to be refused", seed, s, b.shards, err)
			}
		}
	}
	if refused == 0 {
		t.Error("no store has two shards: that proves little")
	}
}
