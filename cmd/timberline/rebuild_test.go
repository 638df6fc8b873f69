package main

import (
	"context"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

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

func TestRebuildRefusesRatesThatAreNone(t *testing.T) {
	for _, rate := range []string{"-1", "NaN"} {
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
		{rebuildWork{Rate: 1}, "shard 0: checkpoint 0 of "}, // at once, however slowly it goes on
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
