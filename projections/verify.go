package projections

import (
	"bytes"
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
	Where    string // names the place for people
	User     events.User
	Seq      events.Seq // the last one of the item
	Expected string
	Found    string
	Repaired bool
}

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
	r.mu.Lock()
	defer r.mu.Unlock()
	r.progress.Found++
	r.Found(f)
}

// unreadable makes an error a finding, if it is one of what stands there.
func (r *verifier) unreadable(where, expected string, err error) error {
	if !errors.Is(err, events.ErrCorrupt) && !errors.Is(err, events.ErrFormat) {
		return err
	}
	r.found(Finding{Where: where, Expected: expected, Found: err.Error()})
	return nil
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

// files has the engine read its files.
func (r *verifier) files(ctx context.Context) error {
	s, ok := r.Store.(Scrubber)
	if !ok {
		return nil
	}
	n, err := s.Scrub(ctx, func(file string, err error) {
		r.found(Finding{Where: "file " + file, Expected: "what was written", Found: err.Error()})
	})
	r.tell(func(p *VerifyProgress) { p.Files = n })
	return err
}

// verifyBytes is how much of the log is read at a time.
const verifyBytes = 4 << 20

// log goes through all records: whole, without a gap, with ids that rise.
func (r *verifier) log(ctx context.Context) error {
	rows, err := r.Store.ListJournals(ctx, 0, events.Strong)
	if err != nil {
		return r.unreadable("the rows of the journals", "a row for each", err)
	}
	ends, err := r.Store.JournalEnds(ctx)
	if err != nil {
		return r.unreadable("the log", "journals that can be read", err)
	}
	for _, row := range rows {
		if row.Trimmed {
			r.tell(func(p *VerifyProgress) { p.TrimmedJournals++ })
			delete(ends, row.Number) // if something of it is left it counts for nothing
		}
	}
	for _, number := range slices.Sorted(maps.Keys(ends)) {
		if number > uint64(len(rows)) {
			r.found(Finding{Where: "journal " + string(events.JournalNumbered(number)), Expected: "a row, as it has records", Found: nothing})
		}
		if err := r.journal(ctx, events.JournalNumbered(number), ends[number]); err != nil {
			return err
		}
	}
	return nil
}

// journal goes through the records of one journal, the last of which is at end.
func (r *verifier) journal(ctx context.Context, j events.Journal, end events.Offset) error {
	var newest events.ID
	size := verifyBytes
	for at := events.Offset(1); at <= end && ctx.Err() == nil; {
		where := func() string { return fmt.Sprintf("journal %s, record %d", j, at) }
		recs, err := r.Store.ReadLog(ctx, j, at, size, events.Strong)
		switch {
		case err != nil && size > 0:
			size = 0 // one by one, to find it
			continue
		case err != nil:
			return r.unreadable(where(), "a record that can be read", err)
		case len(recs) == 0:
			number, _ := j.Number()
			trimmed, err := trimmedJournals(ctx, r.Store)
			if err != nil {
				return err
			}
			if trimmed[number] {
				r.tell(func(p *VerifyProgress) { p.TrimmedJournals++ })
				return nil
			}
			r.found(Finding{Where: where(), Expected: fmt.Sprintf("a record, as there is one at %d", end), Found: nothing})
			return nil
		}
		count := 0
		for _, rec := range recs {
			raws, err := rec.Events(j, at)
			if err != nil {
				if err := r.unreadable(where(), "a record", err); err != nil {
					return err
				}
			}
			for i, raw := range raws {
				e, err := events.Raw(raw).Decode()
				if err != nil {
					if err := r.unreadable(fmt.Sprintf("%s, event %d", where(), i), "an event", err); err != nil {
						return err
					}
					continue
				}
				if e.ID.Compare(newest) <= 0 {
					r.found(Finding{Where: fmt.Sprintf("%s, event %d", where(), i), Expected: "an id above " + newest.String(), Found: e.ID.String()})
				}
				newest = e.ID
			}
			count += len(raws)
			at++
		}
		r.tell(func(p *VerifyProgress) { p.Records, p.Events = p.Records+uint64(len(recs)), p.Events+uint64(count) })
	}
	return ctx.Err()
}

// An account is what a timeline should come to: so many items, and the hash of all of
// them in order.
type account struct {
	items uint64
	hash  uint64
}

// add adds an item.
func (a *account) add(seed maphash.Seed, i *Stored) {
	var h maphash.Hash
	h.SetSeed(seed)
	maphash.WriteComparable(&h, a.hash)
	maphash.WriteComparable(&h, i.Last)
	h.Write(i.Data)
	a.items, a.hash = a.items+1, h.Sum64()
}

// A scope is what a shard's timelines are held against: its checkpoints up to one.
type scope struct {
	shard   Shard
	last    CheckpointNumber
	version Version
	due     map[events.User]account    // of what should stand
	begins  map[events.User]events.Seq // of timelines that were trimmed
	stands  map[events.User]account    // of what does
}

// all replays each shard's checkpoints and holds what should follow from them against what
// stands there: at first only the hash of each timeline, as keeping both would take the memory
// of all of them; then item by item, where the hashes differ. While it replays, all that
// stands there is read.
func (r *verifier) all(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	scopes := make(map[Shard]*scope)
	for s := range Shard(r.Meta.Shards) {
		sc, err := r.scope(ctx, s)
		if err != nil {
			return err
		}
		if sc != nil {
			scopes[s] = sc
		}
	}
	read := meanwhile(func() error {
		for _, do := range []func(context.Context) error{r.files, r.log} {
			if err := do(ctx); err != nil {
				return err
			}
		}
		return r.scan(ctx, scopes)
	})
	err := r.account(ctx, scopes)
	if err != nil {
		cancel()
	}
	if other := read(); err == nil {
		err = other
	}
	for s := Shard(0); s < Shard(r.Meta.Shards) && err == nil; s++ {
		if sc := scopes[s]; sc != nil {
			err = r.settle(ctx, sc)
		}
	}
	return err
}

// scope returns what a shard is held against. It returns nil if its last checkpoint cannot
// be read, after telling why.
func (r *verifier) scope(ctx context.Context, s Shard) (*scope, error) {
	sc := &scope{shard: s, due: make(map[events.User]account), begins: make(map[events.User]events.Seq), stands: make(map[events.User]account)}
	n, last, err := lastCheckpoint(ctx, r.Store, s)
	if err != nil {
		return nil, r.unreadable(fmt.Sprintf("shard %d, last checkpoint", s), "one that can be read", err)
	}
	if sc.last = n; n > 0 {
		sc.version = last.Version
	}
	return sc, nil
}

// account goes through the checkpoints of the shards (whole, without a gap, none behind
// another) and replays them. Of those with which that cannot be done nothing is due, after
// it was told why.
func (r *verifier) account(ctx context.Context, scopes map[Shard]*scope) error {
	for s := range Shard(r.Meta.Shards) {
		sc := scopes[s]
		if sc == nil {
			continue
		}
		at, covered := CheckpointNumber(0), make(map[uint64]events.Offset)
		err := r.replay(ctx, sc, func(w *walk, _ *cover) bool {
			r.checkpoint(s, w.n, w.cp, covered)
			at = w.n
			return true
		}, func(item Stored) error {
			a := sc.due[item.User]
			a.add(r.seed, &item)
			sc.due[item.User] = a
			return nil
		})
		next := fmt.Sprintf("shard %d, checkpoint %d", s, at+1)
		switch {
		case err != nil:
			if err := r.unreadable(next, "one that can be read, and what it covers in the log", err); err != nil {
				return err
			}
			sc.due = nil
		case at < sc.last:
			r.found(Finding{Where: next, Expected: fmt.Sprintf("a checkpoint, as there is one at %d", sc.last), Found: nothing})
			sc.due = nil
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
// checkpoints that wanted picks, in the order in which they were written.
func (r *verifier) replay(ctx context.Context, sc *scope, wanted func(*walk, *cover) bool, visit func(Stored) error) error {
	w := walk{store: r.Store, shard: sc.shard, mine: usersOf(sc.shard, r.Meta.Shards)}
	if err := w.from(ctx, 0); err != nil {
		return err
	}
	tails, old := make(map[events.User]tail), make(map[events.User]tail)
	w.again = func() {
		maps.Copy(old, tails)
		clear(tails)
	}
	err := w.run(ctx, func(n CheckpointNumber, c *cover) error {
		if n > sc.last {
			return errEnough
		}
		if err := r.begin(ctx, sc, c.order, tails, old); err != nil {
			return err
		}
		r.tell(func(p *VerifyProgress) { p.Replayed += uint64(len(c.events)) })
		pick := wanted(&w, c)
		for _, g := range c.gifts(n, tails) {
			if g.before >= n {
				continue // it was trimmed
			}
			tails[g.user] = tailOf(&g.item)
			if !pick {
				continue
			}
			if err := visit(g.item.Encode(Timeline{sc.version, g.user})); err != nil {
				return err
			}
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

// begin adds the tails of users who are met for the first time, or again after journals were
// trimmed: those behind which their timelines begin, or old ones. What was seen of a timeline
// below its beginning does not count.
func (r *verifier) begin(ctx context.Context, sc *scope, users []events.User, tails, old map[events.User]tail) error {
	users = without(users, tails)
	marks, err := readMarks(ctx, r.Store, users)
	if err != nil {
		return err
	}
	for i, u := range users {
		if tails[u] = marks[i].behind(old[u]); tails[u] != old[u] {
			sc.begins[u] = marks[i].first
			delete(sc.due, u)
		}
	}
	return nil
}

// scan goes through what stands in the timelines, but for what follows from later
// checkpoints.
func (r *verifier) scan(ctx context.Context, scopes map[Shard]*scope) error {
	versions := make(map[Version]bool)
	for _, sc := range scopes {
		versions[sc.version] = true
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
			if a, at, sc = (account{}), u, scopes[ShardOf(u.Slot(), r.Meta.Shards)]; sc != nil && sc.version != v {
				sc = nil
			}
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
			if count++; checkpointOf(i.Data) <= sc.last {
				a.add(r.seed, &i)
			}
			return ctx.Err()
		})
		next("")
		if err != nil {
			if err := r.unreadable("the timelines", "items that can be read", err); err != nil {
				return err
			}
		}
	}
	return nil
}

// settle holds what stands in a shard's timelines against what should.
func (r *verifier) settle(ctx context.Context, sc *scope) error {
	if sc.due == nil {
		return nil
	}
	r.tell(func(p *VerifyProgress) { p.TrimmedTimelines += uint64(len(sc.begins)) })
	for _, u := range slices.Sorted(maps.Keys(sc.begins)) {
		if sc.stands[u] == sc.due[u] {
			continue
		}
		if err := r.recount(ctx, sc, u, sc.begins[u]); err != nil {
			return err
		}
	}
	differ := make(map[events.User]bool)
	for u, a := range sc.due {
		if sc.stands[u] != a {
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

// recount takes out of what stands in a timeline what is left below its beginning.
func (r *verifier) recount(ctx context.Context, sc *scope, u events.User, first events.Seq) error {
	var a account
	for next := first; ; {
		items, err := r.Store.ReadItems(ctx, Timeline{sc.version, u}, next, verifyBytes, events.Strong)
		if err != nil {
			return r.unreadable("timeline of "+Timeline{sc.version, u}.String(), "items that can be read", err)
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

// compare tells of each item of some users' timelines that is not as it should be, and
// repairs it if asked.
func (r *verifier) compare(ctx context.Context, sc *scope, users map[events.User]bool) error {
	due := make(map[events.User]map[events.Seq]bool)
	for u := range users {
		due[u] = make(map[events.Seq]bool)
	}
	picks := func(_ *walk, c *cover) bool {
		return slices.ContainsFunc(c.order, func(u events.User) bool { return users[u] })
	}
	err := r.replay(ctx, sc, picks, func(want Stored) error {
		if !users[want.User] {
			return nil
		}
		due[want.User][want.Last] = true
		return r.item(ctx, sc, &want)
	})
	if err != nil {
		return r.unreadable(fmt.Sprintf("shard %d", sc.shard), "what its checkpoints cover, in the log", err)
	}
	for _, u := range slices.Sorted(maps.Keys(users)) {
		if err := r.strangers(ctx, sc, u, due[u]); err != nil {
			return err
		}
	}
	return nil
}

// item holds one item against what stands in its place.
func (r *verifier) item(ctx context.Context, sc *scope, want *Stored) error {
	should, err := want.Decode()
	if err != nil {
		return err
	}
	f := Finding{
		Where: fmt.Sprintf("timeline of %s, seqs %d to %d", want.Timeline, should.First, want.Last), User: want.User, Seq: want.Last,
		Expected: fmt.Sprintf("the item of checkpoint %d", should.Checkpoint),
	}
	got, err := r.Store.ReadItems(ctx, want.Timeline, want.Last, 0, events.Strong)
	switch {
	case errors.Is(err, events.ErrCorrupt):
		f.Found = err.Error()
	case err != nil:
		return err
	case len(got) == 0 || got[0].Last != want.Last:
		if m, err := readMark(ctx, r.Store, want.User); err != nil || want.Last < m.first {
			return err // trimmed meanwhile
		}
		if err := r.dropped(ctx, sc); err != nil {
			return err
		}
		f.Found = nothing
	case bytes.Equal(got[0].Data, want.Data):
		return nil
	default:
		f.Found = describe(&got[0])
	}
	if r.Repair {
		if err := r.Store.PutItems(ctx, []Stored{*want}); err != nil {
			return err
		}
		// What is damaged beneath the item may keep it from being read all the same.
		got, err := r.Store.ReadItems(ctx, want.Timeline, want.Last, 0, events.Strong)
		if err != nil && !errors.Is(err, events.ErrCorrupt) {
			return err
		}
		f.Repaired = len(got) > 0 && got[0].Last == want.Last && bytes.Equal(got[0].Data, want.Data)
	}
	if f.Found == nothing && should.Checkpoint == sc.last {
		r.tell(func(p *VerifyProgress) { p.Due++ })
		return nil
	}
	r.found(f)
	return nil
}

// dropped returns an error if the version that is verified was dropped meanwhile: what is
// missing there is missing rightly, and nothing more can be said of it.
func (r *verifier) dropped(ctx context.Context, sc *scope) error {
	_, last, err := lastCheckpoint(ctx, r.Store, sc.shard)
	if err != nil || last.Version == sc.version {
		return err
	}
	v, err := ReadVersions(ctx, r.Store, sc.shard)
	if err == nil && v.Dropped[sc.version] {
		err = fmt.Errorf("version %d of shard %d, run it again: %w", sc.version, sc.shard, ErrDropped)
	}
	return err
}

// describe says for people what an item that is not as it should be is.
func describe(s *Stored) string {
	i, err := s.Decode()
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("another item, of checkpoint %d, with seqs %d to %d", i.Checkpoint, i.First, s.Last)
}

// strangers tells of the items of a user's timeline that follow from no checkpoint.
func (r *verifier) strangers(ctx context.Context, sc *scope, u events.User, due map[events.Seq]bool) error {
	t := Timeline{sc.version, u}
	for next := events.Seq(0); ; {
		items, err := r.Store.ReadItems(ctx, t, next, verifyBytes, events.Strong)
		if err != nil {
			return r.unreadable("timeline of "+t.String(), "items that can be read", err)
		}
		if len(items) == 0 {
			return nil
		}
		for _, s := range items {
			next = s.Last + 1
			if item, err := s.Decode(); due[s.Last] || s.Last < sc.begins[u] || err == nil && item.Checkpoint > sc.last {
				continue
			}
			r.found(Finding{Where: fmt.Sprintf("timeline of %s, item that ends at seq %d", t, s.Last), User: u, Seq: s.Last, Expected: nothing, Found: describe(&s)})
		}
	}
}
