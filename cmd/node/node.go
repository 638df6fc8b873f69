// Package node wires the roles of one process together.
package node

import (
	"context"
	"io"
	"log/slog"
	"time"

	"timberline/bus"
	"timberline/edge/auth"
	"timberline/events"
	"timberline/projections"
	"timberline/wire"
)

// An Engine is a storage engine with all that the roles need of it.
type Engine interface {
	events.Log
	events.Journals
	projections.Checkpoints
	projections.Items
}

// Config says what a process is made of.
type Config struct {
	Engine Engine
	Meta   projections.Meta
	// Sole says that the engine proves every older process dead, as the lock of
	// a data folder does: their journals are ended at once.
	Sole  bool
	Tag   events.EdgeTag
	Bus   bus.Bus
	Conns []wire.PacketConn // Run closes them
	// Verify checks a LOGIN's token.
	Verify  func(token string, now time.Time) (auth.Identity, error)
	Address string // told to clients as the edge's own; may be empty

	Now    func() time.Time
	Random io.Reader
	Logger *slog.Logger
}

// Run runs edge, ingest, projector and push until ctx ends, then stops them in
// order: no new sends, the last append settled, the journal ended. It returns
// nil after a clean stop.
func Run(ctx context.Context, c Config) error { panic("being built") }
