package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"time"

	"timberline/migrations"
	"timberline/store/dynamo"
)

// A cluster is processes of one role each, which share a store in DynamoDB.
type cluster struct {
	storage
	nodes     int      // processes of each role
	edgeFlags []string // what edges are told besides
}

// create makes a store that nobody else has: with another prefix than was asked for, and
// with twice as many shards as there are projectors.
func (c *cluster) create(ctx context.Context) error {
	c.dynamo.prefix += "-" + strings.ToLower(rand.Text()[:8])
	o, err := c.dynamo.options(ctx)
	if err != nil {
		return err
	}
	o.Logger = slog.New(slog.DiscardHandler)
	o.AttemptTimeout, o.Deadline = 30*time.Second, time.Minute // it may share a busy machine with all the rest
	s, err := dynamo.NewMigrations(o, uint32(2*c.nodes))
	if err != nil {
		return err
	}
	defer s.Close()
	return migrations.Up(ctx, s, time.Now, nil)
}

// flags returns what its processes are told to find the store and each other.
func (c *cluster) flags() []string {
	return []string{
		"--dynamodb-prefix", c.dynamo.prefix, "--dynamodb-endpoint", c.dynamo.endpoint, "--dynamodb-region", c.dynamo.region, "--bus", c.bus,
	}
}

// startCluster makes the store and starts the processes.
func (t *trial) startCluster(ctx context.Context) error {
	if err := t.cluster.create(ctx); err != nil {
		return err
	}
	for _, role := range []string{edgeRole, projectorRole, relayRole} {
		for n := range t.cluster.nodes {
			if err := t.startRole(ctx, role, n+1); err != nil {
				return err
			}
		}
	}
	return nil
}

// startRole starts one process of the cluster.
func (t *trial) startRole(ctx context.Context, role string, number int) error {
	name := fmt.Sprint(role, " ", number)
	s := &childServer{role: role, flags: t.cluster.flags()}
	s.child = child{name: name, log: filepath.Join(t.folder, name+".log")}
	if role == edgeRole {
		s.data, s.keys = filepath.Join(t.folder, name), filepath.Join(t.folder, "keys")
		s.flags = append(append(s.flags, "--keys", s.keys), t.cluster.edgeFlags...)
	}
	if err := s.begin(ctx); err != nil {
		return err
	}
	if role == edgeRole {
		t.edges = append(t.edges, &entrance{childServer: s})
	} else {
		t.behind = append(t.behind, s)
	}
	return nil
}
