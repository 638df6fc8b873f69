package projections

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"timberline/events"
	"timberline/events/fields"
)

// A live is which version of a projection is read, and which never is again. Each change is
// stored under the next number, so of two at a time one has to look again.
type live struct {
	version uint32
	dropped []givenUp
}

// A givenUp is the number of a version.
type givenUp struct{ version uint32 }

// Fields lists the stored fields.
func (l *live) Fields(f fields.Visitor) {
	fields.Uint(f, 1, "version", &l.version)
	fields.List(f, 2, "dropped", &l.dropped)
}

// Fields lists the stored field.
func (g *givenUp) Fields(f fields.Visitor) { fields.Uint(f, 1, "version", &g.version) }

// liveSpace names where it is kept which version of a projection is read.
func liveSpace(name string) string { return "live/" + name }

// LiveVersion returns the version of a projection that is read; 0 if none is yet.
func LiveVersion(ctx context.Context, rows Rows, name string) (uint32, error) {
	_, l, err := readLive(ctx, rows, name)
	return l.version, err
}

func readLive(ctx context.Context, rows Rows, name string) (k CheckpointNumber, l live, err error) {
	row, err := rows.GetRow(ctx, liveSpace(name), "live")
	if errors.Is(err, events.ErrNotFound) {
		return 0, l, nil
	}
	if err == nil {
		err = unsealRow(&row, &l)
	}
	return row.Checkpoint, l, err
}

// keepLive stores what is so from a change on, unless another was faster.
func keepLive(ctx context.Context, rows Rows, name string, k CheckpointNumber, l live) error {
	return rows.PutRows(ctx, []Row{sealRow(Row{Space: liveSpace(name), Key: "live", Checkpoint: k}, &l)})
}

// stays returns an error if the version was dropped.
func (p *Projection) stays(l *live) error {
	if slices.Contains(l.dropped, givenUp{p.Version}) {
		return fmt.Errorf("projection %s, version %d: %w", p.Name, p.Version, ErrDropped)
	}
	return nil
}

// ErrBehind says that a version of a projection has not caught up yet.
var ErrBehind = errors.New("this version has not caught up with the checkpoints")

// switchWithin is how long Switch waits for a version that is still behind, and switchEvery
// how often it looks.
const (
	switchWithin = 5 * time.Second
	switchEvery  = 50 * time.Millisecond
)

// Switch has a version of a projection read from now on, if it has all that the one has
// that was read, or, if there was none, all checkpoints that there were when Switch was
// called. Followers look now and then, so it waits up to 5 s for that; then the error is
// ErrBehind. It is ErrDropped of a version that was dropped. Several may switch at a time: the
// version that stands at the end is one of theirs.
func (p *Projection) Switch(ctx context.Context, cs CheckpointReader, rows Rows, m Meta) error {
	end := time.Now().Add(switchWithin)
	there, err := lastOfShards(ctx, cs, m)
	if err != nil {
		return err
	}
	for {
		k, was, err := readLive(ctx, rows, p.Name)
		if err != nil || was.version == p.Version {
			return err
		}
		if err = p.stays(&was); err == nil {
			err = p.caughtUp(ctx, rows, was.version, there)
		}
		if errors.Is(err, ErrBehind) && time.Now().Before(end) {
			select {
			case <-time.After(switchEvery):
				continue
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		if err != nil {
			return err
		}
		if err := keepLive(ctx, rows, p.Name, k+1, live{p.Version, was.dropped}); err != nil {
			return err
		}
	}
}

// lastOfShards returns the number of the last checkpoint of each shard.
func lastOfShards(ctx context.Context, cs CheckpointReader, m Meta) ([]CheckpointNumber, error) {
	all := make([]CheckpointNumber, m.Shards)
	for s := range Shard(m.Shards) {
		n, _, err := cs.LastCheckpoint(ctx, s, events.Strong)
		if err != nil {
			return nil, err
		}
		all[s] = n
	}
	return all, nil
}

// caughtUp holds how far p is against how far another version is, a step that it has begun
// among that: rows of it may have been read. If that version is 0 it holds it against the
// checkpoints given, one for each shard.
func (p *Projection) caughtUp(ctx context.Context, rows Rows, version uint32, there []CheckpointNumber) error {
	old := Projection{Name: p.Name, Version: version}
	for i, goal := range there {
		s := Shard(i)
		if version > 0 {
			_, than, err := old.stands(ctx, rows, s)
			if err != nil {
				return err
			}
			goal = than.upto
		}
		_, at, err := p.stands(ctx, rows, s)
		if err != nil {
			return err
		}
		if at.done < goal {
			return fmt.Errorf("projection %s, version %d: %w: it is at checkpoint %d of shard %d, and should be at %d", p.Name, p.Version, ErrBehind, at.done, s, goal)
		}
	}
	return nil
}

// Drop has a version that is not read never be read again, and deletes its rows. Who runs it
// ends with ErrDropped, perhaps after it has written the last ones again: Drop may be called
// once more. Its number is not to be used for another function.
func (p *Projection) Drop(ctx context.Context, rows Rows) error {
	for {
		k, l, err := readLive(ctx, rows, p.Name)
		switch {
		case err != nil:
			return err
		case l.version == p.Version:
			return fmt.Errorf("projection %s, version %d: %w", p.Name, p.Version, ErrIsLive)
		case p.stays(&l) != nil:
			return rows.DeleteRows(ctx, p.prefix())
		}
		l.dropped = append(l.dropped, givenUp{p.Version})
		if err := keepLive(ctx, rows, p.Name, k+1, l); err != nil {
			return err
		}
	}
}
