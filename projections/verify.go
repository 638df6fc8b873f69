package projections

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"maps"
	"slices"

	"timberline/events"
)

// A Verification holds a store against itself: its files, if it is a Scrubber, the log, the
// checkpoints, and the timelines that follow from both. It works beside projectors: what they write meanwhile is left to
// the next one.
type Verification struct {
	Store Whole
	Meta  Meta
	// Repair says that what is missing or different in timelines is written again. Only
	// what follows from the log is; an item that follows from nothing stays.
	Repair bool
	// Found is called with each difference.
	Found func(Finding)
	// Told is called now and then with how far the verification is; nil: nobody is.
	Told func(VerifyProgress)
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
	if err := r.files(ctx); err != nil {
		return r.progress, fmt.Errorf("verify the files: %w", err)
	}
	if err := r.log(ctx); err != nil {
		return r.progress, fmt.Errorf("verify the log: %w", err)
	}
	if err := r.timelines(ctx); err != nil {
		return r.progress, fmt.Errorf("verify the timelines: %w", err)
	}
	return r.progress, nil
}

// A verifier is the state of a Verification that runs.
type verifier struct {
	*Verification
	seed     maphash.Seed
	progress VerifyProgress
}

func (r *verifier) found(f Finding) {
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

func (r *verifier) tell() {
	if r.Told != nil {
		r.Told(r.progress)
	}
}

// nothing is found, or expected, where no value stands.
const nothing = "nothing"

// files has the engine read its files.
func (r *verifier) files(ctx context.Context) (err error) {
	s, ok := r.Store.(Scrubber)
	if !ok {
		return nil
	}
	r.progress.Files, err = s.Scrub(ctx, func(file string, err error) {
		r.found(Finding{Where: "file " + file, Expected: "what was written", Found: err.Error()})
	})
	r.tell()
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
			r.progress.TrimmedJournals++
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
	for at := events.Offset(1); at <= end; r.tell() {
		if err := ctx.Err(); err != nil { // not every engine looks
			return err
		}
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
				r.progress.TrimmedJournals++
				return nil
			}
			r.found(Finding{Where: where(), Expected: fmt.Sprintf("a record, as there is one at %d", end), Found: nothing})
			return nil
		}
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
			r.progress.Records++
			r.progress.Events += uint64(len(raws))
			at++
		}
	}
	return nil
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
	shard    Shard
	last     CheckpointNumber
	version  Version
	accounts map[events.User]account
	begins   map[events.User]events.Seq // of timelines that were trimmed
}

// timelines replays each shard's checkpoints and holds what should follow from them
// against what stands there: at first only the hash of each timeline, as keeping both
// would take the memory of all of them; then item by item, where the hashes differ.
func (r *verifier) timelines(ctx context.Context) error {
	scopes := make([]*scope, 0, r.Meta.Shards)
	for s := range Shard(r.Meta.Shards) {
		sc, err := r.account(ctx, s)
		if err != nil {
			return err
		}
		if sc != nil {
			scopes = append(scopes, sc)
		}
	}
	differ, err := r.scan(ctx, scopes)
	if err != nil {
		return err
	}
	for _, sc := range scopes {
		r.progress.TrimmedTimelines += uint64(len(sc.begins))
		if users := differ[sc.shard]; len(users) > 0 {
			if err := r.compare(ctx, sc, users); err != nil {
				return err
			}
		}
	}
	return nil
}

// account goes through a shard's checkpoints (whole, without a gap, none behind another)
// and replays them. It returns nil if that cannot be done, after telling why.
func (r *verifier) account(ctx context.Context, s Shard) (*scope, error) {
	end, _, err := r.Store.LastCheckpoint(ctx, s, events.Strong)
	if err != nil {
		return nil, r.unreadable(fmt.Sprintf("shard %d, last checkpoint", s), "one that can be read", err)
	}
	sc := &scope{shard: s, last: end, accounts: make(map[events.User]account), begins: make(map[events.User]events.Seq)}
	at, read := CheckpointNumber(0), make(map[uint64]events.Offset)
	err = r.replay(ctx, sc, func(w *walk, _ *cover) bool {
		r.checkpoint(s, w.n, w.cp, read)
		at, sc.version = w.n, w.cp.Version
		return true
	}, func(item Stored) error {
		a := sc.accounts[item.User]
		a.add(r.seed, &item)
		sc.accounts[item.User] = a
		return nil
	})
	next := fmt.Sprintf("shard %d, checkpoint %d", s, at+1)
	if err != nil {
		return nil, r.unreadable(next, "one that can be read, and what it covers in the log", err)
	}
	if at < end {
		r.found(Finding{Where: next, Expected: fmt.Sprintf("a checkpoint, as there is one at %d", end), Found: nothing})
		return nil, nil
	}
	return sc, nil
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
	each := func(n CheckpointNumber, c *cover) error {
		if n > sc.last {
			return errEnough
		}
		if err := r.begin(ctx, sc, c.order, tails, old); err != nil {
			return err
		}
		r.progress.Replayed += uint64(len(c.events))
		r.tell()
		pick := wanted(&w, c)
		for _, g := range c.gifts(n, tails) {
			if tails[g.user].checkpoint >= n {
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
	}
	err := w.run(ctx, each)
	for errors.Is(err, errTrimmed) {
		if err := w.look(ctx); err != nil {
			return err
		}
		maps.Copy(old, tails)
		clear(tails)
		err = w.run(ctx, each)
	}
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
			delete(sc.accounts, u)
		}
	}
	return nil
}

// scan holds what stands in the timelines against the accounts, and returns the users of
// each shard whose timelines differ.
func (r *verifier) scan(ctx context.Context, scopes []*scope) (map[Shard]map[events.User]bool, error) {
	differ := make(map[Shard]map[events.User]bool)
	byShard, versions := make(map[Shard]*scope), make(map[Version]bool)
	for _, sc := range scopes {
		byShard[sc.shard], versions[sc.version] = sc, true
		differ[sc.shard] = make(map[events.User]bool)
	}
	for v := range versions {
		var a account // of what stands in the timeline of at
		var at events.User
		var sc *scope
		end := func() {
			if sc == nil {
				return
			}
			if sc.accounts[at] != a {
				differ[sc.shard][at] = true
			}
			delete(sc.accounts, at)
		}
		err := r.Store.ScanItems(ctx, v, func(i Stored) error {
			if err := ctx.Err(); err != nil { // likewise
				return err
			}
			if i.User != at {
				end()
				a, at, sc = account{}, i.User, byShard[ShardOf(i.User.Slot(), r.Meta.Shards)]
				if sc != nil && sc.version != v {
					sc = nil
				}
			}
			if sc == nil || i.Last < sc.begins[at] {
				return nil
			}
			r.progress.Items++
			if r.progress.Items%10_000 == 0 {
				r.tell()
			}
			if a.items == sc.accounts[at].items { // it follows from a later checkpoint, or from none
				if item, err := i.Decode(); err == nil && item.Checkpoint > sc.last {
					return nil
				}
			}
			a.add(r.seed, &i)
			return nil
		})
		end()
		if err != nil {
			if err := r.unreadable("the timelines", "items that can be read", err); err != nil {
				return nil, err
			}
		}
	}
	for _, sc := range scopes {
		for u := range sc.accounts { // no item was there
			differ[sc.shard][u] = true
		}
	}
	return differ, nil
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
		r.progress.Due++
		return nil
	}
	r.found(f)
	return nil
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
