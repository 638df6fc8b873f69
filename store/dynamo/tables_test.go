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
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"timberline/events"
	"timberline/migrations"
	"timberline/projections"
	"timberline/store/dynamo/faults"
)

func TestStoreThatIsNotThereSaysWhatToRun(t *testing.T) {
	o := options(t)
	wantOpenError := func(texts ...string) {
		t.Helper()
		s, err := Open(t.Context(), o)
		if err == nil {
			s.Close()
			t.Errorf("no error, want one with %q", texts)
			return
		}
		for _, text := range append(texts, "`timberline migrate up --store dynamodb`", o.Prefix) {
			if !strings.Contains(err.Error(), text) {
				t.Errorf("error %q, want one with %q", err, text)
			}
		}
	}
	wantOpenError("there is no table "+o.Prefix+"-log in region us-east-1", "correct prefix and region")
	if err := CreateTables(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	wantOpenError("do not say what store they are")
	s, err := newStore(o)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.db.DeleteTable(t.Context(), &dynamodb.DeleteTableInput{TableName: aws.String(s.name(leasesTable))}); err != nil {
		t.Fatal(err)
	}
	wantOpenError("there is no table " + o.Prefix + "-leases")
}

func TestStoreIsCreatedOnce(t *testing.T) {
	o := options(t)
	if err := CreateTables(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	want := projections.Meta{Store: events.StoreID{1, 2}, Shards: 7}
	if stands, err := Create(t.Context(), o, want); err != nil || stands != (projections.Meta{}) {
		t.Fatalf("%+v, %v", stands, err)
	}
	stands, err := Create(t.Context(), o, projections.Meta{Store: events.StoreID{3}, Shards: 2})
	if !errors.Is(err, events.ErrConflict) || stands != want {
		t.Errorf("created again: %+v, %v; want the first and ErrConflict", stands, err)
	}
	if err := migrations.Up(t.Context(), newMigrations(t, o, 0), time.Now, nil); err != nil {
		t.Fatal(err)
	}
	s, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if s.Meta() != want {
		t.Errorf("it is %+v, want %+v", s.Meta(), want)
	}
}

func TestStoreWithoutIDOrShardsIsNotCreated(t *testing.T) {
	id := events.StoreID{1}
	for _, m := range []projections.Meta{{Store: id}, {Shards: 1}, {Store: id, Shards: events.Slots + 1}} {
		if _, err := Create(t.Context(), options(t), m); err == nil || errors.Is(err, events.ErrFatal) {
			t.Errorf("%+v: %v, want it to be refused before DynamoDB is asked", m, err)
		}
	}
}

func TestTablesAreCreatedFromTwoPlacesAtOnceAndAgain(t *testing.T) {
	o := options(t)
	var errs [4]error
	var all sync.WaitGroup
	for i := range errs {
		all.Go(func() { errs[i] = CreateTables(t.Context(), o) })
	}
	all.Wait()
	if err := errors.Join(errs[:]...); err != nil {
		t.Fatal(err)
	}
	if err := CreateTables(t.Context(), o); err != nil {
		t.Errorf("again: %v", err)
	}
	status, err := DescribeTables(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	for _, st := range status {
		if st.Missing || !st.Active || len(st.Differs) > 0 {
			t.Errorf("%+v", st)
		}
	}
	if len(status) != len(tables) {
		t.Errorf("%d tables, want %d", len(status), len(tables))
	}
}

func TestTablesAreCreatedOnBadDays(t *testing.T) {
	p := &storePlace{o: options(t)}
	var nets []*faults.Transport
	for seed := range uint64(4) {
		net := badNet(p, seed)
		nets = append(nets, net)
		o := p.o
		o.Transport, o.Backoff = net, time.Millisecond
		if err := CreateTables(t.Context(), o); err != nil {
			t.Error(err)
		}
		net.Land()
	}
	openError := func() error {
		s, err := Open(t.Context(), p.o)
		if err == nil {
			s.Close()
		}
		return err
	}
	if err := openError(); err == nil || strings.Contains(err.Error(), "table test") {
		t.Errorf("%v, want that only the description is missing", err)
	}
	wantMet(t, nets)
}

func TestMissingTablesAreDescribed(t *testing.T) {
	status, err := DescribeTables(t.Context(), options(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, st := range status {
		if !st.Missing {
			t.Errorf("%+v, want it to be missing", st)
		}
	}
}

// A table as somebody may have made it by hand.
func TestTablesAreBroughtToTheirDefinition(t *testing.T) {
	o := options(t)
	s, err := newStore(o)
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range []*table{logTable, timelinesTable} {
		bare := *table
		bare.source, bare.stream = false, false
		if err := s.createTable(t.Context(), &bare); err != nil {
			t.Fatal(err)
		}
	}
	differs := func() (all []string) {
		status, err := DescribeTables(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		for _, st := range status {
			all = append(all, st.Differs...)
		}
		return all
	}
	before := strings.Join(differs(), "\n")
	for _, text := range []string{"no stream of new images", "not protected from deletion"} {
		if !strings.Contains(before, text) {
			t.Errorf("%q is not found in %q", text, before)
		}
	}
	if err := CreateTables(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	if left := differs(); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}

func TestTableOfSomebodyElseIsLeftAlone(t *testing.T) {
	for _, whose := range []*table{checkpointsTable, timelinesTable} {
		o := options(t)
		s, err := newStore(o)
		if err != nil {
			t.Fatal(err)
		}
		other := *whose
		other.partition = text("theirs")
		other.source, other.stream = false, false
		if err := s.createTable(t.Context(), &other); err != nil {
			t.Fatal(err)
		}
		describe := func() *types.TableDescription {
			t.Helper()
			out, err := s.db.DescribeTable(t.Context(), &dynamodb.DescribeTableInput{TableName: aws.String(s.name(whose))})
			if err != nil {
				t.Fatal(err)
			}
			return out.Table
		}
		before := describe()
		if err := CreateTables(t.Context(), o); !errors.Is(err, events.ErrFatal) || !strings.Contains(err.Error(), "its key is another") {
			t.Errorf("%v, want ErrFatal that says what is wrong", err)
		}
		if after := describe(); aws.ToBool(after.DeletionProtectionEnabled) != aws.ToBool(before.DeletionProtectionEnabled) || after.StreamSpecification != nil {
			t.Errorf("%s is changed: protected %v, stream %+v", s.name(whose), aws.ToBool(after.DeletionProtectionEnabled), after.StreamSpecification)
		}
	}
}

// A table that is on its way out is there still when it is to be created, and is not when it
// is waited for.
func TestTableThatIsBeingDeletedIsMadeAgain(t *testing.T) {
	o := options(t)
	if err := CreateTables(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	direct, err := newStore(o)
	if err != nil {
		t.Fatal(err)
	}
	leases := aws.String(direct.name(leasesTable))
	o.Transport = roundTrip(func(r *http.Request) (*http.Response, error) {
		answer, err := http.DefaultTransport.RoundTrip(r)
		if leases != nil && strings.HasSuffix(r.Header.Get("X-Amz-Target"), ".DescribeTable") { // all are there
			if _, err := direct.db.DeleteTable(r.Context(), &dynamodb.DeleteTableInput{TableName: leases}); err != nil {
				return nil, err
			}
			leases = nil
		}
		return answer, err
	})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := CreateTables(ctx, o); err != nil || leases != nil {
		t.Errorf("%v, deleted: %v", err, leases == nil)
	}
}

func TestDefinitionsAreWhatTheDesignAsksFor(t *testing.T) {
	for _, table := range tables {
		derived := table == timelinesTable || table == leasesTable
		if table.source == derived || table.stream != (table == timelinesTable) {
			t.Errorf("table %s: protected %v, stream %v", table.suffix, table.source, table.stream)
		}
	}
	if len(tables) != 7 || slices.Contains(tables, nil) {
		t.Errorf("%d tables", len(tables))
	}
	d := &types.TableDescription{KeySchema: logTable.keys(), AttributeDefinitions: logTable.attributes()}
	if got := logTable.differences(d); len(got) != 1 {
		t.Errorf("differences %q, want deletion protection only", got)
	}
}
