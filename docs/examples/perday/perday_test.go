package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"timberline/bus/local"
	"timberline/events"
	"timberline/projections"
	"timberline/store/pebble"
	"timberline/store/remote"
)

// fill writes messages from alice to bob, three on one day and two on the next, and projects
// them.
func fill(t *testing.T, data string) {
	t.Helper()
	s, err := pebble.Open(filepath.Join(data, "store"), pebble.Options{Shards: 3})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	now := time.Date(2026, 1, 30, 23, 0, 0, 0, time.UTC)
	clock, err := events.NewClock(func() time.Time { return now }, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	row, err := events.OpenJournal(t.Context(), s, s.Tag(), [16]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	for at := events.Offset(1); at <= 5; at++ {
		if at == 4 {
			now = now.Add(2 * time.Hour)
		}
		e := events.Event{ID: clock.Next(), Kind: events.KindMessage, Conversation: events.Direct("alice", "bob"), Sender: "alice", Device: "d", Number: 1, Body: []byte("hi")}
		if _, err := s.Append(t.Context(), row.Journal(), at, events.NewRecord(row.Journal(), at, [][]byte{e.Encode()})); err != nil {
			t.Fatal(err)
		}
	}
	p, err := projections.NewProjector(projections.Config{
		Log: s, Journals: s, Checkpoints: s, Items: s, Meta: s.Meta(), Bus: new(local.Bus), Random: rand.Reader, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	r := projections.NewReader(s, s.Meta())
	for _, u := range []events.User{"alice", "bob"} {
		for head := events.Seq(0); head < 5; time.Sleep(time.Millisecond) {
			run, err := r.Head(t.Context(), u)
			if err != nil {
				t.Fatal(err)
			}
			head = run.Head
		}
	}
	stop()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestPerDayIsRunChangedAndSwitched(t *testing.T) {
	data := t.TempDir()
	fill(t, data)
	perday := func(args ...string) (string, error) {
		var out bytes.Buffer
		err := run(t.Context(), append(args[:1:1], append([]string{"--data", data}, args[1:]...)...), &out, io.Discard)
		return out.String(), err
	}
	want := func(says string, args ...string) {
		t.Helper()
		if out, err := perday(args...); err != nil || out != says {
			t.Errorf("%v: %q, %v; want %q", args, out, err, says)
		}
	}
	fails := func(says string, args ...string) {
		t.Helper()
		if out, err := perday(args...); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%v: %q, %v; want %q", args, out, err, says)
		}
	}
	fails("there is no store in data folder nowhere", "show", "--data", "nowhere", "bob")
	fails("want one user", "show", "bob", "--version", "2")
	fails("want none", "run", "--once", "bob")
	fails("no version is read yet", "show", "bob")
	fails("perday run --version 1 first", "switch")
	for range 2 { // the second time there is nothing to do
		if out, err := perday("run", "--once"); err != nil || strings.Count(out, "applied up to checkpoint") != 3 {
			t.Errorf("%q, %v", out, err)
		}
	}
	want("", "switch")
	want("2026-01-30\t3\n2026-01-31\t2\n", "show", "bob")
	want("2026-01-30\t3\n2026-01-31\t2\n", "show", "alice")
	want("", "show", "carol")
	fails("has not caught up", "switch", "--version", "2")
	if _, err := perday("run", "--once", "--version", "2"); err != nil {
		t.Error(err)
	}
	want("2026-01-30\t3\n2026-01-31\t2\n", "show", "bob")
	want("", "switch", "--version", "2")
	want("2026-01-30 received\t3\n2026-01-31 received\t2\n", "show", "bob")
	want("2026-01-30 sent\t3\n2026-01-31 sent\t2\n", "show", "alice")
	fails("there is no version 3", "run", "--version", "3")
	fails("none of run, switch, show", "walk")
	fails("user", "show")
}

// That the server is away, or that something else fails, is said once, and so is that all goes
// on.
func TestTroublesAreToldOfOnce(t *testing.T) {
	data := t.TempDir()
	s, err := pebble.Open(filepath.Join(data, "store"), pebble.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	socket := filepath.Join(data, "admin.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := http.Server{Handler: remote.Handler(s)}
	go server.Serve(l)
	r, err := remote.Open(t.Context(), socket)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	_, _, away := r.LastCheckpoint(t.Context(), 0, events.Strong)
	if away == nil {
		t.Fatal("a server that has ended answers")
	}
	var said bytes.Buffer
	tr := troubles{out: &said, shards: make(map[projections.Shard]bool)}
	for _, round := range [][2]error{{}, {away, away}, {away, away}, {}, {}, {nil, errors.New("throttled")}, {nil, errors.New("throttled")}, {}} {
		for shard, err := range round {
			tr.told(projections.Shard(shard), 1, err)
		}
	}
	want := "perday: the server is away; it is asked again each second\nperday: it goes on\n" +
		"perday: shard 1 is tried again each second: throttled\nperday: it goes on\n"
	if said.String() != want {
		t.Errorf("%s, want\n%s", &said, want)
	}
}
