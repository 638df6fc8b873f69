package client_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"timberline/client"
)

// A table is what an app knows, by the key of each message. Here it is in memory;
// think of rows in a database.
type table map[client.Cursor]string

// read puts messages into the table, until it has stored a last one. There it
// ends as a process does that dies: the message is stored, but the SDK has not
// noted it.
func (t table) read(ctx context.Context, address, file, last string) error {
	store, err := client.OpenFile(file, client.FileOptions{})
	if err != nil {
		return err
	}
	bob, err := client.Dial(address, client.Options{ServerKey: serverKey, Token: token("bob", "phone"), Store: store})
	if err != nil {
		return err
	}
	defer bob.Close() // closes the store, too
	for m, err := range bob.Messages(ctx) {
		if err != nil {
			return err
		}
		_, again := t[m.Cursor()]
		fmt.Printf("%d: %s, again: %v\n", m.Seq, m.Event.Body, again)
		t[m.Cursor()] = string(m.Event.Body) // a row written twice is still one row
		if string(m.Event.Body) == last {
			return nil
		}
	}
	return nil
}

// Every message comes at least once: one that the app has stored comes again if
// the app died before the SDK noted it. Store and seq, which never change, tell
// that it is the same.
func Example_atLeastOnce() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	address, stop := startServer()
	defer stop()
	folder, err := os.MkdirTemp("", "device-*")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(folder)

	if err := say(ctx, address, "one", "two", "three"); err != nil {
		panic(err)
	}
	inbox, file := table{}, filepath.Join(folder, "device")
	for _, last := range []string{"two", "three"} {
		if err := inbox.read(ctx, address, file, last); err != nil {
			panic(err)
		}
		fmt.Println("the app dies")
	}
	fmt.Println(len(inbox), "messages in the table")
	// Output:
	// 1: one, again: false
	// 2: two, again: false
	// the app dies
	// 2: two, again: true
	// 3: three, again: false
	// the app dies
	// 3 messages in the table
}
