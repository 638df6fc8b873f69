package units_test

import (
	"math"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"timberline/cmd/bench"
	"timberline/cmd/units"
)

// pageRow returns the figures of a row of a table in docs/operations.md: the first number of
// each cell.
func pageRow(t *testing.T, begins string) (row []float64) {
	t.Helper()
	page, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(page)) {
		cells, ok := strings.CutPrefix(line, "| "+begins)
		if !ok {
			continue
		}
		for _, cell := range strings.Split(cells, "|")[1:] {
			n, err := strconv.ParseFloat(regexp.MustCompile(`[\d.]+`).FindString(cell), 64)
			if err != nil {
				n = math.NaN()
			}
			row = append(row, n)
		}
		return row
	}
	t.Fatalf("docs/operations.md has no row %q", begins)
	return nil
}

// The units that the page of operations promises are those that are measured, but for what
// the corpus that it names differs from the one in here.
func TestOperationsPageTellsWhatMessagesCost(t *testing.T) {
	payload, err := bench.ParsePayload("corpus")
	if err != nil {
		t.Fatal(err)
	}
	for i, load := range []struct {
		rate  float64
		lasts time.Duration
	}{{10, 2 * time.Minute}, {1000, 10 * time.Second}, {10_000, time.Second}} {
		p := run(t, units.Config{
			Rate: load.rate, Bodies: payload.Bodies, Users: 20_000, Shards: 8,
			Write: 5 * time.Millisecond, Read: 3 * time.Millisecond, Duration: load.lasts, Slower: 1,
		}).PerMessage
		for _, row := range []struct {
			begins string
			is     float64
		}{
			{"log, write units", p.LogWrite}, {"checkpoints, write units", p.CheckpointWrite},
			{"timelines, write units", p.TimelineWrite}, {"log, read units", p.LogRead},
		} {
			says := pageRow(t, row.begins)[i]
			if !(math.Abs(row.is-says) <= 0.08*says) {
				t.Errorf("at %g a second docs/operations.md says %v %s, it is %.4f", load.rate, says, row.begins, row.is)
			}
		}
	}
}

// The dollars are those of the units, and some for the stream and for what there is without
// any message.
func TestOperationsPageTellsWhatUnitsCost(t *testing.T) {
	dollars := pageRow(t, "**dollars for a million messages**")
	for i, most := range []float64{1.5, 0.05, 0.05} {
		write := pageRow(t, "log, write units")[i] + pageRow(t, "checkpoints, write units")[i] + pageRow(t, "timelines, write units")[i]
		units := 0.625*write + 2*0.125*pageRow(t, "log, read units")[i]
		if rest := dollars[i] - units; !(rest >= 0 && rest <= most) {
			t.Errorf("column %d: $%v of which the units are %.3f: %.3f is for all else, want at most %v", i+1, dollars[i], units, rest, most)
		}
	}
}
