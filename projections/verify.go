package projections

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"maps"
	"slices"
	"sync"

	"timberline/events"
)

// A Verification holds a store against itself: its files, if it is a Scrubber, the log, the
// checkpoints, and the timelines that follow from both. It works beside projectors: what they
// write meanwhile is left to the next one.
type Verification struct {
	Store Whole
	Meta  Meta
	// Repair says that what is missing or different in timelines is written again. Only
	// what follows from the log is; an item that follows from nothing stays.
	Repair bool
	// Found is called with each difference, and Told now and then with how far the
	// verification is (nil: nobody is): never two at a time.
	Found func(Finding)
	Told  func(VerifyProgress)
}

// A Finding is a difference between what stands in a store and what should.
type Finding struct {
	In       Part
	Where    string // names the place for people
	User     events.User
	Seq      events.Seq // the last one of the item
	Expected string
	Found    string
	Repaired bool
}

// A Part of a store, by what mends it.
type Part string

// The parts.
const (
	InSource    Part = "source"    // log and checkpoints: a backup
	InVersion   Part = "version"   // log and checkpoints of another version of the program: that one
	InFiles     Part = "files"     // of the engine: a backup; whatever else they have is found, too
	InTimelines Part = "timelines" // they are made again from log and checkpoints
)

// VerifyProgress is how far a Verification is.
type VerifyProgress struct {
	Files    uint64 // of the engine, read
	Records  uint64 // of the log, read
	Events   uint64 // in them
	Replayed uint64 // events, for what should stand in the timelines of the shards, one after the other
	Items    uint64 // of the timelines, held against what they should be
	Due      uint64 // items of a shard's last checkpoint that are not there: its next projector writes them (R7)
	Found    uint64 // differences
	// What was trimmed is not verified: journals, and the beginnings of timelines.
	TrimmedJournals, TrimmedTimelines uint64
}

// Run verifies, and returns what it went through. The error is one that kept it from
// going on: what does not read is a finding.
func (v *Verification) Run(ctx context.Context) (VerifyProgress, error) {
	r := verifier{Verification: v, seed: maphash.MakeSeed()}
	if err := r.all(ctx); err != nil {
		return r.progress, fmt.Errorf("verify: %w", err)
	}
	return r.progress, nil
}

// A verifier is the state of a Verification that runs.
type verifier struct {
	*Verification
	seed maphash.Seed

	mu       sync.Mutex
	progress VerifyProgress
}

func (r *verifier) found(f Finding) {
	f.In = cmp.Or(f.In, InSource)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.progress.Found++
	r.Found(f)
}

// unreadable makes an error a finding, if it is one of what stands there.
func (r *verifier) unreadable(in Part, where, expected string, err error) error {
	if !damaged(err) {
		return err
	}
	if in == InSource && errors.Is(err, events.ErrFormat) {
		in = InVersion
	}
	r.found(Finding{In: in, Where: where, Expected: expected, Found: err.Error()})
	return nil
}

// damaged reports whether an error is one of what stands there.
func damaged(err error) bool {
	return errors.Is(err, events.ErrCorrupt) || errors.Is(err, events.ErrFormat)
}

// tell counts something, and tells of it.
func (r *verifier) tell(count func(*VerifyProgress)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if count(&r.progress); r.Told != nil {
		r.Told(r.progress)
	}
}

// nothing is found, or expected, where no value stands.
const nothing = "nothing"

// An account is what a timeline should come to: so many items, and the hash of all of
// them in order.
type account struct {
	items uint64
	hash  uint64
}

// add adds an item.
func (a *account) add(seed maphash.Seed, i *Stored) {
	type chained struct { // no collision is likelier than one of the data's hashes
		before uint64
		last   events.Seq
		data   uint64
	}
	a.items, a.hash = a.items+1, maphash.Comparable(seed, chained{a.hash, i.Last, maphash.Bytes(seed, i.Data)})
}

// A replayed timeline is where one ends, as far as a replay is, and what it should come to.
type replayed struct {
	tail
	account
}

// A scope is what a version of a shard's timelines is held against: its checkpoints up to one.
type scope struct {
	shard   Shard
	last    CheckpointNumber
	version Version
	live    bool                       // or that to which the way back leads
	newest  CheckpointNumber           // that was seen since
	due     map[events.User]*replayed  // what should stand; nil: it is not known
	begins  map[events.User]events.Seq // of timelines that were trimmed
	stands  map[events.User]account    // of what does
}

// all replays each shard's checkpoints and holds what should follow from them against what
// stands there: at first only the hash of each timeline, as keeping both would take the memory
// of all of them; then item by item, where the hashes differ. While it replays, all that
// stands there is read.
func (r *verifier) all(ctx context.Context) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var scopes []*scope
	for s := range Shard(r.Meta.Shards) {
		of, err := r.scopes(ctx, s)
		if err != nil {
			return err
		}
		scopes = append(scopes, of...)
	}
	until := func(err error) error { // one that fails ends all
		if err != nil {
			stop(err)
		}
		return context.Cause(ctx)
	}
	log := meanwhile(func() error { return until(r.log(ctx)) })
	rest := meanwhile(func() error {
		err := r.files(ctx)
		if err == nil {
			err = r.scan(ctx, scopes)
		}
		return until(err)
	})
	err := until(r.account(ctx, scopes))
	for _, other := range []error{log(), rest()} {
		err = cmp.Or(err, other)
	}
	for _, sc := range scopes {
		if err == nil {
			err = r.settle(ctx, sc)
		}
	}
	return err
}

// scopes returns what the versions of a shard are held against: the one that is live, and,
// as far as it is whole, the one to which the way back leads. It returns none if the last
// checkpoint cannot be read, after telling why.
func (r *verifier) scopes(ctx context.Context, s Shard) ([]*scope, error) {
	n, last, err := lastCheckpoint(ctx, r.Store, s)
	if err != nil {
		return nil, r.unreadable(InSource, fmt.Sprintf("shard %d, last checkpoint", s), "one that can be read", err)
	}
	live := newScope(s, n, 0)
	if live.live = true; n > 0 {
		live.version = last.Version
	}
	v, err := ReadVersions(ctx, r.Store, s)
	back, ok := v.Back()
	switch {
	case damaged(err): // which is told when it is replayed
		return []*scope{live}, nil
	case err != nil:
		return nil, err
	case v.Live != live.version || !ok:
		return []*scope{live}, nil
	}
	return []*scope{live, newScope(s, v.Whole(), back)}, nil
}

func newScope(s Shard, last CheckpointNumber, v Version) *scope {
	return &scope{shard: s, last: last, version: v, begins: make(map[events.User]events.Seq), stands: make(map[events.User]account)}
}

// account goes through the checkpoints of the shards (whole, without a gap, none behind
// another) and replays them. Of those with which that cannot be done nothing is due, after
// it was told why.
func (r *verifier) account(ctx context.Context, scopes []*scope) error {
	for _, sc := range scopes {
		at, covered := CheckpointNumber(0), make(map[uint64]events.Offset)
		in := new(room) // of one item
		due, err := r.replay(ctx, sc, in, func(w *walk, _ *cover) bool {
			if sc.live {
				r.checkpoint(sc.shard, w.n, w.cp, covered)
			}
			at = w.n
			return true
		}, func(t *replayed, item Stored) error {
			t.add(r.seed, &item)
			in.bytes = in.bytes[:0]
			return nil
		})
		if sc.due = due; err != nil {
			if !damaged(err) {
				return err
			}
			if sc.live { // it is told once
				r.found(Finding{Where: fmt.Sprintf("shard %d, checkpoint %d", sc.shard, at+1), Expected: "one that can be read, and what it covers in the log", Found: err.Error()})
			}
		}
	}
	return nil
}

// checkpoint holds a checkpoint against those before it, which have read the journals so
// far.
func (r *verifier) checkpoint(s Shard, n CheckpointNumber, c *Checkpoint, read map[uint64]events.Offset) {
	where := fmt.Sprintf("shard %d, checkpoint %d", s, n)
	for _, m := range c.Moved {
		if m.Offset < read[m.Journal] {
			r.found(Finding{Where: where, Expected: fmt.Sprintf("at least record %d of journal %d", read[m.Journal], m.Journal), Found: fmt.Sprintf("record %d", m.Offset)})
		}
		read[m.Journal] = m.Offset
	}
	if c.Full == 0 || c.Full > n {
		r.found(Finding{Where: where, Expected: "the number of a full checkpoint up to it", Found: fmt.Sprint(c.Full)})
	}
}

// replay calls visit with each item that should stand in the shard's timelines, of the
// checkpoints that wanted picks, in the order in which they were written, and with its
// timeline: another if that was begun anew, as a trim came in between. It returns all of
// these, unless there was an error.
func (r *verifier) replay(ctx context.Context, sc *scope, in *room, wanted func(*walk, *cover) bool, visit func(*replayed, Stored) error) (map[events.User]*replayed, error) {
	w := walk{store: r.Store, shard: sc.shard, mine: usersOf(sc.shard, r.Meta.Shards)}
	if err := w.from(ctx, 0); err != nil {
		return nil, err
	}
	met, old := make(map[events.User]*replayed), make(map[events.User]*replayed)
	w.again = func() {
		maps.Copy(old, met)
		clear(met)
	}
	var ends []*tail
	err := w.run(ctx, func(n CheckpointNumber, c *cover) error {
		if n > sc.last {
			return errEnough
		}
		all, err := r.begin(ctx, sc, c, met, old)
		if err != nil {
			return err
		}
		ends = ends[:0]
		for _, t := range all {
			ends = append(ends, &t.tail)
		}
		r.tell(func(p *VerifyProgress) { p.Replayed += uint64(len(c.events)) })
		pick := wanted(&w, c)
		for g := range c.gifts(n, ends) {
			if g.before >= n {
				continue // it was trimmed
			}
			*g.tail = tailOf(&g.item)
			if !pick {
				continue
			}
			if err := visit(all[g.at], g.item.encodeIn(Timeline{sc.version, g.user}, in)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) {
		return nil, err
	}
	maps.Copy(old, met)
	return old, nil
}

// begin returns the timelines of the users of a cover. Those who are met for the first time,
// or again after journals were trimmed, have what was seen of theirs before, unless it begins
// further behind by now: what was seen below that does not count.
func (r *verifier) begin(ctx context.Context, sc *scope, c *cover, met, old map[events.User]*replayed) ([]*replayed, error) {
	all, unknown := known(c, met)
	users := c.at(unknown)
	marks, err := readMarks(ctx, r.Store, users)
	if err != nil {
		return nil, err
	}
	for i, u := range users {
		t := old[u]
		if t == nil {
			t = new(replayed)
		}
		if end := marks[i].behind(t.tail); end != t.tail {
			sc.begins[u] = marks[i].first
			t = &replayed{tail: end}
		}
		met[u], all[unknown[i]] = t, t
	}
	return all, nil
}

// scan goes through what stands in the timelines, but for what follows from later
// checkpoints.
func (r *verifier) scan(ctx context.Context, scopes []*scope) error {
	versions := make(map[Version]map[Shard]*scope)
	for _, sc := range scopes {
		if versions[sc.version] == nil {
			versions[sc.version] = make(map[Shard]*scope)
		}
		versions[sc.version][sc.shard] = sc
	}
	for _, v := range slices.Sorted(maps.Keys(versions)) {
		count := uint64(0)
		var a account // of the timeline of at, which is in sc
		var at events.User
		var sc *scope
		next := func(u events.User) {
			if a.items > 0 {
				sc.stands[at] = a
			}
			a, at, sc = account{}, u, versions[v][ShardOf(u.Slot(), r.Meta.Shards)]
			if count >= 10_000 || u == "" {
				r.tell(func(p *VerifyProgress) { p.Items += count })
				count = 0
			}
		}
		err := r.Store.ScanItems(ctx, v, func(i Stored) error {
			if i.User != at {
				next(i.User)
			}
			if sc == nil {
				return nil
			}
			if count++; checkpointOf(i.Data) > sc.last {
				return r.later(ctx, sc, &i)
			}
			a.add(r.seed, &i)
			return ctx.Err()
		})
		next("")
		if err != nil {
			if err := r.unreadable(InTimelines, "the timelines", "items that can be read", err); err != nil {
				return err
			}
		}
	}
	return nil
}

// later tells of an item of a checkpoint that is not there: one that has come since is, before
// its items are (R6). One that is damaged is missing where it should stand.
func (r *verifier) later(ctx context.Context, sc *scope, s *Stored) error {
	item, err := s.Decode()
	if err != nil || item.Checkpoint <= sc.newest {
		return ctx.Err()
	}
	if sc.newest, _, err = r.Store.LastCheckpoint(ctx, sc.shard, events.Strong); err != nil {
		return err
	}
	if item.Checkpoint > sc.newest {
		r.stranger(s)
	}
	return nil
}

// settle holds what stands in a shard's timelines against what should.
func (r *verifier) settle(ctx context.Context, sc *scope) error {
	if sc.due == nil {
		return nil
	}
	if err := r.unmet(ctx, sc); err != nil {
		return err
	}
	if sc.live {
		r.tell(func(p *VerifyProgress) { p.TrimmedTimelines += uint64(len(sc.begins)) })
	}
	for _, u := range slices.Sorted(maps.Keys(sc.begins)) {
		var due account
		if a := sc.due[u]; a != nil {
			due = a.account
		}
		if sc.stands[u] == due {
			continue
		}
		if err := r.recount(ctx, sc, u, sc.begins[u]); err != nil {
			return err
		}
	}
	differ := make(map[events.User]bool)
	for u, a := range sc.due {
		if sc.stands[u] != a.account {
			differ[u] = true
		}
	}
	for u := range sc.stands {
		if _, is := sc.due[u]; !is {
			differ[u] = true
		}
	}
	if len(differ) == 0 {
		return nil
	}
	return r.compare(ctx, sc, differ)
}

// unmet adds where the timelines begin of users whom the replay has not met, as all that
// was theirs in this version is trimmed.
func (r *verifier) unmet(ctx context.Context, sc *scope) error {
	var users []events.User
	for _, u := range slices.Sorted(maps.Keys(sc.stands)) {
		if _, is := sc.due[u]; !is && sc.begins[u] == 0 {
			users = append(users, u)
		}
	}
	marks, err := readMarks(ctx, r.Store, users)
	for i := range marks {
		if marks[i].first > 1 {
			sc.begins[users[i]] = marks[i].first
		}
	}
	return err
}

// recount takes out of what stands in a timeline what is left below its beginning.
func (r *verifier) recount(ctx context.Context, sc *scope, u events.User, first events.Seq) error {
	var a account
	for next := first; ; {
		items, err := r.Store.ReadItems(ctx, Timeline{sc.version, u}, next, verifyBytes, events.Strong)
		if err != nil {
			return r.unreadable(InTimelines, "timeline of "+Timeline{sc.version, u}.String(), "items that can be read", err)
		}
		if len(items) == 0 {
			break
		}
		for i := range items {
			if next = items[i].Last + 1; checkpointOf(items[i].Data) <= sc.last {
				a.add(r.seed, &items[i])
			}
		}
	}
	left := sc.stands[u].items - a.items
	r.tell(func(p *VerifyProgress) { p.Items -= left })
	if sc.stands[u] = a; a.items == 0 {
		delete(sc.stands, u)
	}
	return nil
}
