package sim

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"timberline/bus"
	"timberline/projections"
	"timberline/projections/relay"
)

// A stream tells of the items of a boot's timelines, as DynamoDB's does: in shards that
// are closed after a while and have children, to readers whose iterators expire.
type stream struct {
	mu     sync.Mutex
	shards []*streamShard
	items  map[string]bool // told of
	epoch  int             // iterators of others have expired
}

// A streamShard is a part of it. Each has the changes of a number of users.
type streamShard struct {
	relay.Shard
	part    int
	changes []relay.Change
	closed  bool
}

// streamParts is how many shards are open at a time.
const streamParts = 2

func newStream() *stream {
	s := &stream{items: make(map[string]bool)}
	for part := range streamParts {
		s.shards = append(s.shards, &streamShard{Shard: relay.Shard{Name: fmt.Sprintf("shard %d of part %d", 1, part)}, part: part})
	}
	return s
}

// tell adds items that stand in the store, those that it has not told of.
func (s *stream) tell(items []projections.Stored) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, i := range items {
		if i.Quiet {
			continue
		}
		key := fmt.Sprintf("%s %d", i.Timeline, i.Last)
		if s.items[key] {
			continue // the same bytes again change nothing
		}
		s.items[key] = true
		part := int(i.User.Slot()) % streamParts
		for _, sh := range s.shards {
			if sh.part == part && !sh.closed {
				sh.changes = append(sh.changes, relay.Change{Stored: i, At: time.Now()})
				sh.settle()
			}
		}
	}
}

// settle gives the changes of one instant, of which nobody has read any yet, an order of
// their own: many may have waited for one sync.
func (s *streamShard) settle() {
	last := s.changes[len(s.changes)-1].At
	from := slices.IndexFunc(s.changes, func(c relay.Change) bool { return c.At.Equal(last) })
	slices.SortStableFunc(s.changes[from:], func(a, b relay.Change) int { return strings.Compare(string(a.User), string(b.User)) })
}

// roll closes the open shard of a part and opens its child.
func (s *stream) roll(part int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 1
	for _, sh := range slices.Clone(s.shards) {
		if sh.part != part {
			continue
		}
		if n++; !sh.closed {
			sh.closed = true
			s.shards = append(s.shards, &streamShard{Shard: relay.Shard{Name: fmt.Sprintf("shard %d of part %d", n, part), Parent: sh.Name}, part: part})
		}
	}
}

// expire makes all iterators useless.
func (s *stream) expire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.epoch++
}

func (s *stream) list() (all []relay.Shard) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sh := range s.shards {
		all = append(all, sh.Shard)
	}
	return all
}

func (s *stream) seek(shard, place string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := 0
	if place != "" {
		n, err := strconv.Atoi(place)
		if err != nil {
			return "", err
		}
		at = n + 1
	}
	return fmt.Sprintf("%d %d %s", s.epoch, at, shard), nil
}

// streamPage is how many changes one read gives at most.
const streamPage = 5

func (s *stream) read(next string) (relay.Page, error) {
	words := strings.SplitN(next, " ", 3)
	epoch, err := strconv.Atoi(words[0])
	at, err2 := strconv.Atoi(words[1])
	if err := errors.Join(err, err2); err != nil {
		return relay.Page{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if epoch != s.epoch {
		return relay.Page{}, relay.ErrExpired
	}
	sh := s.shards[slices.IndexFunc(s.shards, func(sh *streamShard) bool { return sh.Name == words[2] })]
	page := relay.Page{Changes: sh.changes[at:min(at+streamPage, len(sh.changes))]}
	if n := len(page.Changes); n > 0 {
		at += n
		page.Place = strconv.Itoa(at - 1)
	}
	if at < len(sh.changes) || !sh.closed {
		page.Next = fmt.Sprintf("%d %d %s", epoch, at, sh.Name)
	}
	return page, nil
}

// Shards implements relay.Stream.
func (e *engine) Shards(context.Context) ([]relay.Shard, error) {
	return fetch(e.access(relayer, "list the stream"), func() ([]relay.Shard, error) { return e.p.boot.stream.list(), nil })
}

// Seek implements relay.Stream.
func (e *engine) Seek(_ context.Context, shard, place string) (string, error) {
	return fetch(e.access(relayer, "seek in %s", shard), func() (string, error) { return e.p.boot.stream.seek(shard, place) })
}

// Read implements relay.Stream.
func (e *engine) Read(_ context.Context, next string) (relay.Page, error) {
	_, shard, _ := strings.Cut(next, "shard")
	return fetch(e.access(relayer, "read %s", shard), func() (relay.Page, error) { return e.p.boot.stream.read(next) })
}

// errBus is what a failing publish returns.
var errBus = errors.New("the broker did not confirm")

// Confirm implements relay.Publisher.
func (b *busEnd) Confirm(_ context.Context, ps []bus.Push) error {
	return b.confirm(fmt.Sprintf("%s %d", ps[0].User, ps[0].First), func() { b.PublishPushes(ps) })
}

// Distrust implements relay.Publisher.
func (b *busEnd) Distrust(context.Context) error {
	return b.confirm("distrust", func() {
		b.pass("distrust", b.from.w.plan.pushes, (*busEnd).distrusts)
	})
}

// confirm has the broker take something and say so, or fail to do one or both.
func (b *busEnd) confirm(what string, publish func()) error {
	a := b.from.engine.access(relayer, "confirm %s", what)
	_, err := do(a, func() (none struct{}, err error) {
		failed := chance(a.r, b.from.w.plan.unconfirmed)
		if !failed || chance(a.r, 0.5) {
			publish()
		}
		if failed {
			err = errBus
		}
		return none, err
	})
	return err
}

// roll has the stream's shards closed and its iterators expire, now and then, until
// the boot is over.
func (b *boot) roll() {
	r := b.w.draws.next(b.name + " rolls")
	for at := time.Duration(0); at < chatFor; {
		at += between(r, time.Second, 20*time.Second)
		part, expires := r.IntN(streamParts), chance(r, 0.3)
		b.later(at, func() {
			if b.stream.roll(part); expires {
				b.stream.expire()
			}
		})
	}
}
