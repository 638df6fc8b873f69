package main

import "timberline/sim/proxy"

// defineFaults adds a network's faults to the flags of a command.
func defineFaults(c *call, f *proxy.Faults) {
	c.flags.Float64Var(&f.Loss, "loss", 0.05, "`part` of the packets that are lost, 0 to 0.9")
	c.flags.Float64Var(&f.Duplicate, "duplicate", 0.02, "`part` of the packets that arrive twice, 0 to 1")
	c.flags.Float64Var(&f.Reorder, "reorder", 0.05, "`part` of the packets that are held back for up to 50 ms, so that later ones overtake them, 0 to 1")
}

// checkFaults finds what is wrong with the flags of a network.
func checkFaults(f proxy.Faults) error {
	switch {
	case !(f.Loss >= 0 && f.Loss <= 0.9):
		return wrong("loss", "is %v, want 0 to 0.9", f.Loss)
	case !(f.Duplicate >= 0 && f.Duplicate <= 1):
		return wrong("duplicate", "is %v, want 0 to 1", f.Duplicate)
	case !(f.Reorder >= 0 && f.Reorder <= 1):
		return wrong("reorder", "is %v, want 0 to 1", f.Reorder)
	case f.Delay < 0 || f.Delay > proxy.MaxDelay:
		return wrong("delay", "is %v, want 0 to %v", f.Delay, proxy.MaxDelay)
	}
	return nil
}
