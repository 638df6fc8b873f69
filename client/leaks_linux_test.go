package client_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"timberline/client"
)

// openFiles counts what the process has open: files and sockets.
func openFiles(t *testing.T) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}

// An app may open and close clients as often as it likes, in whatever state they are.
func TestNothingLeaksOfAThousandClients(t *testing.T) {
	address, stop := startServer()
	defer stop()
	folder := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	useClient(t, ctx, address, filepath.Join(folder, "first"), 1) // the server has answered: all of it runs by now
	goroutines, files := runtime.NumGoroutine(), openFiles(t)

	const clients, atOnce = 1000, 40
	var g sync.WaitGroup
	for worker := range atOnce {
		g.Go(func() {
			for i := worker; i < clients; i += atOnce {
				useClient(t, ctx, address, filepath.Join(folder, fmt.Sprint(i)), i)
			}
		})
	}
	g.Wait()
	wantNoMore(t, goroutines, files)
}

// wantNoMore holds goroutines and open files against what there was before.
func wantNoMore(t *testing.T, goroutines, files int) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > goroutines && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond) // the store may have something to do in the background
	}
	if n := runtime.NumGoroutine(); n > goroutines {
		stacks := make([]byte, 1<<20)
		t.Errorf("%d goroutines are left behind:\n%s", n-goroutines, stacks[:runtime.Stack(stacks, true)])
	}
	if n := openFiles(t); n > files {
		t.Errorf("%d files and sockets are left open", n-files)
	}
}

// A server that is started and stopped again and again, on the disk, while clients come
// and go.
func TestNothingLeaksOfAServerThatStops(t *testing.T) {
	t.Chdir(t.TempDir())
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	run := func(life int) {
		s := serve(vfs.Default, "127.0.0.1:0")
		defer s.stop()
		for i := range 5 {
			useClient(t, ctx, s.addr.String(), fmt.Sprintf("%d-%d", life, i), i)
		}
	}
	run(0)
	goroutines, files := runtime.NumGoroutine(), openFiles(t)
	for life := range 5 {
		run(life + 1)
	}
	wantNoMore(t, goroutines, files)
}

// useClient opens a client, does something with it and closes it: what, depends on the
// number.
func useClient(t *testing.T, ctx context.Context, address, outbox string, i int) {
	store, err := client.OpenFile(outbox, client.FileOptions{})
	if err != nil {
		t.Error(err)
		return
	}
	o := client.Options{ServerKey: serverKey, Token: token(fmt.Sprintf("u%d", i), "phone"), Store: store}
	if i%3 == 0 {
		o.OnMessage = func(client.Message) error { return nil }
	}
	switch i % 10 {
	case 7:
		address = "127.0.0.1:9" // nobody is there
	case 8:
		o.Token = func(ctx context.Context) (string, error) { <-ctx.Done(); return "", ctx.Err() }
	case 9:
		o.Token = func(context.Context) (string, error) { return "", errors.New("no service") }
	}
	c, err := client.Dial(address, o)
	if err != nil {
		t.Error(err)
		return
	}
	if _, err := c.Send(ctx, "bob", []byte("hi")); err != nil {
		t.Errorf("client %d: send: %v", i, err)
	}
	switch {
	case i%10 == 0:
		c.NetworkChanged() // closed in the middle of it
	case i%10 < 6:
		if err := c.Flush(ctx); err != nil {
			t.Errorf("client %d: flush: %v", i, err)
		}
	}
	if err := c.Close(); err != nil {
		t.Errorf("client %d: close: %v", i, err)
	}
}
