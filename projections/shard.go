package projections

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"timberline/bus"
	"timberline/events"
	"timberline/sim/planted"
)

// A record is one of the log, as read.
type record struct {
	journal uint64
	offset  events.Offset
	rec     events.Record
}

// Every so many checkpoints one lists all journals that are not at their end.
const fullEvery = 1000

// A checkpoint that gives nobody an entry is written after this time, or after
// this much was read since the last one.
const (
	idleTime  = 10 * time.Minute
	idleBytes = 64 << 20
)

// maxTails bounds the ends of timelines kept in memory: about 100 bytes each.
const maxTails = 200_000

// A shard is the projector's state of one shard. All of it can be dropped at any
// time and loaded again.
type shard struct {
	cfg     *Config
	metrics *metrics
	id      Shard
	mine    func(events.User) bool
	odd     uint64 // events placed nowhere
	ready   bool   // false: load before use

	rules     uint32           // the newest it has: those by which it writes
	n         CheckpointNumber // the last checkpoint
	version   Version          // of the timelines, as of n
	full      CheckpointNumber // the last full one
	committed positions        // as of n
	reading   positions        // and what was read since
	bytes     int              // read since
	since     time.Time        // of the last checkpoint
	tails     map[events.User]*tail
}

func newShard(c *Config, m *metrics, id Shard) *shard {
	return &shard{cfg: c, metrics: m, id: id, mine: usersOf(id, c.Meta.Shards), rules: cmp.Or(c.rules, newestRules())}
}

// usersOf returns what tells the users of a shard, among the n shards of a store.
func usersOf(id Shard, n uint32) func(events.User) bool {
	return func(u events.User) bool { return n == 1 || ShardOf(u.Slot(), n) == id }
}

// errOvertaken says that another projector works on the shard, and is ahead.
var errOvertaken = errors.New("overtaken by another projector")

// load reads the shard's state from its checkpoints, and applies the last one
// again: its items may be missing. That is all there is to recovery.
func (s *shard) load(ctx context.Context) error {
	s.tails = make(map[events.User]*tail)
	s.bytes, s.since = 0, time.Now()
	n, last, err := lastCheckpoint(ctx, s.cfg.Checkpoints, s.id)
	if err != nil {
		return err
	}
	if n > 0 && last.Rules > s.rules {
		return unruled(s.id, n, last.Rules, s.rules)
	}
	s.n, s.full, s.version, s.committed = n, 0, 0, newPositions()
	if n > 0 {
		s.full, s.version = last.Full, last.Version
		if s.committed, err = positionsAt(ctx, s.cfg.Checkpoints, s.id, n-1); err != nil {
			return err
		}
		before := s.committed.clone()
		s.committed.apply(last)
		if err := s.reapply(ctx, before, last); err != nil {
			return err
		}
	}
	s.reading = s.committed.clone()
	s.ready = true
	return nil
}

// reapply writes what follows from the last checkpoint where it is missing.
func (s *shard) reapply(ctx context.Context, before positions, last *Checkpoint) error {
	c := cover{place: rules[last.Rules]}
	for _, m := range last.Moved {
		from, open := before.next(m.Journal)
		if !open {
			continue
		}
		if err := s.recover(ctx, &c, m, from); err != nil {
			return err
		}
	}
	ends, err := newest(ctx, s.cfg.Items, s.version, c.order)
	if err != nil {
		return err
	}
	absent := make([]*tail, len(c.order))
	for i, u := range c.order {
		t := &ends[i]
		s.tails[u] = t
		switch {
		case t.checkpoint > s.n:
			return errOvertaken
		case t.checkpoint < s.n, planted.Is(planted.HeadFromLastItem):
			absent[i] = t
		}
	}
	var items []Stored
	for g := range c.gifts(s.n, absent) {
		items = append(items, g.item.Encode(s.timeline(g.user)))
		*g.tail = tailOf(&g.item)
	}
	if len(items) == 0 {
		return nil
	}
	return s.cfg.Items.PutItems(ctx, items)
}

// recover adds to c the records of one journal that the last checkpoint covers.
func (s *shard) recover(ctx context.Context, c *cover, m Position, from events.Offset) error {
	for at := from; at <= m.Offset; {
		recs, err := s.cfg.Log.ReadLog(ctx, events.JournalNumbered(m.Journal), at, readBytes, events.Strong)
		if err != nil {
			return err
		}
		if len(recs) == 0 {
			err := unread(ctx, s.cfg.Journals, m.Journal, at, s.n, s.id)
			if errors.Is(err, errTrimmed) {
				return nil // nobody has an entry of it any more
			}
			return err
		}
		for _, rec := range recs {
			if at > m.Offset {
				break
			}
			if err := c.take(record{m.Journal, at, rec}, s.mine); err != nil {
				return err
			}
			at++
		}
	}
	return nil
}

// timeline names a user's, as the shard writes it.
func (s *shard) timeline(u events.User) Timeline { return Timeline{s.version, u} }

// newest reads the ends of users' timelines in a version.
func newest(ctx context.Context, items Items, v Version, users []events.User) ([]tail, error) {
	return ofEach(ctx, users, func(ctx context.Context, u events.User) (tail, error) { return newestOf(ctx, items, Timeline{v, u}) })
}

func newestOf(ctx context.Context, items Items, t Timeline) (tail, error) {
	stored, err := items.NewestItem(ctx, t, events.Latest)
	if errors.Is(err, events.ErrNotFound) {
		return tail{}, nil
	}
	if err != nil {
		return tail{}, err
	}
	item, err := stored.Decode()
	if err != nil {
		return tail{}, err
	}
	return tailOf(&item), nil
}

func tailOf(i *Item) tail {
	return tail{last: i.Last(), newest: i.Newest, checkpoint: i.Checkpoint}
}

// feed takes in records, in the order of their offsets, and commits what follows
// from them. It returns what is to be pushed. After an error the state is
// dropped.
func (s *shard) feed(ctx context.Context, recs []record, known uint64) (pushes []bus.Push, err error) {
	defer func() {
		if err != nil {
			s.ready = false
		}
	}()
	if !s.ready {
		if err := s.load(ctx); err != nil {
			return nil, err
		}
	}
	s.reading.know(known)
	c := cover{place: rules[s.rules]}
	for _, r := range recs {
		next, open := s.reading.next(r.journal)
		if !open || next != r.offset {
			continue // read already, or out of turn after the state was dropped
		}
		fits, err := c.add(r, s.mine)
		if err != nil {
			return pushes, err
		}
		if !fits {
			if pushes, err = s.commit(ctx, &c, pushes); err != nil {
				return pushes, err
			}
			c.empty(c.place)
			if _, err := c.add(r, s.mine); err != nil {
				return pushes, err
			}
		}
		s.reading.read(r.journal, r.offset, c.ended)
		s.bytes += len(r.rec)
	}
	idle := s.bytes > 0 && (s.bytes >= idleBytes || time.Since(s.since) >= idleTime)
	if len(c.events) > 0 || idle {
		return s.commit(ctx, &c, pushes)
	}
	return pushes, nil
}

// commit appends the next checkpoint with what follows from it, and adds the
// pushes that tell of it.
func (s *shard) commit(ctx context.Context, c *cover, pushes []bus.Push) ([]bus.Push, error) {
	n := s.n + 1
	tails, err := s.know(ctx, c, n)
	if err != nil {
		return pushes, err
	}
	gifts := slices.Collect(c.gifts(n, tails))
	items := make([]Stored, len(gifts))
	for i := range gifts {
		items[i] = gifts[i].item.Encode(s.timeline(gifts[i].user))
	}
	began := time.Now()
	if err := s.append(ctx, s.next(), items...); err != nil {
		return pushes, err
	}
	s.told(began, c)
	s.odd += uint64(c.odd)
	for i := range gifts {
		*gifts[i].tail = tailOf(&gifts[i].item)
		pushes = append(pushes, s.push(&gifts[i]))
	}
	return pushes, nil
}

// next returns the checkpoint that says what was read since the last one.
func (s *shard) next() *Checkpoint {
	n := s.n + 1
	full := fullAt(n, s.full)
	return &Checkpoint{
		Rules: s.rules, Moved: s.reading.since(&s.committed, full == n), Through: s.reading.through, Full: full, Version: s.version,
	}
}

// fullAt returns the number of the newest full checkpoint as of checkpoint n, given that
// as of the one before.
func fullAt(n, full CheckpointNumber) CheckpointNumber {
	if n == 1 || n-full >= fullEvery {
		return n
	}
	return full
}

// append appends the next checkpoint with the items that follow from it.
func (s *shard) append(ctx context.Context, cp *Checkpoint, items ...Stored) error {
	n := s.n + 1
	_, err := s.cfg.Checkpoints.Commit(ctx, s.id, n, cp.Encode(s.id, n), items)
	switch {
	case errors.Is(err, events.ErrConflict):
		return errOvertaken
	case err != nil:
		return err
	}
	s.n, s.full = n, cp.Full
	s.committed, s.reading = s.reading.clone(), s.reading.clone()
	s.bytes, s.since = 0, time.Now()
	return nil
}

// told counts a checkpoint that is durable.
func (s *shard) told(began time.Time, c *cover) {
	s.metrics.commit.Observe(time.Since(began).Seconds())
	s.metrics.entries.Add(float64(c.gives))
	if n := len(c.events); n > 0 {
		s.metrics.lag.Observe(max(time.Since(c.events[n-1].id.Time()).Seconds(), 0))
	}
}

// know returns the ends of all timelines concerned, as of the checkpoint before n (R7).
func (s *shard) know(ctx context.Context, c *cover, n CheckpointNumber) ([]*tail, error) {
	if len(s.tails) > maxTails {
		clear(s.tails)
	}
	tails, unknown := known(c, s.tails)
	ends, err := newest(ctx, s.cfg.Items, s.version, c.at(unknown))
	if err != nil {
		return nil, err
	}
	for i, at := range unknown {
		if ends[i].checkpoint >= n {
			return nil, errOvertaken
		}
		tails[at] = &ends[i]
		s.tails[c.order[at]] = tails[at]
	}
	return tails, nil
}

func (s *shard) push(g *gift) bus.Push {
	return bus.Push{Store: s.cfg.Meta.Store, User: g.user, First: g.item.First, Events: g.item.Events(), Newest: g.item.Newest}
}
