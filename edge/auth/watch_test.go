package auth

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A page is a watched file and whoever changes it.
type page struct {
	*Watched[string]
	t    *testing.T
	path string
	log  journal
}

// A journal is a log that is read while it is written.
type journal struct {
	mu   sync.Mutex
	said bytes.Buffer
}

func (j *journal) Write(line []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.said.Write(line)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.said.String()
}

// openPage runs a Watched of a file whose value is its text; "bad" is none.
func openPage(t *testing.T) *page {
	p := &page{t: t, path: filepath.Join(t.TempDir(), "page")}
	p.write("one")
	w, err := watchOne(p.path, func(data []byte) (string, error) {
		if string(data) == "bad" {
			return "", errors.New("bad text")
		}
		return string(data), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	p.Watched = w
	return p
}

func (p *page) write(text string) {
	p.t.Helper()
	if err := os.WriteFile(p.path, []byte(text), 0o600); err != nil {
		p.t.Fatal(err)
	}
}

// want checks the value, and how often something was logged so far.
func (p *page) want(reason, value, logged string, times int) {
	p.t.Helper()
	if got := p.Get(); got != value {
		p.t.Errorf("%s: %q, want %q", reason, got, value)
	}
	if n := strings.Count(p.log.String(), logged); n != times {
		p.t.Errorf("%s: logged %d times, want %d:\n%s", reason, n, times, &p.log)
	}
}

// pass lets the file be looked at.
func pass() {
	time.Sleep(watchEvery)
	synctest.Wait()
}

func TestFileIsReadAgainWhenItChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := openPage(t)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- p.Run(ctx, slog.New(slog.NewTextHandler(&p.log, nil))) }()
		pass()
		p.want("nothing changed", "one", "read again", 0)

		p.write("two")
		pass()
		p.want("another text", "two", "read again", 1)

		p.write("bad")
		pass()
		pass()
		p.want("a bad text, looked at twice", "two", "bad text", 1)

		os.Remove(p.path)
		pass()
		pass()
		p.want("no file", "two", "there is no such file", 1)

		p.write("two")
		pass()
		p.want("the good one again", "two", "read again", 2)

		p.write("three")
		if err := p.Reload(ctx); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		p.want("whoever asks need not wait", "three", "read again", 3)
		p.write("bad")
		if err := p.Reload(ctx); err == nil || !strings.Contains(err.Error(), p.path+": bad text") {
			t.Errorf("whoever asks is told %v", err)
		}
		pass()
		p.want("who asked was told", "three", "bad text", 1)

		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		if err := p.Reload(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("after the end: %v", err)
		}
	})
}

func TestWrongFileIsAnErrorAtOnce(t *testing.T) {
	p := openPage(t)
	p.write("bad")
	if _, err := watchOne(p.path, func([]byte) (int, error) { return 0, errors.New("bad text") }); err == nil {
		t.Error("a bad file was taken")
	}
	if _, err := watchOne(p.path+"x", func([]byte) (int, error) { return 0, nil }); err == nil || !strings.Contains(err.Error(), p.path+"x: there is no such file") {
		t.Errorf("no file: %v", err)
	}
}
