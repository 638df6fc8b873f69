package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"text/tabwriter"
	"time"

	"timberline/sim/check"
	"timberline/sim/corpus"
	"timberline/sim/proxy"
)

var soakCommand = &command{
	name:    "soak",
	summary: "real processes, killed and stopped at random for as long as you like: is anything lost, doubled or out of order?",
	about: `
It starts a server and two devices for each user, each a process of its own. The
devices send what a corpus of real chat says, one message in fifty a long one, over a
network that loses, repeats, reorders and delays packets. Meanwhile processes are
killed (SIGKILL) and started again with what they have left, the server as well as
devices; now and then one is stopped for some seconds (SIGSTOP), or ended cleanly and
started again. When the time is over everything that was sent must be acknowledged;
every timeline is read back through its devices and through a new one, and compared
with what was sent. A server whose store does not open again ends the run.

With --nodes it is a cluster: so many edges, projectors and relays on a DynamoDB and a
RabbitMQ that run already, in a store of its own, which stays ("make chaos" starts both
servers as well). Each login of a device takes any of the edges. Credentials are those
of the environment (AWS_ACCESS_KEY_ID …).

Whom it hits, when and how comes from the seed, which it prints. The exit status is 1
if any promise is broken, if a process ends by itself, or if nothing moves for a
minute; then what the processes have left is kept, and it says where. Progress goes to
the standard error.`,
	example: "timberline soak --minutes 20 --payload corpus --json",
	run: func(ctx context.Context, c *call) error {
		s := soak{c: c}
		s.storage.define(c.flags, true)
		c.flags.IntVar(&s.nodes, "nodes", 0, fmt.Sprintf("`number` of processes of each role of a cluster, at most %d; 0: one server, on a data folder", maxSoakNodes))
		c.flags.IntVar(&s.kills, "kills", 0, "`number` of kills of servers after which it is over, though there are minutes left; 0: it goes by time")
		minutes := c.flags.Float64("minutes", 2, "`number` of minutes for which processes are disturbed; what follows takes some seconds more")
		c.flags.IntVar(&s.users, "users", 5, fmt.Sprintf("`number` of users, with two devices each: %d to %d", corpus.MinUsers, maxSoakUsers))
		c.flags.IntVar(&s.rate, "rate", 200, "`number` of messages a second, of all devices together: 1 to 2000")
		payload := c.flags.String("payload", "corpus", "what is sent: corpus:`FILE`, or corpus, a sample that comes with the program")
		c.flags.DurationVar(&s.every, "every", 3*time.Second, "`duration` from one disturbance of a process to the next, on the average: 100ms to 1h")
		defineFaults(c, &s.faults)
		c.flags.DurationVar(&s.faults.Delay, "delay", 10*time.Millisecond, "`duration` for which each packet is on its way, 0 to 10s")
		c.flags.Uint64Var(&s.seed, "seed", 0, "`seed` of all that is drawn; 0: another one each time")
		asJSON := c.flags.Bool("json", false, "print one line of JSON")
		if err := c.parse(0); err != nil {
			return err
		}
		s.lasts = time.Duration(*minutes * float64(time.Minute))
		if err := s.check(); err != nil {
			return err
		}
		if err := s.load(*payload); err != nil {
			return err
		}
		s.seed = cmp.Or(s.seed, rand.Uint64N(1_000_000)+1)
		r, err := s.run(ctx)
		if err != nil {
			return err
		}
		return r.report(c, *asJSON)
	},
}

// The bounds of a soak's processes.
const (
	maxSoakUsers = 50
	maxSoakNodes = 10
)

// A soak is what is tried.
type soak struct {
	c        *call
	messages []corpus.Message
	users    int
	rate     int // messages a second
	lasts    time.Duration
	every    time.Duration
	faults   proxy.Faults
	seed     uint64
	kills    int // of servers; then it is over; 0: only when the time is
	cluster      // if it has nodes

	// The seams of tests.
	deeds  func(context.Context, *soakRun) error // what is done to the processes; nil: what the seed says
	told   func(*soakDevice, *deed)              // hears what devices tell; nil: nobody does
	outage time.Duration                         // how long nothing may move because of it
}

// check finds what is wrong with the flags.
func (s *soak) check() error {
	switch {
	case !(s.lasts > 0 && s.lasts <= 7*24*time.Hour):
		return wrong("minutes", "comes to %v, want more than nothing and at most a week", s.lasts)
	case s.users < corpus.MinUsers || s.users > maxSoakUsers:
		return wrong("users", "is %d, want %d to %d", s.users, corpus.MinUsers, maxSoakUsers)
	case s.rate < 1 || s.rate > 2000:
		return wrong("rate", "is %d, want 1 to 2000 messages a second", s.rate)
	case s.every < 100*time.Millisecond || s.every > time.Hour:
		return wrong("every", "is %v, want 100ms to 1h", s.every)
	case s.nodes < 0 || s.nodes > maxSoakNodes:
		return wrong("nodes", "is %d, want 0 to %d", s.nodes, maxSoakNodes)
	case s.kills < 0:
		return wrong("kills", "is %d, want at least 0", s.kills)
	}
	if s.nodes > 0 {
		if err := errors.Join(s.storage.check(), s.checkShared()); err != nil {
			return err
		}
	}
	return checkFaults(s.faults)
}

// load reads the corpus.
func (s *soak) load(payload string) (err error) {
	kind, file, named := strings.Cut(payload, ":")
	if kind != "corpus" || named != (file != "") {
		return wrong("payload", "is %q, want corpus or corpus:FILE", payload)
	}
	lines, err := corpus.Load(file)
	if err != nil {
		return err
	}
	s.messages, err = corpus.Messages(lines, s.users)
	return err
}

// A soakReport is what came of a soak.
type soakReport struct {
	found *check.Report

	Seed        uint64  `json:"seed"`
	Seconds     float64 `json:"seconds"`
	Kills       int     `json:"kills"`
	ServerKills int     `json:"server_kills"` // among them
	roleKills           // among those, of a cluster
	Stops       int     `json:"stops"`
	Restarts    int     `json:"restarts"` // clean ones
	Sent        int     `json:"sent"`
	Acked       int     `json:"acked"`
	Delivered   int     `json:"delivered"`
	Lost        int     `json:"lost"`
	Doubled     int     `json:"doubled"`
	OutOfOrder  int     `json:"out_of_order"`
	Gaps        int     `json:"gaps"`
	Others      int     `json:"others"` // promises broken otherwise
}

// newSoakReport sums up what the checker found and what was done.
func newSoakReport(found *check.Report, c counts) *soakReport {
	r := &soakReport{
		found: found,
		Kills: c.kills, ServerKills: c.serverKills, roleKills: c.roleKills, Stops: c.stops, Restarts: c.restarts,
		Sent: found.Sent, Acked: found.Acked, Delivered: found.Delivered,
		Lost: found.Broken[check.Lost], Doubled: found.Broken[check.Doubled],
		OutOfOrder: found.Broken[check.OutOfOrder], Gaps: found.Broken[check.Gap],
	}
	for _, n := range found.Broken {
		r.Others += n
	}
	r.Others -= r.Lost + r.Doubled + r.OutOfOrder + r.Gaps
	return r
}

// err says what is wrong: a promise broken, or a message that was not stored though
// nothing was wrong with it.
func (r *soakReport) err() error {
	switch {
	case !r.found.OK():
		return errors.Join(errBroken, r.found.Err())
	case r.Acked != r.Sent:
		return fmt.Errorf("%w: of %d messages %d were acknowledged, %d refused, %d given up, and %d have no answer",
			errBroken, r.Sent, r.Acked, r.found.Refused, r.found.Unknown, r.Sent-r.Acked-r.found.Refused-r.found.Unknown)
	}
	return nil
}

// report prints the outcome.
func (r *soakReport) report(c *call, asJSON bool) error {
	if asJSON {
		return errors.Join(c.printJSON(r), r.err())
	}
	t := tabwriter.NewWriter(c.stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	for _, row := range []struct {
		name  string
		value any
	}{
		{"seed", r.Seed}, {"seconds", r.Seconds}, {"kills", r.Kills}, {"of servers", r.ServerKills},
		{"of edges", r.Edge}, {"of projectors", r.Projector}, {"of relays", r.Relay}, {"stops", r.Stops},
		{"restarts", r.Restarts}, {"sent", r.Sent}, {"acked", r.Acked}, {"delivered", r.Delivered}, {"lost", r.Lost},
		{"doubled", r.Doubled}, {"out of order", r.OutOfOrder}, {"gaps", r.Gaps}, {"others", r.Others},
	} {
		fmt.Fprintf(t, "%s\t%v\t\n", row.name, row.value)
	}
	return errors.Join(t.Flush(), r.err())
}
