package sim

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"timberline/events"
	"timberline/projections"
)

// An upkeep is something that somebody has done to the whole store while it is in use.
type upkeep struct {
	at       time.Duration
	what     task
	shard    projections.Shard
	rate     float64         // rebuild, back: events gone through in a second; 0: as many as can be
	puts     int             // rebuild, back: bytes of items put at a time
	next     bool            // drop: the version that a rebuild fills, not the one that was read before
	keep     uint64          // trim: so many entries
	journals bool            // trim: journals, too
	kills    []time.Duration // how long after each of its beginnings it is killed
}

// A task is a kind of upkeep.
type task uint8

const (
	rebuild task = iota // into the next version, and have that read
	back                // have the version before read again
	drop                // a version
	trim
	verify
	tally // the entries of each user, by a projection of one's own
	backUp
	image // of the disk: an older state of it, without a word to the store
	tasks
)

// String names the task.
func (t task) String() string {
	return [...]string{"rebuild", "go back", "drop", "trim", "verify", "tally", "back up", "image"}[t]
}

// keepUp has upkeep done in most seeds, and the store lost in some that have a copy.
func (p *plan) keepUp(r *rand.Rand) {
	if !chance(r, 0.6) {
		return
	}
	for range 1 + r.IntN(10) {
		u := newUpkeep(r, task(r.IntN(int(tasks))))
		if p.many { // each item is a write of its own: so many at a time hardly ever succeed
			u.puts = min(u.puts, 500)
		}
		if u.what == rebuild && chance(r, 0.6) { // in its middle somebody gives it up, or trims
			u.rate, u.puts = 20, 1
			d := newUpkeep(r, oneOf(r, drop, trim))
			d.at, d.shard, d.next = u.at+between(r, 0, time.Second), u.shard, true
			p.upkeep = append(p.upkeep, d)
		}
		p.upkeep = append(p.upkeep, u)
	}
	if !chance(r, 0.4) {
		return
	}
	lost := r.IntN(len(p.stops))
	s := &p.stops[lost]
	s.loses, s.down = true, between(r, 300*time.Millisecond, 3*time.Second) // until nothing is on its way any more
	u := newUpkeep(r, oneOf(r, backUp, image))
	u.at, u.kills = between(r, 0, s.at), nil
	p.upkeep = append(p.upkeep, u)
}

func newUpkeep(r *rand.Rand, what task) upkeep {
	u := upkeep{
		at: between(r, 0, chatFor), what: what, shard: projections.Shard(r.IntN(shards)),
		rate: oneOf(r, 0, 20.0, 200), puts: oneOf(r, 1, 500, 4<<20),
		next: chance(r, 0.5), keep: oneOf(r, 1, 5, uint64(20)), journals: chance(r, 0.7),
	}
	for range r.IntN(3) {
		u.kills = append(u.kills, between(r, time.Microsecond, oneOf(r, 10*time.Millisecond, 100*time.Millisecond, time.Second)))
	}
	return u
}

// tallies reports whether there is a projection of one's own.
func (p *plan) tallies() bool {
	return slices.ContainsFunc(p.upkeep, func(u upkeep) bool { return u.what == tally })
}

// An operator has one upkeep done: it is begun again until it has ended.
type operator struct {
	*upkeep
	w     *world
	name  string
	tries int
	fills projections.Version // rebuild: the same with each try, so that it is told if that was dropped; 0: not begun
}

// operate has all upkeep done, and returns when it is.
func (w *world) operate(ctx context.Context) {
	var all sync.WaitGroup
	for i := range w.plan.upkeep {
		o := &operator{upkeep: &w.plan.upkeep[i], w: w, name: fmt.Sprintf("operator %d", i+1)}
		all.Go(func() {
			if err := o.run(ctx); err != nil {
				w.fail(fmt.Errorf("%s, %s: %w", o.name, o.what, err))
			}
		})
	}
	all.Wait()
}

// maxTries is how often an upkeep is begun before it is taken for one that never ends.
const maxTries = 500

func (o *operator) run(ctx context.Context) error {
	if sleep(ctx, o.at) != nil {
		return nil
	}
	o.w.note("%s begins: %s", o.name, o)
	for o.tries < maxTries {
		ended, err := o.try()
		if ended || err != nil {
			o.w.note("%s has ended", o.name)
			return err
		}
		if sleep(ctx, between(o.w.draws.next(o.name+" tries again"), time.Millisecond, 300*time.Millisecond)) != nil {
			return nil
		}
	}
	return errors.New("it never ends")
}

// String says what is to be done.
func (u *upkeep) String() string {
	switch u.what {
	case rebuild, back:
		return fmt.Sprintf("%s, shard %d, %v events a second, %d bytes at a time", u.what, u.shard, u.rate, u.puts)
	case drop:
		return fmt.Sprintf("%s, shard %d, the next version: %v", u.what, u.shard, u.next)
	case trim:
		return fmt.Sprintf("%s, keep %d, journals: %v", u.what, u.keep, u.journals)
	}
	return u.what.String()
}

// try does it once, on what runs at the time. It reports whether it has ended, and an error
// that no other try mends.
func (o *operator) try() (ended bool, err error) {
	b := o.w.server.boot.Load()
	if b == nil {
		return false, nil
	}
	var p *process
	ran := b.work(o.name, func(begun *process) {
		p = begun
		if o.tries < len(o.kills) {
			o.w.net.At(o.kills[o.tries], p.die)
		}
		o.tries++
		if err = o.do(b.ctx, &whole{engine: p.engine}); err != nil && b.ctx.Err() == nil && !p.isDead() {
			o.w.net.Note(fmt.Sprintf("%s fails: %v", o.name, err))
		}
	})
	switch {
	case !ran, p.isDead(), b.ctx.Err() != nil:
		return false, nil
	case errors.Is(err, projections.ErrDropped), errors.Is(err, projections.ErrIsLive):
		return true, nil // that is an answer
	case errors.Is(err, events.ErrFatal) || !events.Final(err):
		return err == nil, nil
	}
	return false, err
}

// work has something done in a process of its own, which the end of the boot kills. It
// returns false if that is over already.
func (b *boot) work(name string, do func(*process)) bool {
	p := b.outsider(name)
	done := make(chan struct{})
	b.mu.Lock()
	over := b.over || b.ctx.Err() != nil
	if !over {
		b.tasks.Go(func() {
			defer close(done)
			defer context.AfterFunc(b.ctx, p.die)()
			do(p)
		})
	}
	b.mu.Unlock()
	if over {
		return false
	}
	<-done
	return true
}

// do does what is to be done.
func (o *operator) do(ctx context.Context, s *whole) error {
	meta := s.p.boot.store.Meta()
	replay := projections.Replay{Store: s, Meta: meta, Shard: o.shard, Rate: o.rate, PutBytes: o.puts, KeepEvery: time.Millisecond}
	switch o.what {
	case rebuild, back, drop:
		v, err := projections.ReadVersions(ctx, s, o.shard)
		if err != nil {
			return err
		}
		return o.version(ctx, s, replay, v)
	case trim:
		t := projections.Trim{Store: s, Meta: meta, Keep: o.keep}
		s.trims = true
		if _, err := t.Run(ctx); err != nil || !o.journals {
			return err
		}
		_, err := t.TrimJournals(ctx)
		return err
	case verify:
		return o.w.verify(ctx, s, meta)
	case tally:
		for shard := range projections.Shard(shards) {
			f := projections.Follower{Store: s, Meta: meta, Shard: shard, Projection: entries}
			if _, err := f.Run(ctx); err != nil {
				return err
			}
		}
		return nil
	case backUp:
		return s.p.boot.backUp(s)
	}
	s.p.boot.image()
	return nil
}

// version makes, changes or drops a version of the shard.
func (o *operator) version(ctx context.Context, s *whole, r projections.Replay, v projections.Versions) error {
	before, leads := v.Back()
	r.Version = v.Next
	switch o.what {
	case rebuild:
		if o.fills == 0 {
			o.fills = v.Next
		}
		r.Version = o.fills
		_, err := (&projections.Rebuild{Replay: r}).Run(ctx)
		if err == nil {
			o.w.count(&o.w.outcome.Rebuilt)
		}
		return err
	case drop:
		if !o.next {
			if !leads {
				return nil
			}
			r.Version = before
		}
		return r.Drop(ctx, s)
	}
	if !leads {
		return nil
	}
	r.Version = before
	_, err := (&projections.Rebuild{Replay: r, Behind: v.Whole()}).Run(ctx)
	return err
}

// verify has the store verified: nothing may be found.
func (w *world) verify(ctx context.Context, s projections.Whole, m projections.Meta) error {
	v := projections.Verification{Store: s, Meta: m, Found: func(f projections.Finding) {
		w.history.Inexact("verified: %s: expected %s, found %s", f.Where, f.Expected, f.Found)
	}}
	_, err := v.Run(ctx)
	return err
}

// entries is a projection of one's own: how many entries each user has been given.
var entries = &projections.Projection{Name: "entries", Version: 1, Apply: func(given []projections.Given, t *projections.Table) error {
	for _, g := range given {
		for _, u := range g.Users {
			key := projections.RowKey{User: u, Name: "entries"}
			was, err := t.Get(key)
			if err == nil {
				err = t.Set(key, binary.AppendUvarint(nil, tallied(was)+1))
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}}

func tallied(row []byte) uint64 {
	n, _ := binary.Uvarint(row)
	return n
}
