package events

import (
	"encoding/binary"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/oklog/ulid/v2"
)

// An ID is an event's ULID. Ids compare as bytes; that is the one order of
// events that is the same for everybody.
//
//	0                   6         8                            16
//	+-------------------+---------+-----------------------------+
//	| milliseconds      | counter | writer                      |
//	+-------------------+---------+-----------------------------+
//
// The writer is random for each process, so two ids are never equal.
type ID [16]byte

// String returns the 26 characters of the ULID.
func (id ID) String() string { return ulid.ULID(id).String() }

// Time returns the time the id was made, to the millisecond, as its writer's
// clock had it. A clock runs ahead of the wall where causality asks for it.
func (id ID) Time() time.Time { return ulid.ULID(id).Timestamp() }

// Compare orders ids.
func (id ID) Compare(other ID) int { return ulid.ULID(id).Compare(ulid.ULID(other)) }

// ParseID reads the text of an id.
func ParseID(text string) (ID, error) {
	id, err := ulid.ParseStrict(text)
	if err != nil {
		return ID{}, fmt.Errorf("%w: id %q: want 26 characters of a ULID", ErrInvalid, text)
	}
	return ID(id), nil
}

// ticks is the part of an id that a clock counts: milliseconds and counter.
func (id ID) ticks() uint64 { return binary.BigEndian.Uint64(id[:8]) }

// A Clock makes the ids of one process (R4). It is a hybrid logical clock
// (Kulkarni et al., 2014): never below the wall clock, nor below any id it has
// made or observed. It is safe for concurrent use.
type Clock struct {
	now    func() time.Time
	writer [8]byte
	last   atomic.Uint64 // ticks of the newest id made or observed
}

// NewClock returns a clock on the given wall clock. The writer part of its ids
// is drawn from random.
func NewClock(now func() time.Time, random io.Reader) (*Clock, error) {
	c := &Clock{now: now}
	if _, err := io.ReadFull(random, c.writer[:]); err != nil {
		return nil, fmt.Errorf("draw a writer id: %w", err)
	}
	return c, nil
}

// Next returns an id above every id made or observed before.
func (c *Clock) Next() ID {
	wall := uint64(max(c.now().UnixMilli(), 0)) << 16
	for {
		last := c.last.Load()
		next := max(wall, last+1)
		if c.last.CompareAndSwap(last, next) {
			var id ID
			binary.BigEndian.PutUint64(id[:8], next)
			copy(id[8:], c.writer[:])
			return id
		}
	}
}

// Observe moves the clock to at least id. Only ids that the store holds may be
// observed: a client's word moves no clock.
func (c *Clock) Observe(id ID) {
	seen := id.ticks()
	for {
		last := c.last.Load()
		if last >= seen || c.last.CompareAndSwap(last, seen) {
			return
		}
	}
}
