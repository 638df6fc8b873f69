package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"text/tabwriter"
	"time"

	"golang.org/x/sync/errgroup"

	"timberline/cmd/bench"
	"timberline/cmd/replay"
)

// A rebuildReport is what senders notice of a rebuild: the medians of all rounds.
type rebuildReport struct {
	Messages    int     `json:"messages"` // in the log, at first
	Users       int     `json:"users"`    // of those
	Rate        float64 `json:"rate"`     // sends a second
	RebuildRate float64 `json:"rebuild_rate"`
	Rounds      int     `json:"rounds"`

	Without bench.Times `json:"without_ms"` // acks
	With    bench.Times `json:"with_ms"`
	Ratio   float64     `json:"ratio"` // of With.P99 to Without.P99
	Fsync   bench.Times `json:"fsync_ms"`
}

// checkRebuild finds what is wrong with the flags of "bench rebuild".
func (b *benchConfig) checkRebuild() error {
	b.rate = cmp.Or(b.rate, 2000)
	switch {
	case !(b.rebuildRate >= 0):
		return wrong("rebuild-rate", "is %v, want events per second, or 0 for no limit", b.rebuildRate)
	case b.rounds < 1 || b.rounds > 1000:
		return wrong("rounds", "is %d, want 1 to 1000", b.rounds)
	}
	return b.checkLog()
}

// fill makes the store that is to be rebuilt.
func (b *benchConfig) fill(ctx context.Context, c *call, data string, payload bench.Payload) error {
	fmt.Fprintf(c.stderr, "fill the store with %d messages\n", b.messages)
	if err := os.Mkdir(data, 0o700); err != nil {
		return err
	}
	return replay.Fill(ctx, replay.Config{Folder: data, Messages: b.messages, Users: b.users, Bodies: payload.Bodies})
}

// rebuild measures what senders notice of a rebuild, in turn without and with it.
func (b *benchConfig) rebuild(ctx context.Context, c *call, cfg bench.Config, m bench.Machine, data string) error {
	echo, err := startEcho(ctx, b.cores)
	if err != nil {
		return err
	}
	defer echo.stop()
	m.Echo = echo.addr
	r := &rebuildReport{Messages: b.messages, Users: b.users, Rate: b.rate, RebuildRate: b.rebuildRate, Rounds: b.rounds}
	var without, with, fsync []bench.Times
	for round := range b.rounds {
		for _, turn := range []struct {
			name  string
			do    func(time.Duration) error // in the measured part
			times *[]bench.Times
		}{
			{"without", nil, &without},
			{"with", func(d time.Duration) error { return b.rebuildFor(ctx, c, data, d) }, &with},
		} {
			fmt.Fprintf(c.stderr, "round %d of %d, %s a rebuild\n", round+1, b.rounds, turn.name)
			m.During = turn.do
			if turn.do != nil && b.profile != "" {
				m.During = func(d time.Duration) error {
					var both errgroup.Group
					both.Go(func() error { return turn.do(d) })
					both.Go(func() error { return b.writeProfiles(ctx, m, d) })
					return both.Wait()
				}
			}
			cfg.Names = fmt.Sprintf("%s%d-", turn.name, round)
			report, err := bench.Run(ctx, cfg, m)
			if err != nil {
				return err
			}
			fmt.Fprintf(c.stderr, "acks: %+v\n", report.Ack)
			*turn.times, fsync = append(*turn.times, report.Ack), append(fsync, report.Limits.Fsync)
		}
	}
	r.Without, r.With, r.Fsync = medianTimes(without), medianTimes(with), medianTimes(fsync)
	r.Ratio = r.With.P99 / r.Without.P99
	if b.json {
		return c.printJSON(r)
	}
	t := tabwriter.NewWriter(c.stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	for _, row := range []struct {
		name string
		x    bench.Times
	}{{"acks without a rebuild", r.Without}, {"acks with one", r.With}, {"fsync", r.Fsync}} {
		fmt.Fprintf(t, "%s\t%.2f / %.2f / %.2f ms\t\n", row.name, row.x.P50, row.x.P99, row.x.P999)
	}
	fmt.Fprintf(t, "ratio of the p99\t%.2f\t\n", r.Ratio)
	return t.Flush()
}

// medianTimes returns the median of each time.
func medianTimes(all []bench.Times) bench.Times {
	median := func(of func(bench.Times) float64) float64 {
		var list []float64
		for _, x := range all {
			list = append(list, of(x))
		}
		slices.Sort(list)
		return list[len(list)/2]
	}
	return bench.Times{
		P50: median(func(x bench.Times) float64 { return x.P50 }), P99: median(func(x bench.Times) float64 { return x.P99 }),
		P999: median(func(x bench.Times) float64 { return x.P999 }),
	}
}

// rebuildFor has the server rebuild for some time, as often as that gives, and tells how far
// it comes. What was not finished is given up: so each rebuild begins at the beginning.
func (b *benchConfig) rebuildFor(ctx context.Context, c *call, data string, d time.Duration) error {
	some, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	for {
		err := orderRebuild(some, data, &rebuildWork{Rate: b.rebuildRate}, func(r report) { fmt.Fprintln(c.stderr, r) })
		switch {
		case errors.Is(some.Err(), context.DeadlineExceeded):
			return giveUpRebuild(ctx, data)
		case err != nil:
			return err
		}
	}
}

// giveUpRebuild drops the version that the last rebuild was making.
func giveUpRebuild(ctx context.Context, data string) error {
	var next int
	err := orderRebuild(ctx, data, &rebuildWork{Status: true}, func(r report) { next = int(r.Versions.Next) })
	if err != nil {
		return err
	}
	return orderRebuild(ctx, data, &rebuildWork{Drop: &next}, func(report) {})
}

func orderRebuild(ctx context.Context, data string, do *rebuildWork, tell func(report)) error {
	order, err := json.Marshal(do)
	if err != nil {
		return err
	}
	answer, err := askAdmin(ctx, http.MethodPost, data, "/rebuild", nil, bytes.NewReader(order))
	if err != nil {
		return err
	}
	return errors.Join(readReports(answer, tell), answer.Close())
}
