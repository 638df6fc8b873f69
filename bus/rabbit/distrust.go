package rabbit

import "context"

// Distrust tells all edges that pushes were left out, and waits until the broker has
// that.
func (b *Bus) Distrust(ctx context.Context) error {
	return b.confirm(ctx, []*message{distrustMessage(b.cfg.Store)})
}
