package edge

import (
	"context"

	"timberline/events"
)

// Connected is a device that has a session, and how far it is in its timeline.
type Connected struct {
	Device events.Device
	Pushed events.Seq // up to here it was pushed what it does not have
	Has    events.Seq // it has said that it has everything up to here
}

// Connected returns the devices of a user that have sessions with this edge. An error says
// that the loop did not answer in time, or that Run is over.
func (e *Edge) Connected(ctx context.Context, u events.User) ([]Connected, error) {
	var all []Connected
	if err := e.ask(ctx, func() { all = e.table.connected(u) }); err != nil {
		return nil, err // the loop may answer yet
	}
	return all, nil
}

func (t *table) connected(u events.User) (all []Connected) {
	for _, s := range t.users[u] {
		if s.state != open {
			continue
		}
		d := &s.deliver
		c := Connected{Device: s.owner.Device, Pushed: d.cursor, Has: d.cursor}
		if n := len(d.flight); n > 0 {
			c.Pushed = d.flight[n-1].Head()
		}
		all = append(all, c)
	}
	return all
}
