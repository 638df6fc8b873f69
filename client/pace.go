package client

import "time"

// A pace is how long a device may be silent between two heartbeats. A NAT forgets
// a mapping that nothing passes, after 30 seconds or after hours: so the interval
// grows by half while the way holds, falls back to one that has held where it does
// not, and then takes its time before it tries a longer one again.
type pace struct {
	least, most time.Duration // as the server said
	interval    time.Duration
	proved      time.Duration // the longest silence that the way has survived
	held        int           // intervals in a row that the way has held
	patience    int           // how many must hold before a longer one is tried
}

// patienceLater is the patience after a way has not held: most NATs that are met
// on one network are alike.
const patienceLater = 16

func newPace(least, most time.Duration) pace {
	return pace{least: least, most: max(least, most), interval: least, proved: least, patience: 1}
}

// after takes in what a silence has led to: the way held, or something did not come
// through. A silence much shorter than the interval proves nothing.
func (p *pace) after(silence time.Duration, held bool) {
	switch {
	case silence < p.interval/2:
	case held:
		p.hold()
	default:
		p.retreat()
	}
}

func (p *pace) hold() {
	p.proved = p.interval
	if p.held++; p.held >= p.patience {
		p.held = 0
		p.interval = min(p.interval*3/2, p.most)
	}
}

func (p *pace) retreat() {
	if p.interval <= p.proved {
		p.proved = p.least // another network: it proved nothing here
	}
	p.interval, p.held, p.patience = p.proved, 0, patienceLater
}
