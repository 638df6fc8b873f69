package client_test

import (
	"context"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"timberline/client"
	"timberline/events"
)

// Client and server are stopped in turn, with sends on their way each time. What
// was handed to Send is there in the end, once and in order.
func TestSendsOutliveRestartsOfClientAndServer(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	fs := vfs.NewMem()
	s := serve(fs, "127.0.0.1:0")
	defer func() { s.stop() }()
	path := filepath.Join(t.TempDir(), "device")
	results := map[events.MessageID]error{}
	answered := make(chan struct{}, 1)
	dial := func() *client.Client {
		file, err := client.OpenFile(path, client.FileOptions{})
		if err != nil {
			t.Fatal(err)
		}
		c, err := client.Dial(s.addr.String(), client.Options{
			ServerKey: serverKey, Token: token("alice", "laptop"), Store: file,
			OnResult: func(r client.Result) {
				results[r.Message] = r.Err
				select {
				case answered <- struct{}{}:
				default:
				}
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	const lives, each = 10, 100
	var ids []events.MessageID
	for life := range lives {
		c := dial()
		for i := range each {
			id, err := c.Send(ctx, "bob", []byte(strconv.Itoa(len(ids)+1)))
			if err != nil {
				t.Fatal(err)
			}
			ids = append(ids, id)
			if i != each/2 {
				continue
			}
			if life%3 != 0 {
				<-answered // some are stored, and others on their way
			}
			if life%2 == 1 {
				s.stop()
				s = serve(fs, s.addr.String())
			}
		}
		c.Close() // it waits for no answer
	}
	c := dial()
	if err := c.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	c.Close()
	for i, id := range ids {
		if err, told := results[id]; err != nil || !told {
			t.Errorf("message %d: result %v, told %v", i+1, err, told)
		}
	}
	log := timelineOf(t, s, "bob")
	if len(log) != lives*each {
		t.Errorf("the log has %d messages, want %d", len(log), lives*each)
	}
	for i, e := range log {
		if e.Message != ids[i] || string(e.Body) != strconv.Itoa(i+1) {
			t.Fatalf("message %d of the log is %q", i+1, e.Body)
		}
	}
}

// An app may answer from where it takes messages, and wait there for room.
func TestAppMayAnswerWhereItTakesMessages(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	address, stop := startServer()
	defer stop()
	const messages = 200
	answered := make(chan struct{})
	var bob *client.Client
	ready := make(chan struct{})
	o := client.Options{ServerKey: serverKey, Token: token("bob", "phone"), OutboxLimit: 1}
	o.OnMessage = func(m client.Message) error {
		<-ready
		if m.Event.Sender == "bob" {
			if string(m.Event.Body) == strconv.Itoa(messages) {
				close(answered)
			}
			return nil
		}
		_, err := bob.Send(ctx, m.Event.Sender, m.Event.Body)
		return err
	}
	bob, err := client.Dial(address, o)
	if err != nil {
		t.Fatal(err)
	}
	defer bob.Close()
	close(ready)
	texts := make([]string, messages)
	for i := range texts {
		texts[i] = strconv.Itoa(i + 1)
	}
	if err := say(ctx, address, texts...); err != nil {
		t.Fatal(err)
	}
	select {
	case <-answered:
	case <-ctx.Done():
		t.Error("not all was answered")
	}
}
