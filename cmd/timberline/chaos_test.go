package main

import (
	"testing"

	"timberline/sim/servers"
)

func TestClusterKeepsEveryPromiseUnderKills(t *testing.T) {
	t.Parallel()
	c := servedBy(servers.DynamoDB(t), servers.RabbitMQ(t))
	got := soaked(t, append(c.flags(), "--nodes", "2", "--kills", "10", "--every", "600ms", "--rate", "50")...)
	if got.ServerKills < 10 || got.Edge+got.Projector+got.Relay != got.ServerKills || got.Edge*got.Projector*got.Relay == 0 {
		t.Errorf("kills: %+v, want 10 of servers at least, and some of each role", got.roleKills)
	}
}
