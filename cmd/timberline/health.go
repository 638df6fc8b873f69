package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
)

var healthCommand = &command{
	name:    "health",
	summary: "ask a process of this machine whether it serves",
	about: `
It asks /readyz of the process's --monitor (serve and others say where it is, and take another
address), and fails if that does not answer "ok". It is for what watches over containers:
there is no curl in our image.`,
	example: "timberline health --monitor 127.0.0.1:9100",
	run: func(ctx context.Context, c *call) error {
		monitor := c.flags.String("monitor", "", "`address` (host:port) that the process was given by --monitor")
		if err := c.parse(0); err != nil {
			return err
		}
		if *monitor == "" {
			return wrong("monitor", "is missing, want the address that the process was given by it")
		}
		if err := checkAddress(*monitor); err != nil {
			return wrong("monitor", "is %q: %v", *monitor, err)
		}
		return askHealth(ctx, *monitor)
	},
}

// askHealth fails with what a monitor says is wrong.
func askHealth(ctx context.Context, monitor string) error {
	ctx, cancel := context.WithTimeout(ctx, 2*healthyWithin)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+monitor+"/readyz", nil)
	if err != nil {
		return err
	}
	answer, err := (&http.Transport{}).RoundTrip(r) // by no proxy
	if err != nil {
		return fmt.Errorf("nobody answers: %w", err)
	}
	defer answer.Body.Close()
	says, err := io.ReadAll(io.LimitReader(answer.Body, 1<<10))
	if err == nil && answer.StatusCode != http.StatusOK {
		err = errors.New(strings.TrimSpace(string(says)))
	}
	return err
}
