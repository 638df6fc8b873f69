package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"text/tabwriter"
	"time"

	"timberline/cmd/bench"
)

// "bench all" runs what a server is held to, one after the other, each in a process
// of its own and some times over, and prints the medians in one table.

// A bar is one thing that a server is held to.
type bar struct {
	name string
	args []string // of bench
	runs int
	says func(medians []bench.Report) string
	want string
}

// median returns the report that stands in the middle by some measure.
func median(all []bench.Report, by func(*bench.Report) float64) bench.Report {
	slices.SortFunc(all, func(a, b bench.Report) int {
		switch x, y := by(&a), by(&b); {
		case x < y:
			return -1
		case x > y:
			return 1
		}
		return 0
	})
	return all[len(all)/2]
}

func ratio(r *bench.Report) float64       { return r.Ratio }
func deliveryP50(r *bench.Report) float64 { return r.Delivery.P50 }
func acked(r *bench.Report) float64       { return r.AckedPerS }

// delivery tells how long messages took, in syncs of the same run, too.
func delivery(all []bench.Report) string {
	r := median(all, deliveryP50)
	return fmt.Sprintf("p50 %.2f ms = %.1f fsyncs of %.2f ms, p99 %.1f ms", r.Delivery.P50, r.Delivery.P50/r.Limits.Fsync.P50, r.Limits.Fsync.P50, r.Delivery.P99)
}

// bars lists them; load is what is common to most.
func bars(load []string) []bar {
	online := append([]string{"--receivers", "online"}, load...)
	return []bar{
		{"acked sends, 1,000 sessions, window 32", load, 3, func(all []bench.Report) string {
			r := median(all, ratio)
			return fmt.Sprintf("%.0f /s, ratio %.2f to %.0f echoes/s", r.AckedPerS, r.Ratio, r.Limits.EchoPerS)
		}, "ratio 0.35"},
		{"delivery at 1,000 /s", append([]string{"--rate", "1000"}, online...), 3, delivery, "p50 7 fsyncs, p99 9 ms"},
		{"delivery at 4,000 /s", append([]string{"--rate", "4000"}, online...), 3, delivery, "p50 15 fsyncs, p99 25 ms"},
		{"delivery at 1,000 /s, 10 % loss, 5 % reordered", append([]string{"--rate", "1000", "--loss", "0.1", "--reorder", "0.05"}, online...), 3, delivery, "p99 500 ms"},
		{"one core, 2,000 sessions, window 16", append([]string{"--server-cores", "1", "--sessions", "2000", "--window", "16"}, load...), 3, overload, ""},
		{"one core, 2,000 sessions, window 256", append([]string{"--server-cores", "1", "--sessions", "2000", "--window", "256"}, load...), 3, overload, "0.9 of that, 512 MiB"},
	}
}

func overload(all []bench.Report) string {
	r := median(all, acked)
	return fmt.Sprintf("%.0f /s, ack p99 %.0f ms, %d busy, %d MiB", r.AckedPerS, r.Ack.P99, r.Busy, r.Server.PeakRSS>>20)
}

// benchAll runs them all.
func (b *benchConfig) benchAll(ctx context.Context, c *call) (err error) {
	load := []string{"--payload", b.payload, "--duration", b.duration.String(), "--folder", b.folder}
	t := tabwriter.NewWriter(c.stdout, 0, 0, 2, ' ', 0)
	defer func() { err = errors.Join(err, t.Flush()) }() // also what there is when something fails
	fmt.Fprintf(t, "what\tmeasured\tbar\n")
	for _, bar := range bars(load) {
		var all []bench.Report
		for i := range bar.runs {
			fmt.Fprintf(c.stderr, "%s: run %d of %d\n", bar.name, i+1, bar.runs)
			var r bench.Report
			if err := again(ctx, &r, bar.args...); err != nil {
				return fmt.Errorf("%s: %w", bar.name, err)
			}
			all = append(all, r)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\n", bar.name, bar.says(all), bar.want)
	}
	fmt.Fprintf(c.stderr, "idle sessions, a device that catches up\n")
	var sync bench.SyncReport
	if err := again(ctx, &sync, "sync", "--entries", fmt.Sprint(b.entries), "--folder", b.folder); err != nil {
		return err
	}
	fmt.Fprintf(t, "a device %d messages behind\t%.0f ms, %.0f entries/s\t100 ms\n", sync.Entries, sync.Ms, sync.EntriesPerS)
	var idle bench.IdleReport
	if err := again(ctx, &idle, "idle", "--sessions", fmt.Sprint(b.idleSessions()), "--folder", b.folder); err != nil {
		return err
	}
	fmt.Fprintf(t, "an idle session, of %d\t%.0f bytes, %.0f logins/s\t2048 bytes\n", idle.Sessions, idle.BytesPerSession, idle.LoginsPerS)
	return nil
}

// idleSessions is how many idle sessions "bench all" opens.
func (b *benchConfig) idleSessions() int {
	if b.sessions != defaultSessions {
		return b.sessions
	}
	return 50_000
}

// cleanWithin is how long a bench that is interrupted may take to clean up.
const cleanWithin = 10 * time.Second

// again runs another bench in a process of its own, and reads its report.
func again(ctx context.Context, report any, args ...string) error {
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	mode := []string{"bench"}
	if args[0] == "sync" || args[0] == "idle" {
		mode, args = append(mode, args[0]), args[1:]
	}
	cmd := exec.CommandContext(ctx, exe, append(append(mode, "--json"), args...)...)
	// It ends its server and removes its folder if it is asked to end, and asked once: a
	// terminal's Ctrl-C is for this process alone.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	endsWithUs(cmd, syscall.SIGTERM)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = cleanWithin
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		return fmt.Errorf("%w\n%s", err, &stderr)
	}
	return json.Unmarshal(out, report)
}
