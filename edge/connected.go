package edge

import (
	"context"
	"slices"

	"timberline/bus"
	"timberline/events"
)

// Connected is a device that has a session, and how far an entry of its timeline has come to it.
type Connected struct {
	Device events.Device
	Pushed bool // it is on its way, or was; of what was pushed and given up it is false
	Has    bool // the device has said that it has it
}

// Connected returns the devices of a user that have sessions with this edge, and how far an
// entry of the user's timeline has come to each. An error says that the loop did not answer in
// time, or that Run is over.
func (e *Edge) Connected(ctx context.Context, u events.User, at events.Seq) ([]Connected, error) {
	var all []Connected
	if err := e.ask(ctx, func() { all = e.table.connected(u, at) }); err != nil {
		return nil, err // the loop may answer yet
	}
	return all, nil
}

func (t *table) connected(u events.User, at events.Seq) (all []Connected) {
	for _, s := range t.users[u] {
		if s.state != open {
			continue
		}
		d := &s.deliver
		has := at <= d.cursor
		pushed := slices.ContainsFunc(d.flight, func(p bus.Push) bool { return p.First <= at && at <= p.Head() })
		all = append(all, Connected{Device: s.owner.Device, Pushed: has || pushed, Has: has})
	}
	return all
}
