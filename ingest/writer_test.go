package ingest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"timberline/bus"
	"timberline/events"
)

// A memory is a log in memory whose appends a test can disturb. It also keeps
// journal rows.
type memory struct {
	mu      sync.Mutex
	records map[events.Journal][]events.Record
	rows    []events.Row
	// fault is asked before each append: whether to apply it, and what to
	// answer instead of success. It may append first, as another process would.
	fault   func(try int) (applied bool, err error)
	appends int
	lists   int  // calls of ListJournals to come that fail
	away    bool // rows are neither read nor written
}

func newMemory() *memory { return &memory{records: make(map[events.Journal][]events.Record)} }

func (m *memory) Append(_ context.Context, j events.Journal, at events.Offset, rec events.Record) (events.Record, error) {
	m.mu.Lock()
	m.appends++
	try, fault := m.appends, m.fault
	m.mu.Unlock()
	applied, err := true, error(nil)
	if fault != nil {
		applied, err = fault(try)
	}
	if !applied {
		return nil, err
	}
	stands, conflict := m.put(j, at, rec)
	if err != nil {
		return nil, err
	}
	return stands, conflict
}

// disturb sets the fault of the appends to come.
func (m *memory) disturb(fault func(try int) (applied bool, err error)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fault = fault
}

// tries returns how many appends there were.
func (m *memory) tries() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.appends
}

func (m *memory) put(j events.Journal, at events.Offset, rec events.Record) (events.Record, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	recs := m.records[j]
	switch {
	case int(at) <= len(recs):
		return recs[at-1], events.ErrConflict
	case int(at) > len(recs)+1:
		panic(fmt.Sprintf("append at %d leaves a hole behind %d", at, len(recs)))
	}
	m.records[j] = append(recs, slices.Clone(rec))
	return nil, nil
}

func (m *memory) ReadLog(_ context.Context, j events.Journal, from events.Offset, size int, _ events.Consistency) ([]events.Record, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	recs := m.records[j]
	if int(from) > len(recs) {
		return nil, nil
	}
	n := 1 + size/1000
	return recs[from-1 : min(len(recs), int(from)-1+n)], nil
}

func (m *memory) CreateJournal(_ context.Context, r events.Row) (events.Row, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if int(r.Number) <= len(m.rows) {
		return m.rows[r.Number-1], events.ErrConflict
	}
	m.rows = append(m.rows, r)
	return events.Row{}, nil
}

func (m *memory) UpdateJournal(_ context.Context, r events.Row) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.away {
		return errors.New("no answer")
	}
	m.rows[r.Number-1] = r
	return nil
}

func (m *memory) ListJournals(_ context.Context, after uint64, _ events.Consistency) ([]events.Row, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.away {
		return nil, errors.New("no answer")
	}
	if m.lists > 0 {
		m.lists--
		return nil, errors.New("no answer")
	}
	return slices.Clone(m.rows[min(int(after), len(m.rows)):]), nil
}

// words tells what stands in a journal: records apart by |.
func (m *memory) words(t *testing.T, j events.Journal) string {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	var recs []string
	var last events.ID
	for i, rec := range m.records[j] {
		raws, err := rec.Events(j, events.Offset(i+1))
		if err != nil {
			t.Fatal(err)
		}
		var words []string
		for _, raw := range raws {
			e, err := events.Raw(raw).Decode()
			if err != nil {
				t.Fatal(err)
			}
			if e.ID.Compare(last) <= 0 {
				t.Errorf("record %d: id %v is not above %v", i+1, e.ID, last)
			}
			last = e.ID
			words = append(words, word(e))
		}
		recs = append(recs, strings.Join(words, " "))
	}
	return strings.Join(recs, " | ")
}

func word(e events.Event) string {
	switch e.Kind {
	case events.KindMessage:
		return fmt.Sprintf("%s%d", e.Sender, e.Number)
	case events.KindSessionClosed:
		return "closed:" + string(e.Sender)
	}
	return e.Kind.String()
}

// A bench is a Writer on a memory, within a synctest bubble.
type bench struct {
	t       *testing.T
	log     *memory
	w       *Writer
	mu      sync.Mutex
	reports []Report
	stop    func() error // ends Run and returns its error
}

func newBench(t *testing.T, log *memory) *bench {
	t.Helper()
	b := &bench{t: t, log: log}
	random := rand.NewChaCha8([32]byte{byte(len(log.rows))})
	clock, err := events.NewClock(time.Now, random)
	if err != nil {
		t.Fatal(err)
	}
	b.w = NewWriter(Config{
		Log: log, Journals: log, Clock: clock, Random: random, Logger: slog.New(slog.DiscardHandler),
		Appended: func(bus.Hint) {},
		Report:   b.report,
	})
	if err := b.w.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *bench) report(r Report) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.reports = append(b.reports, r)
}

func (b *bench) run() {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- b.w.Run(ctx) }()
	b.stop = func() error { cancel(); return <-ended }
}

func (b *bench) send(user events.User, ns ...events.Number) {
	b.t.Helper()
	j, _ := b.w.Position()
	for _, n := range ns {
		e := events.Event{Kind: events.KindMessage, Conversation: events.Direct(user, "x"), Sender: user, Device: "d", Session: session(user), Number: n}
		if err := b.w.Submit(j, e); err != nil {
			b.t.Errorf("submit %s%d: %v", user, n, err)
		}
	}
	b.w.Commit()
}

// wait lets time pass, and everything in that time happen.
func wait(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func session(user events.User) (s events.SessionID) {
	copy(s[:], user)
	return s
}

func owner(user events.User) Owner { return Owner{Session: session(user), User: user, Device: "d"} }

func closedEvent(user events.User, id events.ID) events.Event {
	return events.Event{ID: id, Kind: events.KindSessionClosed, Sender: user, Device: "d", Session: session(user)}
}

// durable tells what was reported.
func (b *bench) durable() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var words []string
	for _, r := range b.reports {
		for _, d := range r.Durable {
			words = append(words, fmt.Sprintf("%s%d", d.User, d.Number))
		}
		for _, o := range r.Closed {
			words = append(words, "closed:"+string(o.User))
		}
		if r.Ended {
			words = append(words, "ended")
		}
	}
	return strings.Join(words, " ")
}

func (b *bench) want(why, what, got string) {
	b.t.Helper()
	if got != what {
		b.t.Errorf("%s:\n got %q\nwant %q", why, got, what)
	}
}

func TestWhatGathersDuringAnAppendGoesIntoTheNextRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, newMemory())
		b.log.disturb(func(int) (bool, error) { time.Sleep(time.Millisecond); return true, nil })
		b.run()
		b.send("alice", 1)
		synctest.Wait()
		b.send("alice", 2)
		b.send("bob", 1)
		wait(10 * time.Millisecond)
		b.want("one append in flight", "alice1 | alice2 bob1", b.log.words(t, "j:1"))
		b.want("all reported", "alice1 alice2 bob1", b.durable())
		if err := b.stop(); err != nil {
			t.Error(err)
		}
	})
}

func TestNothingIsReportedBeforeItsAppendSucceeded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, newMemory())
		b.log.disturb(func(int) (bool, error) { return false, errors.New("throttled") })
		b.run()
		b.send("alice", 1)
		wait(time.Minute)
		b.want("refused before: no report, however long", "", b.durable())
		if n := b.log.tries(); n < 30 {
			t.Errorf("%d tries in a minute: it must go on trying", n)
		}
		b.log.disturb(nil)
		wait(2 * time.Second)
		b.want("the same record at the same offset", "alice1", b.log.words(t, "j:1"))
		b.want("and now it is reported", "alice1", b.durable())
		b.stop()
	})
}

func TestLostAnswerIsFoundOutByTryingAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, newMemory())
		b.log.disturb(func(try int) (bool, error) {
			if try == 1 {
				return true, errors.New("time-out")
			}
			return true, nil
		})
		b.run()
		b.send("alice", 1)
		wait(time.Second)
		b.send("alice", 2)
		wait(time.Second)
		b.want("once in the log", "alice1 | alice2", b.log.words(t, "j:1"))
		b.want("once reported", "alice1 alice2", b.durable())
		b.stop()
	})
}

func TestSendsOfASessionClosedByAnotherNeverEnterARecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, newMemory())
		foreign := closedEvent("alice", events.ID{1})
		stranger := closedEvent("bob", events.ID{1, 1})
		stranger.Device = "another" // names bob's session, but is not bob's device
		b.log.disturb(func(try int) (bool, error) {
			if try == 1 {
				b.log.put("j:1", 1, events.NewRecord("j:1", 1, [][]byte{foreign.Encode(), stranger.Encode()}))
			}
			return true, nil
		})
		b.send("alice", 1)
		b.send("bob", 1)
		b.run()
		b.send("alice", 2)
		wait(time.Second)
		b.send("bob", 2)
		third := events.Event{Kind: events.KindMessage, Sender: "alice", Device: "d", Session: session("alice"), Number: 3}
		if err := b.w.Submit("j:1", third); !errors.Is(err, ErrJournalLost) {
			t.Errorf("a send of the closed session: %v, want ErrJournalLost", err)
		}
		wait(time.Second)
		b.want("alice is closed, gathered sends included; bob is not", "closed:alice closed:bob | bob1 | bob2", b.log.words(t, "j:1"))
		b.want("the edge hears of it", "closed:alice closed:bob bob1 bob2", b.durable())
		b.stop()
	})
}

// The edge forgets a session as soon as it hears of its close. What had gathered
// of it must be gone by then.
func TestSessionThatIsForgottenAtItsForeignCloseStaysOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, newMemory())
		foreign := closedEvent("alice", events.ID{1})
		b.log.disturb(func(try int) (bool, error) {
			if try == 1 {
				time.Sleep(10 * time.Millisecond)
				b.log.put("j:1", 1, events.NewRecord("j:1", 1, [][]byte{foreign.Encode()}))
			}
			return true, nil
		})
		b.w.cfg.Report = func(r Report) {
			b.report(r)
			for _, o := range r.Closed {
				b.w.Submit("j:1", events.Event{Kind: events.KindSessionClosed, Sender: o.User, Device: o.Device, Session: o.Session})
				b.w.Forget(o)
			}
		}
		b.run()
		b.send("alice", 1)
		wait(time.Millisecond)
		b.send("alice", 2) // gathers while 1 is in flight
		b.send("bob", 1)
		wait(time.Second)
		b.want("nothing of alice behind her close", "closed:alice | bob1", b.log.words(t, "j:1"))
		b.stop()
	})
}

func TestNothingIsAppendedBehindAForeignEndWhileStopping(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, newMemory())
		end := events.Event{ID: events.ID{1}, Kind: events.KindJournalEnded}
		b.log.disturb(func(try int) (bool, error) {
			if try == 1 {
				b.log.put("j:1", 1, events.NewRecord("j:1", 1, [][]byte{end.Encode()}))
			}
			return true, nil
		})
		b.send("alice", 1)
		b.w.Stop()
		b.run()
		wait(time.Second)
		b.want("nothing behind the end", "journal_ended", b.log.words(t, "j:1"))
		b.stop()
	})
}

func TestForeignEndOfTheJournalLosesWhatHadGathered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, newMemory())
		end := events.Event{ID: events.ID{1}, Kind: events.KindJournalEnded}
		b.log.disturb(func(try int) (bool, error) {
			if try == 1 {
				b.log.put("j:1", 1, events.NewRecord("j:1", 1, [][]byte{end.Encode()}))
			}
			return true, nil
		})
		b.run()
		b.send("alice", 1, 2)
		wait(time.Second)
		b.want("nothing behind the end", "journal_ended", b.log.words(t, "j:1"))
		b.want("the sessions are lost", "ended", b.durable())
		if err := b.w.Submit("j:1", events.Event{Kind: events.KindMessage}); !errors.Is(err, ErrJournalLost) {
			t.Errorf("submit to the old journal: %v, want ErrJournalLost", err)
		}
		b.send("alice", 1)
		wait(time.Second)
		b.want("a new journal", "alice1", b.log.words(t, "j:2"))
		b.stop()
	})
}

// Who waits for a session to be closed need not wait for a close of the Writer's own.
func TestForeignCloseOrEndIsEnoughForWhoWaitsForAClose(t *testing.T) {
	for _, foreign := range []events.Event{closedEvent("alice", events.ID{1}), {ID: events.ID{1}, Kind: events.KindJournalEnded}} {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t, newMemory())
			b.log.put("j:1", 1, events.NewRecord("j:1", 1, [][]byte{foreign.Encode()}))
			b.run()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			if mine, err := b.w.CloseSession(ctx, "j:1", owner("alice")); !mine || err != nil {
				t.Errorf("%v where another wrote: %v, %v", foreign.Kind, mine, err)
			}
			if err := b.stop(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestOwnEndIsEnoughForWhoWaitsForAClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, newMemory())
		b.log.disturb(func(int) (bool, error) {
			time.Sleep(time.Second)
			return true, nil
		})
		b.run()
		defer func() { b.stop() }()
		b.w.Stop()
		wait(time.Second / 2) // the end of the journal is on its way
		j, _ := b.w.Position()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if mine, err := b.w.CloseSession(ctx, j, owner("a")); !mine || err != nil {
			t.Errorf("mine %v, %v; want that the end of the journal closes the session", mine, err)
		}
		b.want("nothing stands behind the end", "journal_ended", b.log.words(t, j))
	})
}

func TestWriterGoesOnWhereNoJournalCanBeOpenedForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, newMemory())
		end := events.Event{ID: events.ID{1}, Kind: events.KindJournalEnded}
		b.log.put("j:1", 1, events.NewRecord("j:1", 1, [][]byte{end.Encode()}))
		b.log.lists = 5
		b.run()
		b.send("alice", 1)
		wait(time.Second)
		b.send("alice", 1)
		wait(time.Second)
		b.want("a new journal", "alice1", b.log.words(t, "j:2"))
		if err := b.stop(); err != nil {
			t.Error(err)
		}
	})
}

func TestStopAppendsWhatGatheredAndEndsTheJournal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, newMemory())
		b.send("alice", 1, 2)
		b.w.Stop()
		if err := b.w.Submit("j:1", events.Event{Kind: events.KindMessage}); !errors.Is(err, events.ErrBusy) {
			t.Errorf("submit after stop: %v, want ErrBusy", err)
		}
		if err := b.w.Run(t.Context()); err != nil {
			t.Error(err)
		}
		b.want("the end comes last", "alice1 alice2 | journal_ended", b.log.words(t, "j:1"))
	})
}

func TestFullQueueIsBusyButSessionsCanBeClosed(t *testing.T) {
	b := newBench(t, newMemory())
	b.w.cfg.MaxPending = 1000
	j, _ := b.w.Position()
	var err error
	n := 0
	for ; err == nil && n < 100; n++ {
		err = b.w.Submit(j, events.Event{Kind: events.KindMessage, Body: make([]byte, 100)})
	}
	if !errors.Is(err, events.ErrBusy) || n > 10 {
		t.Errorf("after %d sends: %v, want ErrBusy within 10", n, err)
	}
	if err := b.w.Submit(j, closedEvent("alice", events.ID{})); err != nil {
		t.Errorf("session_closed: %v, want room for it", err)
	}
}

func TestRefusedWritesEndTheWriter(t *testing.T) {
	for _, cause := range []error{events.ErrFatal, events.ErrCorrupt, events.ErrFormat} {
		b := newBench(t, newMemory())
		b.log.disturb(func(try int) (bool, error) {
			if try > 1 {
				t.Errorf("%v: tried again", cause)
				return true, nil
			}
			return false, fmt.Errorf("append: %w", cause)
		})
		b.send("alice", 1)
		if err := b.w.Run(t.Context()); !errors.Is(err, cause) {
			t.Errorf("Run: %v, want %v", err, cause)
		}
		b.want("nothing reported", "", b.durable())
	}
}

func TestWhatIsSubmittedTogetherStandsTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, newMemory())
		b.run()
		j, _ := b.w.Position()
		for n := range events.Number(10) {
			e := events.Event{Kind: events.KindMessage, Sender: "a", Device: "d", Session: session("a"), Number: n + 1}
			if err := b.w.Submit(j, e); err != nil {
				t.Fatal(err)
			}
			wait(time.Millisecond) // the Writer has time, and waits
		}
		b.want("nothing was committed", "", b.durable())
		b.w.Commit()
		wait(time.Second)
		if n := len(b.log.records[j]); n != 1 {
			t.Errorf("%d records, want all in one", n)
		}
		b.stop()
	})
}

func TestRecordsKeepTheirLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, newMemory())
		j, _ := b.w.Position()
		for n := range events.Number(100) {
			e := events.Event{Kind: events.KindMessage, Sender: "a", Device: "d", Session: session("a"), Number: n + 1, Body: make([]byte, 10_000)}
			if err := b.w.Submit(j, e); err != nil {
				t.Fatal(err)
			}
		}
		for n := range events.Number(6000) {
			b.send("b", n+1)
		}
		b.run()
		wait(time.Second)
		b.stop()
		for i, rec := range b.log.records[j] {
			raws, err := rec.Events(j, events.Offset(i+1))
			if err != nil {
				t.Fatal(err)
			}
			if len(rec) > events.MaxRecordBytes || 2*len(raws) > events.MaxRecordRecipients {
				t.Errorf("record %d has %d bytes and %d recipients", i+1, len(rec), 2*len(raws))
			}
		}
		if n := strings.Count(b.durable(), " ") + 1; n != 6100 {
			t.Errorf("%d sends reported, want 6100", n)
		}
	})
}

func TestGatheringIsMeasuredFromTheFirstSendOfEachRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, newMemory())
		registry := prometheus.NewRegistry()
		b.w.metrics = newMetrics(registry, b.w.waiting)
		j, _ := b.w.Position()
		const two = events.MaxRecordBytes/2 - 1000 // of them fill a record
		for n := range events.Number(5) {          // one a second, the first and second together
			e := events.Event{Kind: events.KindMessage, Sender: "a", Device: "d", Session: session("a"), Number: n + 1, Body: make([]byte, two)}
			if err := b.w.Submit(j, e); err != nil {
				t.Fatal(err)
			}
			if n > 0 {
				b.w.Commit()
				wait(time.Second)
			}
		}
		for range 3 { // 4 s for the first two, 3 s for the next, 1 s for the last
			b.w.gather()
		}
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			if f.GetName() != "timberline_ingest_gather_seconds" {
				continue
			}
			if h := f.GetMetric()[0].GetHistogram(); h.GetSampleCount() != 3 || h.GetSampleSum() != 8 {
				t.Errorf("%d records gathered for %v s in all, want 3 and 8 s", h.GetSampleCount(), h.GetSampleSum())
			}
		}
	})
}
