package sim

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"timberline/sim/check"
	"timberline/sim/network"
)

// An Outcome is what came of a seed.
type Outcome struct {
	Seed     uint64
	Report   *check.Report
	Errs     []error       // what went wrong besides
	Story    []string      // what was done to server and devices, and when
	Trace    network.Trace // with each datagram, each send and each write
	Shrunk   string        // by Shrink: what is left of the seed
	Time     time.Duration // in the bubble
	Crashes  int           // of the server
	Kills    int           // of single nodes
	Full     int           // times that a full disk ended the server
	Restores int           // of an older copy of the store
	Rebuilt  int           // versions of timelines that were made and read
	Trimmed  int           // entries of timelines
	Gone     int           // journals that were trimmed
	Busy     int           // times that a client was told to wait: sends, syncs and logins
	Marks    int           // times that a device said what it had read, and that was kept

	Overtaken int // times that a projector found another ahead
	Conflicts int // records that stood where another process had put one of its own before
	Lost      int // bytes of unsynced writes that they took
	Refusable int // sends of too much, or to whom nobody may write: they alone may be refused

	Sessions int // of sealed devices
	Moves    int // of sessions, to another address
	Replays  int // datagrams that the eavesdropper sent
}

// Run runs a seed in a bubble of its own.
func Run(t *testing.T, seed uint64, seams *Seams) *Outcome {
	return run(t, seed, newPlan(seed), seams)
}

// run runs a plan with the draws of a seed.
func run(t *testing.T, seed uint64, p *plan, seams *Seams) (o *Outcome) {
	folder, err := newFolder(len(p.devices))
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(folder)
	defer alone()()
	synctest.Test(t, func(t *testing.T) {
		w, err := newWorld(seed, p, seams, folder)
		if err != nil {
			t.Fatal(err)
		}
		o = w.run()
	})
	return o
}

// newFolder makes a folder with one for each device, in memory if there is such a
// place.
func newFolder(devices int) (string, error) {
	in := "/dev/shm"
	if _, err := os.Stat(in); err != nil {
		in = "" // where the system has its own
	}
	folder, err := os.MkdirTemp(in, "timberline-sim-")
	if err != nil {
		return "", err
	}
	for n := range devices {
		if err := os.Mkdir(filepath.Join(folder, fmt.Sprint(n)), 0o700); err != nil {
			return "", errors.Join(err, os.RemoveAll(folder))
		}
	}
	return folder, nil
}

// alone keeps goroutines in the order in which they became ready, and returns
// what takes that back: more processors, and a collector that stops the world,
// would shuffle those that are ready at one instant.
func alone() (restore func()) {
	runtime.GC()
	procs := runtime.GOMAXPROCS(1)
	percent := debug.SetGCPercent(-1)
	limit := debug.SetMemoryLimit(1 << 30)
	return func() {
		runtime.GOMAXPROCS(procs)
		debug.SetGCPercent(percent)
		debug.SetMemoryLimit(limit)
	}
}

// Err returns nil if every promise was kept.
func (o *Outcome) Err() error {
	err := errors.Join(append(o.Errs[:len(o.Errs):len(o.Errs)], o.Report.Err())...)
	if r := o.Report; err == nil && r.Refused > o.Refusable {
		err = fmt.Errorf("%d messages were refused, of which %d could be", r.Refused, o.Refusable)
	}
	if r := o.Report; err == nil && r.Sent != r.Acked+r.Refused+o.unsettleable() {
		err = fmt.Errorf("%d messages were sent, %d acknowledged and %d refused: the others have no answer", r.Sent, r.Acked, r.Refused)
	}
	return err
}

// unsettleable returns how many sends have no answer because what is known of their sessions
// was trimmed, or lost with the disk.
func (o *Outcome) unsettleable() int {
	if o.Restores == 0 && o.Gone == 0 {
		return 0
	}
	return o.Report.Unknown
}

// lastSteps is how many steps of a trace are told.
const lastSteps = 60

// String tells the story and the end of the trace.
func (o *Outcome) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d: %v\n", o.Seed, o.Err())
	if o.Shrunk != "" {
		fmt.Fprintf(&b, "%s\n", o.Shrunk)
	}
	fmt.Fprintf(&b, "again: go test ./sim -run TestSeedsKeep -sim.seeds=1 -sim.from=%d -sim.trace=trace.txt\n", o.Seed)
	fmt.Fprintf(&b, "what was done:\n\t%s\n", strings.Join(o.Story, "\n\t"))
	told := slices.DeleteFunc(o.Trace.Lines(o.Trace.Len()), quiet)
	told = told[max(len(told)-lastSteps, 0):]
	fmt.Fprintf(&b, "the last of %d steps, heartbeats left out:\n\t%s\n", o.Trace.Len(), strings.Join(told, "\n\t"))
	return b.String()
}

// quiet reports whether a step tells nothing.
func quiet(step string) bool {
	return strings.Contains(step, " ping ") || strings.Contains(step, " pong ")
}
