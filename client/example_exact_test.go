package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"timberline/client"
)

// patience bounds what an example waits for.
const patience = 30 * time.Second

// say sends messages to bob, and waits until they are durable.
func say(ctx context.Context, address string, texts ...string) error {
	alice, err := client.Dial(address, client.Options{ServerKey: serverKey, Token: token("alice", "laptop")})
	if err != nil {
		return err
	}
	defer alice.Close()
	for _, text := range texts {
		if _, err := alice.Send(ctx, "bob", []byte(text)); err != nil {
			return err
		}
	}
	return alice.Flush(ctx)
}

// A ledger is all that an app keeps. What it does with a message must not happen
// twice: it counts.
type ledger struct {
	Count  map[string]int // messages, by text
	Cursor client.Cursor  // of what is counted
}

// A ledgerFile keeps a ledger: commit replaces the whole file at once, as a
// transaction of a database would.
type ledgerFile string

func (f ledgerFile) read() (l ledger, err error) {
	l.Count = map[string]int{}
	data, err := os.ReadFile(string(f))
	if errors.Is(err, fs.ErrNotExist) {
		return l, nil
	}
	if err != nil {
		return l, err
	}
	return l, json.Unmarshal(data, &l)
}

func (f ledgerFile) commit(l ledger) error {
	data, err := json.Marshal(l)
	if err != nil {
		return err
	}
	if err := os.WriteFile(string(f)+".new", data, 0o600); err != nil {
		return err
	}
	return os.Rename(string(f)+".new", string(f))
}

// An exactStore is the SDK's own File, for what waits to be sent, with the cursor
// of the app's ledger.
type exactStore struct {
	*client.File
	ledger ledgerFile
}

// Load implements client.Store. The app's cursor counts: the File's may be a
// little behind.
func (s exactStore) Load() (client.Saved, error) {
	saved, err := s.File.Load()
	if err != nil {
		return saved, err
	}
	l, err := s.ledger.read()
	saved.Cursor = l.Cursor
	return saved, err
}

// count counts messages, until it has counted a last one. There it ends as a
// process does that dies.
func (f ledgerFile) count(ctx context.Context, address, file, last string) error {
	own, err := client.OpenFile(file, client.FileOptions{})
	if err != nil {
		return err
	}
	bob, err := client.Dial(address, client.Options{ServerKey: serverKey, Token: token("bob", "phone"), Store: exactStore{own, f}})
	if err != nil {
		return err
	}
	defer bob.Close() // closes the store, too
	for m, err := range bob.Messages(ctx) {
		if err != nil {
			return err
		}
		l, err := f.read()
		if err != nil {
			return err
		}
		fmt.Printf("%d: %s\n", m.Seq, m.Event.Body)
		l.Count[string(m.Event.Body)]++
		l.Cursor = m.Cursor()
		if err := f.commit(l); err != nil {
			return err
		}
		if string(m.Event.Body) == last {
			return nil
		}
	}
	return nil
}

// Every message has its effect exactly once, where the app keeps the effect and
// the message's cursor in one transaction, and has the SDK start from there.
func Example_exactlyOnce() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	address, stop := startServer()
	defer stop()
	folder, err := os.MkdirTemp("", "device-*")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(folder)

	if err := say(ctx, address, "yes", "no", "yes", "maybe"); err != nil {
		panic(err)
	}
	votes, file := ledgerFile(filepath.Join(folder, "votes")), filepath.Join(folder, "device")
	for _, last := range []string{"no", "maybe"} {
		if err := votes.count(ctx, address, file, last); err != nil {
			panic(err)
		}
		fmt.Println("the app dies")
	}
	l, err := votes.read()
	fmt.Println(l.Count, err)
	// Output:
	// 1: yes
	// 2: no
	// the app dies
	// 3: yes
	// 4: maybe
	// the app dies
	// map[maybe:1 no:1 yes:2] <nil>
}
