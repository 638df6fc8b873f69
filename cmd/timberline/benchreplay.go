package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"timberline/cmd/bench"
	"timberline/cmd/replay"
)

// replay measures how fast timelines are made again.
func (b *benchConfig) replay(ctx context.Context, c *call, payload bench.Payload) (err error) {
	if err := b.checkLog(); err != nil {
		return err
	}
	folder, err := os.MkdirTemp(b.folder, "timberline-bench-")
	if err != nil {
		return wrong("folder", "is of no use: %v", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	r, err := replay.Run(ctx, replay.Config{
		Folder: folder, Messages: b.messages, Users: b.users, Bodies: payload.Bodies,
		Progress: func(text string) { fmt.Fprintln(c.stderr, text) },
	})
	if err != nil {
		return err
	}
	if b.json {
		return c.printJSON(r)
	}
	each := func(seconds float64) float64 { return float64(r.Messages) / seconds }
	return c.print("%d messages of %d users are %d items, %d MiB\n"+
		"  projected  %7.1f s  %8.0f messages/s\n  rebuilt    %7.1f s  %8.0f messages/s, %.2f of Pebble alone\n"+
		"  verified   %7.1f s  %8.0f messages/s\n  in bulk    %7.1f s  %8.0f messages/s\n  memory     %7d MiB at most\n",
		r.Messages, r.Users, r.Items, r.Bytes>>20, r.ProjectSeconds, each(r.ProjectSeconds), r.RebuildSeconds, each(r.RebuildSeconds), r.Ratio,
		r.VerifySeconds, each(r.VerifySeconds), r.BulkSeconds, each(r.BulkSeconds), r.PeakMiB)
}

// checkLog finds what is wrong with the flags that say what is in the log.
func (b *benchConfig) checkLog() error {
	switch {
	case b.messages < 1 || b.messages > 100_000_000:
		return wrong("messages", "is %d, want 1 to 100000000", b.messages)
	case b.users < 2 || b.users > 200_000:
		return wrong("users", "is %d, want 2 to 200000", b.users)
	}
	return nil
}
