package main

import (
	"testing"
	"time"
)

func TestTimeLeft(t *testing.T) {
	for _, c := range []struct {
		took       time.Duration
		done, left uint64
		want       string
	}{
		{time.Minute, 0, 100, "?"},
		{time.Minute, 100, 50, "30s"},
		{time.Minute, 100, 0, "0s"},
		{time.Hour, 3, 300_000_000, "more than 1000h"}, // whose product is no duration
	} {
		if got := timeLeft(c.took, c.done, c.left); got != c.want {
			t.Errorf("%d done in %v, %d left: %s, want %s", c.done, c.took, c.left, got, c.want)
		}
	}
}

func TestRebuildRefusesRatesThatAreNone(t *testing.T) {
	for _, rate := range []string{"-1", "NaN"} {
		tl(t, "rebuild", "--rate", rate).want(t, exitUsage, "", "want events per second")
	}
}
