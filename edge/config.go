package edge

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"time"

	"timberline/bus"
	"timberline/edge/auth"
	"timberline/events"
	"timberline/ingest"
	"timberline/wire"
)

// Timelines is what an edge reads. Its reads are strong: they show durable state
// only (R8).
type Timelines interface {
	// Head returns a run without events: where the timeline begins and ends.
	Head(ctx context.Context, u events.User) (events.Run, error)
	// NewestAt returns the highest id of all entries up to the end of the item
	// that holds the cursor; false if there is no such item.
	NewestAt(ctx context.Context, u events.User, cursor events.Seq) (events.ID, bool, error)
	// Read returns the entries that follow after, as far as they stand in a row,
	// up to upto (0: to the end), in about size bytes and at least one.
	Read(ctx context.Context, u events.User, after, upto events.Seq, size int) (events.Run, error)
}

// A Writer takes events that are to be durable; see ingest.Writer.
type Writer interface {
	Position() (events.Journal, events.Offset)
	Submit(j events.Journal, e events.Event) error
	Forget(o ingest.Owner)
	Stop()
}

// A Settler answers for sessions that do not live here; see ingest.Settler.
type Settler interface {
	Settle(ctx context.Context, j events.Journal, qs []ingest.Question) ([]ingest.Answered, error)
}

// Config says what an edge works with. Zero fields have the defaults named.
type Config struct {
	Conns     []wire.PacketConn // Run closes them
	Writer    Writer
	Settler   Settler
	Timelines Timelines
	Bus       bus.Bus
	Clock     *events.Clock
	Verify    func(token string, now time.Time) (auth.Identity, error)
	Store     events.StoreID
	Tag       events.EdgeTag
	Random    io.Reader        // for session ids
	Now       func() time.Time // the wall clock, for tokens
	Logger    *slog.Logger

	Address     string        // the edge's own, told to clients; may be empty
	Heartbeat   time.Duration // clients ping this often; default: 15 s
	Idle        time.Duration // a session silent for this long is over; default: 4 heartbeats
	MaxBody     int           // bytes; default: events.DefaultMaxBody, at most events.HardMaxBody
	MaxSessions int           // default: 100,000
	Workers     int           // tasks done at a time; default: 4
	MaxTasks    int           // tasks waiting; default: 4,096
}

func (c *Config) setDefaults() error {
	if c.Heartbeat == 0 {
		c.Heartbeat = 15 * time.Second
	}
	if c.Idle == 0 {
		c.Idle = 4 * c.Heartbeat
	}
	if c.MaxBody == 0 {
		c.MaxBody = events.DefaultMaxBody
	}
	if c.MaxSessions == 0 {
		c.MaxSessions = 100_000
	}
	if c.Workers == 0 {
		c.Workers = 4
	}
	if c.MaxTasks == 0 {
		c.MaxTasks = 4096
	}
	switch {
	case len(c.Conns) == 0:
		return fmt.Errorf("edge config: Conns is empty, want at least one socket")
	case c.Heartbeat < time.Second || c.Heartbeat > time.Hour:
		return fmt.Errorf("edge config: Heartbeat is %v, want 1s to 1h", c.Heartbeat)
	case c.Idle <= c.Heartbeat:
		return fmt.Errorf("edge config: Idle is %v, want more than the heartbeat of %v", c.Idle, c.Heartbeat)
	case c.MaxBody < 1 || c.MaxBody > events.HardMaxBody:
		return fmt.Errorf("edge config: MaxBody is %d, want 1 to %d", c.MaxBody, events.HardMaxBody)
	}
	return nil
}
