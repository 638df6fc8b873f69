package main

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestTrialThatIsInterruptedLeavesNothing(t *testing.T) {
	for _, args := range [][]string{{"demo", "--messages", "100000"}, {"soak", "--users", "2", "--every", "200ms"}} {
		o := interruptAlone(t, "acked", args...).want(t, exitInterrupted, "", "")
		if !strings.HasSuffix(o.stderr, "timberline "+args[0]+": interrupted\n") {
			t.Errorf("it says:\n%s", o.stderr)
		}
	}
}

func TestTrialIsGivenUpWhenNothingMoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var said bytes.Buffer
		tr := &trial{
			stderr: &said, tellEvery: 5 * time.Second, patience: time.Minute, tally: newTally(),
			progress: func(c counts) string { return fmt.Sprintf("%d sent, %d acked, %d read", c.sent, c.acked, c.read) },
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		go tr.watch(ctx, cancel)
		for _, move := range []func(){tr.tally.acked, tr.tally.read, tr.tally.acked} {
			time.Sleep(49 * time.Second)
			move()
		}
		for range 100 { // what devices send into nothing is no progress
			tr.tally.sent()
			time.Sleep(time.Second)
		}
		if why := context.Cause(ctx); why == nil || !strings.HasPrefix(why.Error(), "nothing has moved for 1m0s: ") {
			t.Errorf("given up: %v", why)
		}
		lines := strings.Split(strings.TrimSpace(said.String()), "\n")
		last := lines[len(lines)-1]
		if !strings.HasPrefix(last, " 210 s: ") || !strings.HasSuffix(last, " sent, 2 acked, 1 read") {
			t.Errorf("before it gives up it says %q, want a minute after it saw the last ack", last)
		}
	})
}
