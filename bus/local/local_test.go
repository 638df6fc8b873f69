package local

import (
	"testing"

	"timberline/bus"
	"timberline/bus/bustest"
)

func TestLocalIsABus(t *testing.T) {
	bustest.Run(t, func(*testing.T) bus.Bus { return new(Bus) })
}

func TestHandlersAreCalledBeforePublishReturns(t *testing.T) {
	var b Bus
	var hints, pushes int
	b.OnHint(func(bus.Hint) { hints++ })
	b.OnPushes(func(ps []bus.Push) { pushes += len(ps) }, func() { t.Error("nothing was lost") })
	b.PublishHint(bus.Hint{})
	b.PublishPushes(make([]bus.Push, 3))
	if hints != 1 || pushes != 3 {
		t.Errorf("%d hints and %d pushes came, want 1 and 3", hints, pushes)
	}
}
