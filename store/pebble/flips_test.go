package pebble

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"timberline/bus/local"
	"timberline/events"
	"timberline/projections"
)

var flips = flag.Int("pebble.flips", 0, "how many `times` to flip a bit, or to cut a file, where live data stands; default: 60, under the race detector 6")

// A town is a store with all that one can have: users who write to each other, several
// tables, a log, rebuilt and trimmed timelines, rows of a projection.
type town struct {
	t     *testing.T
	r     *rand.Rand
	store *Store
	ends  [3]events.Offset // of the journals
	ids   uint64
	sent  int
}

var townsfolk = []events.User{"ann", "ben", "cleo", "dan", "eve", "finn", "gus", "hal"}

// perUser counts each user's messages.
var perUser = &projections.Projection{Name: "per-user", Version: 1, Apply: func(given []projections.Given, t *projections.Table) error {
	for _, g := range given {
		for _, u := range g.Users {
			k := projections.RowKey{User: u, Name: fmt.Sprint("with ", g.Event.Sender)}
			was, err := t.Get(k)
			if err == nil {
				err = t.Set(k, append(bytes.Clone(was), 'x'))
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}}

func newTown(t *testing.T, fs vfs.FS) *town {
	t.Helper()
	s, err := Open("data", Options{FS: fs, Shards: 2, OnFatal: func(err error) { t.Error(err) }})
	if err != nil {
		t.Fatal(err)
	}
	w := &town{t: t, r: rand.New(rand.NewPCG(7, 7)), store: s}
	for range w.ends {
		if _, err := events.OpenJournal(t.Context(), s, events.EdgeTag{1}, [16]byte{byte(w.r.Uint32())}); err != nil {
			t.Fatal(err)
		}
	}
	w.write(900)
	w.must("flush", s.db.Flush())
	w.write(300)
	for shard := range projections.Shard(2) {
		rebuild := projections.Rebuild{Replay: projections.Replay{Store: s, Meta: s.Meta(), Shard: shard, Version: 1}}
		_, err := rebuild.Run(t.Context())
		w.must("rebuild", err)
	}
	w.must("flush", s.db.Flush())
	w.write(500)
	w.count()
	trim := projections.Trim{Store: s, Meta: s.Meta(), Keep: 200}
	_, err = trim.Run(t.Context())
	w.must("trim", err)
	for tables := 0; tables < 3; tables = len(w.tables()) { // compactions take some away
		w.write(50)
		w.must("flush", s.db.Flush())
	}
	w.write(300)
	w.count()
	return w
}

// tables returns the names of those in use.
func (w *town) tables() []string {
	names, err := w.store.tables()
	w.must("list the tables", err)
	return names
}

// folder returns the folder as it is, and the tables in use, at one moment.
func (w *town) folder(fs *vfs.MemFS) (*specimen, []string) {
	for {
		before := w.tables()
		x := (&specimen{w.t, fs}).clone()
		if slices.Equal(before, w.tables()) {
			return x, before
		}
	}
}

func (w *town) must(what string, err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatalf("%s: %v", what, err)
	}
}

// count has the projection follow.
func (w *town) count() {
	for shard := range projections.Shard(2) {
		f := projections.Follower{Store: w.store, Meta: w.store.Meta(), Shard: shard, Projection: perUser}
		_, err := f.Run(w.t.Context())
		w.must("follow", err)
	}
}

// write appends messages, and has a projector follow now and then.
func (w *town) write(messages int) {
	w.t.Helper()
	for end := w.sent + messages; w.sent < end; {
		var raws [][]byte
		for range 1 + w.r.IntN(5) {
			a, b := townsfolk[w.r.IntN(len(townsfolk))], townsfolk[w.r.IntN(len(townsfolk))]
			w.ids++
			w.sent++
			body := bytes.Repeat([]byte("some words "), w.r.IntN(12))
			raws = append(raws, (&events.Event{
				ID: events.ID{6: byte(w.ids >> 8), 7: byte(w.ids)}, Kind: events.KindMessage, Sender: a, Device: "d", Conversation: events.Direct(a, b),
				Number: events.Number(w.ids), Body: fmt.Appendf(body, "%d", w.ids),
			}).Encode())
		}
		i := w.r.IntN(len(w.ends))
		w.ends[i]++
		j := events.JournalNumbered(uint64(i + 1))
		_, err := w.store.Append(w.t.Context(), j, w.ends[i], events.NewRecord(j, w.ends[i], raws))
		w.must("append", err)
		if w.r.IntN(40) == 0 {
			w.project()
		}
	}
	w.project()
}

// project runs a projector until it has read all.
func (w *town) project() {
	w.t.Helper()
	s := w.store
	p, err := projections.NewProjector(projections.Config{
		Log: s, Journals: s, Checkpoints: s, Items: s, Meta: s.Meta(), Bus: new(local.Bus), Poll: time.Millisecond,
		Random: rand.NewChaCha8([32]byte{1}), Logger: slog.New(slog.DiscardHandler),
	})
	w.must("make a projector", err)
	ctx, cancel := context.WithCancel(w.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	for tries := 0; !w.projected(); tries++ {
		if tries == 5000 {
			w.t.Fatal("the projector does not come to an end")
		}
		time.Sleep(time.Millisecond)
	}
	cancel()
	w.must("project", <-ended)
}

// projected reports whether the shards' checkpoints cover all journals.
func (w *town) projected() bool {
	ends, err := w.store.JournalEnds(w.t.Context())
	w.must("ends", err)
	for shard := range projections.Shard(2) {
		read := make(map[uint64]events.Offset)
		all, err := w.store.ReadCheckpoints(w.t.Context(), shard, 1, 1<<30)
		w.must("checkpoints", err)
		for i, data := range all {
			c, err := projections.DecodeCheckpoint(shard, projections.CheckpointNumber(i+1), data)
			w.must("checkpoint", err)
			for _, m := range c.Moved {
				read[m.Journal] = m.Offset
			}
		}
		if !maps.Equal(read, ends) {
			return false
		}
	}
	return true
}

// A look is one thing that can be read of a store.
type look func(ctx context.Context, s *Store) (any, error)

// looks are all that can be read of a town's store, by name.
func looks() map[string]look {
	all := map[string]look{
		"ends":                    func(ctx context.Context, s *Store) (any, error) { return s.JournalEnds(ctx) },
		"rows of journals":        func(ctx context.Context, s *Store) (any, error) { return s.ListJournals(ctx, 0, events.Strong) },
		"rebuilds":                func(ctx context.Context, s *Store) (any, error) { return s.ReadRows(ctx, "rebuild", "", 1<<30) },
		"steps of the projection": func(ctx context.Context, s *Store) (any, error) { return s.ReadRows(ctx, "p/per-user.1/*", "", 1<<30) },
		"what it is":              func(_ context.Context, s *Store) (any, error) { return s.Meta(), nil },
	}
	for j := range uint64(3) {
		all[fmt.Sprint("journal ", j+1)] = func(ctx context.Context, s *Store) (any, error) {
			return s.ReadLog(ctx, events.JournalNumbered(j+1), 1, 1<<30, events.Strong)
		}
	}
	for v := range projections.Version(2) {
		all[fmt.Sprint("items of version ", v)] = func(ctx context.Context, s *Store) (items any, err error) {
			var found []projections.Stored
			err = s.ScanItems(ctx, v, func(i projections.Stored) error { found = append(found, i); return nil })
			return found, err
		}
	}
	for shard := range projections.Shard(2) {
		all[fmt.Sprint("checkpoints of shard ", shard)] = func(ctx context.Context, s *Store) (any, error) {
			return s.ReadCheckpoints(ctx, shard, 1, 1<<30)
		}
		all[fmt.Sprint("last checkpoint of shard ", shard)] = func(ctx context.Context, s *Store) (any, error) {
			n, data, err := s.LastCheckpoint(ctx, shard, events.Strong)
			return fmt.Sprint(n, data), err
		}
	}
	for _, u := range townsfolk {
		all[fmt.Sprint("head of ", u)] = func(ctx context.Context, s *Store) (any, error) {
			return projections.NewReader(s, s.Meta()).Head(ctx, u)
		}
		all[fmt.Sprint("timeline of ", u)] = func(ctx context.Context, s *Store) (any, error) {
			r := projections.NewReader(s, s.Meta())
			head, err := r.Head(ctx, u)
			if err != nil {
				return nil, err
			}
			return r.Read(ctx, u, head.First-1, 0, 1<<30)
		}
		for from := events.Seq(50); from < 600; from += 100 {
			all[fmt.Sprint("items of ", u, " from ", from)] = func(ctx context.Context, s *Store) (any, error) {
				return s.ReadItems(ctx, projections.Timeline{Version: 1, User: u}, from, 1, events.Strong)
			}
		}
		all[fmt.Sprint("mark of ", u)] = func(ctx context.Context, s *Store) (any, error) { return s.GetRow(ctx, "trim/"+string(u), "first") }
		all[fmt.Sprint("rows of ", u)] = func(ctx context.Context, s *Store) (any, error) {
			return projections.ReadProjection(ctx, s, perUser, u, "", 1<<30)
		}
		all[fmt.Sprint("row of ", u)] = func(ctx context.Context, s *Store) (any, error) {
			return s.GetRow(ctx, "p/per-user.1/"+string(u), "with ann")
		}
	}
	return all
}

// A span is where live data stands in a file.
type span struct{ from, to int }

// An exhibit is the folder of a town, with what can be read of it.
type exhibit struct {
	*specimen
	looks map[string]look
	says  map[string]string
	live  map[string][]span // by file
}

// newExhibit returns the folder as a process leaves it that is killed, or that ends.
func newExhibit(t *testing.T, killed bool) *exhibit {
	t.Helper()
	mem := vfs.NewMem()
	w := newTown(t, mem)
	x := &exhibit{looks: looks(), says: make(map[string]string), live: make(map[string][]span)}
	for name, look := range x.looks {
		is, err := look(t.Context(), w.store)
		w.must(name, err)
		x.says[name] = fmt.Sprintf("%v", is)
	}
	tables := w.tables()
	if killed {
		x.specimen, tables = w.folder(mem)
	}
	w.must("close", w.store.Close())
	if !killed {
		x.specimen = (&specimen{t, mem}).clone()
		if left := x.tables(); !slices.Equal(left, slices.Sorted(slices.Values(tables))) {
			return newExhibit(t, killed) // a compaction has ended meanwhile
		}
	}
	for _, name := range tables { // each byte of them
		x.live[name] = []span{{0, len(x.read(name))}}
	}
	known := readMark(x.fs, "data")
	manifest := fmt.Sprintf("MANIFEST-%06d", known.manifest.number)
	x.live[manifest] = []span{{0, int(known.manifest.durable)}}
	log, chunks := x.lastLog()
	if !killed {
		chunks = chunks[:len(chunks)-maxUnsynced+1] // the empty batches of an orderly end
	}
	if len(chunks) < 100 || len(x.read(manifest)) != int(known.manifest.durable) {
		t.Fatalf("%d chunks of %s are live, and %+v of %s", len(chunks), log, known.manifest, manifest)
	}
	data := x.read(log)
	for i, at := range chunks[:len(chunks)-1] {
		end := chunks[i+1]
		if at/tailBlock != end/tailBlock {
			end = at + logChunk + int(data[at+4]) + int(data[at+5])<<8 // the rest of the block is filled up
		}
		x.live[log] = append(x.live[log], span{at, end})
	}
	return x
}

// tables returns the names of all that stand in the folder.
func (x *specimen) tables() []string {
	names, err := x.fs.List("data")
	if err != nil {
		x.t.Fatal(err)
	}
	names = slices.DeleteFunc(names, func(n string) bool { return !strings.HasSuffix(n, ".sst") })
	slices.Sort(names)
	return names
}

func (x *exhibit) isLive(file string, at int) bool {
	return slices.ContainsFunc(x.live[file], func(s span) bool { return s.from <= at && at < s.to })
}

// cut cuts a file off.
func (x *specimen) cut(file string, size int) {
	x.t.Helper()
	if err := replace(x.fs, "data/"+file, x.read(file)[:size]); err != nil {
		x.t.Fatal(err)
	}
}

// A verdict is what is found in a damaged folder.
type verdict struct {
	refused  error // by Open, or by a process that ends
	read     int   // errors of reads
	findings []projections.Finding
}

// judge opens the folder, reads all of it, and verifies it. What is read is right or an
// error, or the test has failed.
func (x *exhibit) judge(damaged *specimen, what string) (v verdict) {
	x.t.Helper()
	fatal := make(chan error, 1000)
	s, err := Open("data", Options{FS: damaged.fs, OnFatal: func(err error) { fatal <- err }})
	if err != nil {
		if text := err.Error(); !errors.Is(err, events.ErrCorrupt) || strings.Contains(text, "\n") || !strings.Contains(text, "restore the folder") {
			x.t.Errorf("%s: %q, want ErrCorrupt in one line, and what to do", what, err)
		}
		return verdict{refused: err}
	}
	defer func() {
		s.Close()
		if len(fatal) > 0 {
			v.refused = <-fatal
		}
	}()
	for name, look := range x.looks {
		is, err := look(x.t.Context(), s)
		switch {
		case errors.Is(err, events.ErrCorrupt):
			v.read++
		case err != nil && len(fatal) == 0:
			x.t.Errorf("%s: %s: %v, want ErrCorrupt or nothing", what, name, err)
		case err == nil && fmt.Sprintf("%v", is) != x.says[name]:
			x.t.Errorf("%s: %s is another, and no error says so", what, name)
		}
	}
	var verified error
	if v.findings, verified = verify(x.t.Context(), s, false); verified != nil && len(fatal) == 0 {
		x.t.Errorf("%s: verify: %v", what, verified)
	}
	if len(v.findings) > 0 && len(fatal) == 0 {
		x.repair(s, what)
	}
	return v
}

func verify(ctx context.Context, s *Store, repair bool) (found []projections.Finding, err error) {
	v := projections.Verification{Store: s, Meta: s.Meta(), Repair: repair, Found: func(f projections.Finding) { found = append(found, f) }}
	_, err = v.Run(ctx)
	return found, err
}

// repair repairs what can be. What is told to be repaired can be read, and nothing is another.
func (x *exhibit) repair(s *Store, what string) {
	x.t.Helper()
	found, err := verify(x.t.Context(), s, true)
	if err != nil && !errors.Is(err, events.ErrFatal) {
		x.t.Errorf("%s: repair: %v", what, err)
	}
	for _, f := range found {
		if !f.Repaired {
			continue
		}
		if items, err := s.ReadItems(x.t.Context(), projections.Timeline{Version: 1, User: f.User}, f.Seq, 0, events.Strong); err != nil || len(items) != 1 || items[0].Last != f.Seq {
			x.t.Errorf("%s: %s was repaired, and is read as %v, %v", what, f.Where, items, err)
		}
	}
	for name, look := range x.looks {
		if is, err := look(x.t.Context(), s); err == nil && fmt.Sprintf("%v", is) != x.says[name] {
			x.t.Errorf("%s: repaired, %s is another", what, name)
		}
	}
}

// named reports whether something names a file, or a place in the store.
func (v *verdict) named(file string) bool {
	number := strings.TrimSuffix(strings.TrimPrefix(file, manifestPrefix), ".sst")
	return v.refused != nil && strings.Contains(v.refused.Error(), number) ||
		slices.ContainsFunc(v.findings, func(f projections.Finding) bool { return f.Where == "file "+file })
}

// Bits flip, and files are cut off, wherever live data stands: in tables, also in their
// indexes and filters, in what is durable of the log, in the manifest. All of it is found,
// and named; none is served. Elsewhere all reads are as they were.
func TestFlippedBitsAndCutFilesAreAllFoundAndNoneIsServed(t *testing.T) {
	want := cmp.Or(*flips, 60)
	if *flips == 0 && raceEnabled { // each takes twenty times as long
		want = 6
	}
	for i, killed := range []bool{true, false} {
		x := newExhibit(t, killed)
		if v := x.judge(x.clone(), "nothing"); v.refused != nil || v.read > 0 || len(v.findings) > 0 {
			t.Fatalf("nothing is damaged, and found is %+v", v)
		}
		names, err := x.fs.List("data")
		if err != nil {
			t.Fatal(err)
		}
		names = slices.DeleteFunc(names, func(n string) bool { return len(x.read(n)) == 0 }) // what counts is their name
		r := rand.New(rand.NewPCG(1, uint64(i)))
		counts := make(map[string]int)
		for alive := 0; alive < (want+1)/2 && !t.Failed(); {
			name := names[r.IntN(len(names))]
			size := len(x.read(name))
			at := r.IntN(size)
			damaged := x.clone()
			how := "flipped"
			if r.IntN(3) == 0 {
				how = "cut"
				damaged.cut(name, at)
			} else {
				damaged.flip(name, 8*at+r.IntN(8))
			}
			what := fmt.Sprintf("%s of %d bytes, %s at %d (killed: %v)", name, size, how, at, killed)
			v := x.judge(damaged, what)
			if how == "cut" && slices.ContainsFunc(x.live[name], func(s span) bool { return at < s.to }) || x.isLive(name, at) {
				alive++
				if !v.named(name) {
					t.Errorf("%s: it is not found; refused: %v, %d reads failed, findings %v", what, v.refused, v.read, v.findings)
				}
			} else {
				how += ", not live"
			}
			switch {
			case v.refused != nil:
				how += ", refused"
			case len(v.findings) > 0:
				how += ", verified"
			default:
				how += ", harmless"
			}
			counts[how]++
		}
		t.Logf("killed %v: %v", killed, counts)
	}
}

// Items that are damaged, gone or another's while their blocks are whole are as they were
// once the store is repaired, and so is all else.
func TestRepairedTimelinesAreAsTheyWere(t *testing.T) {
	x := newExhibit(t, true)
	for what, damage := range map[string]func(s *Store, i *projections.Stored, r *rand.Rand) error{
		"a bit of items": func(s *Store, i *projections.Stored, r *rand.Rand) error {
			data := bytes.Clone(i.Data)
			data[r.IntN(len(data))] ^= 1 << r.IntN(8)
			return s.db.Set(itemKey(i.Timeline, i.Last), data, pebble.Sync)
		},
		"the end of items": func(s *Store, i *projections.Stored, r *rand.Rand) error {
			return s.db.Set(itemKey(i.Timeline, i.Last), i.Data[:r.IntN(len(i.Data))], pebble.Sync)
		},
		"items": func(s *Store, i *projections.Stored, _ *rand.Rand) error {
			return s.db.Delete(itemKey(i.Timeline, i.Last), pebble.Sync)
		},
		"timelines": func(s *Store, i *projections.Stored, _ *rand.Rand) error {
			return s.db.DeleteRange(timelinePrefix(i.Timeline), after(timelinePrefix(i.Timeline)), pebble.Sync)
		},
		"what items say": func(s *Store, i *projections.Stored, _ *rand.Rand) error {
			item, err := i.Decode()
			if err != nil {
				return err
			}
			item.Entries[0].Event = (&events.Event{Body: []byte("never sent")}).Encode()
			return s.db.Set(itemKey(i.Timeline, i.Last), item.Encode(i.Timeline).Data, pebble.Sync)
		},
	} {
		s, err := Open("data", Options{FS: x.clone().fs})
		if err != nil {
			t.Fatal(err)
		}
		r, damaged := rand.New(rand.NewPCG(3, 4)), 0
		err = s.ScanItems(t.Context(), 1, func(i projections.Stored) error {
			if m, err := s.GetRow(t.Context(), "trim/"+string(i.User), "first"); r.IntN(10) > 0 || err == nil && i.Last < events.Seq(m.Checkpoint) {
				return nil // what was trimmed stays as it is
			}
			damaged++
			return damage(s, &i, r)
		})
		if err != nil || damaged < 10 {
			t.Fatalf("%s: %d damaged, %v", what, damaged, err)
		}
		found, err := verify(t.Context(), s, true)
		if err != nil || len(found) < 8 || slices.ContainsFunc(found, func(f projections.Finding) bool { return !f.Repaired }) {
			t.Errorf("%s: %v, and %d are damaged; found %v, want all repaired", what, err, damaged, found)
		}
		for name, look := range x.looks {
			if is, err := look(t.Context(), s); err != nil || fmt.Sprintf("%v", is) != x.says[name] {
				t.Errorf("%s: repaired, %s is another; %v", what, name, err)
			}
		}
		if found, err := verify(t.Context(), s, false); err != nil || len(found) > 0 {
			t.Errorf("%s: repaired, and found is %v, %v", what, found, err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}
