package projections

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"timberline/events"
)

// CutCheckpoints implements Upkeep.
func (m *memory) CutCheckpoints(context.Context, Shard, CheckpointNumber) error {
	panic("not cut here")
}

// DeleteRecords implements Upkeep.
func (m *memory) DeleteRecords(_ context.Context, j events.Journal, below events.Offset) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.records[j][:below-1])
	return nil
}

// DeleteItems implements Upkeep.
func (m *memory) DeleteItems(_ context.Context, t Timeline, below events.Seq) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.items[t] = slices.DeleteFunc(m.items[t], func(s Stored) bool { return s.Last < below })
	return nil
}

// EmptyTimelines implements Upkeep.
func (m *memory) EmptyTimelines(context.Context) error { panic("not emptied here") }

// verify returns what a verification finds.
func verify(t *testing.T, m *memory, shards uint32, repair bool) (all []Finding, p VerifyProgress) {
	t.Helper()
	v := Verification{Store: m.by(always), Meta: Meta{Shards: shards}, Repair: repair, Found: func(f Finding) { all = append(all, f) }}
	p, err := v.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if int(p.Found) != len(all) {
		t.Errorf("%d found, %d told of", p.Found, len(all))
	}
	return all, p
}

// A damage does something to a store, and returns what the finding has to name.
type damage func(b *bustle) (where string, repairable bool)

// pick returns an item, whose checkpoint is not the last one of its shard.
func (b *bustle) pick() (t Timeline, i int) {
	for {
		all := slices.SortedFunc(maps.Keys(b.m.items), func(x, y Timeline) int { return strings.Compare(x.String(), y.String()) })
		t = all[b.r.IntN(len(all))]
		s := ShardOf(t.User.Slot(), b.shards)
		if t.Version != b.versions(s).Live {
			continue
		}
		i = b.r.IntN(len(b.m.items[t]))
		if item, err := b.m.items[t][i].Decode(); err == nil && int(item.Checkpoint) < len(b.m.checkpoints[s]) {
			return t, i
		}
	}
}

func (b *bustle) flip(data []byte) []byte {
	data = bytes.Clone(data)
	data[b.r.IntN(len(data))] ^= 1 << b.r.IntN(8)
	return data
}

func (b *bustle) record() (events.Journal, int) {
	for {
		j := events.JournalNumbered(1 + uint64(b.r.IntN(len(b.m.rows))))
		if n := len(b.m.records[j]); n >= 3 {
			return j, b.r.IntN(n)
		}
	}
}

var damages = map[string]damage{
	"a bit of an item": func(b *bustle) (string, bool) {
		t, i := b.pick()
		b.m.items[t][i].Data = b.flip(b.m.items[t][i].Data)
		return fmt.Sprintf("timeline of %s, seqs", t), true
	},
	"an item is gone": func(b *bustle) (string, bool) {
		t, i := b.pick()
		last := b.m.items[t][i].Last
		b.m.items[t] = slices.Delete(b.m.items[t], i, i+1)
		return fmt.Sprintf("to %d", last), true
	},
	"a timeline is gone": func(b *bustle) (string, bool) {
		t, _ := b.pick()
		delete(b.m.items, t)
		return fmt.Sprintf("timeline of %s, seqs 1 to", t), true
	},
	"an item of another's": func(b *bustle) (string, bool) {
		t, i := b.pick()
		item, _ := b.m.items[t][i].Decode()
		item.Entries[0].Event = anEvent("never sent")
		b.m.items[t][i] = item.Encode(t)
		return fmt.Sprintf("timeline of %s, seqs %d to %d", t, item.First, item.Last()), true
	},
	"an item that nobody wrote": func(b *bustle) (string, bool) {
		t, _ := b.pick()
		end := b.m.items[t][len(b.m.items[t])-1]
		item := Item{First: end.Last + 1, Checkpoint: 1, Entries: []Entry{{Event: anEvent("never sent")}}}
		b.m.items[t] = append(b.m.items[t], item.Encode(t))
		return fmt.Sprintf("ends at seq %d", end.Last+1), false
	},
	"an item of a checkpoint that is not there": func(b *bustle) (string, bool) {
		t, _ := b.pick()
		end := b.m.items[t][len(b.m.items[t])-1]
		item := Item{First: end.Last + 1, Checkpoint: 1 << 40, Entries: []Entry{{Event: anEvent("never sent")}}}
		b.m.items[t] = append(b.m.items[t], item.Encode(t))
		return fmt.Sprintf("ends at seq %d", end.Last+1), false
	},
	"a user that nobody wrote to": func(b *bustle) (string, bool) {
		t := Timeline{b.versions(ShardOf(events.User("eve").Slot(), b.shards)).Live, "eve"}
		item := Item{First: 1, Checkpoint: 1, Entries: []Entry{{Event: anEvent("never sent")}}}
		b.m.items[t] = []Stored{item.Encode(t)}
		return "timeline of " + t.String(), false
	},
	"a bit of a record": func(b *bustle) (string, bool) {
		j, i := b.record()
		b.m.records[j][i] = b.flip(b.m.records[j][i])
		return fmt.Sprintf("journal %s, record %d", j, i+1), false
	},
	"two records are exchanged": func(b *bustle) (string, bool) {
		j, i := b.record()
		i = max(i, 1)
		b.m.records[j][i-1], b.m.records[j][i] = b.m.records[j][i], b.m.records[j][i-1]
		return fmt.Sprintf("journal %s, record %d", j, i), false
	},
	"a record is gone": func(b *bustle) (string, bool) {
		j, i := b.record()
		i = min(max(i, 1), len(b.m.records[j])-2) // between others
		b.m.records[j][i] = nil
		return fmt.Sprintf("journal %s, record %d", j, i+1), false
	},
	"an event that is none": func(b *bustle) (string, bool) {
		j := events.JournalNumbered(uint64(len(b.m.rows)))
		b.m.records[j] = append(b.m.records[j], events.NewRecord(j, events.Offset(len(b.m.records[j])+1), [][]byte{b.other(events.KindSessionClosed), {0xff}}))
		return fmt.Sprintf("journal %s, record %d, event 1", j, len(b.m.records[j])), false
	},
	"ids that do not rise": func(b *bustle) (string, bool) {
		j := events.JournalNumbered(uint64(len(b.m.rows)))
		b.m.records[j] = append(b.m.records[j], events.NewRecord(j, events.Offset(len(b.m.records[j])+1), [][]byte{anEvent("old"), anEvent("old")}))
		return fmt.Sprintf("journal %s, record %d, event 1", j, len(b.m.records[j])), false
	},
	"the end of a journal is gone": func(b *bustle) (string, bool) {
		j, _ := b.record()
		b.m.records[j] = b.m.records[j][:1]
		return "shard", false
	},
	"a journal that has ended is gone": func(b *bustle) (string, bool) {
		j := b.open() // of which no checkpoint has read anything
		b.m.rows[len(b.m.rows)-1].Ended = 3
		return fmt.Sprintf("journal %s, record 1", j), false
	},
	"the end of a journal that no checkpoint has read is gone": func(b *bustle) (string, bool) {
		j := b.open()
		b.append(j, b.other(events.KindSessionClosed))
		b.m.rows[len(b.m.rows)-1].Ended = 3
		return fmt.Sprintf("journal %s, record 2", j), false
	},
	"a row is gone": func(b *bustle) (string, bool) {
		n := len(b.m.rows)
		b.append(events.JournalNumbered(uint64(n)), b.other(events.KindSessionClosed))
		b.m.rows = b.m.rows[:n-1]
		return fmt.Sprintf("journal j:%d", n), false
	},
	"a bit of a checkpoint": func(b *bustle) (string, bool) {
		all := b.m.checkpoints[0]
		i := b.r.IntN(len(all))
		all[i] = b.flip(all[i])
		return "shard 0, ", false
	},
	"a checkpoint is gone": func(b *bustle) (string, bool) {
		all := b.m.checkpoints[0]
		i := b.r.IntN(len(all) - 1)
		all[i] = nil
		return fmt.Sprintf("shard 0, checkpoint %d", i+1), false
	},
	"a checkpoint whose full one is none": func(b *bustle) (string, bool) {
		all := b.m.checkpoints[0]
		n := CheckpointNumber(len(all) + 1)
		cp := Checkpoint{Rules: newestRules(), Version: b.versions(0).Live, Full: n + 1}
		b.m.checkpoints[0] = append(all, cp.Encode(0, n))
		return fmt.Sprintf("shard 0, checkpoint %d", n), false
	},
	"a checkpoint that goes back": func(b *bustle) (string, bool) {
		all := b.m.checkpoints[0]
		n := CheckpointNumber(len(all) + 1)
		cp := Checkpoint{Rules: newestRules(), Version: b.versions(0).Live, Full: 1, Moved: []Position{{Journal: 1, Offset: 0}}}
		b.m.checkpoints[0] = append(all, cp.Encode(0, n))
		return fmt.Sprintf("shard 0, checkpoint %d", n), false
	},
}

// What a newer program has written is no damage: that program reads it.
func TestVerificationTellsANewerVersionFromDamage(t *testing.T) {
	b := newBustle(t, 1)
	b.settle("before")
	n := CheckpointNumber(len(b.m.checkpoints[0]) + 1)
	cp := Checkpoint{Rules: newestRules() + 1, Version: b.versions(0).Live, Full: 1}
	b.m.checkpoints[0] = append(b.m.checkpoints[0], cp.Encode(0, n))
	all, _ := verify(t, b.m, b.shards, false)
	if !slices.ContainsFunc(all, func(f Finding) bool { return f.In == InVersion }) || slices.ContainsFunc(all, func(f Finding) bool { return f.In == InSource }) {
		t.Errorf("found %+v, want what another version wrote, and no damage", all)
	}
}

func TestVerificationFindsWhateverIsDamaged(t *testing.T) {
	for what, do := range damages {
		for seed := range seeds(40) {
			b := newBustle(t, seed)
			for range 150 {
				b.act()
			}
			if seed%2 == 0 {
				if _, err := b.rebuild(0, 1, 0); err != nil {
					t.Fatal(err)
				}
			}
			b.settle("before")
			if all, p := verify(t, b.m, b.shards, true); len(all) > 0 || p.Items == 0 || p.Records == 0 || p.Events == 0 {
				t.Fatalf("%s, seed %d: nothing is damaged yet, and found is %v; %+v", what, seed, all, p)
			}
			whole := b.m.copyOfItems()
			where, repairable := do(b)
			all, _ := verify(t, b.m, b.shards, false)
			if !slices.ContainsFunc(all, func(f Finding) bool { return strings.Contains(f.Where, where) && !f.Repaired }) {
				t.Fatalf("%s, seed %d: found is %v, want something at %q", what, seed, all, where)
			}
			if !repairable { // the log does not prove what should stand there: nothing is written
				damaged := b.m.copyOfItems()
				all, _ = verifyOver(t, b)
				if len(all) == 0 || slices.ContainsFunc(all, func(f Finding) bool { return f.Repaired }) || !reflect.DeepEqual(damaged, b.m.items) {
					t.Fatalf("%s, seed %d: repaired, though nothing proves what should be there: %v", what, seed, all)
				}
				continue
			}
			if all, _ = verifyOver(t, b); slices.ContainsFunc(all, func(f Finding) bool { return !f.Repaired }) {
				t.Fatalf("%s, seed %d: not repaired: %v", what, seed, all)
			}
			if !reflect.DeepEqual(whole, b.m.items) {
				t.Fatalf("%s, seed %d: repaired, but not as it was", what, seed)
			}
		}
	}
}

// copyOfItems returns all timelines as they are now.
func (m *memory) copyOfItems() map[Timeline][]Stored {
	all := maps.Clone(m.items)
	for t, items := range all {
		all[t] = slices.Clone(items)
	}
	return all
}

// verifyOver repairs in a memory that takes other bytes in place of damaged ones.
func verifyOver(t *testing.T, b *bustle) ([]Finding, VerifyProgress) {
	t.Helper()
	b.m.over = true
	defer func() { b.m.over = false }()
	return verify(t, b.m, b.shards, true)
}

// What is written meanwhile is no finding, nor is what the last checkpoint still has to
// give.
func TestVerificationBesideProjectorsFindsNothing(t *testing.T) {
	due := uint64(0)
	for seed := range seeds(600) {
		b := newBustle(t, seed)
		for range 100 {
			b.act()
		}
		v := Verification{Store: b.m.by(func(string) (bool, error) {
			b.act()
			return true, nil
		}), Meta: Meta{Shards: b.shards}, Found: func(f Finding) { t.Errorf("seed %d: %+v", seed, f) }}
		p, err := v.Run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		due += p.Due
	}
	if due == 0 {
		t.Error("no item was missing behind a last checkpoint: that proves little")
	}
}

// What is missing in a version that is dropped meanwhile is no finding, and is not put again.
func TestVerificationOfAVersionThatIsDroppedEnds(t *testing.T) {
	ended := 0
	for seed := range seeds(100) {
		b := used(t, seed, 150)
		did := false
		v := Verification{Store: b.m.by(func(string) (bool, error) {
			if !did && b.r.IntN(40) == 0 {
				did = true
				if _, err := b.to(b.m.by(always), 0, 1, 0).Run(t.Context()); err != nil {
					t.Fatal(err)
				}
				if err := b.to(b.m.by(always), 0, 0, 0).Drop(t.Context(), b.m); err != nil {
					t.Fatal(err)
				}
			}
			return true, nil
		}), Meta: Meta{Shards: b.shards}, Repair: seed%2 == 1, Found: func(f Finding) { t.Errorf("seed %d: %+v", seed, f) }}
		_, err := v.Run(t.Context())
		if errors.Is(err, ErrDropped) {
			ended++
		} else if err != nil {
			t.Fatal(err)
		}
		for at, items := range b.m.items {
			if did && at.Version == 0 && ShardOf(at.User.Slot(), b.shards) == 0 && len(items) > 0 {
				t.Errorf("seed %d: %d items of %s are there again", seed, len(items), at)
			}
		}
	}
	if ended == 0 {
		t.Error("no version was dropped while it was verified: that proves little")
	}
}

func TestVerificationEndsWithItsContextOrTheStoresErrors(t *testing.T) {
	b := used(t, 3, 100)
	steps := rand.New(rand.NewPCG(1, 1))
	failed := 0
	for range 30 {
		v := Verification{Store: b.m.by(func(string) (bool, error) {
			if steps.IntN(4) == 0 {
				return false, fmt.Errorf("throttled")
			}
			return true, nil
		}), Meta: Meta{Shards: b.shards}, Found: func(f Finding) { t.Errorf("found %+v", f) }}
		if _, err := v.Run(t.Context()); err != nil {
			failed++
		}
	}
	if failed == 0 {
		t.Error("no verification failed, though the store did")
	}
}

// A quitter is a store whose reader gives up when one of its scans begins.
type quitter struct {
	Whole
	quit context.CancelFunc
}

func (q quitter) ScanItems(ctx context.Context, v Version, visit func(Stored) error) error {
	q.quit()
	return q.Whole.ScanItems(ctx, v, visit)
}

func (q quitter) JournalEnds(ctx context.Context) (map[uint64]events.Offset, error) {
	defer q.quit()
	return q.Whole.JournalEnds(ctx)
}

// onlyScans quits later.
type onlyScans struct{ quitter }

func (q onlyScans) JournalEnds(ctx context.Context) (map[uint64]events.Offset, error) {
	return q.Whole.JournalEnds(ctx)
}

// An engine that does not look at the context is no reason to go on for nobody.
func TestWorkOnAWholeStoreEndsWithItsContext(t *testing.T) {
	b := newBustle(t, 3)
	for range 100 {
		b.act()
	}
	b.complete()
	meta := Meta{Shards: b.shards}
	for name, work := range map[string]func(context.Context, quitter) error{
		"verify the log": func(ctx context.Context, q quitter) error {
			p, err := (&Verification{Store: q, Meta: meta, Found: func(Finding) {}}).Run(ctx)
			if p.Records > 0 {
				return fmt.Errorf("%d records were read", p.Records)
			}
			return err
		},
		"verify timelines": func(ctx context.Context, q quitter) error {
			_, err := (&Verification{Store: onlyScans{q}, Meta: meta, Found: func(Finding) {}}).Run(ctx)
			return err
		},
		"trim": func(ctx context.Context, q quitter) error {
			_, err := (&Trim{Store: q, Meta: meta, Keep: 1}).Run(ctx)
			return err
		},
		"drop": func(ctx context.Context, q quitter) error {
			s := Shard(0)
			live := b.versions(s).Live
			if _, err := b.rebuild(s, b.versions(s).Next, 0); err != nil {
				return err
			}
			return (&Replay{Store: q, Meta: meta, Shard: s, Version: live}).Drop(ctx, q)
		},
	} {
		ctx, quit := context.WithCancel(t.Context())
		if err := work(ctx, quitter{b.m.by(always), quit}); !errors.Is(err, context.Canceled) {
			t.Errorf("%s goes on: %v", name, err)
		}
		quit()
	}
}

// A stuck store fails in one part of a verification at once, and the others would take for
// ever.
type stuck struct {
	Whole
	fails string
}

var errStuck = errors.New("it cannot be read")

func (s stuck) part(ctx context.Context, name string) error {
	if name == s.fails {
		return errStuck
	}
	<-ctx.Done()
	return ctx.Err()
}

func (s stuck) ScanItems(ctx context.Context, _ Version, _ func(Stored) error) error {
	return s.part(ctx, "timelines")
}

func (s stuck) JournalEnds(ctx context.Context) (map[uint64]events.Offset, error) {
	return nil, s.part(ctx, "log")
}

func (s stuck) GetRow(ctx context.Context, _, _ string) (Row, error) { // where a timeline begins
	return Row{}, s.part(ctx, "replay")
}

func (s stuck) Scrub(ctx context.Context, _ func(string, error)) (uint64, error) {
	if s.fails == "timelines" {
		return 0, nil // they come behind the files
	}
	return 0, s.part(ctx, "files")
}

func TestVerificationEndsWhenAnyPartFails(t *testing.T) {
	really := meanwhile
	b := used(t, 3, 20)
	meanwhile = really
	for _, part := range []string{"log", "files", "timelines", "replay"} {
		v := Verification{Store: stuck{b.m.by(always), part}, Meta: Meta{Shards: b.shards}, Found: func(f Finding) { t.Errorf("%s: found %+v", part, f) }}
		if _, err := v.Run(t.Context()); !errors.Is(err, errStuck) {
			t.Errorf("%s: %v, want what the store said first", part, err)
		}
	}
}

// The way back must not lead to a version that lacks something.
func TestVerificationHoldsTheVersionToWhichTheWayBackLeads(t *testing.T) {
	found := 0
	for seed := range seeds(20) {
		b := used(t, seed, 150)
		if _, err := b.rebuild(0, 1, 0); err != nil {
			t.Fatal(err)
		}
		for range 50 {
			b.act()
		}
		b.settle("after")
		if all, _ := verify(t, b.m, b.shards, false); len(all) > 0 {
			t.Fatalf("seed %d: nothing is damaged yet, and found is %v", seed, all)
		}
		v := b.versions(0)
		for at, items := range b.m.items {
			if at.Version == v.Live || ShardOf(at.User.Slot(), b.shards) != 0 || len(items) == 0 || checkpointOf(items[0].Data) > v.Whole() {
				continue
			}
			lost := items[0]
			b.m.items[at] = items[1:]
			all, _ := verify(t, b.m, b.shards, true)
			if len(all) != 1 || all[0].User != at.User || all[0].Seq != lost.Last || !all[0].Repaired {
				t.Errorf("seed %d: the item of %s that ends with %d is gone, and found is %v", seed, at, lost.Last, all)
			}
			found++
			break
		}
	}
	if found == 0 {
		t.Error("no item was taken away")
	}
}

// Of the last checkpoint with which that is whole no projector writes items any more.
func TestNothingIsDueInTheVersionToWhichTheWayBackLeads(t *testing.T) {
	found := 0
	for seed := range seeds(20) {
		b := used(t, seed, 150)
		if _, err := b.to(b.m.by(always), 0, 1, 0).Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		v := b.versions(0)
		for at, items := range b.m.items {
			i := slices.IndexFunc(items, func(s Stored) bool { return checkpointOf(s.Data) == v.Whole() })
			if at.Version == v.Live || ShardOf(at.User.Slot(), b.shards) != 0 || i < 0 {
				continue
			}
			lost := items[i]
			b.m.items[at] = slices.Delete(slices.Clone(items), i, i+1)
			if all, p := verify(t, b.m, b.shards, false); len(all) != 1 || all[0].Seq != lost.Last || p.Due > 0 {
				t.Errorf("seed %d: the item of %s that ends with %d is gone, found is %v, and %d are due", seed, at, lost.Last, all, p.Due)
			}
			found++
			break
		}
	}
	if found == 0 {
		t.Error("no item was taken away")
	}
}

// One gap does not hide what is wrong behind it.
func TestVerificationGoesOnBehindAGap(t *testing.T) {
	b := used(t, 3, 300)
	j, recs := events.Journal(""), []events.Record(nil)
	for at, all := range b.m.records {
		if len(all) > len(recs) {
			j, recs = at, all
		}
	}
	if len(recs) < 8 {
		t.Fatalf("the longest journal has %d records", len(recs))
	}
	recs[1], recs[2], recs[4] = nil, nil, nil
	recs[6] = b.flip(recs[6])
	all, _ := verify(t, b.m, b.shards, false)
	for _, where := range []string{"records 2 to 3", "record 5", "record 7"} {
		if !slices.ContainsFunc(all, func(f Finding) bool { return strings.HasPrefix(f.Where, fmt.Sprintf("journal %s, %s", j, where)) }) {
			t.Errorf("%s of %s is not told of: %v", where, j, all)
		}
	}
}
