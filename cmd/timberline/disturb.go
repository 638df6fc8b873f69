package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"syscall"
	"time"
)

// A victim is a process that is disturbed.
type victim interface {
	start(context.Context) error
	signal(os.Signal) error // one that does not end it
	end(os.Signal) error    // an error if it has ended before
}

// A disturber kills, stops and restarts one process now and then.
type disturber struct {
	victim
	role  string     // of the victim; empty: it is a device
	draw  *rand.Rand // when, and for how long
	every time.Duration
	stop  time.Duration // how long it stands still at most
	tally *tally
}

// How long a process that was killed stays away, and one that was stopped stands
// still, at most. Leases are lost in 10 s.
const (
	maxAway     = 2 * time.Second
	maxStop     = 5 * time.Second
	maxRoleStop = 15 * time.Second
)

// run disturbs for as long as now lasts. Then the process runs.
func (d *disturber) run(ctx, now context.Context) error {
	deeds := []func(context.Context) error{d.kill, d.kill, d.kill, d.halt, d.restart}
	for {
		for _, i := range d.draw.Perm(len(deeds)) {
			if rest(now, d.every/2+d.upTo(d.every)) != nil {
				return nil
			}
			if err := deeds[i](ctx); err != nil {
				return err
			}
		}
	}
}

func (d *disturber) kill(ctx context.Context) error {
	err := renew(ctx, d, syscall.SIGKILL, d.upTo(maxAway))
	d.tally.killed()
	if d.role != "" {
		d.tally.serverKilled(d.role)
	}
	return err
}

func (d *disturber) halt(ctx context.Context) error {
	if err := d.signal(syscall.SIGSTOP); err != nil {
		return err
	}
	err := rest(ctx, d.upTo(d.stop))
	d.tally.count(func(c *counts) { c.stops++ })
	return errors.Join(err, d.signal(syscall.SIGCONT))
}

func (d *disturber) restart(ctx context.Context) error {
	err := renew(ctx, d, syscall.SIGTERM, 0)
	d.tally.count(func(c *counts) { c.restarts++ })
	return err
}

func (d *disturber) upTo(most time.Duration) time.Duration {
	return time.Duration(d.draw.Int64N(int64(most)))
}

// renew ends a process with a signal, and starts it again after a while.
func renew(ctx context.Context, v victim, s os.Signal, away time.Duration) error {
	if err := v.end(s); err != nil {
		return err
	}
	if err := rest(ctx, away); err != nil {
		return err
	}
	return v.start(ctx)
}
