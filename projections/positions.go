package projections

import (
	"cmp"
	"maps"
	"slices"

	"timberline/events"
)

// positions is how far a shard has read the log.
type positions struct {
	through uint64                   // every journal up to it is known
	at      map[uint64]events.Offset // of those known and not read to their end
	ended   map[uint64]events.Offset // of those read to their end since the last checkpoint
}

func newPositions() positions {
	return positions{at: make(map[uint64]events.Offset), ended: make(map[uint64]events.Offset)}
}

func (p *positions) clone() positions {
	return positions{through: p.through, at: maps.Clone(p.at), ended: make(map[uint64]events.Offset)}
}

// apply folds in the next checkpoint.
func (p *positions) apply(c *Checkpoint) {
	for _, m := range c.Moved {
		if m.Ended {
			delete(p.at, m.Journal)
		} else {
			p.at[m.Journal] = m.Offset
		}
	}
	p.through = max(p.through, c.Through)
}

// know notes that a journal exists.
func (p *positions) know(journal uint64) {
	for p.through < journal {
		p.through++
		p.at[p.through] = 0
	}
}

// read notes that a record was read: the one behind offset.
func (p *positions) read(journal uint64, at events.Offset, ended bool) {
	p.know(journal)
	if ended {
		delete(p.at, journal)
		p.ended[journal] = at
		return
	}
	p.at[journal] = at
}

// next returns the offset to be read next; ok is false if the journal was read
// to its end.
func (p *positions) next(journal uint64) (at events.Offset, ok bool) {
	at, open := p.at[journal]
	return at + 1, open || journal > p.through
}

// since returns what a checkpoint has to say to lead from the positions before
// to p: the journals that moved, ended or were not known, or, in a full one, all
// that are not at their end.
func (p *positions) since(before *positions, full bool) []Position {
	var moved []Position
	for journal, at := range p.at {
		was, known := before.at[journal]
		if full || !known || was != at {
			moved = append(moved, Position{Journal: journal, Offset: at})
		}
	}
	for journal, at := range p.ended {
		moved = append(moved, Position{Journal: journal, Offset: at, Ended: true})
	}
	slices.SortFunc(moved, func(a, b Position) int { return cmp.Compare(a.Journal, b.Journal) })
	return moved
}
