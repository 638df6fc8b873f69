// Perday is a projection of one's own: how many messages each user has had on each day.
// See docs/projections.md, which goes through it.
//
//	perday run                  follow the log, from its start or from where it was
//	perday run --version 2      the same for the next version, beside the first
//	perday switch --version 2   have that one read
//	perday show bob             what is read of bob
//
// It works on tables of DynamoDB beside the processes that use them, or on a data folder: by
// the socket of the server that has it open, or, if none has, on the store itself.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"

	"timberline/events"
	"timberline/projections"
	"timberline/store/dynamo"
	"timberline/store/pebble"
	"timberline/store/remote"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "perday:", err)
		os.Exit(1)
	}
}

// A store is where log, checkpoints and rows are.
type store interface {
	projections.Followed
	Meta() projections.Meta
	io.Closer
}

func run(ctx context.Context, args []string, out, warnings io.Writer) (err error) {
	if len(args) == 0 {
		return errors.New("want run, switch or show USER")
	}
	flags := flag.NewFlagSet("perday "+args[0], flag.ContinueOnError)
	data := flags.String("data", "timberline-data", "data `folder`")
	prefix := flags.String("dynamodb-prefix", "", "`prefix` of tables in DynamoDB, in place of a folder")
	endpoint := flags.String("dynamodb-endpoint", "", "`URL` of another DynamoDB, such as http://127.0.0.1:8000")
	version := flags.Uint("version", 1, "`version` of the projection, 1 or 2")
	once := flags.Bool("once", false, "run: end when it has caught up")
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	switch n := flags.NArg(); { // flags come first
	case args[0] == "show" && n != 1:
		return fmt.Errorf("%d arguments behind the flags, want one user", n)
	case args[0] != "show" && n > 0:
		return fmt.Errorf("%d arguments behind the flags, want none", n)
	}
	p := map[uint]*projections.Projection{1: perDay, 2: sentPerDay}[*version]
	if p == nil {
		return fmt.Errorf("there is no version %d, want 1 or 2", *version)
	}
	s, err := open(ctx, *data, *prefix, *endpoint)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	switch args[0] {
	case "run":
		return follow(ctx, s, p, *once, out, warnings)
	case "switch":
		err := p.Switch(ctx, s, s, s.Meta())
		if errors.Is(err, projections.ErrBehind) {
			return fmt.Errorf("%w: perday run --version %d first", err, p.Version)
		}
		return err
	case "show":
		return show(ctx, s, events.User(flags.Arg(0)), out)
	}
	return fmt.Errorf("%q is none of run, switch, show", args[0])
}

func open(ctx context.Context, data, prefix, endpoint string) (store, error) {
	if prefix == "" {
		s, err := remote.Open(ctx, filepath.Join(data, "admin.sock"))
		if errors.Is(err, remote.ErrNoServer) {
			s, err := pebble.Open(filepath.Join(data, "store"), pebble.Options{MustExist: true})
			if errors.Is(err, pebble.ErrNoStore) {
				return nil, fmt.Errorf("there is no store in data folder %s: give a server's by --data: %w", data, err)
			}
			return s, err
		}
		return s, err
	}
	cfg, err := awsconfig.LoadDefaultConfig(ctx)
	if err != nil {
		return nil, err
	}
	if endpoint != "" {
		cfg.BaseEndpoint = aws.String(endpoint)
	}
	return dynamo.Open(ctx, dynamo.Options{AWS: cfg, Prefix: prefix})
}

// follow has the projection follow all shards.
func follow(ctx context.Context, s store, p *projections.Projection, once bool, out, warnings io.Writer) error {
	f := projections.Follower{Store: s, Meta: s.Meta(), Projection: p}
	if !once {
		fmt.Fprintf(out, "follows %d shards; Ctrl-C stops it\n", f.Meta.Shards)
		t := troubles{out: warnings, shards: make(map[projections.Shard]bool)}
		return projections.Follow(ctx, f, time.Second, t.told)
	}
	for f.Shard = range projections.Shard(s.Meta().Shards) {
		n, err := f.Run(ctx)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "shard %d: applied up to checkpoint %d\n", f.Shard, n)
	}
	return nil
}

// troubles says once that shards fail, and once that all are well again.
type troubles struct {
	out    io.Writer
	shards map[projections.Shard]bool // that fail
}

func (t *troubles) told(shard projections.Shard, _ projections.CheckpointNumber, err error) {
	before := len(t.shards)
	if err == nil {
		delete(t.shards, shard)
	} else {
		t.shards[shard] = true
	}
	switch {
	case before == 0 && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED)):
		fmt.Fprintln(t.out, "perday: the server is away; it is asked again each second")
	case before == 0 && err != nil:
		fmt.Fprintf(t.out, "perday: shard %d is tried again each second: %v\n", shard, err)
	case before > 0 && len(t.shards) == 0:
		fmt.Fprintln(t.out, "perday: it goes on")
	}
}

// show prints what is read of a user.
func show(ctx context.Context, s store, u events.User, out io.Writer) error {
	if err := u.Validate(); err != nil {
		return err
	}
	version, err := projections.LiveVersion(ctx, s, perDay.Name)
	if err != nil {
		return err
	}
	if version == 0 {
		return errors.New("no version is read yet: perday run, then perday switch")
	}
	rows, err := projections.ReadProjection(ctx, s, &projections.Projection{Name: perDay.Name, Version: version}, u, "", 1<<20)
	for _, row := range rows {
		fmt.Fprintf(out, "%s\t%s\n", row.Name, row.Value)
	}
	return err
}
