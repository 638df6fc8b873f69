package edge

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"timberline/bus"
	"timberline/edge/auth"
	"timberline/events"
	"timberline/ingest"
	"timberline/wire"
	"timberline/wire/sealed"
)

// A Socket is where packets come in.
type Socket struct {
	wire.PacketConn
	// Backlog returns how much of the socket's room for what comes in is taken, 0 to
	// 1, and how many datagrams have found no room since it was opened. By that the
	// edge knows what to shed; nil: it never sheds.
	Backlog func() (full float64, lost uint32)
	// Plain says that its packets are neither sealed nor proved: whoever is on
	// the way reads and forges everything.
	Plain bool
}

// A Policy says who may write to whom. Its methods are called in the edge's loop:
// they must not wait. A message that is not allowed is refused for good.
type Policy interface {
	MayWrite(sender, recipient events.User) bool
}

// Everybody is the Policy by which everybody may write to everybody.
type Everybody struct{}

// MayWrite implements Policy.
func (Everybody) MayWrite(events.User, events.User) bool { return true }

// Revocations say which logins count no more; see auth.Revocations. Their methods
// are called in the edge's loop: they must not wait.
type Revocations interface {
	// Generation is another number after each change.
	Generation() uint64
	Revoked(auth.Identity) bool
}

// noRevocations revokes nobody.
type noRevocations struct{}

func (noRevocations) Generation() uint64         { return 0 }
func (noRevocations) Revoked(auth.Identity) bool { return false }

// Timelines is what an edge reads. Its reads are strong: they show durable state
// only (R8).
type Timelines interface {
	// Head returns a run without events: where the timeline begins and ends, and
	// the highest id in it.
	Head(ctx context.Context, u events.User) (events.Run, error)
	// Read returns the entries that follow after, as far as they stand in a row,
	// up to upto (0: to the end), in about size bytes and at least one.
	Read(ctx context.Context, u events.User, after, upto events.Seq, size int) (events.Run, error)
}

// A Writer takes events that are to be durable; see ingest.Writer.
type Writer interface {
	Position() (events.Journal, events.Offset)
	Submit(j events.Journal, e events.Event) error
	Commit()
	Forget(o ingest.Owner)
	Stop()
}

// A Settler answers for sessions that do not live here; see ingest.Settler.
type Settler interface {
	Settle(ctx context.Context, j events.Journal, qs []ingest.Question) ([]ingest.Answered, error)
}

// Config says what an edge works with. Zero fields have the defaults named.
type Config struct {
	Sockets   []Socket // Run closes them
	Writer    Writer
	Settler   Settler
	Timelines Timelines
	Bus       bus.Bus
	Clock     *events.Clock
	Verify    func(token string, now time.Time) (auth.Identity, error)
	Store     events.StoreID
	Tag       events.EdgeTag
	Random    io.Reader        // for keys and ids: must be good
	Now       func() time.Time // the wall clock, for tokens and cookies
	Logger    *slog.Logger
	Metrics   prometheus.Registerer // default: nobody is told

	// Keys returns the static keys of sealed sockets, the current one first. They
	// may change while the edge runs. Required if a socket is sealed.
	Keys        func() []sealed.ServerKey
	Secret      sealed.Secret // of this edge alone, the same after each restart
	Policy      Policy        // default: Everybody
	Revocations Revocations   // default: none

	Address      string        // the edge's own, told to clients; may be empty
	Handover     string        // where clients are told to go when the edge stops; may be empty
	Heartbeat    time.Duration // clients ping this often; default: 15 s
	MaxHeartbeat time.Duration // as rarely as that, if they say so; default: 2 minutes, at least Heartbeat
	MaxBody      int           // bytes; default: events.DefaultMaxBody, at most events.HardMaxBody
	MaxSessions  int           // default: 100,000
	UserSessions int           // of one user; default: 32
	HalfOpen     int           // connections that nobody has logged in on; default: 4,096
	SessionRate  int           // packets a second of one session; default: 1,000
	SourceRate   int           // packets a second of a source that has proved nothing, and handshakes of one that has; default: 200
	SyncBytes    int           // of answers to Sync on their way out; default: 64 MiB
	Workers      int           // tasks done at a time; default: 4
	MaxTasks     int           // tasks waiting; default: 4,096
}

// idleHeartbeats is for how many heartbeats a session may be silent.
const idleHeartbeats = 4

func (c *Config) setDefaults() error {
	orElse(&c.Heartbeat, 15*time.Second)
	orElse(&c.MaxHeartbeat, max(2*time.Minute, c.Heartbeat))
	orElse(&c.MaxBody, events.DefaultMaxBody)
	orElse(&c.MaxSessions, 100_000)
	orElse(&c.UserSessions, 32)
	orElse(&c.HalfOpen, 4096)
	orElse(&c.SessionRate, 1000)
	orElse(&c.SourceRate, 200)
	orElse(&c.SyncBytes, 64<<20)
	orElse(&c.Workers, 4)
	orElse(&c.MaxTasks, 4096)
	if c.Policy == nil {
		c.Policy = Everybody{}
	}
	if c.Revocations == nil {
		c.Revocations = noRevocations{}
	}
	return c.check()
}

// orElse gives a field its default.
func orElse[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// check finds what is wrong. The error names the field.
func (c *Config) check() error {
	switch {
	case len(c.Sockets) == 0:
		return fmt.Errorf("edge config: Sockets is empty, want at least one")
	case c.Heartbeat < time.Second || c.Heartbeat > time.Hour:
		return fmt.Errorf("edge config: Heartbeat is %v, want 1s to 1h", c.Heartbeat)
	case c.MaxHeartbeat < c.Heartbeat || c.MaxHeartbeat > time.Hour:
		return fmt.Errorf("edge config: MaxHeartbeat is %v, want Heartbeat (%v) to 1h", c.MaxHeartbeat, c.Heartbeat)
	case c.MaxBody < 1 || c.MaxBody > events.HardMaxBody:
		return fmt.Errorf("edge config: MaxBody is %d, want 1 to %d", c.MaxBody, events.HardMaxBody)
	}
	for _, s := range c.Sockets {
		switch {
		case s.Plain:
		case c.Keys == nil:
			return fmt.Errorf("edge config: Keys is missing, and a socket is sealed")
		case c.Secret == (sealed.Secret{}):
			return fmt.Errorf("edge config: Secret is missing, and a socket is sealed")
		}
	}
	for name, n := range map[string]int{
		"MaxSessions": c.MaxSessions, "UserSessions": c.UserSessions, "HalfOpen": c.HalfOpen, "SessionRate": c.SessionRate,
		"SourceRate": c.SourceRate, "SyncBytes": c.SyncBytes, "Workers": c.Workers, "MaxTasks": c.MaxTasks,
	} {
		if n < 1 {
			return fmt.Errorf("edge config: %s is %d, want at least 1", name, n)
		}
	}
	return nil
}
