package logtest

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"runtime"
	"slices"
	"sync"
	"testing"

	"timberline/events"
)

func TestContractHoldsForAnEngineThatKeepsIt(t *testing.T) {
	Run(t, func(*testing.T) Place { return &memory{} })
}

func TestContractCatchesWhatBreaksIt(t *testing.T) {
	for what, test := range map[string]struct {
		flaws flaws
		parts []string // that must notice
	}{
		"acks before the sync": {flaws{ackEarly: true}, []string{
			"Append that succeeded survives a crash", "What a conflict shows survives a crash",
			"Every record lands once whatever fails", "Rows survive a crash",
		}},
		"shows what is not synced": {flaws{showEarly: true}, []string{"What a strong read shows survives a crash"}},
		"takes absent for free":    {flaws{checkThenPut: true}, []string{"One of many appends at an offset wins"}},
		"overwrites": {flaws{overwrite: true}, []string{
			"Taken offset stays as it is", "Append that lands late changes nothing", "One of many appends at an offset wins", "Row is created once",
		}},
		"answers a conflict with nothing":    {flaws{hide: true}, []string{"Taken offset stays as it is", "Record that landed without an answer is found in its place"}},
		"keeps the caller's bytes":           {flaws{alias: true}, []string{"Bytes belong to the caller"}},
		"reads over gaps":                    {flaws{gaps: true}, []string{"Reads follow each other without a gap"}},
		"gives nothing if the size is small": {flaws{stingy: true}, []string{"Reads keep to their size"}},
	} {
		for _, name := range test.parts {
			i := slices.IndexFunc(Contract, func(p Part) bool { return p.Name == name })
			if i < 0 {
				t.Fatalf("there is no part %q", name)
			}
			if !breaks(t, Contract[i], test.flaws) {
				t.Errorf("an engine that %s passes %q", what, name)
			}
		}
	}
}

// breaks reports whether an engine fails a part. What depends on who runs first is
// tried a few times.
func breaks(t *testing.T, part Part, f flaws) bool {
	for range 200 {
		if part.Holds(t.Context(), &memory{flaws: f}) != nil {
			return true
		}
	}
	return false
}

// flaws are what can be wrong with an engine.
type flaws struct {
	ackEarly     bool // it does not wait for the sync
	showEarly    bool // its strong reads show what is not synced
	checkThenPut bool // it looks first, then puts without a condition
	overwrite    bool // it puts without a condition
	hide         bool // it does not say what stands
	alias        bool // it keeps the caller's bytes
	gaps         bool // it reads over holes
	stingy       bool // it gives no record that is larger than asked for
}

// A memory is a place.
type memory struct {
	flaws
	mu     sync.Mutex
	synced contents
	engine *engine
}

// An engine works on a memory until it is dead.
type engine struct {
	*memory
	visible contents
	dead    bool
}

type place struct {
	journal events.Journal
	at      events.Offset
}

type contents struct {
	records map[place]events.Record
	rows    map[uint64]events.Row
}

func (c contents) clone() contents { return contents{maps.Clone(c.records), maps.Clone(c.rows)} }

func (m *memory) Open() (Engine, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.synced.records == nil {
		m.synced = contents{map[place]events.Record{}, map[uint64]events.Row{}}
	}
	m.engine = &engine{memory: m, visible: m.synced.clone()}
	return m.engine, nil
}

func (m *memory) Crash() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.engine.dead = true
	return nil
}

func (m *memory) Close() error {
	m.engine.sync()
	return nil
}

// sync makes durable what is visible.
func (m *engine) sync() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.dead {
		m.synced = m.visible.clone()
	}
}

// durable waits until everything is durable, if the engine is a good one.
func (m *engine) durable() {
	runtime.Gosched() // the disk takes its time
	if !m.ackEarly {
		m.sync()
	}
}

func (m *engine) Append(_ context.Context, j events.Journal, at events.Offset, rec events.Record) (events.Record, error) {
	if !m.alias {
		rec = bytes.Clone(rec)
	}
	stands, taken := m.put(place{j, at}, rec)
	m.durable()
	switch {
	case !taken:
		return nil, nil
	case m.hide:
		return nil, events.ErrConflict
	}
	return stands, events.ErrConflict
}

func (m *engine) put(p place, rec events.Record) (stands events.Record, taken bool) {
	m.mu.Lock()
	stands, taken = m.visible.records[p]
	if m.checkThenPut {
		m.mu.Unlock()
		runtime.Gosched()
		m.mu.Lock()
	}
	defer m.mu.Unlock()
	if taken && !m.overwrite {
		return bytes.Clone(stands), true
	}
	m.visible.records[p] = rec
	return nil, false
}

func (m *engine) ReadLog(_ context.Context, j events.Journal, from events.Offset, size int, c events.Consistency) (recs []events.Record, err error) {
	m.mu.Lock()
	for at := from; at < from+1000; at++ {
		rec, ok := m.visible.records[place{j, at}]
		if !ok && m.gaps {
			continue
		}
		if size -= len(rec); !ok || size < 0 && (m.stingy || len(recs) > 0) {
			break
		}
		if !m.alias {
			rec = bytes.Clone(rec)
		}
		recs = append(recs, rec)
	}
	m.mu.Unlock()
	if c == events.Strong && !m.showEarly {
		m.sync()
	}
	return recs, nil
}

func (m *engine) CreateJournal(_ context.Context, r events.Row) (events.Row, error) {
	defer m.durable()
	m.mu.Lock()
	defer m.mu.Unlock()
	if stands, ok := m.visible.rows[r.Number]; ok && !m.overwrite {
		return stands, events.ErrConflict
	}
	m.visible.rows[r.Number] = r
	return events.Row{}, nil
}

func (m *engine) UpdateJournal(_ context.Context, r events.Row) error {
	defer m.durable()
	m.mu.Lock()
	defer m.mu.Unlock()
	stands, ok := m.visible.rows[r.Number]
	if !ok {
		return errors.New("there is no such row")
	}
	stands.Counter, stands.Ended, stands.Trimmed = r.Counter, r.Ended, stands.Trimmed || r.Trimmed
	m.visible.rows[r.Number] = stands
	return nil
}

func (m *engine) ListJournals(_ context.Context, after uint64, _ events.Consistency) (rows []events.Row, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for n := after + 1; ; n++ {
		r, ok := m.visible.rows[n]
		if !ok {
			return rows, nil
		}
		rows = append(rows, r)
	}
}
