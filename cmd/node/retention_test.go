package node_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"timberline/client"
	"timberline/cmd/node"
	"timberline/events"
	"timberline/projections"
)

// A server trims as it was told, without a command; the log loses the journals of processes
// that are gone; and a device that comes then is told from where on it can read.
func TestDeviceIsToldWhatTheServerHasTrimmedByItself(t *testing.T) {
	const sends, keep = 20, 5
	fs := vfs.NewMem()
	for round := range 3 { // each has a journal
		addr, stop := serve(t, fs)
		var texts []string
		for n := range sends {
			texts = append(texts, fmt.Sprintf("%d of %d", n, round))
		}
		sendAll(t, addr, "", "alice/laptop", "bob", texts...)
		stop()
	}

	store, conn := storeAndSocket(t, fs)
	ec := plainEdge(conn, store.Tag())
	stop := run(t, store, node.Config{Edge: &ec, Retention: &projections.RetentionConfig{Store: store, Keep: keep, Every: 50 * time.Millisecond}})
	eventually(t, "the old journals are trimmed", func() bool {
		rows, err := store.ListJournals(t.Context(), 0, events.Strong)
		if err != nil {
			t.Fatal(err)
		}
		return rows[0].Trimmed && rows[1].Trimmed
	})
	sendAll(t, conn.LocalAddr(), "", "alice/again", "bob", "one more") // it serves all the while
	stop()

	addr, stop := serve(t, fs)
	defer stop()
	var trimmed [][2]events.Seq
	var got []events.Seq
	var at atomic.Uint64
	const head = 3*sends + 1
	bob, err := client.Dial(addr.String(), client.Options{
		Plain: true, Token: func(context.Context) (string, error) { return "bob/new", nil },
		OnTrimmed: func(first, last events.Seq) { trimmed = append(trimmed, [2]events.Seq{first, last}) },
		OnMessage: func(m client.Message) error {
			got = append(got, m.Seq)
			at.Store(uint64(m.Seq))
			return nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "bob has all", func() bool {
		if err := bob.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
		return at.Load() == head
	})
	if err := bob.Close(); err != nil {
		t.Error(err)
	}
	if len(got) < keep || len(got) > sends+1 {
		t.Fatalf("bob reads %d entries, want those of the last round, or at least %d of them", len(got), keep)
	}
	first := got[0]
	if len(trimmed) != 1 || trimmed[0] != [2]events.Seq{1, first - 1} {
		t.Errorf("bob is told that %v were trimmed, and reads on from %d", trimmed, first)
	}
	if got[len(got)-1] != head || len(got) != int(head-first+1) {
		t.Errorf("bob reads %v, want %d to %d", got, first, head)
	}
}

// eventually waits until something is so.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it does not come to pass that %s", what)
		}
	}
}
