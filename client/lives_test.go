package client_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"timberline/client"
	"timberline/events"
)

// A life is a process of the app: it takes messages until it dies, at a place
// that is drawn.
type life struct {
	exact  bool // messages and cursor are kept in one transaction
	ledger ledgerFile
	file   string
}

// live takes some messages. It reports how many it was shown that it had already.
func (l *life) live(ctx context.Context, t *testing.T, address string, messages int, draw *rand.Rand) (again int) {
	t.Helper()
	own, err := client.OpenFile(l.file, client.FileOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var store client.Store = own
	if l.exact {
		store = exactStore{own, l.ledger}
	}
	c, err := client.Dial(address, client.Options{ServerKey: serverKey, Token: token("bob", "phone"), Store: store})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for m, err := range c.Messages(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		if draw.IntN(10) == 0 {
			return again // it dies before it has kept the message
		}
		book, err := l.ledger.read()
		if err != nil {
			t.Fatal(err)
		}
		if m.Seq <= book.Cursor.Seq {
			again++
		} else if m.Seq != book.Cursor.Seq+1 {
			t.Fatalf("shown seq %d after %d", m.Seq, book.Cursor.Seq)
		}
		book.Count[string(m.Event.Body)]++
		book.Cursor = m.Cursor()
		if err := l.ledger.commit(book); err != nil {
			t.Fatal(err)
		}
		if draw.IntN(10) == 0 || m.Seq == events.Seq(messages) {
			return again // it dies before the SDK has noted that it was kept
		}
	}
	return again
}

func TestAppThatDiesAnywhereSeesEveryMessageAtLeastOnceOrExactlyOnce(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	address, stop := startServer()
	defer stop()
	const messages = 100
	texts := make([]string, messages)
	for i := range texts {
		texts[i] = fmt.Sprintf("message %d", i+1)
	}
	if err := say(ctx, address, texts...); err != nil {
		t.Fatal(err)
	}
	for _, exact := range []bool{true, false} {
		folder := t.TempDir()
		l := life{exact, ledgerFile(filepath.Join(folder, "ledger")), filepath.Join(folder, "device")}
		draw := rand.New(rand.NewPCG(1, 2))
		again, lives := 0, 0
		var book ledger
		for book.Cursor.Seq < messages {
			again += l.live(ctx, t, address, messages, draw)
			lives++
			var err error
			if book, err = l.ledger.read(); err != nil {
				t.Fatal(err)
			}
		}
		if lives < 10 || !exact && again == 0 {
			t.Errorf("%d lives, %d messages shown again: the test shows nothing", lives, again)
		}
		if exact && again > 0 {
			t.Errorf("%d messages were shown again, though their cursors are kept", again)
		}
		for _, text := range texts {
			if n := book.Count[text]; n < 1 || exact && n > 1 {
				t.Errorf("exact %v: %q was taken %d times", exact, text, n)
			}
		}
	}
}
