package main

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"timberline/projections"
	"timberline/store/pebble"
)

func TestTimeLeft(t *testing.T) {
	for _, c := range []struct {
		took       time.Duration
		done, left uint64
		want       string
	}{
		{time.Minute, 0, 100, "?"},
		{time.Minute, 100, 50, "30s"},
		{time.Minute, 100, 0, "0s"},
		{time.Hour, 3, 300_000_000, "more than 1000h"}, // whose product is no duration
	} {
		if got := timeLeft(c.took, c.done, c.left); got != c.want {
			t.Errorf("%d done in %v, %d left: %s, want %s", c.done, c.took, c.left, got, c.want)
		}
	}
}

func TestBarIsFullWhenAllIsDone(t *testing.T) {
	for _, c := range []struct {
		done, all uint64
		want      string
	}{
		{0, 3, "[--------------------]"},
		{1, 3, "[######--------------]"},
		{99, 100, "[###################-]"},
		{3, 3, "[####################]"},
		{4, 3, "[####################]"}, // more has come meanwhile
		{0, 0, "[####################]"},
	} {
		if got := progressBar(c.done, c.all); got != c.want {
			t.Errorf("%d of %d: %s, want %s", c.done, c.all, got, c.want)
		}
	}
}

// However often it is told, and however long it is: the bar stays in one row of a terminal.
func TestProgressStaysInARowOfItsTerminal(t *testing.T) {
	dir := t.TempDir()
	if err := fillOld(t.Context(), storePath(dir), 8000); err != nil {
		t.Fatal(err)
	}
	x := inTerminal(t, "rebuild", "--data", dir, "--rate", "4000")
	if err := x.cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	within(t, "it says what it has made", func() bool { return strings.Contains(x.screen(), "version 1 is read from") })
	bars := 0
	for row := range strings.Lines(x.screen()) {
		if strings.HasPrefix(row, "shard 0: [") {
			bars++
		} else if strings.Contains(row, "events a second") || strings.Contains(row, "checkpoint 0 of") {
			bars += 2
		}
	}
	if bars != 1 {
		t.Errorf("the screen shows, want one bar:\n%s", x.screen())
	}
}

func TestRebuildRefusesRatesThatAreNone(t *testing.T) {
	for _, rate := range []string{"-1", "NaN", "Inf"} {
		tl(t, "rebuild", "--rate", rate).want(t, exitUsage, "", "want events per second")
	}
}

func TestStatusTellsOfARebuildThatWasInterrupted(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	if err := fillOld(t.Context(), dir, 100); err != nil {
		t.Fatal(err)
	}
	s, err := pebble.Open(dir, pebble.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	told := func(ctx context.Context, w rebuildWork, seen func(report)) (all []string) {
		t.Helper()
		err := w.do(ctx, s, func(r report) {
			all = append(all, r.String())
			seen(r)
		})
		if err != nil && ctx.Err() == nil {
			t.Fatal(err)
		}
		return all
	}
	interrupted, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	for _, c := range []struct {
		w    rebuildWork
		want string
	}{
		{rebuildWork{Status: true}, "; the next rebuild makes 1"},
		{rebuildWork{Rate: 1}, "0 events, checkpoint 0 of "}, // at once, however slowly it goes on
		{rebuildWork{Status: true}, "; 1 is begun, up to checkpoint 0: the next rebuild goes on there, --drop 1 gives it up"},
		{rebuildWork{}, "version 1 is read"},
		{rebuildWork{Status: true}, "; --back leads to 0; the next rebuild makes 2"},
		{rebuildWork{}, "version 2 is read"},
		{rebuildWork{Status: true}, "; --back leads to 1; not read any more, and dropped by --drop: 0; the next rebuild makes 3"},
	} {
		seen, ctx := func(report) {}, t.Context()
		if c.w.Rate > 0 {
			seen, ctx = func(report) { interrupt() }, interrupted
		}
		if all := told(ctx, c.w, seen); !strings.Contains(strings.Join(all, "\n"), c.want) {
			t.Errorf("%+v says %q, want %q", c.w, all, c.want)
		}
	}
}

// Work on all shards that was interrupted, and is run again, does the rest, and nothing twice.
func TestWorkOnAllShardsGoesOnBehindThoseThatAreDone(t *testing.T) {
	s, err := pebble.Open("data", pebble.Options{FS: vfs.NewMem(), Shards: 3})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	live := func() (all []projections.Version) {
		for shard := range projections.Shard(3) {
			v, err := projections.ReadVersions(t.Context(), s, shard)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, v.Live)
		}
		return all
	}
	// interrupted does a work until it begins with shard 1, then all of it.
	interrupted := func(w rebuildWork, between, behind []projections.Version) {
		t.Helper()
		ctx, interrupt := context.WithCancel(t.Context())
		defer interrupt()
		err := w.do(ctx, s, func(r report) {
			if strings.HasPrefix(r.Progress, "shard 1:") {
				interrupt()
			}
		})
		if got := live(); err == nil || !slices.Equal(got, between) {
			t.Errorf("%+v, interrupted: %v, versions %v are read, want %v", w, err, got, between)
		}
		for range 2 {
			if err := w.do(t.Context(), s, func(report) {}); err != nil {
				t.Fatal(err)
			}
			if got := live(); !slices.Equal(got, behind) {
				t.Errorf("%+v, run again: versions %v are read, want %v", w, got, behind)
			}
			if !w.Back && !w.Forward {
				break // another rebuild makes others
			}
		}
	}
	type versions = []projections.Version
	interrupted(rebuildWork{}, versions{1, 0, 0}, versions{1, 1, 1})
	interrupted(rebuildWork{}, versions{2, 1, 1}, versions{2, 2, 2})
	interrupted(rebuildWork{Back: true}, versions{1, 2, 2}, versions{1, 1, 1})
	interrupted(rebuildWork{Forward: true}, versions{2, 1, 1}, versions{2, 2, 2})

	one, six, two := 1, 6, 2
	for _, c := range []struct {
		w    rebuildWork
		want string // error
	}{
		{rebuildWork{Shard: &one}, ""}, // version 3
		{rebuildWork{Drop: &two}, "version 2 of shard 0: this version is live"},
		{rebuildWork{Drop: &six}, "no shard has a version 6"},
		{rebuildWork{Drop: &six, Shard: &one}, "shard 1 has no version 6"},
		{rebuildWork{Drop: &two, Shard: &one}, ""},
		{rebuildWork{Back: true}, "shard 1: version 2 is dropped, so nothing leads to it"},
	} {
		err := c.w.do(t.Context(), s, func(report) {})
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%+v: %v, want %q", c.w, err, c.want)
		}
	}
	if got := live(); !slices.Equal(got, versions{2, 3, 2}) {
		t.Errorf("versions %v are read: what was refused has begun", got)
	}
}

// A rebuild meets what says that its version was dropped only when it gets there, and puts items
// until then: they do not stay.
func TestRebuildOfAVersionThatIsDroppedLeavesNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	if err := fillOld(t.Context(), dir, 3000); err != nil {
		t.Fatal(err)
	}
	s, err := pebble.Open(dir, pebble.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	one := 1
	drop := sync.OnceFunc(func() {
		if err := (&rebuildWork{Drop: &one}).do(t.Context(), s, func(report) {}); err != nil {
			t.Error(err)
		}
	})
	if err := (&rebuildWork{Rate: 1e6}).do(t.Context(), s, func(report) { drop() }); !errors.Is(err, projections.ErrDropped) {
		t.Errorf("rebuilt: %v, want ErrDropped", err)
	}
	left := 0
	if err := s.ScanItems(t.Context(), 1, func(projections.Stored) error { left++; return nil }); err != nil || left > 0 {
		t.Errorf("%d items of the dropped version are left, %v", left, err)
	}
}

// A worker that waits until it is to end.
type waiting struct{}

func (*waiting) do(ctx context.Context, _ wholeStore, _ func(report)) error {
	<-ctx.Done()
	return context.Cause(ctx)
}

func TestServerThatStopsInTheMiddleOfWorkSaysSo(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	stop()
	answer := httptest.NewRecorder()
	serveWork[waiting](nil, "data")(answer, httptest.NewRequestWithContext(ctx, http.MethodPost, "/rebuild", strings.NewReader("{}")))
	err := readReports(answer.Body, func(report) {})
	if err == nil || !strings.Contains(err.Error(), "the server was stopped in the middle; run the command again") {
		t.Errorf("error %v", err)
	}
}
