package ingest

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"timberline/events"
)

// watch runs a Watch over a new journal until the function returned is called.
func watch(t *testing.T, m *memory) (j events.Journal, die func()) {
	t.Helper()
	return watchTelling(t, m, io.Discard)
}

// watchTelling is watch with somebody who reads its log.
func watchTelling(t *testing.T, m *memory, log io.Writer) (j events.Journal, die func()) {
	t.Helper()
	var id [16]byte
	rand.Read(id[:])
	row, err := events.OpenJournal(t.Context(), m, events.EdgeTag{1}, id)
	if err != nil {
		t.Fatal(err)
	}
	clock, err := events.NewClock(time.Now, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	w := &Watch{Log: m, Journals: m, Clock: clock, Mine: row.Journal, Logger: slog.New(slog.NewTextHandler(log, nil))}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.Run(ctx)
	}()
	return row.Journal(), func() { cancel(); <-done }
}

// row returns a journal's row.
func (m *memory) row(t *testing.T, j events.Journal) events.Row {
	t.Helper()
	n, _ := j.Number()
	rows, err := m.ListJournals(t.Context(), n-1, events.Strong)
	if err != nil {
		t.Fatal(err)
	}
	return rows[0]
}

func TestJournalOfAProcessThatDiedIsEndedAfterAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		var log bytes.Buffer
		mine, stop := watchTelling(t, m, &log)
		other, die := watch(t, m)
		time.Sleep(time.Hour + beatEvery/2) // not when they look: synctest orders no ties
		if m.row(t, mine).Ended != 0 || m.row(t, other).Ended != 0 {
			t.Fatal("a journal was ended though its owner lives")
		}
		die()
		time.Sleep(deadAfter - beatEvery)
		if m.row(t, other).Ended != 0 {
			t.Error("a journal was ended within a minute")
		}
		time.Sleep(3 * beatEvery)
		if got := m.row(t, other).Ended; got != 1 || len(m.records[other]) != 1 {
			t.Errorf("ended at %d, %d records, want 1, 1", got, len(m.records[other]))
		}
		time.Sleep(time.Hour)
		if len(m.records[other]) != 1 || m.row(t, mine).Ended != 0 || len(m.records[mine]) != 0 {
			t.Error("more was written")
		}
		stop()
		if n := strings.Count(log.String(), "ended the journal of a process that says nothing any more"); n != 1 {
			t.Errorf("told %d times, want once:\n%s", n, &log)
		}
	})
}

func TestOwnerThatGoesOnLeavesTheEndInItsRow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		mine, stop := watch(t, m)
		defer stop()
		time.Sleep(beatEvery / 2)
		ended := m.row(t, mine)
		ended.Ended = 1
		if err := m.UpdateJournal(t.Context(), ended); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		if m.row(t, mine) != ended {
			t.Errorf("the row is %+v, want that it stays %+v", m.row(t, mine), ended)
		}
	})
}

// While the store is away nobody can say that it lives.
func TestStoreThatWasAwayForMinutesCostsNobodyItsJournal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		var journals []events.Journal
		for range 3 {
			j, stop := watch(t, m)
			defer stop()
			journals = append(journals, j)
			time.Sleep(beatEvery / 3)
		}
		for _, away := range []bool{true, false} {
			m.mu.Lock()
			m.away = away
			m.mu.Unlock()
			time.Sleep(10*time.Minute + beatEvery/2) // another comes back first
		}
		for _, j := range journals {
			if m.row(t, j).Ended != 0 {
				t.Errorf("journal %s was ended though its owner lives", j)
			}
		}
	})
}

// Rows and log are tables of their own, and journals partitions of theirs: one may take
// nothing while the others do.
func TestEndThatDoesNotLandKeepsNobodyFromBeating(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		dead, die := watch(t, m)
		die()
		var living []events.Journal
		for range 2 {
			time.Sleep(beatEvery / 3)
			j, stop := watch(t, m)
			defer stop()
			living = append(living, j)
		}
		m.disturb(func(int) (bool, error) { return false, errors.New("throttled") })
		time.Sleep(5 * time.Minute)
		_, stop := watch(t, m) // it knows of the others only what it sees from now on
		defer stop()
		time.Sleep(5 * time.Minute)
		m.disturb(nil)
		time.Sleep(5 * time.Minute)
		for _, j := range living {
			if at := m.row(t, j).Ended; at != 0 {
				t.Errorf("journal %s was ended though its owner lives", j)
			}
		}
		if m.row(t, dead).Ended != 1 {
			t.Error("the journal of the dead was not ended when it could be")
		}
	})
}

func TestJournalThatItsOwnerEndedIsNotedOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		other, die := watch(t, m)
		die()
		ended := events.Event{ID: events.ID{1}, Kind: events.KindJournalEnded}
		m.put(other, 1, events.NewRecord(other, 1, [][]byte{ended.Encode()}))
		var log bytes.Buffer
		_, stop := watchTelling(t, m, &log)
		time.Sleep(2 * deadAfter)
		stop()
		if got := m.row(t, other).Ended; got != 1 || len(m.records[other]) != 1 {
			t.Errorf("ended at %d, %d records, want 1, 1", got, len(m.records[other]))
		}
		if log.Len() > 0 {
			t.Errorf("told, as if the owner had died:\n%s", &log)
		}
	})
}

func TestManyWatchesEndAJournalOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		other, die := watch(t, m)
		time.Sleep(time.Second)
		die()
		for range 5 {
			_, stop := watch(t, m)
			defer stop()
		}
		time.Sleep(2 * deadAfter)
		if got := m.row(t, other).Ended; got != 1 || len(m.records[other]) != 1 {
			t.Errorf("ended at %d, %d records, want 1, 1", got, len(m.records[other]))
		}
	})
}

func TestWatchReadsNoRowsThatAreDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		for range 3 {
			_, die := watch(t, m)
			die()
		}
		w := &Watch{Log: m, Journals: m, Mine: func() events.Journal { return "j:4" }, Logger: slog.New(slog.DiscardHandler)}
		for n := range uint64(2) {
			m.UpdateJournal(t.Context(), events.Row{Number: n + 1, Ended: 1})
		}
		rows, _ := m.ListJournals(t.Context(), 0, events.Strong)
		w.look(time.Now(), rows)
		if w.through != 2 {
			t.Errorf("rows are read from %d on, want 3: the first two are ended", w.through+1)
		}
	})
}
