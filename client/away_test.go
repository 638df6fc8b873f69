package client_test

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"timberline/client"
	"timberline/events"
	"timberline/sim/proxy"
	"timberline/wire"
)

// timelineOf folds the log into a user's timeline by the plainest of rules: every
// message of a conversation that the user is in, by id.
func timelineOf(t *testing.T, s *server, u events.User) (entries []events.Event) {
	t.Helper()
	rows, err := s.store.ListJournals(t.Context(), 0, events.Strong)
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range rows {
		for _, e := range journalOf(t, s, row.Journal()) {
			if _, in := e.Conversation.Peer(u); in && e.Kind == events.KindMessage {
				entries = append(entries, e)
			}
		}
	}
	slices.SortFunc(entries, func(a, b events.Event) int { return a.ID.Compare(b.ID) })
	return entries
}

// journalOf returns all events of a journal.
func journalOf(t *testing.T, s *server, j events.Journal) (list []events.Event) {
	t.Helper()
	for at := events.Offset(1); ; {
		recs, err := s.store.ReadLog(t.Context(), j, at, 1<<20, events.Strong)
		if err != nil {
			t.Fatal(err)
		}
		if len(recs) == 0 {
			return list
		}
		for _, rec := range recs {
			raws, err := rec.Events(j, at)
			if err != nil {
				t.Fatal(err)
			}
			for _, raw := range raws {
				e, err := events.Raw(raw).Decode()
				if err != nil {
					t.Fatal(err)
				}
				list = append(list, e)
			}
			at++
		}
	}
}

// chat has ten users send messages to bob, together, until all are durable.
func chat(ctx context.Context, t *testing.T, address string, messages int) {
	t.Helper()
	var users sync.WaitGroup
	for u := range 10 {
		users.Go(func() {
			user := fmt.Sprintf("user-%d", u)
			c, err := client.Dial(address, client.Options{ServerKey: serverKey, Token: token(user, "laptop")})
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			for i := range messages / 10 {
				text := fmt.Sprintf("message %d of %s", i, user)
				if i%100 == 0 {
					text += strings.Repeat(", at length", 200)
				}
				if _, err := c.Send(ctx, "bob", []byte(text)); err != nil {
					t.Errorf("%s: %v", user, err)
					return
				}
			}
			if err := c.Flush(ctx); err != nil {
				t.Errorf("%s: %v", user, err)
			}
		})
	}
	users.Wait()
}

// A shown is a device that notes all it is shown.
type shown struct {
	list []client.Message
	all  chan struct{} // closed when the last entry was shown
	c    *client.Client
}

func show(t *testing.T, address, device string, last events.Seq, o client.Options) *shown {
	t.Helper()
	s := &shown{all: make(chan struct{})}
	o.Token, o.ServerKey = token("bob", device), serverKey
	o.OnMessage = func(m client.Message) error {
		s.list = append(s.list, m)
		if m.Seq == last {
			close(s.all)
		}
		return nil
	}
	var err error
	if s.c, err = client.Dial(address, o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.c.Close() })
	return s
}

// finish waits until the device was shown the last entry, makes sure that there
// is no other, and closes it.
func (s *shown) finish(ctx context.Context, t *testing.T) {
	t.Helper()
	select {
	case <-s.all:
	case <-ctx.Done():
		t.Error("the last entry does not come")
	}
	if err := s.c.Sync(ctx); err != nil {
		t.Errorf("sync: %v", err)
	}
	if err := s.c.Close(); err != nil {
		t.Error(err)
	}
}

// want holds what the device was shown against the log, from a seq on.
func (s *shown) want(t *testing.T, device string, from int, log []events.Event) {
	t.Helper()
	if len(s.list) != len(log)-from {
		t.Errorf("%s was shown %d entries, want %d", device, len(s.list), len(log)-from)
		return
	}
	for i, m := range s.list {
		want := log[from+i]
		if m.Seq != events.Seq(from+i+1) || string(m.Event.Encode()) != string(want.Encode()) {
			t.Fatalf("%s was shown event %v at seq %d, the log has %v at %d", device, m.Event.ID, m.Seq, want.ID, from+i+1)
		}
	}
}

// A device that was away for 10,000 messages, and one that is new, both end with
// what the log says, through a network that loses every fifth datagram in either
// direction.
func TestDevicesThatWereAwayEndWithWhatTheLogSays(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	fs := vfs.NewMem()
	s := serve(fs, "127.0.0.1:0")
	bad := proxy.Faults{Loss: 0.2, Duplicate: 0.02, Reorder: 0.05}
	p, err := proxy.New(proxy.Config{Server: s.addr, Up: bad, Down: bad, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	running, stopProxy := context.WithCancel(t.Context())
	proxied := make(chan error, 1)
	go func() { proxied <- p.Run(running) }()

	path := filepath.Join(t.TempDir(), "device")
	open := func() client.Options {
		file, err := client.OpenFile(path, client.FileOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return client.Options{Store: file}
	}
	phone := show(t, p.Addr().String(), "phone", 100, open())
	chat(ctx, t, s.addr.String(), 100)
	phone.finish(ctx, t)

	chat(ctx, t, s.addr.String(), 5000)
	s.stop() // what follows stands in another journal
	s = serve(fs, s.addr.String())
	chat(ctx, t, s.addr.String(), 5000)

	begin := time.Now()
	away := show(t, p.Addr().String(), "phone", 10_300, open())
	fresh := show(t, p.Addr().String(), "tablet", 10_300, client.Options{Codec: wire.JSON})
	chat(ctx, t, s.addr.String(), 200) // life goes on meanwhile
	away.finish(ctx, t)
	fresh.finish(ctx, t)
	t.Logf("both had everything after %v", time.Since(begin))

	log := timelineOf(t, s, "bob")
	if len(log) != 100+10_000+200 {
		t.Errorf("the log has %d messages for bob, want %d", len(log), 100+10_000+200)
	}
	phone.want(t, "the phone, before it went away", 0, log[:100])
	away.want(t, "the phone", 100, log)
	fresh.want(t, "the tablet", 0, log)
	s.stop()
	stopProxy()
	if err := <-proxied; err != nil {
		t.Error(err)
	}
}
