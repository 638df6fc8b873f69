package projections

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"timberline/bus"
	"timberline/events"
)

// Config says what a Projector works with. Zero fields have the defaults named.
type Config struct {
	Log         events.Log
	Journals    events.Journals
	Checkpoints Checkpoints
	Items       Items
	Meta        Meta
	Bus         bus.Bus
	// Publish is told of new, durable entries; default: nobody is.
	Publish func([]bus.Push)
	Shards  []Shard       // those it owns at first; default: all. See Own
	Poll    time.Duration // how often to look at the log without a hint; default: 1 s
	Random  io.Reader     // for the jitter of retries
	Logger  *slog.Logger
	Metrics prometheus.Registerer // default: nobody is told

	rules uint32 // the newest rules that it has; 0: those of the package
}

// A Projector turns the log into the timelines of its shards.
type Projector struct {
	cfg     Config
	metrics *metrics
	shards  []*shard
	jitter  *rand.Rand

	mu    sync.Mutex
	moved time.Time  // when it got on last, or tried again; zero: Run has not begun
	owned []Shard    // those it is to own from the next round on; nil: as before
	hints []bus.Hint // newest last; dropped when there are too many
	size  int        // bytes that they take
	wake  chan struct{}

	known uint64 // journals up to it have rows
}

const (
	maxHintBytes = 16 << 20
	bareHint     = 128           // bytes that a hint takes without its record
	readBytes    = 4 << 20       // of log read at a time, of one journal
	passBytes    = 4 * readBytes // and of all together, but for a record of each
	retryFirst   = 50 * time.Millisecond
	retryMost    = 5 * time.Second
)

// NewProjector returns a projector for Run.
func NewProjector(c Config) (*Projector, error) {
	if c.Poll == 0 {
		c.Poll = time.Second
	}
	if c.Meta.Shards == 0 || c.Meta.Shards > events.Slots {
		return nil, fmt.Errorf("projector config: Meta.Shards is %d, want 1 to %d", c.Meta.Shards, events.Slots)
	}
	if c.Shards == nil {
		for s := range Shard(c.Meta.Shards) {
			c.Shards = append(c.Shards, s)
		}
	}
	var seed [32]byte
	if _, err := io.ReadFull(c.Random, seed[:]); err != nil {
		return nil, fmt.Errorf("seed the projector: %w", err)
	}
	p := &Projector{cfg: c, metrics: newMetrics(c.Metrics), jitter: rand.New(rand.NewChaCha8(seed)), wake: make(chan struct{}, 1)}
	p.own(c.Shards)
	return p, nil
}

// Own makes the projector go on with other shards, those of the leases it holds. It is
// safe for concurrent use, and takes effect when the round under way is over: soon, unless
// the store is slow.
func (p *Projector) Own(shards []Shard) {
	p.mu.Lock()
	p.owned = append([]Shard{}, shards...)
	p.mu.Unlock()
	p.awake()
}

// awake has a round begin. It never waits.
func (p *Projector) awake() {
	select {
	case p.wake <- struct{}{}:
	default: // the round to come sees it
	}
}

// own keeps the state of shards that stay, and drops that of others.
func (p *Projector) own(shards []Shard) {
	before := p.shards
	p.shards = nil
	for _, id := range shards {
		i := slices.IndexFunc(before, func(s *shard) bool { return s.id == id })
		if i < 0 {
			p.shards = append(p.shards, newShard(&p.cfg, p.metrics, id))
			continue
		}
		p.shards = append(p.shards, before[i])
	}
}

// Misplaced returns how many events the rules could place nowhere. It may be
// called when Run has returned.
func (p *Projector) Misplaced() uint64 {
	var n uint64
	for _, s := range p.shards {
		n += s.odd
	}
	return n
}

// stuckAfter is how long a step of a round may take, with all the tries of what it asks the
// store. There are many in a round where much has to be loaded.
const stuckAfter = 2 * time.Minute

// Alive says what is wrong if the projector does nothing any more. That the store does not
// answer is no fault of it.
func (p *Projector) Alive() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if took := time.Since(p.moved); !p.moved.IsZero() && took > stuckAfter {
		return fmt.Errorf("the projector has been at one step for %v", took.Round(time.Second))
	}
	return nil
}

// Run projects until ctx ends, and then returns nil. It returns an error if the
// log or a timeline is damaged (events.ErrCorrupt), or was written in a format or by
// rules that this program does not have (events.ErrFormat): nothing it could write would
// be right.
func (p *Projector) Run(ctx context.Context) error {
	defer p.cfg.Bus.OnHint(p.onHint)()
	p.move()
	poll := time.NewTimer(p.cfg.Poll)
	defer poll.Stop()
	pause := retryFirst
	polled := true // as the first round is, without a timer: of one of 0 nobody knows whether it is due yet
	for {
		if !polled {
			select {
			case <-p.wake:
			case <-poll.C:
				polled = true
			case <-ctx.Done():
				return nil
			}
		}
		select { // if both were due one round does both, whichever came first
		case <-p.wake:
		default:
		}
		select {
		case <-poll.C:
			polled = true
		default:
		}
		if ctx.Err() != nil { // of several that are due select takes any
			return nil
		}
		err := p.round(ctx, polled)
		p.move()
		switch {
		case ctx.Err() != nil:
			return nil
		case events.Final(err):
			return fmt.Errorf("projector: %w", err)
		case errors.Is(err, errOvertaken):
			p.metrics.overtaken.Inc()
			polled = true // at once: the state was dropped, go on from what the other wrote
			pause = retryFirst
			continue
		case errors.Is(err, errMore):
			polled = true // at once, and with what has come meanwhile
			pause = retryFirst
			continue
		case err != nil:
			p.cfg.Logger.Warn("projection failed; trying again", "err", err)
			poll.Reset(pause/2 + time.Duration(p.jitter.Int64N(int64(pause))))
			pause = min(2*pause, retryMost)
		default:
			pause = retryFirst
			if polled {
				poll.Reset(p.cfg.Poll)
			}
		}
		polled = false
	}
}

// move notes that a step is over, whatever came of it.
func (p *Projector) move() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.moved = time.Now()
}

// onHint keeps a hint for the next round. It never waits.
func (p *Projector) onHint(h bus.Hint) {
	if h.Store != p.cfg.Meta.Store {
		return
	}
	p.mu.Lock()
	size := bareHint + len(h.Record)
	if p.size += size; p.size > maxHintBytes {
		p.hints, p.size = nil, size // the log has what is dropped here
		p.metrics.hintsDropped.Inc()
	}
	p.hints = append(p.hints, h)
	p.mu.Unlock()
	p.awake()
}

// take returns the hints that have come, and the shards to own if they are others.
func (p *Projector) take() (hints []bus.Hint, owned []Shard) {
	p.mu.Lock()
	defer p.mu.Unlock()
	hints, owned = p.hints, p.owned
	p.hints, p.size, p.owned = nil, 0, nil
	return hints, owned
}

// errMore says that a round has ended before all was read.
var errMore = errors.New("there is more to read")

// round reads what is new, once for all shards, and has each project it. It goes
// on until nothing more is there, or until it is time to look at all journals again:
// of one that is written all the time there is always more, and neither journals that
// are new nor hints nor other shards to own may wait for its end.
func (p *Projector) round(ctx context.Context, polled bool) error {
	began := time.Now()
	hints, owned := p.take()
	if owned != nil {
		p.own(owned)
	}
	if err := p.load(ctx); err != nil {
		return err
	}
	recs, look := p.sort(hints)
	p.metrics.hinted.Add(float64(len(recs)))
	if polled {
		rows, err := p.cfg.Journals.ListJournals(ctx, p.known, events.Relaxed)
		if err != nil {
			return err
		}
		p.known += uint64(len(rows))
		for journal := p.first(); journal <= p.known; journal++ {
			look[journal] = max(look[journal], 0) // through anywhere
		}
	}
	for {
		if err := p.project(ctx, recs); err != nil {
			return err
		}
		p.move()
		if len(look) == 0 {
			return nil
		}
		if time.Since(began) >= p.cfg.Poll {
			return errMore
		}
		var err error
		if recs, err = p.read(ctx, look); err != nil {
			return err
		}
	}
}

// load makes every shard ready.
func (p *Projector) load(ctx context.Context) error {
	for _, s := range p.shards {
		if s.ready {
			continue
		}
		if err := s.load(ctx); err != nil {
			return err
		}
		p.move()
	}
	return nil
}

// next returns the first offset of a journal that some shard has not read; ok is
// false if all have read it to its end.
func (p *Projector) next(journal uint64) (at events.Offset, ok bool) {
	for _, s := range p.shards {
		if n, open := s.reading.next(journal); open && (!ok || n < at) {
			at, ok = n, true
		}
	}
	return at, ok
}

// sort returns the records that hints brought, as far as they follow what was
// read, and names the journals that have more than that, and through where at least.
func (p *Projector) sort(hints []bus.Hint) (recs []record, look map[uint64]events.Offset) {
	look = make(map[uint64]events.Offset)
	have := make(map[uint64]events.Offset) // how far recs lead
	for _, h := range hints {
		journal, ok := h.Journal.Number()
		if !ok {
			continue
		}
		p.known = max(p.known, journal)
		at, open := p.next(journal)
		at = max(at, have[journal]+1)
		switch {
		case !open || h.Offset < at:
		case h.Offset == at && h.Record != nil:
			recs = append(recs, record{journal, at, h.Record})
			have[journal] = at
		default:
			look[journal] = max(look[journal], h.Offset)
		}
	}
	return recs, look
}

// read reads on in the journals named, in their order, and takes out of look
// those that have nothing more. A read may lag behind what was hinted at: then it is
// made again as one that may not.
func (p *Projector) read(ctx context.Context, look map[uint64]events.Offset) ([]record, error) {
	var recs []record
	size := min(readBytes, passBytes/len(look))
	for _, journal := range slices.Sorted(maps.Keys(look)) {
		at, open := p.next(journal)
		if !open {
			delete(look, journal)
			continue
		}
		read, err := p.cfg.Log.ReadLog(ctx, events.JournalNumbered(journal), at, size, events.Relaxed)
		if err == nil && len(read) == 0 && look[journal] >= at {
			read, err = p.cfg.Log.ReadLog(ctx, events.JournalNumbered(journal), at, size, events.Latest)
		}
		if err != nil {
			return nil, err
		}
		p.metrics.read.Add(float64(len(read)))
		if len(read) == 0 {
			delete(look, journal)
		}
		for i, rec := range read {
			recs = append(recs, record{journal, at + events.Offset(i), rec})
		}
	}
	return recs, nil
}

// first returns the lowest journal that some shard has not read to its end.
func (p *Projector) first() uint64 {
	low := p.known + 1
	for _, s := range p.shards {
		low = min(low, s.reading.through+1)
		for journal := range s.reading.at {
			low = min(low, journal)
		}
	}
	return max(low, 1)
}

// project has each shard take in records, all at a time, and then publishes what
// became durable, in the order of the shards.
func (p *Projector) project(ctx context.Context, recs []record) error {
	pushes := make([][]bus.Push, len(p.shards))
	var g errgroup.Group
	for i, s := range p.shards {
		g.Go(func() (err error) {
			pushes[i], err = s.feed(ctx, recs, p.known)
			return err
		})
	}
	err := g.Wait()
	for _, ps := range pushes {
		if len(ps) > 0 && p.cfg.Publish != nil {
			p.cfg.Publish(ps)
		}
	}
	return err
}
