package projections

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"timberline/events"
)

// holed is a store that has lost a checkpoint in the middle.
type holed struct {
	*view
	t    *testing.T
	hole CheckpointNumber
}

func (h holed) ReadCheckpoints(ctx context.Context, s Shard, from CheckpointNumber, size int) ([][]byte, error) {
	all, err := h.view.ReadCheckpoints(ctx, s, from, size)
	if from <= h.hole && from+CheckpointNumber(len(all)) > h.hole {
		all = all[:h.hole-from]
	}
	return all, err
}

func (h holed) Commit(_ context.Context, _ Shard, n CheckpointNumber, cp []byte, _ []Stored) ([]byte, error) {
	h.t.Errorf("checkpoint %d is appended, though one is missing", n)
	return nil, nil
}

// Behind a checkpoint that is missing there are others, and entries that follow from them:
// who takes its place for the end leaves those out.
func TestMissingCheckpointIsNotTakenForTheEnd(t *testing.T) {
	b := used(t, 3, 600)
	last := CheckpointNumber(len(b.m.checkpoints[0]))
	if last < 10 {
		t.Fatalf("%d checkpoints", last)
	}
	h := holed{b.m.by(always), t, last / 2}
	meta := Meta{Shards: b.shards}
	tasks := map[string]func() error{
		"rebuild": func() error {
			_, err := (&Rebuild{Replay: Replay{Store: h, Meta: meta, Version: 1}}).Run(t.Context())
			return err
		},
		"drop":     func() error { return (&Replay{Store: h, Meta: meta, Version: 1}).GiveUp(t.Context()) },
		"replay":   func() error { return (&Replay{Store: h, Meta: meta}).Run(t.Context()) },
		"versions": func() error { _, err := ReadVersions(t.Context(), h, 0); return err },
		"projection": func() error {
			_, err := (&Follower{Store: h, Meta: meta, Projection: counting(1, 0)}).Run(t.Context())
			return err
		},
		"trim": func() error {
			_, err := (&Trim{Store: h, Meta: meta, Before: time.Now()}).TrimJournals(t.Context())
			return err
		},
	}
	for name, do := range tasks {
		if err := do(); !errors.Is(err, events.ErrCorrupt) || !strings.Contains(err.Error(), "missing") {
			t.Errorf("%s: %v, want ErrCorrupt, and which one is missing", name, err)
		}
	}
	ends, err := b.m.JournalEnds(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if n, err := Covered(t.Context(), h, 0, ends); n != h.hole-1 || err != nil {
		t.Errorf("%d checkpoints follow each other, %v; want %d", n, err, h.hole-1)
	}
}
