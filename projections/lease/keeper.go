package lease

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

	"golang.org/x/sync/errgroup"

	"timberline/events"
)

// Config says what a Keeper works with. Zero fields have the defaults named.
type Config struct {
	Leases Leases
	Kind   string
	// Owner names the process: no two ever have the same, not even one after the
	// other.
	Owner string
	// Length is how long a lease has to stand unchanged until others take it. A
	// quarter of it is how often leases are renewed and looked at. Default: 10 s.
	Length time.Duration
	// Names returns the leases there should be, given those that stand. While it fails
	// the process keeps those it holds, and takes no others.
	Names  func(ctx context.Context, stand []Lease) ([]string, error)
	Random io.Reader // for the jitter between rounds
	Logger *slog.Logger
}

// A Keeper holds its process's share of the leases of a kind.
type Keeper struct {
	cfg    Config
	wake   chan struct{}
	jitter *rand.Rand

	// Run's own.
	holder holder
	held   map[string]holding

	mu     sync.Mutex
	ended  time.Time         // of the last round, whatever came of it; zero: Run has not begun
	places map[string]string // newer than those that stand
}

// A holding is a lease held, and since when it is known to be.
type holding struct {
	lease Lease
	since time.Time
}

// releaseWithin bounds how long a clean stop tries to give leases back.
const releaseWithin = 2 * time.Second

// NewKeeper returns a keeper for Run.
func NewKeeper(c Config) (*Keeper, error) {
	if c.Length == 0 {
		c.Length = 10 * time.Second
	}
	var seed [32]byte
	if _, err := io.ReadFull(c.Random, seed[:]); err != nil {
		return nil, fmt.Errorf("seed the leases' jitter: %w", err)
	}
	return &Keeper{
		cfg: c, wake: make(chan struct{}, 1), jitter: rand.New(rand.NewChaCha8(seed)),
		holder: holder{owner: c.Owner, length: c.Length},
		held:   make(map[string]holding), places: make(map[string]string),
	}, nil
}

// Alive says what is wrong if the keeper does nothing any more. That the store does not
// answer is no fault of it.
func (k *Keeper) Alive() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if took := time.Since(k.ended); !k.ended.IsZero() && took > 10*k.cfg.Length {
		return fmt.Errorf("leases of kind %s have not been looked at for %v", k.cfg.Kind, took.Round(time.Second))
	}
	return nil
}

// rested notes that a round has ended.
func (k *Keeper) rested() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.ended = time.Now()
}

// Move notes how far the work under a lease has come. It is stored when the lease is
// renewed next, or given back.
func (k *Keeper) Move(name, place string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.places[name] = place
}

// Wake makes Run look at the leases now.
func (k *Keeper) Wake() {
	select {
	case k.wake <- struct{}{}:
	default: // it is about to
	}
}

// Run holds leases until ctx ends, then gives them back, and returns. It calls hold with
// the leases held whenever they are others, the last time with none; when hold returns,
// what was done under those missing has ended.
func (k *Keeper) Run(ctx context.Context, hold func([]Lease)) {
	k.rested()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-k.wake:
		case <-ctx.Done():
		}
		if ctx.Err() != nil { // also if it was woken as well: what is taken now is given back at once
			k.release(ctx, hold)
			return
		}
		if err := k.round(ctx, hold); err != nil && ctx.Err() == nil {
			k.cfg.Logger.Warn("leases cannot be kept; trying again", "kind", k.cfg.Kind, "err", err)
		}
		k.rested()
		every := k.cfg.Length / 4
		timer.Reset(every - time.Duration(k.jitter.Int64N(int64(every/4)+1)))
	}
}

// round renews what is held, takes what is due, and gives up what could not be
// renewed in time.
func (k *Keeper) round(ctx context.Context, hold func([]Lease)) error {
	before := slices.Sorted(maps.Keys(k.held))
	err := k.put(ctx)
	now := time.Now()
	maps.DeleteFunc(k.held, func(_ string, h holding) bool { return now.Sub(h.since) >= k.cfg.Length })
	if !slices.Equal(before, slices.Sorted(maps.Keys(k.held))) {
		hold(k.list())
	}
	return err
}

// put makes the moves that are due.
func (k *Keeper) put(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, k.cfg.Length/2)
	defer cancel()
	stand, err := k.cfg.Leases.ListLeases(ctx, k.cfg.Kind)
	if err != nil {
		return err
	}
	names, err := k.names(ctx, stand)
	began := time.Now()
	lost := maps.Clone(k.held)
	moves := k.holder.moves(began, k.cfg.Kind, names, stand, k.moved())
	for i, putErr := range k.putAll(ctx, moves) {
		switch is := moves[i].is; {
		case putErr == nil:
			k.held[is.Name] = holding{is, began}
			delete(lost, is.Name)
		case !errors.Is(putErr, events.ErrConflict):
			err = putErr
			delete(lost, is.Name) // perhaps: time will tell
		}
	}
	for name := range lost {
		delete(k.held, name)
	}
	return err
}

// putsAtOnce bounds the puts on their way at a time. One after the other, at 5 ms each, a
// process could not renew more than a thousand leases in the time of a round.
const putsAtOnce = 16

// putAll makes moves and returns what came of each.
func (k *Keeper) putAll(ctx context.Context, moves []move) []error {
	errs := make([]error, len(moves))
	var g errgroup.Group
	g.SetLimit(putsAtOnce)
	for i, m := range moves {
		g.Go(func() error {
			errs[i] = k.cfg.Leases.PutLease(ctx, m.was, m.is)
			return nil
		})
	}
	g.Wait()
	return errs
}

// names returns the leases there should be: if nobody can say that now, those held, which
// are renewed all the same.
func (k *Keeper) names(ctx context.Context, stand []Lease) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, k.cfg.Length/4)
	defer cancel()
	names, err := k.cfg.Names(ctx, stand)
	if err != nil {
		names = slices.Sorted(maps.Keys(k.held))
	}
	return names, err
}

// moved returns the places noted of leases that are held.
func (k *Keeper) moved() map[string]string {
	k.mu.Lock()
	defer k.mu.Unlock()
	maps.DeleteFunc(k.places, func(name, _ string) bool { _, held := k.held[name]; return !held })
	return maps.Clone(k.places)
}

func (k *Keeper) list() []Lease {
	held := make([]Lease, 0, len(k.held))
	for _, name := range slices.Sorted(maps.Keys(k.held)) {
		held = append(held, k.held[name].lease)
	}
	return held
}

// release ends the work and gives the leases back, so that nobody has to wait for
// their end.
func (k *Keeper) release(ctx context.Context, hold func([]Lease)) {
	hold(nil)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseWithin)
	defer cancel()
	places := k.moved()
	var moves []move
	for _, l := range k.list() {
		free := l
		free.Owner, free.Counter = "", l.Counter+1
		if place, moved := places[l.Name]; moved {
			free.Place = place
		}
		moves = append(moves, move{l, free})
	}
	for i, err := range k.putAll(ctx, moves) {
		if err != nil && !errors.Is(err, events.ErrConflict) {
			k.cfg.Logger.Warn("a lease could not be given back; others wait for its end", "kind", k.cfg.Kind, "lease", moves[i].was.Name, "err", err)
		}
	}
}
