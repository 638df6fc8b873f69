package main

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"timberline/cmd/bench"
	"timberline/cmd/units"
)

// A unitsConfig is what "bench units" can be told besides rate, payload and duration.
type unitsConfig struct {
	users  int
	shards uint
	write  time.Duration
	read   time.Duration
	slower float64
}

func (u *unitsConfig) define(c *call) {
	c.flags.IntVar(&u.users, "users", 100_000, "bench units, bench replay, bench rebuild: `number` of users who write to each other")
	c.flags.UintVar(&u.shards, "shards", 8, "bench units: `number` of shards")
	c.flags.DurationVar(&u.write, "append-latency", 5*time.Millisecond, "bench units: how long a write to DynamoDB takes: what gathers meanwhile is one record")
	c.flags.DurationVar(&u.read, "read-latency", 3*time.Millisecond, "bench units: how long a read of DynamoDB takes")
	c.flags.Float64Var(&u.slower, "slower", 1, "bench units: let all take so many `times` as long: the units are the same, on a machine that cannot keep up otherwise")
}

// units measures what messages cost on DynamoDB.
func (b *benchConfig) units(ctx context.Context, c *call, payload bench.Payload) error {
	u := &b.unitsConfig
	rate := b.rate
	if rate == 0 {
		rate = 10_000
	}
	switch {
	case u.users < 2 || u.users > 1_000_000 || u.users%2 != 0:
		return wrong("users", "is %d, want an even number, 2 to 1000000", u.users)
	case u.shards < 1 || u.shards > 4096:
		return wrong("shards", "is %d, want 1 to 4096", u.shards)
	case u.write < 0 || u.write > time.Second:
		return wrong("append-latency", "is %v, want 0s to 1s", u.write)
	case u.read < 0 || u.read > time.Second:
		return wrong("read-latency", "is %v, want 0s to 1s", u.read)
	case !(u.slower >= 1 && u.slower <= 1000):
		return wrong("slower", "is %v, want 1 to 1000", u.slower)
	}
	report, err := units.Run(ctx, units.Config{
		Rate: rate, Bodies: payload.Bodies, Users: u.users, Shards: uint32(u.shards),
		Write: u.write, Read: u.read, Duration: b.duration, Slower: u.slower,
	})
	if err != nil {
		return err
	}
	if b.json {
		return c.printJSON(report)
	}
	return printUnits(c.stdout, report)
}

// printUnits prints a report as a table.
func printUnits(w io.Writer, r *units.Report) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(t, "\twrite units\tread units\titems\tbytes each\t\n")
	each := func(n float64) float64 { return n / float64(max(1, r.Messages)) }
	for _, row := range []struct {
		name string
		use  units.Use
	}{{"log", r.Log}, {"checkpoints", r.Checkpoints}, {"timelines", r.Timelines}} {
		u := row.use
		fmt.Fprintf(t, "%s\t%.3f\t%.3f\t%.3f\t%d\t\n", row.name, each(float64(u.WriteUnits)), each(u.ReadUnits), each(float64(u.Items)), u.Bytes/max(1, u.Items))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "per message, of %d at %g a second; %.3f write units a timeline entry; an append took %.1f ms\n", r.Messages, r.Rate, r.PerMessage.EntryWrite, r.AppendMs)
	return err
}
