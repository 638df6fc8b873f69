package client_test

import (
	"context"
	"fmt"
	"runtime"
	"runtime/pprof"
	"strings"
	"testing"
	"time"
	"weak"

	"timberline/client"
)

// use does everything once that a client can do.
func use(ctx context.Context, t *testing.T, address, user string) weak.Pointer[client.Client] {
	t.Helper()
	c, err := client.Dial(address, client.Options{ServerKey: serverKey, Token: token(user, "phone")})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for range 10 {
		if _, err := c.Send(ctx, "bob", make([]byte, 3000)); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	if err := c.Sync(ctx); err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, err := range c.Messages(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		if n++; n == 10 {
			break
		}
	}
	return weak.Make(c)
}

// clientGoroutines returns the stacks that have code of the SDK in them, without
// the tests'.
func clientGoroutines() (stacks []string) {
	var b strings.Builder
	pprof.Lookup("goroutine").WriteTo(&b, 2)
	for stack := range strings.SplitSeq(b.String(), "\n\n") {
		if strings.Contains(stack, "timberline/client.(") {
			stacks = append(stacks, stack)
		}
	}
	return stacks
}

func TestNothingOfAClientIsLeftAfterClose(t *testing.T) {
	address, stop := startServer()
	defer stop()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var clients []weak.Pointer[client.Client]
	for i := range 20 {
		clients = append(clients, use(ctx, t, address, fmt.Sprintf("user-%d", i)))
	}
	var stacks []string
	for range 1000 { // the last one may be at its return
		if stacks = clientGoroutines(); len(stacks) == 0 {
			break
		}
		runtime.Gosched()
	}
	if len(stacks) > 0 {
		t.Errorf("%d goroutines are left, the first:\n%s", len(stacks), stacks[0])
	}
	left := len(clients)
	for range 10 { // the runtime's own lists let go of a client one by one
		runtime.GC()
		left = 0
		for _, c := range clients {
			if c.Value() != nil {
				left++
			}
		}
	}
	if left > 0 {
		t.Errorf("%d of %d closed clients are still in memory", left, len(clients))
	}
}
