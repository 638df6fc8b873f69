package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// The store is closed then, and a put in the middle would find it so.
func TestServerThatIsOverHasNoRequestUnderWay(t *testing.T) {
	data := t.TempDir()
	l, err := listenAdmin(data)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var over atomic.Bool
	done := make(chan error, 1)
	go func() {
		done <- serveHTTP(ctx, l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.(http.Flusher).Flush()
			<-r.Context().Done()
			time.Sleep(1500 * time.Millisecond) // longer than those are waited for that may send an answer
			over.Store(true)
		}), slog.New(slog.DiscardHandler))
	}()
	answer, err := askAdmin(t.Context(), http.MethodPost, data, "/put", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Close()
	stop()
	if err := <-done; err != nil || !over.Load() {
		t.Errorf("%v; it is over, and a request is under way", err)
	}
}

// A brokenWork is one that something fails in as the server stops.
type brokenWork struct{}

func (*brokenWork) do(ctx context.Context, _ wholeStore, _ func(report)) error {
	<-ctx.Done()
	return errors.New("the edge has stopped")
}

func TestWorkThatFailsAsTheServerStopsSaysSo(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	stop()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "/broken", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	serveWork[brokenWork](nil, "data")(w, r)
	if text, err := io.ReadAll(w.Body); err != nil || !strings.Contains(string(text), "the server was stopped in the middle") {
		t.Errorf("%q, %v", text, err)
	}
}

// An edge on DynamoDB has no store in its folder that would lock it.
func TestFolderOfAnEdgeThatRunsIsRefused(t *testing.T) {
	data := t.TempDir()
	first, err := listenAdmin(data)
	if err != nil {
		t.Fatal(err)
	}
	if second, err := listenAdmin(data); err == nil || !strings.Contains(err.Error(), data+" is in use by another process: stop that one first") {
		if err == nil {
			second.Close()
		}
		t.Errorf("a second one: %v, want that the folder is in use", err)
	}
	if conn, err := net.Dial("unix", adminPath(data)); err != nil {
		t.Errorf("the first is not to be reached any more: %v", err)
	} else {
		conn.Close()
	}
	first.(*net.UnixListener).SetUnlinkOnClose(false) // as if it were killed
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := listenAdmin(data)
	if err != nil {
		t.Fatalf("after the first was killed: %v", err)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
}
