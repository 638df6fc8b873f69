package rabbit

import (
	"context"
	"crypto/rand"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	amqp "github.com/rabbitmq/amqp091-go"

	"timberline/bus"
	"timberline/bus/bustest"
	"timberline/events"
	"timberline/sim/servers"
)

func TestMain(m *testing.M) { servers.Main(m) }

const patience = 20 * time.Second

var store = events.StoreID{1}

// config returns the configuration of a bus with a prefix of its own on a broker.
func config(s *servers.Server) Config {
	return Config{URL: s.URL(), Store: store, Prefix: "test-" + rand.Text(), Logger: slog.New(slog.DiscardHandler)}
}

// run runs a bus until the test ends, or stop is called.
func run(t *testing.T, c Config) (b *Bus, stop func()) {
	t.Helper()
	b, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := b.Run(ctx); err != nil {
			t.Error(err)
		}
	}()
	stop = sync.OnceFunc(func() {
		cancel()
		<-done
	})
	t.Cleanup(stop)
	return b, stop
}

// connected runs a bus and waits until it is connected.
func connected(t *testing.T, c Config) *Bus {
	t.Helper()
	b, _ := run(t, c)
	within(t, "the bus connects", b.Connected)
	return b
}

// within waits until something is so.
func within(t *testing.T, what string, so func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !so(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

func TestRabbitIsABus(t *testing.T) {
	broker := servers.RabbitMQ(t)
	bustest.Run(t, func(t *testing.T) bus.Bus { return connected(t, config(broker)) })
}

// An ear is a process that listens to pushes.
type ear struct {
	*Bus
	mu       sync.Mutex
	seqs     map[events.User][]events.Seq // that came, in their order
	distrust int                          // times
}

// listen runs a bus that listens to the pushes of some users.
func listen(t *testing.T, c Config, users ...events.User) *ear {
	t.Helper()
	b, _ := run(t, c)
	e := &ear{Bus: b, seqs: make(map[events.User][]events.Seq)}
	b.OnPushes(func(ps []bus.Push) {
		e.mu.Lock()
		defer e.mu.Unlock()
		for _, p := range ps {
			e.seqs[p.User] = append(e.seqs[p.User], p.First)
		}
	}, func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.distrust++
	})
	within(t, "the bus connects", b.Connected)
	e.follow(t, users...)
	return e
}

func (e *ear) follow(t *testing.T, users ...events.User) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for _, u := range users {
		if err := e.Follow(ctx, u.Slot()); err != nil {
			t.Fatal(err)
		}
	}
}

func (e *ear) heard(u events.User) []events.Seq {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.seqs[u]
}

func (e *ear) distrusts() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.distrust
}

// push returns a push of one event to a user.
func onePush(u events.User, seq events.Seq) bus.Push {
	return bus.Push{Store: store, User: u, First: seq, Events: [][]byte{[]byte("event")}, Newest: events.ID{1}}
}

// raw is a connection to the broker that knows nothing of buses.
func raw(t *testing.T, c Config) *amqp.Channel {
	t.Helper()
	conn, err := amqp.Dial(c.URL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	ch, err := conn.Channel()
	if err != nil {
		t.Fatal(err)
	}
	return ch
}

// offline returns the pushes in the offline queue, and takes them away; it waits
// until there are so many.
func offline(t *testing.T, c Config, want int) (seqs map[events.User][]events.Seq) {
	t.Helper()
	ch := raw(t, c)
	seqs = make(map[events.User][]events.Seq)
	got := 0
	within(t, "pushes come to the offline queue", func() bool {
		for got < want {
			d, ok, err := ch.Get(c.Prefix+offlineQueue, true)
			if err != nil {
				t.Fatal(err)
			}
			if !ok {
				return false
			}
			ps, err := DecodePushes(d.Body)
			if err != nil || d.Type != string(kindPushes) {
				t.Fatalf("message of type %q in the offline queue: %v", d.Type, err)
			}
			for _, p := range ps {
				seqs[p.User] = append(seqs[p.User], p.First)
				got++
			}
		}
		return true
	})
	return seqs
}

func count(c *prometheus.CounterVec, label string) int {
	return int(testutil.ToFloat64(c.WithLabelValues(label)))
}

func TestPushComesToEachProcessThatFollowsItsSlotAndToNoOther(t *testing.T) {
	c := config(servers.RabbitMQ(t))
	ann, both := listen(t, c, "ann"), listen(t, c, "ann", "ben")
	relay := connected(t, c)
	if err := relay.Confirm(t.Context(), []bus.Push{onePush("ann", 1), onePush("ben", 1), onePush("ann", 2)}); err != nil {
		t.Fatal(err)
	}
	within(t, "the pushes come", func() bool {
		return len(ann.heard("ann")) == 2 && len(both.heard("ann")) == 2 && len(both.heard("ben")) == 1
	})
	if got := ann.heard("ben"); got != nil {
		t.Errorf("pushes %v came that nobody asked for", got)
	}
	if got := both.heard("ann"); got[0] != 1 || got[1] != 2 {
		t.Errorf("pushes came as %v, want them in their order", got)
	}
}

func TestPushOfASlotThatNobodyFollowsIsOffline(t *testing.T) {
	c := config(servers.RabbitMQ(t))
	listen(t, c, "ann")
	relay := connected(t, c)
	if err := relay.Confirm(t.Context(), []bus.Push{onePush("ben", 7)}); err != nil {
		t.Fatal(err)
	}
	if got := offline(t, c, 1)["ben"]; len(got) != 1 || got[0] != 7 {
		t.Errorf("pushes %v of ben are offline, want 7", got)
	}
}

func TestMissedPushIsOffline(t *testing.T) {
	c := config(servers.RabbitMQ(t))
	edge := listen(t, c, "ann")
	edge.PublishMissed([]bus.Push{onePush("ann", 3), onePush("ben", 4)})
	got := offline(t, c, 2)
	if len(got["ann"]) != 1 || len(got["ben"]) != 1 {
		t.Errorf("%v are offline, want ann's and ben's", got)
	}
	if got := edge.heard("ann"); got != nil {
		t.Errorf("pushes %v came back", got)
	}
}

func TestHintComesToEveryProcessThatListens(t *testing.T) {
	c := config(servers.RabbitMQ(t))
	var got [2]chan bus.Hint
	for i := range got {
		got[i] = make(chan bus.Hint, 100)
		b := connected(t, c)
		b.OnHint(func(h bus.Hint) {
			select {
			case got[i] <- h:
			default:
			}
		})
	}
	edge := connected(t, c)
	want := bus.Hint{Store: store, Journal: "j:3", Offset: 9}
	for _, ch := range got {
		within(t, "the hint comes", func() bool {
			edge.PublishHint(want)
			return len(ch) > 0
		})
		if h := <-ch; h.Store != want.Store || h.Journal != want.Journal || h.Offset != want.Offset || h.Record != nil {
			t.Errorf("%+v came, want %+v", h, want)
		}
	}
}

func TestMessagesOfOtherStoresAndOfLaterVersionsAreIgnored(t *testing.T) {
	c := config(servers.RabbitMQ(t))
	edge := listen(t, c, "ann")
	ch := raw(t, c)
	publish := func(exchange, key string, k kind, body []byte) {
		t.Helper()
		if err := ch.Publish(c.Prefix+exchange, key, false, false, amqp.Publishing{Type: string(k), Body: body}); err != nil {
			t.Fatal(err)
		}
	}
	other := onePush("ann", 1)
	other.Store = events.StoreID{2}
	for _, m := range pushMessages(pushesExchange, []bus.Push{other}) {
		publish(m.exchange, m.key, m.kind, m.body)
	}
	slot := slotKey(events.User("ann").Slot())
	publish(pushesExchange, slot, "typing", []byte("of a later version"))
	publish(pushesExchange, slot, kindPushes, []byte("damaged"))
	publish(signalsExchange, everybody, kindDistrust, seal(kindDistrust, &distrustBody{events.StoreID{2}}))
	publish(signalsExchange, everybody, kindDistrust, seal(kindHint, &distrustBody{store}))
	within(t, "all are ignored", func() bool {
		return count(edge.counts.ignored, causeStore) == 2 && count(edge.counts.ignored, causeKind) == 1 && count(edge.counts.ignored, causeMalformed) == 2
	})
	before := edge.distrusts()
	publish(signalsExchange, everybody, kindDistrust, seal(kindDistrust, &distrustBody{store}))
	within(t, "what counts comes", func() bool { return edge.distrusts() == before+1 })
	if got := edge.heard("ann"); got != nil {
		t.Errorf("pushes %v came", got)
	}
}

// A queue that is full refuses: its edge cannot know, so whoever published tells all.
func TestPushThatFindsAQueueFullIsOfflineAndItsEdgeIsToldToDistrust(t *testing.T) {
	c := config(servers.RabbitMQ(t))
	slow := c
	slow.QueueLength = 10
	b := connected(t, slow)
	hold := make(chan struct{})
	defer close(hold)
	distrusted := make(chan struct{}, 100)
	b.OnPushes(func([]bus.Push) { <-hold }, func() { distrusted <- struct{}{} })
	if err := b.Follow(t.Context(), events.User("ann").Slot()); err != nil {
		t.Fatal(err)
	}
	for len(distrusted) > 0 {
		<-distrusted
	}
	relay := connected(t, c)
	for seq := range events.Seq(prefetch + 3*10) { // a message for each
		if err := relay.Confirm(t.Context(), []bus.Push{onePush("ann", seq+1)}); err != nil {
			t.Fatal(err)
		}
	}
	if len(distrusted) == 0 {
		within(t, "it is told to distrust", func() bool { return len(distrusted) > 0 })
	}
	if got := offline(t, c, 10)["ann"]; len(got) < 10 {
		t.Errorf("%d pushes are offline, want at least 10", len(got))
	}
	relay.PublishPushes([]bus.Push{onePush("ann", 1000)})
	for len(distrusted) > 0 {
		<-distrusted
	}
	within(t, "also if nobody waits for the confirm", func() bool { return len(distrusted) > 0 })
}

func TestFollowFailsAtOnceWhileTheBrokerIsAwayAndHoldsWhenItIsBack(t *testing.T) {
	broker := servers.Way(t, servers.RabbitMQ(t))
	c := config(broker)
	e := listen(t, c, "ann")
	broker.Away()
	within(t, "the connection is lost", func() bool { return !e.Connected() })
	before := e.distrusts()
	if err := e.Follow(t.Context(), events.User("ben").Slot()); err != ErrAway {
		t.Errorf("follow: %v, want ErrAway", err)
	}
	if err := e.Confirm(t.Context(), []bus.Push{onePush("ben", 1)}); err != ErrAway {
		t.Errorf("confirm: %v, want ErrAway", err)
	}
	broker.Back()
	within(t, "it connects again", e.Connected)
	if got := e.distrusts(); got <= before {
		t.Error("heads of before the reconnection are trusted")
	}
	if err := e.Confirm(t.Context(), []bus.Push{onePush("ann", 2), onePush("ben", 2)}); err != nil {
		t.Fatal(err)
	}
	within(t, "slots of before and of meanwhile are followed", func() bool {
		return len(e.heard("ann")) == 1 && len(e.heard("ben")) == 1
	})
}

// A queue expires while its process is away, or an operator deletes it.
func TestQueueThatHasVanishedIsDeclaredAgainWithItsBindings(t *testing.T) {
	broker := servers.RabbitMQ(t)
	way := servers.Way(t, broker)
	c := config(broker)
	c.Name = "vanishing"
	relay := connected(t, c)
	remote := c
	remote.URL = way.URL()
	e := listen(t, remote, "ann")
	vanish := func() {
		t.Helper()
		if _, err := raw(t, c).QueueDelete(c.Prefix+edgeQueue+c.Name, false, false, false); err != nil {
			t.Fatal(err)
		}
	}
	for seq, lose := range []func(){
		vanish,
		func() {
			way.Away()
			within(t, "it notices", func() bool { return !e.Connected() })
			vanish()
			way.Back()
		},
	} {
		before := e.distrusts()
		lose()
		within(t, "it is connected again", func() bool { return e.Connected() && e.distrusts() > before })
		if err := relay.Confirm(t.Context(), []bus.Push{onePush("ann", events.Seq(seq+1))}); err != nil {
			t.Fatal(err)
		}
		within(t, "pushes come again", func() bool { return len(e.heard("ann")) == seq+1 })
	}
}

func TestBrokerIsStoppedAndStarted(t *testing.T) {
	broker, err := servers.StartRabbitMQ("")
	if err != nil {
		t.Fatal(err)
	}
	defer broker.Close()
	c := config(broker)
	e, relay := listen(t, c, "ann"), connected(t, c)
	if err := relay.Confirm(t.Context(), []bus.Push{onePush("ben", 1)}); err != nil {
		t.Fatal(err)
	}
	for i, end := range []func() error{broker.Stop, broker.Kill} {
		if err := end(); err != nil {
			t.Fatal(err)
		}
		within(t, "both notice", func() bool { return !e.Connected() && !relay.Connected() })
		seq := events.Seq(10*i + 10)
		relay.PublishPushes([]bus.Push{onePush("ann", seq)}) // waits
		relay.PublishHint(bus.Hint{Store: store, Journal: "j:1", Offset: 1})
		if got := count(relay.counts.dropped, "hints"); got != i+1 {
			t.Errorf("%d hints were dropped, want %d", got, i+1)
		}
		before := e.distrusts()
		if err := broker.Start(); err != nil {
			t.Fatal(err)
		}
		within(t, "both are back", func() bool { return e.Connected() && relay.Connected() })
		if e.distrusts() == before {
			t.Error("heads of before are trusted")
		}
		within(t, "what waited comes", func() bool { return slices.Contains(e.heard("ann"), seq) })
	}
	if got := offline(t, c, 1)["ben"]; len(got) != 1 || got[0] != 1 {
		t.Errorf("pushes %v are offline after two restarts, want 1", got)
	}
}

func TestPushesOfACutConnectionComeAllTheSame(t *testing.T) {
	broker := servers.Way(t, servers.RabbitMQ(t))
	c := config(broker)
	e, relay := listen(t, c, "ann"), connected(t, c)
	const all = 2000
	go func() {
		for seq := range events.Seq(all) {
			relay.PublishPushes([]bus.Push{onePush("ann", seq+1)})
			if seq%500 == 250 {
				broker.Cut()
			}
		}
	}()
	within(t, "each push comes at least once", func() bool {
		came := make(map[events.Seq]bool)
		for _, seq := range e.heard("ann") {
			came[seq] = true
		}
		return len(came) == all
	})
	if n := count(relay.counts.dropped, "pushes"); n > 0 {
		t.Errorf("%d pushes were dropped", n)
	}
}

func TestWhatWaitsForABrokerThatIsAwayIsBoundedAndItsLossIsBroadcast(t *testing.T) {
	broker := servers.RabbitMQ(t)
	way := servers.Way(t, broker)
	c := config(broker)
	e := listen(t, c, "ann")
	small := c
	small.URL, small.MaxWaiting = way.URL(), 64<<10
	relay := connected(t, small)
	way.Away()
	within(t, "the relay notices", func() bool { return !relay.Connected() })
	for seq := range events.Seq(10_000) {
		relay.PublishPushes([]bus.Push{onePush("ann", seq+1)})
		relay.PublishMissed([]bus.Push{onePush("ben", seq+1)})
	}
	if n := relay.out.size(); n > small.MaxWaiting {
		t.Errorf("%d bytes wait, want at most %d", n, small.MaxWaiting)
	}
	dropped := count(relay.counts.dropped, "pushes")
	if dropped == 0 || count(relay.counts.dropped, "missed") == 0 {
		t.Error("what found no room was not counted")
	}
	before := e.distrusts()
	way.Back()
	within(t, "an edge that was connected all the time is told to distrust", func() bool { return e.distrusts() > before })
	within(t, "what waited comes", func() bool { return len(e.heard("ann"))+dropped == 10_000 })
}

// A relay gives up waiting, and tries again: what it gave up does not heap up.
func TestConfirmThatIsGivenUpLeavesNothing(t *testing.T) {
	broker := servers.Way(t, servers.RabbitMQ(t))
	c := config(broker)
	relay := connected(t, c)
	broker.Hang()
	ps := make([]bus.Push, 2*window)
	for i := range ps {
		ps[i] = onePush(events.User(strings.Repeat("u", i%60+1)), events.Seq(i+1))
		ps[i].Events[0] = make([]byte, 40<<10)
	}
	for range 5 {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		if err := relay.Confirm(ctx, ps); err != context.DeadlineExceeded {
			t.Errorf("confirm while nothing passes: %v, want the end of its time", err)
		}
		cancel()
	}
	if n := relay.out.size(); n > 0 {
		t.Errorf("%d bytes wait that nobody waits for", n)
	}
	broker.Back()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := relay.Confirm(ctx, ps[:10]); err != nil {
		t.Errorf("confirm afterwards: %v", err)
	}
}

func TestSlotThatComesAfterItsFollowerHasGivenUpIsDistrusted(t *testing.T) {
	broker := servers.Way(t, servers.RabbitMQ(t))
	e := listen(t, config(broker), "ann")
	broker.Hang()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := e.Follow(ctx, events.User("ben").Slot()); err != context.DeadlineExceeded {
		t.Fatalf("follow while nothing passes: %v, want the end of its time", err)
	}
	before := e.distrusts()
	broker.Back()
	within(t, "heads are distrusted", func() bool { return e.distrusts() > before })
	if !e.Connected() {
		t.Error("the connection was lost: nothing was tested")
	}
	e.follow(t, "ben")
}

func TestStopPublishesWhatWaitsAndLeavesNoGoroutine(t *testing.T) {
	c := config(servers.RabbitMQ(t))
	keeper := connected(t, c)
	before := runtime.NumGoroutine()
	b, stop := run(t, c)
	b.OnHint(func(bus.Hint) {})
	b.OnPushes(func([]bus.Push) {}, func() {})
	within(t, "it connects", b.Connected)
	const all = 500
	for seq := range events.Seq(all) {
		b.PublishPushes([]bus.Push{onePush("nobody", seq+1)})
	}
	stop()
	if b.Connected() || !keeper.Connected() {
		t.Error("the one that stopped is connected, or the other is not")
	}
	if got := len(offline(t, c, all)["nobody"]); got != all {
		t.Errorf("%d pushes were published, want all that waited: %d", got, all)
	}
	const ours = 5 // of the connection that has looked into the offline queue
	within(t, "its goroutines end", func() bool { return runtime.NumGoroutine() <= before+ours })
}

func TestStopDoesNotWaitForABrokerThatHangs(t *testing.T) {
	broker := servers.Way(t, servers.RabbitMQ(t))
	c := config(broker)
	b, stop := run(t, c)
	within(t, "it connects", b.Connected)
	broker.Hang()
	b.PublishPushes([]bus.Push{onePush("ann", 1)})
	began := time.Now()
	stop()
	if took := time.Since(began); took > flushTime+2*closeTime+3*time.Second {
		t.Errorf("it took %v to stop", took)
	}
	_, stop = run(t, c)
	time.Sleep(50 * time.Millisecond) // it is in the middle of connecting
	began = time.Now()
	stop()
	if took := time.Since(began); took > time.Second {
		t.Errorf("it took %v to stop a bus that was not connected", took)
	}
	broker.Back()
}

func TestSecondProcessOfAQueueIsNotServed(t *testing.T) {
	c := config(servers.RabbitMQ(t))
	c.Name = "one"
	first := listen(t, c, "ann")
	second, stop := run(t, c)
	second.OnPushes(func([]bus.Push) {}, func() {})
	for end := time.Now().Add(time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if second.Connected() {
			t.Fatal("two processes share a queue: each would miss what the other gets")
		}
	}
	stop()
	if !first.Connected() {
		t.Error("the first process was disturbed")
	}
}

func TestConfigNamesTheFieldAndKeepsThePassword(t *testing.T) {
	good := Config{URL: "amqp://guest:secret@127.0.0.1:5672/", Store: store}
	for field, spoil := range map[string]func(*Config){
		"URL":           func(c *Config) { c.URL = "amqp://guest:secret@127.0.0.1:x/" },
		"Store":         func(c *Config) { c.Store = events.StoreID{} },
		"Name":          func(c *Config) { c.Name = strings.Repeat("n", 250) },
		"QueueLength":   func(c *Config) { c.QueueLength = -1 },
		"OfflineLength": func(c *Config) { c.OfflineLength = -1 },
		"MaxWaiting":    func(c *Config) { c.MaxWaiting = -1 },
	} {
		c := good
		spoil(&c)
		_, err := New(c)
		if err == nil || !strings.Contains(err.Error(), field) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: error %v", field, err)
		}
	}
	if _, err := New(good); err != nil {
		t.Error(err)
	}
}
