package projections

import (
	"context"
	"fmt"

	"timberline/events"
)

// lastCheckpoint reads the last checkpoint of a shard; it is 0 and nil if there is none.
func lastCheckpoint(ctx context.Context, cs CheckpointReader, s Shard) (CheckpointNumber, *Checkpoint, error) {
	n, data, err := cs.LastCheckpoint(ctx, s, events.Latest)
	if err != nil || n == 0 {
		return 0, nil, err
	}
	last, err := decodeRuled(s, n, data)
	return n, &last, err
}

// decodeRuled decodes a checkpoint by whose rules this program can go on.
func decodeRuled(s Shard, n CheckpointNumber, data []byte) (Checkpoint, error) {
	c, err := DecodeCheckpoint(s, n, data)
	switch {
	case err != nil:
		return Checkpoint{}, err
	case c.Rules == 0 || c.Rules > newestRules():
		return Checkpoint{}, unruled(s, n, c.Rules, newestRules())
	case len(c.Children) > 0:
		return Checkpoint{}, fmt.Errorf("checkpoint %d of shard %d: %w: the shard was split", n, s, ErrRules)
	}
	return c, nil
}

// unruled says that a checkpoint has rules that a program does not have.
func unruled(s Shard, n CheckpointNumber, has, newest uint32) error {
	return fmt.Errorf("checkpoint %d of shard %d: %w: %d, this program has up to %d", n, s, ErrRules, has, newest)
}

// foldBytes is how many bytes of checkpoints are read at a time.
const foldBytes = 32 << 10

// positionsAt returns the positions as of checkpoint n of a shard, folded from the last
// full one up to it.
func positionsAt(ctx context.Context, cs CheckpointReader, s Shard, n CheckpointNumber) (positions, error) {
	p := newPositions()
	if n == 0 {
		return p, nil
	}
	last, err := readCheckpoint(ctx, cs, s, n)
	if err != nil {
		return p, err
	}
	for at := last.Full; at <= n; {
		all, err := cs.ReadCheckpoints(ctx, s, at, foldBytes)
		if err != nil {
			return p, err
		}
		if len(all) == 0 {
			return p, missing(s, at)
		}
		for _, data := range all {
			if at > n {
				return p, nil
			}
			c, err := DecodeCheckpoint(s, at, data)
			if err != nil {
				return p, err
			}
			p.apply(&c)
			at++
		}
	}
	return p, nil
}

func readCheckpoint(ctx context.Context, cs CheckpointReader, s Shard, n CheckpointNumber) (*Checkpoint, error) {
	all, err := cs.ReadCheckpoints(ctx, s, n, 1)
	if err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return nil, missing(s, n)
	}
	c, err := decodeRuled(s, n, all[0])
	return &c, err
}

func missing(s Shard, n CheckpointNumber) error {
	return fmt.Errorf("%w: checkpoint %d of shard %d is missing", events.ErrCorrupt, n, s)
}

// eachCheckpoint calls visit with the checkpoints of a shard from n on, in order, until there
// is no more. The error is events.ErrCorrupt if one is missing of those that there were when
// it began.
func eachCheckpoint(ctx context.Context, cs CheckpointReader, s Shard, n CheckpointNumber, visit func(CheckpointNumber, *Checkpoint) error) error {
	last, _, err := cs.LastCheckpoint(ctx, s, events.Latest)
	if err != nil {
		return err
	}
	next, err := eachInARow(ctx, cs, s, n, visit)
	if err == nil && next <= last {
		err = missing(s, next)
	}
	return err
}

// eachInARow calls visit with the checkpoints of a shard from n on, in order, as far as they
// follow each other, and returns the number behind the last one.
func eachInARow(ctx context.Context, cs CheckpointReader, s Shard, n CheckpointNumber, visit func(CheckpointNumber, *Checkpoint) error) (CheckpointNumber, error) {
	for {
		all, err := cs.ReadCheckpoints(ctx, s, n, foldBytes)
		if err != nil || len(all) == 0 {
			return n, err
		}
		for _, data := range all {
			c, err := decodeRuled(s, n, data)
			if err != nil {
				return n, err
			}
			if err := ctx.Err(); err != nil { // not every engine looks
				return n, err
			}
			if err := visit(n, &c); err != nil {
				return n, err
			}
			n++
		}
	}
}

// Covered returns how many checkpoints of a shard follow each other and cover no more
// than a log has whose journals end so.
func Covered(ctx context.Context, cs CheckpointReader, s Shard, ends map[uint64]events.Offset) (n CheckpointNumber, err error) {
	beyond := false
	_, err = eachInARow(ctx, cs, s, 1, func(at CheckpointNumber, c *Checkpoint) error {
		for _, m := range c.Moved {
			beyond = beyond || m.Offset > ends[m.Journal]
		}
		if !beyond {
			n = at
		}
		return nil
	})
	return n, err
}
