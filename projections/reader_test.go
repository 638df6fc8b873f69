package projections

import (
	"math/rand/v2"
	"testing"

	"timberline/bus/local"
	"timberline/events"
)

// An edge goes by that: what stands in a timeline a device may have been shown (R4).
func TestHeadTellsTheHighestIdOfATimeline(t *testing.T) {
	m := newMemory()
	w := &scribe{t: t, m: m, r: rand.New(rand.NewPCG(1, 1))}
	a, b := w.open(), w.open()
	p := newProjector(t, m.by(always), new(local.Bus), 1)
	for range 30 {
		w.append(a, w.message(5))
		w.append(b, w.message(5))
		if err := p.round(t.Context(), true); err != nil {
			t.Fatal(err)
		}
	}
	r := NewReader(m.by(always))
	for u := range m.items {
		run, err := r.Read(t.Context(), u, 0, 0, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		var newest events.ID
		for _, raw := range run.Events {
			if id := events.Raw(raw).EventID(); id.Compare(newest) > 0 {
				newest = id
			}
		}
		if run.Newest != newest || events.Seq(len(run.Events)) != run.Head {
			t.Errorf("%s: %d of %d entries, newest %v, want %v", u, len(run.Events), run.Head, run.Newest, newest)
		}
	}
	if run, err := r.Head(t.Context(), "nobody"); err != nil || run.Newest != (events.ID{}) || run.First != 1 {
		t.Errorf("an empty timeline: %+v, %v; want no id, and 1 as the first seq", run, err)
	}
}
