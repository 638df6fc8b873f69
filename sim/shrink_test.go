package sim

import (
	"strings"
	"testing"

	"timberline/cmd/node"
	"timberline/sim/check"
)

func TestNothingIsLostByShrinkingAlone(t *testing.T) {
	p := newPlan(1)
	for _, cut := range cuts {
		cut(p)
	}
	for len(p.devices) > 1 {
		p.without(1)
		if o := run(t, 1, p.clone(), &Seams{}); o.Err() != nil || o.Report.Sent == 0 {
			t.Errorf("with %d devices: %d sent, %v", len(p.devices), o.Report.Sent, o.Err())
		}
	}
}

func TestFailuresAreShrunk(t *testing.T) {
	if raceEnabled {
		t.Skip("it runs sixty times what others run once: see make sim")
	}
	bug := func() *Seams {
		return &Seams{Engine: func(e node.Engine) node.Engine { return leakyEngine{e} }}
	}
	var failed *Outcome
	for seed := uint64(1); failed == nil && seed <= within; seed++ {
		if o := Run(t, seed, bug()); o.Report.Broken[check.Lost] > 0 {
			failed = o
		}
	}
	if failed == nil {
		t.Fatal("no seed fails")
	}
	sent := failed.Report.Sent
	o := Shrink(t, failed, bug, 60)
	if len(o.kinds()) == 0 || o.Report.Sent > sent/2 {
		t.Errorf("%q with %d sends was shrunk to %q with %d, want a failure with half of them at most", failed.kinds(), sent, o.kinds(), o.Report.Sent)
	}
	for _, want := range []string{"shrunk in", "sends and 0 mishaps", " commits checkpoint ", " appends record ", " > 10.0.0.1:"} {
		if !strings.Contains(o.String(), want) {
			t.Errorf("it does not say %q:\n%s", want, o)
		}
	}
}
