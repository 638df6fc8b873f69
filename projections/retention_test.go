package projections

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"timberline/events"
)

// A diary counts the lines of a log by their message.
type diary struct {
	strings.Builder
}

func (d *diary) count(message string) int { return strings.Count(d.String(), message) }

// Two processes trim one store, whose writes fail now and then: once a day one of them does,
// and only what is to stay stays.
func TestRetentionTrimsOnceInATimeWhereverItRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBustle(t, 5)
		r := rand.New(rand.NewPCG(5, 16))
		var mu sync.Mutex // of r
		s := b.m.by(func(string) (bool, error) {
			mu.Lock()
			defer mu.Unlock()
			if r.IntN(200) == 0 {
				return r.IntN(2) == 0, errThrottled
			}
			return true, nil
		})
		var said diary
		logger := slog.New(slog.NewTextHandler(&said, nil))
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		for n := range 2 {
			retention, err := NewRetention(RetentionConfig{
				Store: s, Meta: Meta{Shards: b.shards}, Keep: 5, Now: time.Now,
				Random: rand.NewChaCha8([32]byte{byte(n)}), Logger: logger,
			})
			if err != nil {
				t.Fatal(err)
			}
			go func() { done <- retention.Run(ctx) }()
		}
		const days = 20
		for range days {
			for range 150 {
				b.act()
			}
			b.complete()
			time.Sleep(24 * time.Hour)
			synctest.Wait()
		}
		if trimmed, failed := said.count("trimmed the store"), said.count("trying again"); trimmed < days*3/4 || trimmed > days+1 || failed < 3 {
			t.Errorf("in %d days it was trimmed %d times, and failed %d times\n%s", days, trimmed, failed, said.String())
		}
		short := 0
		for _, u := range b.users() {
			run, err := b.reader.Head(t.Context(), u)
			if err != nil {
				t.Fatal(err)
			}
			left := run.Head - run.First + 1
			if left < min(5, run.Head) {
				t.Errorf("%s has %d of %d entries left", u, left, run.Head)
			}
			if left < run.Head/2 {
				short++
			}
		}
		rows, err := b.m.ListJournals(t.Context(), 0, events.Strong)
		if err != nil {
			t.Fatal(err)
		}
		trimmed := 0
		for _, row := range rows {
			if row.Trimmed {
				trimmed++
			}
		}
		if short == 0 || trimmed == 0 {
			t.Errorf("%d timelines and %d journals were trimmed", short, trimmed)
		}
		stop()
		for range 2 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	})
}

// A time written by a clock that was ahead keeps nobody from trimming for ever.
func TestRetentionTrustsNoTimeToCome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBustle(t, 5)
		s := b.m.by(always)
		row := Row{Space: retentionSpace, Key: retentionKey, Checkpoint: CheckpointNumber(time.Now().AddDate(50, 0, 0).Unix())}
		if err := s.PutRows(t.Context(), []Row{row}); err != nil {
			t.Fatal(err)
		}
		var said diary
		retention, err := NewRetention(RetentionConfig{
			Store: s, Meta: Meta{Shards: b.shards}, OlderThan: time.Hour, Now: time.Now,
			Random: rand.NewChaCha8([32]byte{}), Logger: slog.New(slog.NewTextHandler(&said, nil)),
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithTimeout(t.Context(), 10*24*time.Hour)
		defer stop()
		if err := retention.Run(ctx); err != nil || said.count("trimmed the store") != 10 {
			t.Errorf("%v in ten days\n%s", err, said.String())
		}
	})
}

func TestRetentionThatKeepsNothingOrAllIsRefused(t *testing.T) {
	for _, c := range []RetentionConfig{{}, {OlderThan: -1}, {Keep: 1, Every: -1}, {Keep: 1, Rate: -1}} {
		c.Random = rand.NewChaCha8([32]byte{})
		if _, err := NewRetention(c); err == nil {
			t.Errorf("%+v is taken", c)
		}
	}
}
