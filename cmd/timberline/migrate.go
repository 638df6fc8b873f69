package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"timberline/events"
	"timberline/migrations"
	"timberline/projections"
	"timberline/projections/lease"
	"timberline/store/dynamo"
	"timberline/store/pebble"
)

var migrateCommand = &command{
	name:    "migrate",
	summary: "make and change the tables and formats of a store, or make it whole after a restore",
	args:    "plan | up | status | restored",
	about: `
timberline migrate plan        what up would do: what it changes, and what it costs
timberline migrate up          does it; it may be run again, and from several places
timberline migrate status      which steps were applied, when, and by which version
timberline migrate restored    makes a store whole that comes from a backup

A store in DynamoDB has to be made by up before it is served, and a new version may have
new steps. In a data folder every command applies what is pending by itself.

restored gives the store a new id, by which clients know to read their timelines anew;
cuts off checkpoints that cover more than the log has; and makes the timelines again.
Nothing may use the store meanwhile: stop all edges, projectors and relays first, and say
so by --stopped. Interrupted, it goes on when it is run again. A copy that timberline backup
has made says itself that it is one; of a folder that was copied by hand say so by --copied.`,
	example: "timberline migrate up --store dynamodb --dynamodb-region eu-central-1",
	run: func(ctx context.Context, c *call) error {
		var m migrate
		m.define(c)
		words, err := c.parseWords(1)
		if err != nil {
			return err
		}
		if len(words) != 1 {
			return &usageError{errors.New("want one of plan, up, status, restored")}
		}
		if err := m.check(c, words[0]); err != nil {
			return err
		}
		return m.advise(m.do(ctx, c, words[0]))
	},
}

// A migrate is what the command can be told.
type migrate struct {
	engine string
	data   string
	shards uint
	dynamoFlags
	stopped bool
	copied  bool
	json    bool
}

func (m *migrate) define(c *call) {
	defineEngine(c.flags, &m.engine)
	c.flags.StringVar(&m.data, "data", defaultData, "the server's data `folder`, for --store pebble")
	m.dynamoFlags.define(c.flags)
	c.flags.UintVar(&m.shards, "shards", 0, fmt.Sprintf("shards of a store that is made, 1 to %d, which it keeps for ever: so many projectors share its work at most; 0: 1 in a folder, %d in DynamoDB", events.Slots, dynamo.DefaultShards))
	c.flags.BoolVar(&m.stopped, "stopped", false, "all processes that use the store in DynamoDB are stopped: restored asks for it")
	c.flags.BoolVar(&m.copied, "copied", false, "the store in the folder was copied by hand, or put back from such a copy: restored asks for it where the store does not say so itself. Its timelines are made again")
	c.flags.BoolVar(&m.json, "json", false, "print JSON: a line for each step")
}

func (m *migrate) check(c *call, what string) error {
	switch what {
	case "plan", "up", "status", "restored":
	default:
		return &usageError{fmt.Errorf("%q is none of plan, up, status, restored", what)}
	}
	if err := checkEngine(m.engine); err != nil {
		return err
	}
	switch {
	case m.shards > events.Slots:
		return wrong("shards", "is %d, want 1 to %d, or 0", m.shards, events.Slots)
	case m.engine == enginePebble && m.data == "":
		return wrong("data", "is empty, want a folder")
	case m.copied && (what != "restored" || m.engine != enginePebble):
		return wrong("copied", "is of no use here: it says to restored that a data folder was copied by hand")
	case m.engine == engineDynamoDB && what == "restored" && !m.stopped:
		return wrong("stopped", "is missing: stop all edges, projectors and relays of the store first, then say so by it; what runs meanwhile would spoil the timelines")
	}
	return m.dynamoFlags.check()
}

func (m *migrate) do(ctx context.Context, c *call, what string) error {
	switch what {
	case "plan":
		return m.plan(ctx, c)
	case "up":
		return m.up(ctx, c)
	case "status":
		return m.status(ctx, c)
	}
	return m.restored(ctx, c)
}

// open opens a store for its steps, which it does not apply. One in a folder may have to be
// there.
func (m *migrate) open(ctx context.Context, mustExist bool) (migrations.Store, io.Closer, error) {
	if m.engine == engineDynamoDB {
		o, err := m.options(ctx)
		if err != nil {
			return nil, nil, err
		}
		s, err := dynamo.NewMigrations(o, uint32(m.shards))
		return s, s, err
	}
	s, err := pebble.Open(storePath(m.data), pebble.Options{Shards: uint32(m.shards), LeavePending: true, MustExist: mustExist})
	return s, s, err
}

// look opens a store to tell of it: where there is none in a folder, none is made.
func (m *migrate) look(ctx context.Context) (migrations.Store, io.Closer, error) {
	s, closer, err := m.open(ctx, true)
	if errors.Is(err, pebble.ErrNoStore) {
		return nothing{}, nothing{}, nil
	}
	return s, closer, err
}

// nothing is a folder without a store.
type nothing struct{}

func (nothing) Steps() []migrations.Step                             { return new(pebble.Store).Steps() }
func (nothing) Applied(context.Context) ([]migrations.Record, error) { return nil, nil }
func (nothing) Record(context.Context, migrations.Record) error      { return nil }
func (nothing) Close() error                                         { return nil }

// A stepInfo describes a step.
type stepInfo struct {
	Number  migrations.Number `json:"number"`
	Name    string            `json:"name"`
	State   string            `json:"state"` // pending, applied, changed (since it was applied), unknown
	Changes string            `json:"changes,omitempty"`
	Costs   string            `json:"costs,omitempty"`
	Applied *time.Time        `json:"applied,omitempty"`
	Program string            `json:"program,omitempty"`
}

func (m *migrate) plan(ctx context.Context, c *call) error {
	s, closer, err := m.look(ctx)
	if err != nil {
		return err
	}
	pending, err := migrations.Plan(ctx, s)
	if err := errors.Join(err, closer.Close()); err != nil {
		return err
	}
	for _, step := range pending {
		if m.json {
			err = c.printJSON(stepInfo{Number: step.Number, Name: step.Name, State: "pending", Changes: step.Changes, Costs: step.Costs})
		} else {
			err = c.print("step %d, %s\n  changes: %s\n  costs:   %s\n", step.Number, step.Name, step.Changes, step.Costs)
		}
		if err != nil {
			return err
		}
	}
	if len(pending) == 0 && !m.json {
		return c.print("nothing is pending\n")
	}
	return nil
}

func (m *migrate) up(ctx context.Context, c *call) error {
	if m.engine == enginePebble {
		if err := os.MkdirAll(m.data, 0o700); err != nil {
			return folderError(m.data, err)
		}
	}
	s, closer, err := m.open(ctx, false)
	if err != nil {
		return err
	}
	applied := 0
	var printed error
	err = migrations.Up(ctx, s, time.Now, func(step migrations.Step, done bool) {
		if !done {
			fmt.Fprintf(c.stderr, "step %d, %s: %s\n", step.Number, step.Name, step.Changes)
			return
		}
		applied++
		if m.json && printed == nil {
			printed = c.printJSON(stepInfo{Number: step.Number, Name: step.Name, State: "applied"})
		}
	})
	if err == nil && m.shards != 0 {
		err = m.checkShards(ctx, s)
	}
	if err := errors.Join(err, printed, closer.Close()); err != nil {
		return err
	}
	switch {
	case m.json:
		return nil
	case applied == 0:
		return c.print("nothing was pending\n")
	}
	return c.print("applied: %d\n", applied)
}

// checkShards refuses a number of shards that a store was asked to have and has not.
func (m *migrate) checkShards(ctx context.Context, s migrations.Store) (err error) {
	var has uint32
	switch s := s.(type) {
	case *dynamo.Migrations:
		has, err = s.Shards(ctx)
	case *pebble.Store:
		has = s.Meta().Shards
	}
	if err == nil && uint(has) != m.shards {
		err = wrong("shards", "is %d, but the store was created with %d, which it keeps", m.shards, has)
	}
	return err
}

func (m *migrate) status(ctx context.Context, c *call) error {
	s, closer, err := m.look(ctx)
	if err != nil {
		return err
	}
	all, err := migrations.Status(ctx, s)
	if err := errors.Join(err, closer.Close()); err != nil {
		return err
	}
	for _, st := range all {
		info := stepInfo{Number: st.Number, Name: st.Name, State: "pending", Changes: st.Changes, Costs: st.Costs}
		switch {
		case !st.Known:
			info.State = "unknown"
		case st.Applied && !st.Stands:
			info.State = "changed"
		case st.Applied:
			info.State = "applied"
		}
		when := ""
		if st.Applied {
			info.Program = st.Record.Program
			when = ", by " + st.Record.Program
			if at := st.Record.Applied; !at.IsZero() {
				info.Applied = &at
				when = " " + at.Format(time.RFC3339) + when
			}
		}
		if m.json {
			err = c.printJSON(info)
		} else {
			err = c.print("step %d, %s: %s%s\n", st.Number, st.Name, info.State, when)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// A restoredInfo says what a restore has done.
type restoredInfo struct {
	Store string `json:"store"`
	Rows  int    `json:"rows_mended"`
	Cut   uint64 `json:"checkpoints_cut"`
	Items uint64 `json:"items_put"`
}

func (m *migrate) restored(ctx context.Context, c *call) (err error) {
	tell := func(what string) { fmt.Fprintln(c.stderr, what) }
	s, closer, err := m.openRestored(ctx, tell)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closer.Close()) }()
	folder, inFolder := s.(*pebble.Store)
	mends := false
	if inFolder {
		if mends, err = m.sound(ctx, folder, tell); err != nil {
			return err
		}
	}
	done, err := migrations.Restore(ctx, s, migrations.RestoreConfig{Random: rand.Reader, Told: tell, Afresh: m.copied})
	if err != nil {
		return err
	}
	if mends {
		tell("what is left in use of the damaged file is written anew")
		if err := folder.Rewrite(ctx); err != nil {
			return err
		}
	}
	info := restoredInfo{done.Store.String(), done.Rows, done.Cut, done.Items}
	if m.json {
		return c.printJSON(info)
	}
	return c.print("the store is whole: id %s, %s cut off, %s put; start its processes\n", info.Store, counted(info.Cut, "checkpoint", "checkpoints"), counted(info.Items, "item", "items"))
}

// sound reads all of a folder before anything is changed there. If a file is damaged log and
// checkpoints have to be readable, or what is lost stays as readable as it is; and then the
// timelines are made again, and mended.
func (m *migrate) sound(ctx context.Context, s *pebble.Store, tell func(string)) (mends bool, err error) {
	tell("reading all files")
	file, err := damagedFile(ctx, s)
	if err != nil || file == nil {
		return false, err
	}
	tell(file.Error())
	var lost error
	source := projections.Verification{Store: s, Meta: s.Meta(), Found: func(f projections.Finding) {
		if lost == nil {
			lost = fmt.Errorf("%s: expected %s, found %s", f.Where, f.Expected, f.Found)
		}
	}}
	switch _, err = source.Source(ctx); {
	case err != nil:
		return false, err
	case lost != nil:
		return false, fmt.Errorf("%w; what timelines are made from is damaged, so nothing was changed: take another copy. `timberline log --data %s` prints what of this one can be read", lost, quoted(m.data))
	case s.Phase() == migrations.Copied && !m.copied:
		return false, fmt.Errorf("%w; log and checkpoints can be read, so only timelines are damaged, and nothing was changed: take another copy, or have them made again from the log by --copied", file)
	}
	tell("log and checkpoints can be read: the timelines are made again from them")
	return true, nil
}

func (m *migrate) openRestored(ctx context.Context, tell func(string)) (migrations.Restorable, io.Closer, error) {
	if m.engine == enginePebble {
		s, err := openStore(m.data, pebble.Options{Restored: true})
		if err != nil {
			return nil, nil, err
		}
		if s.Phase() == migrations.Whole && !m.copied {
			return nil, nil, errors.Join(wrong("copied", "is missing: the store in %s is whole, and not marked as a copy. If it was copied by hand, or put back from such a copy, say so by it: it gets a new id, and all devices read their timelines anew; else serve it as it is", m.data), s.Close())
		}
		return s, s, nil
	}
	o, err := m.options(ctx)
	if err != nil {
		return nil, nil, err
	}
	s, err := dynamo.OpenRestored(ctx, o)
	if err != nil {
		return nil, nil, err
	}
	tell(fmt.Sprintf("looking for %v whether a process uses the store", lookAtLives))
	if err := nobodyLives(ctx, s); err != nil {
		return nil, nil, errors.Join(err, s.Close())
	}
	return s, s, nil
}

// lookAtLives is longer than processes leave between their signs of life. Tests have less
// patience.
var lookAtLives = lookAtLivesFor

const lookAtLivesFor = 12 * time.Second

// nobodyLives looks whether any process gives a sign of life. It is a courtesy: one that
// is stopped for a while gives none.
func nobodyLives(ctx context.Context, s *dynamo.Store) error {
	before, err := livesOf(ctx, s)
	if err != nil {
		return err
	}
	select {
	case <-time.After(lookAtLives):
	case <-ctx.Done():
		return ctx.Err()
	}
	after, err := livesOf(ctx, s)
	if err != nil {
		return err
	}
	for what, counter := range after {
		if before[what] != counter {
			return fmt.Errorf("%s is in use right now: stop all edges, projectors and relays of the store first", what)
		}
	}
	return nil
}

// livesOf returns the counters that living processes raise.
func livesOf(ctx context.Context, s *dynamo.Store) (map[string]uint64, error) {
	lives := make(map[string]uint64)
	rows, err := s.ListJournals(ctx, 0, events.Strong)
	if err != nil {
		return nil, err
	}
	for _, row := range rows {
		lives["journal "+string(row.Journal())] = row.Counter
	}
	for _, kind := range []string{"shard", "stream"} {
		var leases []lease.Lease
		if leases, err = s.ListLeases(ctx, kind); err != nil {
			return nil, err
		}
		for _, l := range leases {
			lives[kind+" "+l.Name] = l.Counter
		}
	}
	return lives, nil
}
