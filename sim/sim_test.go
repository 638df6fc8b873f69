package sim

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

var (
	seeds = flag.Int("sim.seeds", defaultSeeds, "how many `seeds` to run")
	from  = flag.Uint64("sim.from", 1, "the first `seed`")
	trace = flag.String("sim.trace", "", "`file` for the whole trace of the last seed")
)

func TestSeedsKeepEveryPromise(t *testing.T) {
	lost, moves, overtaken, conflicts, busy, marks, rebuilt, trimmed, restores := 0, 0, 0, 0, 0, 0, 0, 0, 0
	defer func() {
		if *seeds >= 10 && busy == 0 {
			t.Error("no client was told to wait: there was no overload")
		}
		if *seeds >= 10 && marks == 0 {
			t.Error("no device has said what it had read")
		}
		if *seeds >= 10 && (overtaken == 0 || conflicts == 0) {
			t.Errorf("a projector was overtaken %d times, a writer met another's record %d times: nodes do not get into each other's way", overtaken, conflicts)
		}
		if *seeds >= 10 && (rebuilt == 0 || trimmed == 0 || restores == 0) {
			t.Errorf("%d versions of timelines were made, %d entries trimmed, %d older stores restored: want some of each", rebuilt, trimmed, restores)
		}
		if *seeds >= 10 && lost == 0 {
			t.Error("no crash has taken an unsynced write: the disk is too fast")
		}
		if *seeds >= 10 && moves == 0 {
			t.Error("no session has moved to another address of its device")
		}
	}()
	for seed := *from; seed < *from+uint64(*seeds); seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			begun := time.Now()
			o := Run(t, seed, &Seams{})
			if *trace != "" {
				if err := os.WriteFile(*trace, []byte(strings.Join(o.Trace.Lines(o.Trace.Len()), "\n")+"\n"), 0o644); err != nil {
					t.Error(err)
				}
			}
			if o.Err() != nil {
				t.Error(o)
				t.Error(Shrink(t, o, func() *Seams { return &Seams{} }, 40))
			}
			if o.Crashes != crashes {
				t.Errorf("the server crashed %d times, want %d", o.Crashes, crashes)
			}
			lost += o.Lost
			moves += o.Moves
			busy += o.Busy
			marks += o.Marks
			overtaken += o.Overtaken
			conflicts += o.Conflicts
			rebuilt += o.Rebuilt
			trimmed += o.Trimmed
			restores += o.Restores
			t.Logf("%v in the bubble, %v outside, %d steps; %d sent, %d acked, %d refused, %d delivered; %d bytes lost in crashes; %d sealed sessions, %d moves, %d replays; %d nodes killed, %d times a full disk, %d times busy, %d times told what was read, %d projectors overtaken, %d records in others' places; %d timelines rebuilt, %d entries and %d journals trimmed, %d restores",
				o.Time, time.Since(begun), o.Trace.Len(), o.Report.Sent, o.Report.Acked, o.Report.Refused, o.Report.Delivered, o.Lost, o.Sessions, o.Moves, o.Replays, o.Kills, o.Full, o.Busy, o.Marks, o.Overtaken, o.Conflicts, o.Rebuilt, o.Trimmed, o.Gone, o.Restores)
		})
	}
}
