package projections

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"timberline/events"
)

// A memory is all that a projector works on, kept as a store of many machines
// would: a checkpoint and each item that follows from it are writes of their own.
// Each write and read is a step that a test can hold, fail, or let land late.
type memory struct {
	mu          sync.Mutex
	records     map[events.Journal][]events.Record
	rows        []events.Row
	checkpoints map[Shard][][]byte
	items       map[Timeline][]Stored // by last seq

	kept map[[2]string]Row // by space and key
	over bool              // items may be put over others

	// step is asked before each write of one value: whether to apply it, and
	// what to answer.
	step func(what string) (applied bool, err error)
}

func newMemory() *memory {
	return &memory{
		records:     make(map[events.Journal][]events.Record),
		checkpoints: make(map[Shard][][]byte),
		items:       make(map[Timeline][]Stored),
		kept:        make(map[[2]string]Row),
		step:        func(string) (bool, error) { return true, nil },
	}
}

// by returns the memory as one projector sees it, with steps of its own.
func (m *memory) by(step func(what string) (bool, error)) *view { return &view{memory: m, step: step} }

type view struct {
	*memory
	step func(what string) (bool, error)
	lags bool // relaxed reads of the log find nothing
}

func (m *memory) Append(context.Context, events.Journal, events.Offset, events.Record) (events.Record, error) {
	panic("a projector appends nothing to the log")
}

func (v *view) ReadLog(_ context.Context, j events.Journal, from events.Offset, _ int, c events.Consistency) ([]events.Record, error) {
	if _, err := v.step("read log"); err != nil || v.lags && c == events.Relaxed {
		return nil, err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	var run []events.Record
	for at := int(from); at <= min(len(v.records[j]), int(from)+6) && v.records[j][at-1] != nil; at++ { // nil: removed
		run = append(run, v.records[j][at-1])
	}
	return run, nil
}

func (m *memory) CreateJournal(context.Context, events.Row) (events.Row, error) {
	panic("not a projector's")
}

func (m *memory) UpdateJournal(_ context.Context, r events.Row) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.rows[r.Number-1] = r
	return nil
}

func (m *memory) ListJournals(_ context.Context, after uint64, _ events.Consistency) ([]events.Row, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.rows[min(int(after), len(m.rows)):]), nil
}

func (v *view) LastCheckpoint(_ context.Context, s Shard, _ events.Consistency) (CheckpointNumber, []byte, error) {
	if _, err := v.step("last checkpoint"); err != nil {
		return 0, nil, err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	all := v.checkpoints[s]
	if len(all) == 0 {
		return 0, nil, nil
	}
	return CheckpointNumber(len(all)), all[len(all)-1], nil
}

func (m *memory) ReadCheckpoints(_ context.Context, s Shard, from CheckpointNumber, _ int) ([][]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := m.checkpoints[s]
	var run [][]byte
	for n := int(from); n <= min(len(all), int(from)+2) && all[n-1] != nil; n++ { // nil: a test has taken it away
		run = append(run, all[n-1])
	}
	return run, nil
}

func (v *view) Commit(ctx context.Context, s Shard, n CheckpointNumber, cp []byte, items []Stored) ([]byte, error) {
	applied, err := v.step("checkpoint")
	if applied {
		if stands, conflict := v.putCheckpoint(s, n, cp); conflict != nil && err == nil {
			return stands, conflict
		}
	}
	if err != nil {
		return nil, err
	}
	return nil, v.PutItems(ctx, items)
}

func (m *memory) putCheckpoint(s Shard, n CheckpointNumber, cp []byte) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := m.checkpoints[s]
	if int(n) <= len(all) {
		return all[n-1], events.ErrConflict
	}
	if int(n) != len(all)+1 {
		panic(fmt.Sprintf("checkpoint %d leaves a hole behind %d", n, len(all)))
	}
	m.checkpoints[s] = append(all, cp)
	return nil, nil
}

func (v *view) PutItems(_ context.Context, items []Stored) error {
	return putEach(v, "item", items, v.putItem)
}

// putEach puts values one by one, each as the step says.
func putEach[T any](v *view, what string, all []T, put func(T)) error {
	for _, one := range all {
		applied, err := v.step(what)
		if applied {
			put(one)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (m *memory) putItem(item Stored) {
	item.Quiet = false // nobody is told anyway
	m.mu.Lock()
	defer m.mu.Unlock()
	all := m.items[item.Timeline]
	i, stands := slices.BinarySearchFunc(all, item.Last, func(s Stored, last events.Seq) int { return cmp.Compare(s.Last, last) })
	if stands {
		if m.over {
			all[i] = item
		}
		if !bytes.Equal(all[i].Data, item.Data) {
			panic(fmt.Sprintf("item of %s ending at %d is overwritten with something else", item.Timeline, item.Last))
		}
		return
	}
	m.items[item.Timeline] = slices.Insert(all, i, item)
}

func (v *view) NewestItem(_ context.Context, t Timeline, _ events.Consistency) (Stored, error) {
	if _, err := v.step("newest"); err != nil {
		return Stored{}, err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	all := v.items[t]
	if len(all) == 0 {
		return Stored{}, events.ErrNotFound
	}
	return all[len(all)-1], nil
}

func (m *memory) ReadItems(_ context.Context, t Timeline, from events.Seq, size int, _ events.Consistency) ([]Stored, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []Stored
	for _, s := range m.items[t] {
		if s.Last >= from && (len(out) == 0 || size > 0) {
			out = append(out, s)
			size -= len(s.Data)
		}
	}
	return out, nil
}

// catchUp has the projector read all that there is.
func (p *Projector) catchUp(ctx context.Context) error {
	for {
		if err := p.round(ctx, true); !errors.Is(err, errMore) {
			return err
		}
	}
}

func (v *view) ScanItems(_ context.Context, version Version, visit func(Stored) error) error {
	v.mu.Lock()
	var all []Stored
	for t, items := range v.items {
		if t.Version == version {
			all = append(all, items...)
		}
	}
	v.mu.Unlock()
	slices.SortStableFunc(all, func(a, b Stored) int { return cmp.Compare(a.User, b.User) })
	for _, item := range all {
		if err := visit(item); err != nil {
			return err
		}
	}
	return nil
}

// oneAtATime has nothing read at the same time, so that a seed has one story.
func oneAtATime(t *testing.T) {
	atOnce, beside, turn := usersAtOnce, meanwhile, 0
	usersAtOnce = 1
	meanwhile = func(do func() error) func() error {
		if turn++; turn%2 == 0 { // as late as can be
			return do
		}
		err := do()
		return func() error { return err }
	}
	t.Cleanup(func() { usersAtOnce, meanwhile = atOnce, beside })
}

// A scribe writes a log, as edges would.
type scribe struct {
	t     *testing.T
	m     *memory
	r     *rand.Rand
	clock uint64
	sends int
}

// open adds a journal.
func (w *scribe) open() events.Journal {
	w.m.mu.Lock()
	defer w.m.mu.Unlock()
	n := uint64(len(w.m.rows)) + 1
	w.m.rows = append(w.m.rows, events.Row{Number: n})
	return events.JournalNumbered(n)
}

// message is one between two of the users, with an id above all before.
func (w *scribe) message(users int) []byte { return w.sent(events.KindMessage, users) }

func (w *scribe) sent(k events.Kind, users int) []byte {
	w.clock++
	w.sends++
	a, b := events.User(fmt.Sprintf("u%d", w.r.IntN(users))), events.User(fmt.Sprintf("u%d", w.r.IntN(users)))
	e := events.Event{
		ID: events.ID{0, 0, 0, 0, 0, 0, byte(w.clock >> 8), byte(w.clock)}, Kind: k, Sender: a, Device: "d",
		Conversation: events.Direct(a, b), Number: events.Number(w.sends), Body: fmt.Append(nil, "message ", w.sends),
	}
	return e.Encode()
}

// append adds a record to a journal.
func (w *scribe) append(j events.Journal, raws ...[]byte) {
	w.m.mu.Lock()
	defer w.m.mu.Unlock()
	at := events.Offset(len(w.m.records[j]) + 1)
	w.m.records[j] = append(w.m.records[j], events.NewRecord(j, at, raws))
}

func (w *scribe) other(k events.Kind) []byte {
	w.clock++
	e := events.Event{ID: events.ID{0, 0, 0, 0, 0, 0, byte(w.clock >> 8), byte(w.clock)}, Kind: k}
	return e.Encode()
}

// recipients are those whom rules give an entry of an event.
func recipients(rules uint32, e *events.Event) []events.User {
	a, b, ok := e.Conversation.Users()
	switch {
	case !ok:
		return nil
	case rules == 3 && e.Kind == events.KindMessage && e.Sender == a:
		return []events.User{b}
	case rules == 3 && e.Kind == events.KindMessage:
		return []events.User{a}
	case e.Kind == events.KindMessage, rules == 2 && e.Kind == events.KindReadUpTo, rules == 3 && e.Kind == events.KindReaction:
		return slices.Compact([]events.User{a, b})
	}
	return nil
}

// replay is what the timelines must be: computed from log and checkpoints in the
// simplest way.
func (m *memory) replay(t *testing.T, shards uint32) map[Timeline][]Stored {
	t.Helper()
	want := make(map[Timeline][]Stored)
	for s := range Shard(shards) {
		read := make(map[uint64]events.Offset)
		tails := make(map[events.User]Item)
		for i, data := range m.checkpoints[s] {
			n := CheckpointNumber(i + 1)
			cp, err := DecodeCheckpoint(s, n, data)
			if err != nil {
				t.Fatal(err)
			}
			var covered []events.Event
			var raws = make(map[events.ID][]byte)
			for _, p := range cp.Moved {
				j := events.JournalNumbered(p.Journal)
				for at := read[p.Journal] + 1; at <= p.Offset; at++ {
					batch, err := m.records[j][at-1].Events(j, at)
					if err != nil {
						t.Fatal(err)
					}
					for _, raw := range batch {
						e, err := events.Raw(raw).Decode()
						if err != nil {
							t.Fatal(err)
						}
						covered, raws[e.ID] = append(covered, e), raw
					}
				}
				read[p.Journal] = p.Offset
			}
			slices.SortFunc(covered, func(a, b events.Event) int { return a.ID.Compare(b.ID) })
			items := make(map[events.User]*Item)
			for _, e := range covered {
				for _, u := range recipients(cp.Rules, &e) {
					if ShardOf(u.Slot(), shards) != s {
						continue
					}
					if items[u] == nil {
						before := tails[u]
						items[u] = &Item{First: before.Last() + 1, Checkpoint: n, Newest: before.Newest}
						if before.First == 0 {
							items[u].First = 1
						}
					}
					items[u].Entries = append(items[u].Entries, Entry{Event: raws[e.ID]})
					if e.ID.Compare(items[u].Newest) > 0 {
						items[u].Newest = e.ID
					}
				}
			}
			for u, item := range items {
				want[Timeline{User: u}] = append(want[Timeline{User: u}], item.Encode(Timeline{User: u}))
				tails[u] = *item
			}
		}
	}
	return want
}
