package dynamo

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"timberline/events"
	"timberline/migrations"
	"timberline/projections"
	"timberline/store/dynamo/faults"
)

func newMigrations(t *testing.T, o Options, shards uint32) *Migrations {
	t.Helper()
	m, err := NewMigrations(o, shards)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

func up(t *testing.T, o Options) *Migrations {
	t.Helper()
	m := newMigrations(t, o, 3)
	if err := migrations.Up(t.Context(), m, time.Now, nil); err != nil {
		t.Fatal(err)
	}
	return m
}

func deleteTable(t *testing.T, m *Migrations, tb *table) {
	t.Helper()
	name := aws.String(m.s.name(tb))
	if _, err := m.s.db.UpdateTable(t.Context(), &dynamodb.UpdateTableInput{TableName: name, DeletionProtectionEnabled: aws.Bool(false)}); err != nil {
		t.Fatal(err)
	}
	if _, err := m.s.db.DeleteTable(t.Context(), &dynamodb.DeleteTableInput{TableName: name}); err != nil {
		t.Fatal(err)
	}
}

func pendingNumbers(t *testing.T, m *Migrations) (all []migrations.Number) {
	t.Helper()
	pending, err := migrations.Plan(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range pending {
		if step.Name == "" || step.Changes == "" || step.Costs == "" {
			t.Errorf("step %d does not say what it does and costs", step.Number)
		}
		all = append(all, step.Number)
	}
	return all
}

func TestStoreIsMadeFromNothing(t *testing.T) {
	o := options(t)
	m := newMigrations(t, o, 0)
	if got := pendingNumbers(t, m); !slices.Equal(got, []migrations.Number{1, 2, 3}) {
		t.Fatalf("pending %v, want 1, 2 and 3", got)
	}
	if _, err := Open(t.Context(), o); err == nil || !strings.Contains(err.Error(), "`timberline migrate up --store dynamodb`") {
		t.Errorf("open before: %v", err)
	}
	if err := migrations.Up(t.Context(), m, time.Now, nil); err != nil {
		t.Fatal(err)
	}
	if got := pendingNumbers(t, m); got != nil {
		t.Errorf("pending %v after up", got)
	}
	s, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if s.Meta().Shards != DefaultShards || s.Meta().Store == (events.StoreID{}) {
		t.Errorf("%+v: want %d shards and an id", s.Meta(), DefaultShards)
	}
	all, err := m.Applied(t.Context())
	if err != nil || len(all) != 3 || all[1].Name != "store" || time.Since(all[1].Applied) > time.Minute {
		t.Errorf("%+v, %v: want records of now", all, err)
	}
}

func TestStoreIsMadeOnceFromSeveralPlaces(t *testing.T) {
	o := options(t)
	net := &faults.Transport{Next: http.DefaultTransport, Choose: faults.Seeded(3, badDay), Delay: 5 * time.Millisecond}
	defer net.Land()
	o.Transport, o.Attempts, o.Backoff = net, 2, time.Millisecond
	var all sync.WaitGroup
	errs := make([]error, 3)
	for i := range errs {
		m := newMigrations(t, o, 3)
		all.Go(func() {
			_, errs[i] = again(func() (none, error) { return none{}, migrations.Up(t.Context(), m, time.Now, nil) })
		})
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	if met := net.Met(); len(met) < 3 {
		t.Errorf("met %v: that proves little", met)
	}
	o.Transport, o.Attempts = nil, 0
	s, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	is := s.Meta()
	up(t, o)
	if again, err := Open(t.Context(), o); err != nil || again.Meta() != is {
		t.Errorf("up once more: %v, and the store is %+v, was %+v", err, again.Meta(), is)
	}
}

// Killed after any of its calls, up goes on when it is run again.
func TestStoreIsMadeHoweverOftenThatIsInterrupted(t *testing.T) {
	for killed, calls := true, 1; killed; calls += 3 {
		o := options(t)
		ctx, kill := context.WithCancel(t.Context())
		left := calls
		dying := o
		dying.Transport = roundTrip(func(r *http.Request) (*http.Response, error) {
			answer, err := http.DefaultTransport.RoundTrip(r)
			if left--; left == 0 {
				kill()
			}
			return answer, err
		})
		killed = migrations.Up(ctx, newMigrations(t, dying, 3), time.Now, nil) != nil
		kill()
		if got := pendingNumbers(t, up(t, o)); got != nil {
			t.Errorf("killed after %d calls: %v is pending still", calls, got)
		}
		if s, err := Open(t.Context(), o); err != nil || s.Meta().Shards != 3 {
			t.Errorf("killed after %d calls: %v", calls, err)
		}
		if !killed && calls < 20 {
			t.Errorf("it was done after %d calls: that proves little", calls)
		}
	}
}

// Without its description a store is not made another one.
func TestStoreThatHasLostItsDescriptionIsNotMadeAnew(t *testing.T) {
	o := options(t)
	m := up(t, o)
	s, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := events.OpenJournal(t.Context(), s, events.EdgeTag{1}, [16]byte{1}); err != nil {
		t.Fatal(err)
	}
	deleteTable(t, m, metaTable)
	for range 2 { // the first has made an empty table
		err = migrations.Up(t.Context(), newMigrations(t, o, 5), time.Now, nil)
		if !errors.Is(err, events.ErrFatal) || !strings.Contains(err.Error(), m.s.name(metaTable)) || !strings.Contains(err.Error(), "restore it from a backup") {
			t.Errorf("%v, want ErrFatal that says what to do", err)
		}
	}
}

func TestStoreFromBeforeThereWereRecordsIsOpened(t *testing.T) {
	p := newPlace(t) // by CreateTables and Create
	if _, err := p.open(); err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if got := pendingNumbers(t, newMigrations(t, p.o, 0)); got != nil {
		t.Errorf("pending: %v, want nothing", got)
	}
}

func TestTableThatIsMissingIsMadeAgain(t *testing.T) {
	o := options(t)
	m := up(t, o)
	deleteTable(t, m, leasesTable)
	if got := pendingNumbers(t, m); !slices.Equal(got, []migrations.Number{1}) {
		t.Fatalf("pending %v, want 1", got)
	}
	up(t, o)
	s, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
}

// A store that goes on with an empty table has lost what stood there, and nobody is told.
func TestTableWhoseContentIsLostIsNotMadeAgainEmpty(t *testing.T) {
	for _, tt := range []struct {
		lost *table
		says string
	}{
		{timelinesTable, " --stopped`, which makes the timelines again"},
		{checkpointsTable, "restore it from a backup"},
		{logTable, "restore it from a backup"},
	} {
		o := options(t)
		m := up(t, o)
		deleteTable(t, m, tt.lost)
		err := migrations.Up(t.Context(), m, time.Now, nil)
		if err == nil || !strings.Contains(err.Error(), "no table "+m.s.name(tt.lost)) || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v, want the table and %q", tt.lost.suffix, err, tt.says)
		}
		if st, err := m.s.describeTable(t.Context(), tt.lost); err != nil || !st.Missing {
			t.Errorf("%s: %+v, %v; want that it is not made", tt.lost.suffix, st, err)
		}
	}
}

// The restore may end right after it has made the table.
func TestTimelinesThatWereLostAreNotServedEmpty(t *testing.T) {
	o := options(t)
	deleteTable(t, up(t, o), timelinesTable)
	s, err := OpenRestored(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	if s, err := Open(t.Context(), o); !errors.Is(err, migrations.ErrRestoring) {
		if err == nil {
			s.Close()
		}
		t.Errorf("open: %v, want ErrRestoring", err)
	}
}

func TestStoreOfANewerProgramIsRefused(t *testing.T) {
	o := options(t)
	m := up(t, o)
	if err := m.Record(t.Context(), migrations.Record{Number: 4, Name: "rooms", Program: "v9"}); err != nil {
		t.Fatal(err)
	}
	_, open := Open(t.Context(), o)
	_, restored := OpenRestored(t.Context(), o)
	for what, err := range map[string]error{"open": open, "restored": restored, "up": migrations.Up(t.Context(), m, time.Now, nil)} {
		if !errors.Is(err, events.ErrFormat) || !strings.Contains(err.Error(), "step 4 (rooms), applied by v9") {
			t.Errorf("%s: %v, want ErrFormat, the step and the program", what, err)
		}
	}
}

// What point-in-time recovery leaves out is made, and what is missing of the source named.
func TestRestoredTablesAreCompleted(t *testing.T) {
	o := options(t)
	m := up(t, o)
	deleteTable(t, m, timelinesTable)
	deleteTable(t, m, leasesTable)
	if _, err := m.s.db.UpdateTable(t.Context(), &dynamodb.UpdateTableInput{TableName: aws.String(m.s.name(logTable)), DeletionProtectionEnabled: aws.Bool(false)}); err != nil {
		t.Fatal(err)
	}
	s, err := OpenRestored(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	if got := pendingNumbers(t, m); got != nil {
		t.Errorf("pending: %v, want nothing", got)
	}
	deleteTable(t, m, checkpointsTable)
	if _, err := OpenRestored(t.Context(), o); err == nil || !strings.Contains(err.Error(), m.s.name(checkpointsTable)+": restore it from the backup") {
		t.Errorf("without checkpoints: %v", err)
	}
}

func TestStoreThatIsHalfRestoredIsRefused(t *testing.T) {
	o := options(t)
	up(t, o)
	open := func() *Store {
		s, err := OpenRestored(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		return s
	}
	begin := func(s *Store, id byte, want migrations.Phase) {
		t.Helper()
		if phase, err := s.BeginRestore(t.Context(), events.StoreID{id}); err != nil || phase != want {
			t.Fatalf("begin: phase %d, %v; want %d", phase, err, want)
		}
		if _, err := Open(t.Context(), o); !errors.Is(err, migrations.ErrRestoring) {
			t.Errorf("open: %v, want ErrRestoring", err)
		}
	}
	first, second := open(), open()
	begin(first, 1, migrations.Emptying)
	if err := first.SetPhase(t.Context(), migrations.Filling); err != nil {
		t.Fatal(err)
	}
	begin(second, 2, migrations.Filling)
	if err := first.SetPhase(t.Context(), migrations.Whole); !errors.Is(err, events.ErrConflict) {
		t.Errorf("the first ends: %v, want ErrConflict", err)
	}
	for range 2 { // an answer may have been lost
		if err := second.SetPhase(t.Context(), migrations.Whole); err != nil {
			t.Fatal(err)
		}
	}
	s, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if want := (projections.Meta{Store: events.StoreID{2}, Shards: 3}); s.Meta() != want {
		t.Errorf("%+v, want %+v", s.Meta(), want)
	}
}
