package relay

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"timberline/bus"
	"timberline/events"
	"timberline/projections"
)

// A stream is one in memory that a test can split, trim and disturb.
type stream struct {
	mu     sync.Mutex
	shards []*part
	epoch  int                     // iterators of earlier ones have expired
	fault  func(what string) error // asked before each call
	reads  map[string]int          // calls of Read under way, by shard
	most   int                     // of these at one time, of one shard
}

type part struct {
	Shard
	changes []Change
	gone    int // of changes: trimmed
	closed  bool
}

func newStream() *stream {
	return &stream{shards: []*part{{Shard: Shard{Name: "s0"}}}, fault: func(string) error { return nil }, reads: make(map[string]int)}
}

func (s *stream) find(name string) *part {
	i := slices.IndexFunc(s.shards, func(p *part) bool { return p.Name == name })
	if i < 0 {
		return nil
	}
	return s.shards[i]
}

// write adds an item of one entry to the newest shard of a user's line: users go to
// the children by their names.
func (s *stream) write(u events.User, seq events.Seq) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var open []*part
	for _, p := range s.shards {
		if !p.closed {
			open = append(open, p)
		}
	}
	p := open[int(u[0])%len(open)]
	item := projections.Item{First: seq, Newest: events.ID{byte(seq)}, Entries: []projections.Entry{{Event: []byte(fmt.Sprint(u, seq))}}}
	p.changes = append(p.changes, Change{Stored: item.Encode(projections.Timeline{User: u}), At: time.Now()})
}

// roll closes all open shards, and opens as many children of the last one.
func (s *stream) roll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range slices.Clone(s.shards) {
		if !p.closed {
			p.closed = true
			s.shards = append(s.shards, &part{Shard: Shard{Name: fmt.Sprint("s", len(s.shards)), Parent: p.Name}})
		}
	}
}

// trim loses all changes that stand, and the shards that take no more.
func (s *stream) trim() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shards = slices.DeleteFunc(s.shards, func(p *part) bool { return p.closed })
	for _, p := range s.shards {
		p.gone = len(p.changes)
	}
}

// disturb has calls fail as fault says.
func (s *stream) disturb(fault func(what string) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = fault
}

// expire makes all iterators useless.
func (s *stream) expire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.epoch++
}

func (s *stream) Shards(context.Context) ([]Shard, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.fault("shards"); err != nil {
		return nil, err
	}
	var all []Shard
	for _, p := range s.shards {
		all = append(all, p.Shard)
	}
	return all, nil
}

func (s *stream) Seek(_ context.Context, shard, place string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.fault("seek"); err != nil {
		return "", err
	}
	p := s.find(shard)
	at := 0
	switch {
	case p == nil:
		return "", ErrTrimmed
	case place == "":
		at = p.gone
	default:
		n, err := strconv.Atoi(place)
		if err != nil {
			return "", err
		}
		if at = n + 1; at < p.gone {
			return "", ErrTrimmed
		}
	}
	return fmt.Sprintf("%s %d %d", shard, at, s.epoch), nil
}

func (s *stream) Read(_ context.Context, next string) (Page, error) {
	var shard string
	var at, epoch int
	fmt.Sscan(next, &shard, &at, &epoch)
	s.enter(shard, 1)
	defer s.enter(shard, -1)
	time.Sleep(time.Millisecond)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.fault("read"); err != nil {
		return Page{}, err
	}
	p := s.find(shard)
	switch {
	case epoch != s.epoch:
		return Page{}, ErrExpired
	case p == nil || at < p.gone:
		return Page{}, ErrTrimmed
	}
	page := Page{Changes: p.changes[at:min(at+3, len(p.changes))]}
	if n := len(page.Changes); n > 0 {
		at += n
		page.Place = fmt.Sprint(at - 1)
	}
	if at < len(p.changes) || !p.closed {
		page.Next = fmt.Sprintf("%s %d %d", shard, at, epoch)
	}
	return page, nil
}

func (s *stream) enter(shard string, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reads[shard] += n
	s.most = max(s.most, s.reads[shard])
}

// together returns how many have read one shard at one time.
func (s *stream) together() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.most
}

// A broker is a Publisher that keeps what it was given.
type broker struct {
	t     *testing.T
	mu    sync.Mutex
	seen  map[events.User][]events.Seq // heads, as they came
	told  int                          // times that edges were told to distrust
	fault func() error
}

func newBroker(t *testing.T) *broker {
	return &broker{t: t, seen: make(map[events.User][]events.Seq), fault: func() error { return nil }}
}

func (b *broker) Confirm(_ context.Context, ps []bus.Push) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.fault(); err != nil {
		return err
	}
	for _, p := range ps {
		if want := fmt.Sprint(p.User, p.Head()); p.Store != storeID || len(p.Events) != 1 || string(p.Events[0]) != want {
			b.t.Errorf("%+v came, want one event %q of store %v", p, want, storeID)
		}
		b.seen[p.User] = append(b.seen[p.User], p.Head())
	}
	return nil
}

func (b *broker) Distrust(context.Context) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.fault(); err != nil {
		return err
	}
	b.told++
	return nil
}

// disturb has calls fail as fault says.
func (b *broker) disturb(fault func() error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fault = fault
}

// count returns how many pushes of a user came.
func (b *broker) count(u events.User) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.seen[u])
}

// firsts returns the heads of a user in the order in which each came first.
func (b *broker) firsts(u events.User) []events.Seq {
	b.mu.Lock()
	defer b.mu.Unlock()
	var firsts []events.Seq
	for _, seq := range b.seen[u] {
		if !slices.Contains(firsts, seq) {
			firsts = append(firsts, seq)
		}
	}
	return firsts
}

func (b *broker) distrusts() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.told
}

var storeID = events.StoreID{7}

var errFault = errors.New("no answer")
