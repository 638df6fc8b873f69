package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"timberline/events"
	"timberline/sim/proxy"
	"timberline/sim/servers"
	"timberline/store/dynamo"
)

// What "make outage" makes longer than make test has time for.
var (
	outage    = flag.Duration("outage", 15*time.Second, "how long DynamoDB or RabbitMQ is away")
	heartbeat = flag.Duration("heartbeat", 2*time.Second, "how often clients ping while RabbitMQ is away")
)

func TestClusterKeepsEveryPromiseUnderKills(t *testing.T) {
	t.Parallel()
	c := servedBy(servers.DynamoDB(t), servers.RabbitMQ(t))
	got := soaked(t, append(c.flags(), "--nodes", "2", "--kills", "10", "--every", "600ms", "--rate", "50")...)
	if got.ServerKills < 10 || got.Edge+got.Projector+got.Relay != got.ServerKills || got.Edge*got.Projector*got.Relay == 0 {
		t.Errorf("kills: %+v, want 10 of servers at least, and some of each role", got.roleKills)
	}
}

// A story is a soak of a cluster in which a test says what is done to whom, and when
// acknowledged messages were shown.
type story struct {
	soak
	mu    sync.Mutex
	acked map[events.MessageID]time.Time
	shown map[showing]time.Time
}

// A showing is what a device was shown.
type showing struct {
	device  *soakDevice
	message events.MessageID
}

func newStory(t *testing.T, db, broker *servers.Server) *story {
	t.Helper()
	s := newServerStory(t)
	s.cluster = servedBy(db, broker)
	return s
}

// newServerStory returns a story of one server, on a data folder.
func newServerStory(t *testing.T) *story {
	t.Helper()
	s := &story{acked: make(map[events.MessageID]time.Time), shown: make(map[showing]time.Time)}
	s.soak = soak{
		c: newCall(soakCommand, nil, nil, io.Discard, t.Output()), users: 3, rate: 30, lasts: 20 * time.Minute,
		faults: proxy.Faults{Loss: 0.05, Duplicate: 0.02, Reorder: 0.05}, seed: 1, told: s.hear,
	}
	if err := s.load("corpus"); err != nil {
		t.Fatal(err)
	}
	return s
}

// hear notes when messages are acknowledged and shown.
func (s *story) hear(d *soakDevice, x *deed) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	switch x.What {
	case toldAcked:
		s.acked[x.Message] = now
	case toldShown:
		e, err := events.Raw(x.Event).Decode()
		if err != nil {
			return // whoever records it says so
		}
		if key := (showing{d, e.Message}); s.shown[key].IsZero() {
			s.shown[key] = now
		}
	}
}

// delays returns how long the messages took that were acknowledged in a time, from the
// ack to each device that was shown them, in order.
func (s *story) delays(from, to time.Time) (list []time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, shown := range s.shown {
		if acked := s.acked[key.message]; acked.After(from) && acked.Before(to) {
			list = append(list, max(0, shown.Sub(acked)))
		}
	}
	slices.Sort(list)
	return list
}

// tell runs the story. Every promise must hold, and everything sent be acknowledged.
func (s *story) tell(t *testing.T, deeds func(ctx context.Context, r *soakRun) error) {
	t.Helper()
	s.deeds = deeds
	report, err := s.run(t.Context())
	if err == nil {
		err = report.err()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d messages in %v s", report.Sent, report.Seconds)
}

// An act is a part of a story.
type act = func(context.Context) error

// reading gives what a test does the store to look into.
func reading(deeds func(context.Context, *soakRun, *dynamo.Store) error) func(context.Context, *soakRun) error {
	return func(ctx context.Context, r *soakRun) error {
		store, err := r.dynamo.open(ctx, nil, nil)
		if err != nil {
			return err
		}
		return errors.Join(deeds(ctx, r, store), store.Close())
	}
}

// more waits until so many more messages are acknowledged.
func (r *soakRun) more(messages int) act {
	return func(ctx context.Context) error { return r.tally.reached(ctx, r.tally.counts().acked+messages) }
}

// send sends a process a signal that does not end it.
func send(v victim, signal os.Signal) act {
	return func(context.Context) error { return v.signal(signal) }
}

// hasSaid waits until a server has said something.
func hasSaid(s *childServer, text string) act {
	return wait(fmt.Sprintf("%s to say %q", s.name, text), func(context.Context) (bool, error) { return s.says(text) })
}

// says reports whether a server has said something.
func (s *childServer) says(text string) (bool, error) {
	said, err := os.ReadFile(s.log)
	return strings.Contains(string(said), text), err
}

// endsJournal is what an edge says that takes another for dead.
const endsJournal = "ended the journal of a process that says nothing any more"

// waitMost is how long what a test waits for may take, at most.
const waitMost = 2 * time.Minute

// wait waits for something, for a while.
func wait(what string, is func(context.Context) (bool, error)) act {
	return func(ctx context.Context) error {
		for late := time.Now().Add(waitMost); ; {
			switch ok, err := is(ctx); {
			case ok || err != nil:
				return err
			case time.Now().After(late):
				return fmt.Errorf("waited in vain for %s", what)
			}
			if err := rest(ctx, 100*time.Millisecond); err != nil {
				return err
			}
		}
	}
}

func TestEachRoleIsKilledInTurn(t *testing.T) {
	t.Parallel()
	newStory(t, servers.DynamoDB(t), servers.RabbitMQ(t)).tell(t, func(ctx context.Context, r *soakRun) error {
		for _, s := range r.servers() {
			kill := func(ctx context.Context) error { return renew(ctx, s, syscall.SIGKILL, time.Second) }
			if err := inOrder(ctx, r.more(30), kill); err != nil {
				return err
			}
		}
		return r.more(30)(ctx)
	})
}

// That takes more than a minute: nobody is taken for dead before.
func TestEdgeWhoseJournalAnotherHasEndedGoesOnInANewOne(t *testing.T) {
	t.Parallel()
	newStory(t, servers.DynamoDB(t), servers.RabbitMQ(t)).tell(t, reading(func(ctx context.Context, r *soakRun, store *dynamo.Store) error {
		stopped, other := r.edges[0], r.edges[1]
		comeBack := func(ctx context.Context) error {
			for _, d := range r.all()[:3] {
				d.at = []*entrance{stopped}
				if err := renew(ctx, d, syscall.SIGTERM, 0); err != nil {
					return err
				}
			}
			return nil
		}
		anotherJournal := wait("another journal of the edge that was stopped", func(ctx context.Context) (bool, error) {
			rows, err := store.ListJournals(ctx, 0, events.Strong)
			return len(rows) == 3 && rows[0].Ended > 0 && rows[2].Edge == rows[0].Edge, err
		})
		return inOrder(ctx, r.more(100), send(stopped, syscall.SIGSTOP),
			hasSaid(other.childServer, endsJournal), r.more(50),
			send(stopped, syscall.SIGCONT), r.more(50), comeBack, anotherJournal)
	}))
}

func TestProjectorThatStandsStillForLongerThanALeaseIsReplaced(t *testing.T) {
	t.Parallel()
	newStory(t, servers.DynamoDB(t), servers.RabbitMQ(t)).tell(t, reading(func(ctx context.Context, r *soakRun, store *dynamo.Store) error {
		projecting := func(processes int) act {
			return wait(fmt.Sprint("shards to be shared by ", processes), func(ctx context.Context) (bool, error) {
				leases, err := store.ListLeases(ctx, "shard")
				owners := make(map[string]bool)
				for _, l := range leases {
					owners[l.Owner] = true
				}
				return len(owners) == processes && !owners[""], err
			})
		}
		stopped := r.behind[0]
		return inOrder(ctx, projecting(2), send(stopped, syscall.SIGSTOP), projecting(1), r.more(100),
			send(stopped, syscall.SIGCONT), projecting(2))
	}))
}

func TestNothingIsRefusedWhileRabbitMQIsAway(t *testing.T) {
	t.Parallel()
	broker, err := servers.StartRabbitMQ("")
	if err != nil {
		t.Fatal(err)
	}
	defer broker.Close()
	s := newStory(t, servers.DynamoDB(t), broker)
	s.edgeFlags = []string{"--heartbeat", heartbeat.String(), "--max-heartbeat", heartbeat.String()}
	var began, back time.Time
	var acked int
	s.tell(t, func(ctx context.Context, r *soakRun) error {
		away := func(ctx context.Context) error {
			began, acked = time.Now(), -r.tally.counts().acked
			if err := errors.Join(broker.Stop(), rest(ctx, *outage)); err != nil {
				return err
			}
			back = time.Now()
			acked += r.tally.counts().acked
			return broker.Start()
		}
		return inOrder(ctx, r.more(50), away, r.more(50))
	})
	if usual := s.rate * int(outage.Seconds()); acked < usual/2 {
		t.Errorf("%d messages were acknowledged while RabbitMQ was away, want about %d", acked, usual)
	}
	// After the heartbeat comes a sync, with a packet lost here and there.
	bound := *heartbeat + 6*time.Second
	meanwhile := s.delays(began, back.Add(-bound))
	if len(meanwhile) == 0 {
		t.Fatal("nothing was shown that was sent meanwhile")
	}
	worst := meanwhile[len(meanwhile)-1]
	t.Logf("away %v: %d acks, then shown %d times, p50 %v, p99 %v, at most %v after the ack", back.Sub(began), acked,
		len(meanwhile), meanwhile[len(meanwhile)/2], meanwhile[len(meanwhile)*99/100], worst)
	if worst > bound {
		t.Errorf("a message was shown %v after its ack, want within the heartbeat of %v", worst, *heartbeat)
	}
}

func TestNothingIsLostWhileDynamoDBIsAway(t *testing.T) {
	t.Parallel()
	t.Run("it is stopped", func(t *testing.T) {
		db, err := servers.StartDynamoDB(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		newStory(t, db, servers.RabbitMQ(t)).without(t, db.Stop, db.Start)
	})
	t.Run("it hangs", func(t *testing.T) {
		way := servers.Way(t, servers.DynamoDB(t))
		newStory(t, way, servers.RabbitMQ(t)).without(t, func() error { way.Hang(); return nil }, func() error { way.Back(); return nil })
	})
}

// What an edge has taken while it could not store it dies with it: so it has acknowledged
// nothing of that.
func TestEdgeThatIsKilledWhileDynamoDBIsAwayHasAckedNothing(t *testing.T) {
	t.Parallel()
	db, err := servers.StartDynamoDB(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	const away = 3 * time.Second
	s := newStory(t, db, servers.RabbitMQ(t))
	s.outage = away
	s.tell(t, func(ctx context.Context, r *soakRun) error {
		for _, e := range r.edges {
			if err := r.more(30)(ctx); err != nil {
				return err
			}
			if err := errors.Join(db.Stop(), rest(ctx, away), e.end(syscall.SIGKILL), db.Start(), e.start(ctx)); err != nil {
				return err
			}
		}
		return r.more(30)(ctx)
	})
}

// without tells of DynamoDB's absence.
func (s *story) without(t *testing.T, leave, comeBack func() error) {
	t.Helper()
	s.outage = *outage
	s.tell(t, func(ctx context.Context, r *soakRun) error {
		away := func(ctx context.Context) error {
			began, before := time.Now(), r.tally.counts()
			err := errors.Join(leave(), rest(ctx, *outage))
			after := r.tally.counts()
			t.Logf("away %v: %d sent, %d acked meanwhile", time.Since(began), after.sent-before.sent, after.acked-before.acked)
			return errors.Join(err, comeBack())
		}
		nobodyIsDead := func(context.Context) error {
			for _, e := range r.edges {
				if took, err := e.says(endsJournal); took || err != nil {
					return errors.Join(fmt.Errorf("%s has taken another for dead: %v", e.name, took), err)
				}
			}
			return nil
		}
		later := 50
		if *outage >= time.Minute {
			later = 500 // every edge has looked by then who lives
		}
		return inOrder(ctx, r.more(50), away, r.more(later), nobodyIsDead)
	})
}
