package sim

import (
	"testing"
	"time"

	"timberline/sim/network"
	"timberline/wire"
)

// quietPlan is a plan in which nothing happens but what a test adds.
func quietPlan() *plan {
	return &plan{
		network:   network.Faults{Delay: 20 * time.Millisecond, Jitter: 10 * time.Millisecond},
		sync:      time.Millisecond,
		tokenLife: 24 * time.Hour,
		limits:    limits{halfOpen: 64},
	}
}

func TestSessionsGoOnWhereverTheirDeviceMoves(t *testing.T) {
	for _, how := range []what{move, roam} {
		for _, codec := range []wire.Codec{wire.Proto, wire.JSON} {
			p := quietPlan()
			ann := devicePlan{user: "ann", name: "phone", codec: codec}
			for i := range 40 { // it moves once a second
				at := time.Second + time.Duration(i)*250*time.Millisecond
				ann.chores = append(ann.chores, chore{what: send, at: at, to: "ben", size: 50})
				if i%4 == 0 {
					ann.chores = append(ann.chores, chore{what: how, at: at + 10*time.Millisecond})
				}
			}
			p.devices = []devicePlan{ann, {user: "ben", name: "phone", codec: codec}}
			o := run(t, 1, p, &Seams{})
			if o.Err() != nil {
				t.Error(o)
			}
			if o.Moves != 10 || o.Sessions != 4 {
				t.Errorf("%v, %s: %d moves of %d sessions; want 10, of one for each device and one for each that reads all again", codec, ann.chores[1], o.Moves, o.Sessions)
			}
		}
	}
}

// A device that moves between LOGIN and its answer is online as soon as the LOGIN
// is repeated.
func TestMovingWhileLoggingInTakesNoOtherLogin(t *testing.T) {
	begins := between(newDraws(1).next("ann/phone begins"), 0, time.Second)
	for after := time.Duration(0); after < 200*time.Millisecond; after += 15 * time.Millisecond {
		p := quietPlan()
		p.devices = []devicePlan{{user: "ann", name: "phone", chores: []chore{
			{what: move, at: begins + after},
			{what: send, at: begins + after + time.Millisecond, to: "ann", size: 50},
		}}}
		o := run(t, 1, p, &Seams{})
		if o.Err() != nil {
			t.Error(o)
		}
		if o.Sessions != 2 {
			t.Errorf("it moves after %v: %d sessions, want one, and one of a device that reads all again", after, o.Sessions)
		}
	}
}
