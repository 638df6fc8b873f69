package projections

import (
	"fmt"
	"iter"
	"slices"

	"timberline/events"
	"timberline/sim/planted"
)

// rules are those that place events into timelines, by their version. Each checkpoint
// names the version by which it is applied, so all stay: a release adds one at most. A
// projector writes by the newest that it has.
var rules = []rule{
	1: place(events.KindMessage),
	2: place(events.KindMessage, events.KindReadUpTo), // it tells the other user, and the user's other devices
}

// A rule places an event, for the users that mine accepts: a pure function. ok is false
// if it gives none of them an entry; odd says that there is no place for it anywhere,
// though it should have one.
type rule func(raw []byte, mine func(events.User) bool) (p placed, ok, odd bool, err error)

// newestRules returns the version of the newest rules.
func newestRules() uint32 { return uint32(len(rules) - 1) }

// ErrRules says that a checkpoint was written by rules that this program does
// not have: run the version of the program that does. It wraps events.ErrFormat.
var ErrRules = fmt.Errorf("%w: unknown version of the rules", events.ErrFormat)

// A placed event is one that gives a shard entries.
type placed struct {
	id      events.ID
	raw     []byte
	journal uint64
	a, b    events.User // its recipients in this shard; b is empty if there is one only

	atA, atB int // the places of the two in the order of a cover
}

// place is rules by which events of some kinds stand in the timelines of the users of their
// direct conversation, the sender among them, and nothing else stands anywhere.
func place(kinds ...events.Kind) rule {
	return func(raw []byte, mine func(events.User) bool) (p placed, ok, odd bool, err error) {
		id, kind, conversation, err := events.Raw(raw).Place()
		if err != nil || !slices.Contains(kinds, kind) {
			return placed{}, false, false, err
		}
		p, ok, odd = between(id, raw, conversation, mine)
		return p, ok, odd, nil
	}
}

// between places an event in the timelines of both users of a direct conversation.
func between(id events.ID, raw []byte, conversation events.Conversation, mine func(events.User) bool) (p placed, ok, odd bool) {
	a, b, direct := conversation.Users()
	if !direct {
		return placed{}, false, true
	}
	p = placed{id: id, raw: raw}
	if mine(a) {
		p.a = a
	}
	if b != a && mine(b) {
		p.b = b
	}
	if p.a == "" {
		p.a, p.b = p.b, ""
	}
	return p, p.a != "", false
}

// A tail is the end of a user's timeline: the state as of a checkpoint (R7).
type tail struct {
	last       events.Seq
	newest     events.ID
	checkpoint CheckpointNumber
}

// A gift is what one checkpoint gives one user.
type gift struct {
	user   events.User
	at     int              // the place of the user in the order of the cover
	tail   *tail            // of which it is made
	before CheckpointNumber // of the user's last item before
	item   Item
}

// A cover is the events that one checkpoint newly covers.
type cover struct {
	place  rule
	events []placed
	ended  bool // of the record added last: the journal ends in it
	odd    int  // events that the rules placed nowhere
	bytes  int
	gives  int                 // entries
	users  map[events.User]int // the place of each in order
	order  []events.User       // the users as they were met
	counts []int               // entries for each of them
	sizes  []int               // bytes likewise
	most   int                 // bytes for one user

	// Of gifts: what it makes them of, in the order of the users.
	entries []Entry // of all users, those of each together
	newest  []events.ID
	to      []int // where the entries of each end
	before  []tail
}

// empty makes it the cover of another checkpoint, by some rules, in the same memory, without a
// hold on records. What was had of it before is not to be used any more.
func (c *cover) empty(place rule) {
	clear(c.users)
	clear(c.events)
	clear(c.entries)
	*c = cover{
		place: place, events: c.events[:0], users: c.users, order: c.order[:0], counts: c.counts[:0], sizes: c.sizes[:0],
		entries: c.entries, newest: c.newest, to: c.to, before: c.before,
	}
}

// long returns a slice of length n, in the same memory if that is enough, with anything in it.
func long[T any](s []T, n int) []T { return slices.Grow(s[:0], n)[:n] }

// The limits of a checkpoint. They bound memory and items; where a checkpoint
// ends is written in it, so they can change at any time.
const (
	maxEvents    = 4096
	maxEntries   = 20_000
	maxUserBytes = 256 << 10
	maxBytes     = 16 << 20
)

// take takes in a record, whatever its size: an earlier checkpoint found that it
// fits.
func (c *cover) take(r record, mine func(events.User) bool) error {
	_, err := c.addIf(r, mine, func(int, int) bool { return true })
	return err
}

// add takes in a record if it fits; the first that gives an entry always does.
func (c *cover) add(r record, mine func(events.User) bool) (fits bool, err error) {
	return c.addIf(r, mine, c.fits)
}

func (c *cover) addIf(r record, mine func(events.User) bool, fit func(gives, bytes int) bool) (fits bool, err error) {
	raws, err := r.rec.Events(events.JournalNumbered(r.journal), r.offset)
	if err != nil {
		return false, err
	}
	old := len(c.events) // those that stay if it does not fit
	bytes, gives, odd, ended := 0, 0, 0, false
	for _, raw := range raws {
		p, ok, strange, err := c.place(raw, mine)
		if err != nil {
			c.events = c.events[:old]
			return false, fmt.Errorf("record %d of journal %d: %w", r.offset, r.journal, err)
		}
		if strange {
			odd++
		}
		if !ok {
			ended = ended || isEnd(raw)
			continue
		}
		p.journal = r.journal
		c.events = append(c.events, p)
		n := 1
		if p.b != "" {
			n = 2
		}
		gives += n
		bytes += n * len(raw)
	}
	fresh := c.events[old:]
	if old > 0 && len(fresh) > 0 && !fit(gives, bytes) {
		c.events = c.events[:old]
		return false, nil
	}
	c.ended, c.odd, c.gives, c.bytes = ended, c.odd+odd, c.gives+gives, c.bytes+bytes
	for i := range fresh {
		p := &fresh[i]
		p.atA = c.count(p.a, len(p.raw))
		if p.b != "" {
			p.atB = c.count(p.b, len(p.raw))
		}
	}
	return true, nil
}

func isEnd(raw []byte) bool {
	_, kind, _, err := events.Raw(raw).Place()
	return err == nil && kind == events.KindJournalEnded
}

// fits reports whether a record does of which so much follows, and whose events are the last.
func (c *cover) fits(gives, bytes int) bool {
	return len(c.events) <= maxEvents && c.gives+gives <= maxEntries &&
		c.bytes+bytes <= maxBytes && c.most+bytes <= maxUserBytes
}

// count counts an entry of n bytes for a user, and returns the user's place in order.
func (c *cover) count(u events.User, n int) int {
	if c.users == nil {
		c.users = make(map[events.User]int)
	}
	at, met := c.users[u]
	if !met {
		at = len(c.order)
		c.users[u] = at
		c.order, c.counts, c.sizes = append(c.order, u), append(c.counts, 0), append(c.sizes, 0)
	}
	c.counts[at]++
	c.sizes[at] += n
	c.most = max(c.most, c.sizes[at])
	return at
}

// known returns what is known of the cover's users, in their order, and the places of those of
// whom nothing is.
func known[T any](c *cover, of map[events.User]*T) (all []*T, unknown []int) {
	all = make([]*T, len(c.order))
	for at, u := range c.order {
		if all[at] = of[u]; all[at] == nil {
			unknown = append(unknown, at)
		}
	}
	return all, unknown
}

// at returns the users at some places.
func (c *cover) at(places []int) []events.User {
	users := make([]events.User, len(places))
	for i, at := range places {
		users[i] = c.order[at]
	}
	return users
}

// gifts yields one item for each user, given the ends of their timelines as of the
// checkpoint before, in the order of the users; nil: that user is passed over. It is a pure
// function of its arguments, in an order of its own, and the same with all rules. Each is
// made as it is asked for, so whoever asks may rest in between, and note the new end. They are
// valid until the cover is emptied, or asked again.
func (c *cover) gifts(n CheckpointNumber, tails []*tail) iter.Seq[gift] {
	if !slices.IsSortedFunc(c.events, byID) && !planted.Is(planted.BatchUnsorted) {
		slices.SortFunc(c.events, byID)
	}
	c.entries, c.newest, c.to, c.before = long(c.entries, c.gives), long(c.newest, len(c.order)), long(c.to, len(c.order)), long(c.before, len(c.order))
	clear(c.newest)
	from := 0
	for at, n := range c.counts {
		c.to[at], from = from, from+n
	}
	give := func(at int, p *placed) {
		c.entries[c.to[at]].Event = p.raw
		c.to[at]++
		if p.id.Compare(c.newest[at]) > 0 {
			c.newest[at] = p.id
		}
	}
	for i := range c.events {
		p := &c.events[i]
		give(p.atA, p)
		if p.b != "" {
			give(p.atB, p)
		}
	}
	for at, t := range tails { // read in a row, misses of the cache overlap
		if t != nil {
			c.before[at] = *t
		}
	}
	return func(yield func(gift) bool) {
		from := 0
		for at, u := range c.order {
			t, to := &c.before[at], c.to[at]
			if tails[at] == nil {
				from = to
				continue
			}
			if c.newest[at].Compare(t.newest) < 0 {
				c.newest[at] = t.newest
			}
			g := gift{user: u, at: at, tail: tails[at], before: t.checkpoint, item: Item{First: t.last + 1, Checkpoint: n, Newest: c.newest[at], Entries: c.entries[from:to:to]}}
			if from = to; !yield(g) {
				return
			}
		}
	}
}

func byID(a, b placed) int { return a.id.Compare(b.id) }
