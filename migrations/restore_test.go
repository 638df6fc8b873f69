package migrations_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"

	"timberline/bus/local"
	"timberline/events"
	"timberline/migrations"
	"timberline/projections"
	"timberline/sim/servers"
	"timberline/store/dynamo"
	"timberline/store/pebble"
)

func TestMain(m *testing.M) { servers.Main(m) }

// A place is where a store is, whatever is open of it.
type place struct {
	open     func() (store, error) // to serve
	restored func() (store, error) // to be restored
}

type store interface {
	migrations.Restorable
	Close() error
}

// embedded returns a place in memory.
func embedded(shards uint32) place {
	fs := vfs.NewMem()
	open := func(restored bool) (store, error) {
		return pebble.Open("data", pebble.Options{FS: fs, Shards: shards, Restored: restored})
	}
	return place{func() (store, error) { return open(false) }, func() (store, error) { return open(true) }}
}

// distributed returns a place on DynamoDB Local.
func distributed(t *testing.T, name string, shards uint32) place {
	t.Helper()
	o := dynamo.Options{Prefix: name, Backoff: 5 * time.Millisecond, AWS: aws.Config{
		Region:       "us-east-1",
		BaseEndpoint: aws.String(servers.DynamoDB(t).URL()),
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "test", SecretAccessKey: "test"}, nil
		}),
	}}
	m, err := dynamo.NewMigrations(o, shards)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(migrations.Up(t.Context(), m, time.Now, nil), m.Close()); err != nil {
		t.Fatal(err)
	}
	return place{
		func() (store, error) { return dynamo.Open(context.Background(), o) },
		func() (store, error) { return dynamo.OpenRestored(context.Background(), o) },
	}
}

func must[T any](t *testing.T, what string) func(T, error) T {
	return func(got T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		return got
	}
}

var users = []events.User{"ann", "ben", "cleo", "dan", "eve"}

// A history is what a store has, as its tables have it.
type history struct {
	rows        []events.Row
	records     map[uint64][]events.Record
	checkpoints map[projections.Shard][][]byte
	items       map[events.User][]projections.Stored
	sent        int
	clock       int
}

const everything = 1 << 30

func (h *history) message(r *rand.Rand) []byte {
	h.clock++
	h.sent++
	a, b := users[r.IntN(len(users))], users[r.IntN(len(users))]
	e := events.Event{
		ID: events.ID{6: byte(h.clock >> 8), 7: byte(h.clock)}, Kind: events.KindMessage, Sender: a, Device: "d",
		Conversation: events.Direct(a, b), Number: events.Number(h.sent), Body: fmt.Append(nil, "message ", h.sent),
	}
	return e.Encode()
}

// live lets edges append to a store, and projectors follow.
func live(t *testing.T, s store, r *rand.Rand, h *history, rounds int) {
	t.Helper()
	ctx := t.Context()
	open := func() uint64 {
		row := must[events.Row](t, "open a journal")(events.OpenJournal(ctx, s, events.EdgeTag{1}, [16]byte{byte(len(h.records) + 1), byte(h.clock)}))
		if h.records[row.Number] != nil {
			t.Fatalf("journal %d is given away again", row.Number)
		}
		h.records[row.Number] = []events.Record{}
		return row.Number
	}
	appendTo := func(number uint64, raws ...[]byte) {
		j, at := events.JournalNumbered(number), events.Offset(len(h.records[number])+1)
		rec := events.NewRecord(j, at, raws)
		must[events.Record](t, "append")(s.Append(ctx, j, at, rec))
		h.records[number] = append(h.records[number], rec)
	}
	journals := []uint64{open(), open()}
	for range rounds {
		i := r.IntN(len(journals))
		if r.IntN(5) == 0 {
			h.clock++
			end := events.Event{ID: events.ID{6: byte(h.clock >> 8), 7: byte(h.clock)}, Kind: events.KindJournalEnded}
			appendTo(journals[i], end.Encode())
			number := journals[i]
			if err := s.UpdateJournal(ctx, events.Row{Number: number, Counter: 9, Ended: events.Offset(len(h.records[number]))}); err != nil {
				t.Fatal(err)
			}
			journals[i] = open()
		}
		for range 1 + r.IntN(4) {
			appendTo(journals[i], h.message(r), h.message(r))
		}
		project(t, s)
	}
}

// project runs a projector until all that the log has is in the timelines.
func project(t *testing.T, s store) {
	t.Helper()
	p, err := projections.NewProjector(projections.Config{
		Log: s, Journals: s, Checkpoints: s, Items: s, Meta: s.Meta(), Bus: new(local.Bus), Poll: 5 * time.Millisecond,
		Random: rand.NewChaCha8([32]byte{1}), Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	want := entries(t, s)
	for tries := 0; heads(t, s) != want; tries++ {
		if tries == 5000 {
			t.Fatalf("%d entries in the timelines, want %d", heads(t, s), want)
		}
		time.Sleep(time.Millisecond)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
}

// entries counts those that the log gives.
func entries(t *testing.T, s store) (n int) {
	t.Helper()
	for number := range must[map[uint64]events.Offset](t, "ends")(s.JournalEnds(t.Context())) {
		j := events.JournalNumbered(number)
		recs := must[[]events.Record](t, "read the log")(s.ReadLog(t.Context(), j, 1, everything, events.Strong))
		for i, rec := range recs {
			for _, raw := range must[[][]byte](t, "events")(rec.Events(j, events.Offset(i+1))) {
				e := must[events.Event](t, "decode")(events.Raw(raw).Decode())
				if a, b, direct := e.Conversation.Users(); direct && a == b {
					n++
				} else if direct {
					n += 2
				}
			}
		}
	}
	return n
}

func heads(t *testing.T, s store) (n int) {
	t.Helper()
	for _, u := range users {
		n += int(must[events.Run](t, "head")(projections.NewReader(s, s.Meta()).Head(t.Context(), u)).Head)
	}
	return n
}

// take reads all that a store has.
func take(t *testing.T, s store, h *history) {
	t.Helper()
	ctx := t.Context()
	h.rows = must[[]events.Row](t, "rows")(s.ListJournals(ctx, 0, events.Strong))
	h.checkpoints = make(map[projections.Shard][][]byte)
	for shard := range projections.Shard(s.Meta().Shards) {
		h.checkpoints[shard] = must[[][]byte](t, "checkpoints")(s.ReadCheckpoints(ctx, shard, 1, everything))
	}
	h.items = itemsOf(t, s)
}

func itemsOf(t *testing.T, s store) map[events.User][]projections.Stored {
	t.Helper()
	items := make(map[events.User][]projections.Stored)
	for _, u := range users {
		if all := must[[]projections.Stored](t, "items")(s.ReadItems(t.Context(), projections.Timeline{User: u}, 0, everything, events.Strong)); len(all) > 0 {
			items[u] = all
		}
	}
	return items
}

// backup fills an empty store with a history as a backup has it: each table as it was at a
// moment of its own, and timelines that may be anything.
func backup(t *testing.T, s store, h *history, r *rand.Rand) {
	t.Helper()
	ctx := t.Context()
	for _, row := range h.rows[:len(h.rows)-r.IntN(1+len(h.rows)/2)] {
		must[events.Row](t, "row")(s.CreateJournal(ctx, row))
		if err := s.UpdateJournal(ctx, row); err != nil {
			t.Fatal(err)
		}
	}
	moment := 1.0
	if r.IntN(5) > 0 {
		moment = 1 - r.Float64()/2
	}
	for number, recs := range h.records {
		keep := len(recs)
		if float64(number) > moment*float64(len(h.records)) {
			keep = r.IntN(len(recs) + 1)
		}
		h.records[number] = recs[:keep]
		for i, rec := range recs[:keep] {
			must[events.Record](t, "append")(s.Append(ctx, events.JournalNumbered(number), events.Offset(i+1), rec))
		}
		if keep == 0 {
			delete(h.records, number)
		}
	}
	for shard, all := range h.checkpoints {
		for i, cp := range all[:len(all)-r.IntN(1+len(all)/4)] {
			must[[]byte](t, "checkpoint")(s.Commit(ctx, shard, projections.CheckpointNumber(i+1), cp, nil))
		}
	}
	for u, items := range h.items {
		if err := s.PutItems(ctx, items[r.IntN(len(items)):]); err != nil {
			t.Fatal(err)
		}
		alien := projections.Item{First: 1000, Checkpoint: 1, Entries: []projections.Entry{{Event: h.message(r)}}}
		if err := s.PutItems(ctx, []projections.Stored{alien.Encode(projections.Timeline{User: u})}); err != nil {
			t.Fatal(err)
		}
	}
}

// wantRestored holds a store against the history that it comes from: the timelines are
// those up to the last checkpoint that the log bears, the same bytes at the same seqs.
func wantRestored(t *testing.T, s store, h *history) {
	t.Helper()
	want := make(map[events.User][]projections.Stored)
	for shard, all := range h.checkpoints {
		have := must[[][]byte](t, "checkpoints")(s.ReadCheckpoints(t.Context(), shard, 1, everything))
		last, _, err := s.LastCheckpoint(t.Context(), shard, events.Strong)
		if err != nil || int(last) != len(have) {
			t.Fatalf("shard %d has %d checkpoints, the last is %d, %v", shard, len(have), last, err)
		}
		for i, cp := range have {
			c := must[projections.Checkpoint](t, "decode")(projections.DecodeCheckpoint(shard, projections.CheckpointNumber(i+1), cp))
			if !bytes.Equal(cp, all[i]) {
				t.Errorf("checkpoint %d of shard %d is another", i+1, shard)
			}
			for _, m := range c.Moved {
				if int(m.Offset) > len(h.records[m.Journal]) {
					t.Errorf("checkpoint %d of shard %d covers more than journal %d has", i+1, shard, m.Journal)
				}
			}
		}
		for u, items := range h.items {
			if projections.ShardOf(u.Slot(), s.Meta().Shards) != shard {
				continue
			}
			for _, stored := range items {
				if item := must[projections.Item](t, "item")(stored.Decode()); item.Checkpoint <= last {
					want[u] = append(want[u], stored)
				}
			}
		}
	}
	if have := itemsOf(t, s); !reflect.DeepEqual(want, have) {
		t.Errorf("timelines (-want +got)\n%s", cmp.Diff(want, have))
	}
	rows := must[[]events.Row](t, "rows")(s.ListJournals(t.Context(), 0, events.Strong))
	for number := range h.records {
		if int(number) > len(rows) {
			t.Errorf("journal %d has records and no row", number)
		}
	}
	for _, row := range rows {
		if int(row.Ended) > len(h.records[row.Number]) {
			t.Errorf("journal %d ends at %d and has %d records", row.Number, row.Ended, len(h.records[row.Number]))
		}
	}
}

// wantOnce holds timelines against the log: each message once, for each of its users.
func wantOnce(t *testing.T, s store, h *history) {
	t.Helper()
	places := make(map[events.ID]map[events.User]int)
	for _, u := range users {
		run := must[events.Run](t, "read")(projections.NewReader(s, s.Meta()).Read(t.Context(), u, 0, 0, everything))
		if int(run.Head) != len(run.Events) {
			t.Errorf("the timeline of %s ends at %d and has %d entries in a row", u, run.Head, len(run.Events))
		}
		for _, raw := range run.Events {
			id := events.Raw(raw).EventID()
			if places[id] == nil {
				places[id] = make(map[events.User]int)
			}
			places[id][u]++
		}
	}
	messages := 0
	for number, recs := range h.records {
		for i, rec := range recs {
			for _, raw := range must[[][]byte](t, "events")(rec.Events(events.JournalNumbered(number), events.Offset(i+1))) {
				e := must[events.Event](t, "decode")(events.Raw(raw).Decode())
				a, b, direct := e.Conversation.Users()
				if !direct {
					continue
				}
				messages++
				if want := map[events.User]int{a: 1, b: 1}; !reflect.DeepEqual(want, places[e.ID]) {
					t.Errorf("message %v stands %v, want %v", e.ID, places[e.ID], want)
				}
			}
		}
	}
	if messages != len(places) {
		t.Errorf("%d messages in the log, %d in timelines", messages, len(places))
	}
}

// flaky is a store whose calls fail, and have landed in spite of that.
type flaky struct {
	store
	r      *rand.Rand
	odds   int    // one in so many
	giveUp func() // ends the restore, instead of some failures
	seen   *seen
}

// seen is what has happened: else nothing is proven.
type seen struct {
	failed, rows int
	cut          uint64
	put          map[string]bool // in the restore under way
}

var errThrottled = errors.New("throttled")

func (f flaky) fails() bool {
	if f.r.IntN(f.odds) > 0 {
		return false
	}
	if f.seen.failed++; f.r.IntN(4) == 0 {
		f.giveUp()
	}
	return true
}

func (f flaky) do(call func() error) error {
	if !f.fails() {
		return call()
	}
	if f.r.IntN(2) == 0 {
		return errors.Join(errThrottled, call())
	}
	return errThrottled
}

func (f flaky) PutItems(ctx context.Context, items []projections.Stored) error {
	if len(items) > 1 && f.fails() { // of each user the first ones
		return errors.Join(errThrottled, f.put(ctx, items[:f.r.IntN(len(items))]))
	}
	return f.do(func() error { return f.put(ctx, items) })
}

// put puts items, each once: what was put before an interruption is not put again.
func (f flaky) put(ctx context.Context, items []projections.Stored) error {
	for _, item := range items {
		place := fmt.Sprint(item.User, item.Last)
		if f.seen.put[place] {
			return fmt.Errorf("%w: item %s is put twice", events.ErrFatal, place)
		}
		f.seen.put[place] = true
	}
	return f.store.PutItems(ctx, items)
}

func (f flaky) EmptyTimelines(ctx context.Context) error {
	return f.do(func() error { return f.store.EmptyTimelines(ctx) })
}

func (f flaky) CutCheckpoints(ctx context.Context, s projections.Shard, from projections.CheckpointNumber) error {
	return f.do(func() error { return f.store.CutCheckpoints(ctx, s, from) })
}

func (f flaky) SetPhase(ctx context.Context, p migrations.Phase) error {
	return f.do(func() error { return f.store.SetPhase(ctx, p) })
}

func (f flaky) ReadLog(ctx context.Context, j events.Journal, from events.Offset, size int, c events.Consistency) ([]events.Record, error) {
	if f.fails() {
		return nil, errThrottled
	}
	return f.store.ReadLog(ctx, j, from, size, c)
}

// restore restores a place with a backup, and returns its new id.
func restore(t *testing.T, p place, r *rand.Rand, odds int, seen *seen) (id events.StoreID) {
	t.Helper()
	seen.put = make(map[string]bool)
	s := must[store](t, "open what was restored")(p.restored())
	random := rand.NewChaCha8([32]byte{byte(r.Uint32()), byte(r.Uint32()), byte(r.Uint32())})
	for tries := 0; ; tries++ {
		ctx, cancel := context.WithCancel(t.Context())
		f := flaky{store: s, r: r, odds: odds, giveUp: cancel, seen: seen}
		done, err := migrations.Restore(ctx, f, migrations.RestoreConfig{Random: random, Pause: time.Microsecond})
		cancel()
		seen.rows, seen.cut = seen.rows+done.Rows, seen.cut+done.Cut
		if err == nil {
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			return done.Store
		}
		if events.Final(err) || tries == 1000 {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if s, err = p.open(); err == nil { // the failure may have been that of the end
			s.Close()
			return s.Meta().Store
		}
		if !errors.Is(err, migrations.ErrRestoring) || !strings.Contains(err.Error(), "comes from a backup") {
			t.Fatalf("open what is half restored: %v, want ErrRestoring", err)
		}
		s = must[store](t, "open again")(p.restored())
	}
}

// A backup is restored, life goes on, and that is restored again.
func testRestore(t *testing.T, seed uint64, rounds int, shards uint32, newPlace func() place, seen *seen) {
	r := rand.New(rand.NewPCG(seed, 21))
	h := &history{records: make(map[uint64][]events.Record)}
	origin := must[store](t, "open")(embedded(shards).open())
	live(t, origin, r, h, rounds)
	take(t, origin, h)
	ids := map[events.StoreID]bool{origin.Meta().Store: true}
	if err := origin.Close(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		p := newPlace()
		s := must[store](t, "open")(p.open())
		backup(t, s, h, r)
		ids[s.Meta().Store] = true
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		id := restore(t, p, r, 8, seen)
		if ids[id] {
			t.Errorf("the id is %v as before", id)
		}
		ids[id] = true
		s = must[store](t, "open")(p.open())
		if s.Meta() != (projections.Meta{Store: id, Shards: shards}) {
			t.Errorf("the store is %+v, want %v with %d shards", s.Meta(), id, shards)
		}
		wantRestored(t, s, h)
		live(t, s, r, h, rounds/2)
		wantOnce(t, s, h)
		take(t, s, h)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func TestRestoredFolderIsWhole(t *testing.T) {
	var seen seen
	for seed := range uint64(25) {
		shards := uint32(1 + seed%3)
		testRestore(t, seed, 12, shards, func() place { return embedded(shards) }, &seen)
	}
	said := fmt.Sprintf("%d calls failed, %d rows were mended, %d checkpoints cut off", seen.failed, seen.rows, seen.cut)
	if t.Log(said); seen.failed < 100 || seen.rows < 20 || seen.cut < 100 {
		t.Errorf("%s: that proves little", said)
	}
}

func TestRestoredTablesAreWhole(t *testing.T) {
	stores := 0
	testRestore(t, 1, 6, 2, func() place {
		stores++
		return distributed(t, fmt.Sprintf("restored-%d", stores), 2)
	}, new(seen))
}

func TestOfTwoRestoresTheLaterOneEnds(t *testing.T) {
	p := distributed(t, "twice", 1)
	first := must[store](t, "open")(p.restored())
	second := must[store](t, "open")(p.restored())
	defer func() { first.Close(); second.Close() }()
	// The first is slow: before it has told that the timelines are empty the second is through.
	reached, let := make(chan struct{}), make(chan struct{})
	slow := held{first, sync.OnceFunc(func() { close(reached); <-let })}
	var err error
	var wait sync.WaitGroup
	wait.Go(func() {
		_, err = migrations.Restore(t.Context(), slow, migrations.RestoreConfig{Random: rand.NewChaCha8([32]byte{1})})
	})
	<-reached
	done := must[migrations.Restoration](t, "second restore")(migrations.Restore(t.Context(), second, migrations.RestoreConfig{Random: rand.NewChaCha8([32]byte{2})}))
	close(let)
	wait.Wait()
	if !errors.Is(err, events.ErrConflict) {
		t.Errorf("the first restore: %v, want ErrConflict", err)
	}
	s := must[store](t, "open")(p.open())
	defer s.Close()
	if s.Meta().Store != done.Store {
		t.Errorf("the store is %v, want %v", s.Meta().Store, done.Store)
	}
}

// held is a store that waits before it changes its phase.
type held struct {
	store
	wait func()
}

func (h held) SetPhase(ctx context.Context, p migrations.Phase) error {
	h.wait()
	return h.store.SetPhase(ctx, p)
}

// What stood in versions that are not read is gone with all timelines, so none of them leads
// back: a rebuild would take for whole what is empty.
func TestNothingLeadsBackToAVersionThatARestoreHasEmptied(t *testing.T) {
	p := embedded(1)
	r := rand.New(rand.NewPCG(1, 22))
	h := &history{records: make(map[uint64][]events.Record)}
	s := must[store](t, "open")(p.open())
	live(t, s, r, h, 8)
	into := func(version projections.Version, behind projections.CheckpointNumber) error {
		rebuild := projections.Rebuild{Replay: projections.Replay{Store: s, Meta: s.Meta(), Version: version}, Behind: behind}
		_, err := rebuild.Run(t.Context())
		return err
	}
	if err := into(1, 0); err != nil {
		t.Fatal(err)
	}
	live(t, s, r, h, 8)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	restore(t, p, r, 8, new(seen))
	s = must[store](t, "open")(p.open())
	defer s.Close()
	wantOnce(t, s, h)
	v := must[projections.Versions](t, "versions")(projections.ReadVersions(t.Context(), s, 0))
	if err := into(v.Before, v.Whole()); !errors.Is(err, projections.ErrDropped) {
		t.Errorf("back to version %d: %v, want ErrDropped", v.Before, err)
	}
	wantOnce(t, s, h)
	if err := into(v.Next, 0); err != nil {
		t.Error(err)
	}
	live(t, s, r, h, 4)
	wantOnce(t, s, h)
}

// Where timelines begin may come from a later moment than the log. Whoever was trimmed
// behind what the log has reads all of that again: a timeline that says it begins behind
// its end could be read by nobody.
func testTrimmedLater(t *testing.T, seed uint64, shards uint32, newPlace func() place, begun map[bool]int) {
	r := rand.New(rand.NewPCG(seed, 23))
	h := &history{records: make(map[uint64][]events.Record)}
	origin := must[store](t, "open")(embedded(shards).open())
	live(t, origin, r, h, 12)
	take(t, origin, h)
	trim := projections.Trim{Store: origin, Meta: origin.Meta(), Keep: uint64(1 + r.IntN(20))}
	must[projections.TrimProgress](t, "trim")(trim.Run(t.Context()))
	var marks []projections.Row
	begins := make(map[events.User]events.Seq)
	for _, u := range users {
		marks = append(marks, must[[]projections.Row](t, "marks")(origin.ReadRows(t.Context(), projections.Marks+string(u), "", everything))...)
		begins[u] = must[events.Run](t, "head")(projections.NewReader(origin, origin.Meta()).Head(t.Context(), u)).First
	}
	if err := origin.Close(); err != nil {
		t.Fatal(err)
	}

	p := newPlace()
	s := must[store](t, "open")(p.open())
	backup(t, s, h, r)
	if err := errors.Join(s.PutRows(t.Context(), marks), s.Close()); err != nil {
		t.Fatal(err)
	}
	restore(t, p, r, 8, new(seen))
	s = must[store](t, "open")(p.open())
	defer s.Close()
	for u, items := range h.items {
		last, _, err := s.LastCheckpoint(t.Context(), projections.ShardOf(u.Slot(), shards), events.Strong)
		if err != nil {
			t.Fatal(err)
		}
		first, head := events.Seq(1), events.Seq(0)
		for _, stored := range items {
			item := must[projections.Item](t, "item")(stored.Decode())
			if item.Checkpoint > last {
				break
			}
			if head = stored.Last; item.First == begins[u] {
				first = item.First
			}
		}
		begun[first == begins[u]]++
		run := must[events.Run](t, "read")(projections.NewReader(s, s.Meta()).Read(t.Context(), u, first-1, 0, everything))
		if run.First != first || run.Head != head || len(run.Events) != int(head-first)+1 {
			t.Errorf("the timeline of %s goes from %d to %d and has %d entries in a row, want from %d to %d: it was trimmed below %d", u, run.First, run.Head, len(run.Events), first, head, begins[u])
		}
	}
	live(t, s, r, h, 6)
	for _, u := range users {
		run := must[events.Run](t, "head")(projections.NewReader(s, s.Meta()).Head(t.Context(), u))
		run = must[events.Run](t, "read")(projections.NewReader(s, s.Meta()).Read(t.Context(), u, run.First-1, 0, everything))
		if len(run.Events) != int(run.Head-run.First)+1 {
			t.Errorf("later the timeline of %s goes from %d to %d and has %d entries in a row", u, run.First, run.Head, len(run.Events))
		}
	}
	if t.Failed() {
		t.Fatalf("seed %d", seed)
	}
}

func TestTimelinesThatWereTrimmedLaterThanTheLogAreReadAgain(t *testing.T) {
	begun := make(map[bool]int)
	for seed := range uint64(15) {
		shards := uint32(1 + seed%3)
		testTrimmedLater(t, seed, shards, func() place { return embedded(shards) }, begun)
	}
	t.Logf("%d timelines begin where they were trimmed, %d do not", begun[true], begun[false])
	if begun[true] < 20 || begun[false] < 5 {
		t.Error("that proves little")
	}
	testTrimmedLater(t, 99, 2, func() place { return distributed(t, "trimmed-later", 2) }, begun)
}
