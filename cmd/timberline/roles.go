package main

import (
	"context"
)

// roles are what a process is.
type roles struct{ edge, projector, relay bool }

// The commands that run one of them.
const (
	edgeRole      = "edge"
	projectorRole = "projector"
	relayRole     = "relay"
)

// all are those of serve.
var allRoles = roles{edge: true, projector: true, relay: true}

var edgeCommand = roleCommand(&command{
	name:    edgeRole,
	summary: "run an edge: clients connect to it; one of many processes on a DynamoDB",
	about: `
Its data folder holds what outlives a restart, no messages; no two edges have the same.
Edges that clients take for one have a folder of --keys in common. It listens on the loopback unless told otherwise.

On SIGTERM it takes no sessions any more, stores and acknowledges what it has taken,
ends its journal, tells its clients to connect again, and is gone within some seconds.`,
	example: "timberline edge --data ./edge-1 --keys ./keys --listen 0.0.0.0:4747 --bus amqp://timberline:secret@rabbit",
}, roles{edge: true})

var projectorCommand = roleCommand(&command{
	name:    projectorRole,
	summary: "run a projector: it turns the log into timelines; one of many processes on a DynamoDB",
	about: `
Projectors share the shards evenly. What one has left, however it ended, the others
take over within some ten seconds; nothing is lost meanwhile.`,
	example: "timberline projector --bus amqp://timberline:secret@rabbit",
}, roles{projector: true})

var relayCommand = roleCommand(&command{
	name:    relayRole,
	summary: "run a relay: it tells edges of new entries; one of many processes on a DynamoDB",
	about: `
It reads the stream of the timelines table and publishes what is new to RabbitMQ.
Relays share the shards of the stream. Without any relay clients still get everything,
by heartbeat and sync.`,
	example: "timberline relay --bus amqp://timberline:secret@rabbit",
}, roles{relay: true})

// roleCommand completes a command that runs one role.
func roleCommand(cmd *command, is roles) *command {
	cmd.run = func(ctx context.Context, c *call) error {
		cfg := config{roles: is}
		cfg.define(c.flags)
		asJSON := c.flags.Bool("json", false, "say that it runs, and where, as one line of JSON")
		if err := c.parse(0); err != nil {
			return err
		}
		if err := cfg.check(); err != nil {
			return err
		}
		if err := cfg.checkShared(); err != nil {
			return err
		}
		return serve(ctx, c, &cfg, asJSON)
	}
	return cmd
}
