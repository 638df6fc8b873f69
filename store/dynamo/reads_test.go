package dynamo

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"timberline/events"
	"timberline/projections"
	"timberline/store/dynamo/faults"
)

// always chooses one fault for one kind of call.
func always(operation string, f faults.Fault) func(faults.Call) faults.Fault {
	return func(c faults.Call) faults.Fault {
		if c.Operation == operation {
			return f
		}
		return faults.None
	}
}

// Twenty records of 100 KiB are two pages of DynamoDB, which ends a page at 1 MB.
func TestReadsGoOnBehindThePageThatDynamoDBCuts(t *testing.T) {
	p := newPlace(t)
	s := openAs(t, p)
	const records, size = 20, 100 << 10
	rec := func(n int) events.Record { return bytes.Repeat([]byte{byte(n)}, size) }
	var items []projections.Stored
	for n := 1; n <= records; n++ {
		if _, err := s.Append(t.Context(), "j:1", events.Offset(n), rec(n)); err != nil {
			t.Fatal(err)
		}
		items = append(items, projections.Stored{Timeline: projections.Timeline{User: "ann"}, Last: events.Seq(n), Data: rec(n)})
	}
	if err := s.PutItems(t.Context(), items); err != nil {
		t.Fatal(err)
	}
	net := &faults.Transport{Next: http.DefaultTransport, Choose: always("", faults.None)}
	s = openAs(t, p, func(o *Options) { o.Transport = net })
	for budget, want := range map[int]int{1: 1, 3 * size: 3, 12 * size: 12, 4 << 20: records} {
		recs, err := s.ReadLog(t.Context(), "j:1", 1, budget, events.Strong)
		if err != nil || len(recs) != want {
			t.Fatalf("read of %d bytes: %d records, %v; want %d", budget, len(recs), err, want)
		}
		for i := range recs {
			if !bytes.Equal(recs[i], rec(i+1)) {
				t.Errorf("record %d is another", i+1)
			}
		}
		found, err := s.ReadItems(t.Context(), projections.Timeline{User: "ann"}, 1, budget, events.Relaxed)
		if err != nil || len(found) != want {
			t.Fatalf("read of %d bytes: %d items, %v; want %d", budget, len(found), err, want)
		}
	}
}

func TestShortPagesAreNoGap(t *testing.T) {
	p := newPlace(t)
	s := openAs(t, p)
	for n := range 10 {
		if _, err := s.CreateJournal(t.Context(), events.Row{Number: uint64(n + 1)}); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Append(t.Context(), "j:1", events.Offset(n+1), events.Record("x")); err != nil {
			t.Fatal(err)
		}
	}
	net := &faults.Transport{Next: http.DefaultTransport, Choose: always("Query", faults.Short)}
	s = openAs(t, p, func(o *Options) { o.Transport = net })
	if recs, err := s.ReadLog(t.Context(), "j:1", 1, 1<<20, events.Strong); err != nil || len(recs) != 10 {
		t.Errorf("%d records, %v; want 10", len(recs), err)
	}
	if rows, err := s.ListJournals(t.Context(), 0, events.Strong); err != nil || len(rows) != 10 {
		t.Errorf("%d rows, %v; want 10", len(rows), err)
	}
	if net.Met()[faults.Short] < 20 {
		t.Errorf("%v: the pages were not short", net.Met())
	}
}

// A poll at the end of a journal, and a look at one record, must not pay for a megabyte.
func TestReadsAskForNoMoreThanTheyWant(t *testing.T) {
	for _, test := range []struct{ bytes, each, want int }{
		{1, 16 << 10, 1}, {4 << 20, 16 << 10, 257}, {1 << 20, 1 << 10, 1025}, {0, 1, 1}, {unbounded, 64, 0}, {1 << 20, 1, 0},
	} {
		got := limit(test.bytes, test.each)
		if int(aws.ToInt32(got)) != test.want || (got == nil) != (test.want == 0) {
			t.Errorf("%d bytes of items of %d: %d, want %d", test.bytes, test.each, aws.ToInt32(got), test.want)
		}
	}
}

// limits are the consistent reads and limits that queries have asked for.
type asked struct {
	consistent, relaxed int
}

func (a *asked) choose(c faults.Call) faults.Fault {
	if c.Operation == "Query" {
		if strings.Contains(string(c.Body), `"ConsistentRead":true`) {
			a.consistent++
		} else {
			a.relaxed++
		}
	}
	return faults.None
}

func TestReadsAreAsConsistentAsAsked(t *testing.T) {
	a := new(asked)
	s := openNew(t, func(o *Options) { o.Transport = &faults.Transport{Next: http.DefaultTransport, Choose: a.choose} })
	for c, want := range map[events.Consistency]asked{events.Relaxed: {0, 4}, events.Latest: {4, 0}, events.Strong: {4, 0}} {
		*a = asked{}
		s.ReadLog(t.Context(), "j:1", 1, 1, c)
		s.ReadItems(t.Context(), projections.Timeline{User: "ann"}, 1, 1, c)
		s.NewestItem(t.Context(), projections.Timeline{User: "ann"}, c)
		s.ListJournals(t.Context(), 0, c)
		if *a != want {
			t.Errorf("consistency %d: %+v, want %+v", c, *a, want)
		}
	}
	*a = asked{}
	s.LastCheckpoint(t.Context(), 0, events.Strong)
	s.ReadCheckpoints(t.Context(), 0, 1, 1)
	s.ListLeases(t.Context(), "shard")
	if want := (asked{3, 0}); *a != want {
		t.Errorf("checkpoints and leases: %+v, want %+v", *a, want)
	}
}

// put writes an item as it is.
func putRaw(t *testing.T, s *Store, table *table, i item) {
	t.Helper()
	_, err := s.db.PutItem(t.Context(), &dynamodb.PutItemInput{TableName: aws.String(s.name(table)), Item: i})
	if err != nil {
		t.Fatal(err)
	}
}

// What is not what this package writes is damage, and named by its place.
func TestItemWithoutItsValueIsDamage(t *testing.T) {
	s := openNew(t)
	for what, test := range map[string]struct {
		place place
		named string
		read  func() error
	}{
		"record": {recordPlace("j:1", 1), `journal "j:1", offset 1`, func() error {
			_, err := s.ReadLog(t.Context(), "j:1", 1, 100, events.Strong)
			return err
		}},
		"record that is met by an append": {recordPlace("j:2", 1), `journal "j:2", offset 1`, func() error {
			_, err := s.Append(t.Context(), "j:2", 1, events.Record("x"))
			return err
		}},
		"row": {rowPlace(1), "number 1", func() error {
			_, err := s.ListJournals(t.Context(), 0, events.Strong)
			return err
		}},
		"row that is updated": {rowPlace(1), "number 1", func() error {
			return s.UpdateJournal(t.Context(), events.Row{Number: 1})
		}},
		"checkpoint": {checkpointPlace(3, 4), `shard "3", n 4`, func() error {
			_, _, err := s.LastCheckpoint(t.Context(), 3, events.Strong)
			return err
		}},
		"item": {itemPlace(projections.Timeline{User: "ann"}, 5), `user "ann", last 5`, func() error {
			_, err := s.NewestItem(t.Context(), projections.Timeline{User: "ann"}, events.Strong)
			return err
		}},
	} {
		for kind, value := range map[string]types.AttributeValue{"none": nil, "text": &types.AttributeValueMemberS{Value: "x"}} {
			i := test.place.key()
			if value != nil {
				i[test.place.table.value] = value
			}
			putRaw(t, s, test.place.table, i)
			if err := test.read(); !errors.Is(err, events.ErrCorrupt) || !strings.Contains(err.Error(), test.named) {
				t.Errorf("%s with a value of kind %s: %v, want ErrCorrupt with %q", what, kind, err, test.named)
			}
		}
	}
}

func TestDamagedRowIsNamedAndNotServed(t *testing.T) {
	s := openNew(t)
	sealed := events.Row{Number: 1, Counter: 5}.Seal()
	for i := range sealed {
		damaged := bytes.Clone(sealed)
		damaged[i] ^= 1 << (i % 8)
		putRaw(t, s, journalsTable, rowPlace(1).holding(damaged))
		for what, read := range map[string]func() error{
			"list":   func() error { _, err := s.ListJournals(t.Context(), 0, events.Strong); return err },
			"update": func() error { return s.UpdateJournal(t.Context(), events.Row{Number: 1}) },
			"create": func() error { _, err := s.CreateJournal(t.Context(), events.Row{Number: 1}); return err },
		} {
			if err := read(); !errors.Is(err, events.ErrCorrupt) || !strings.Contains(err.Error(), "row of journal 1") {
				t.Fatalf("%s with byte %d changed: %v; want ErrCorrupt that names the journal", what, i, err)
			}
		}
	}
}

func TestDamagedDescriptionIsNamed(t *testing.T) {
	p := newPlace(t)
	s := openAs(t, p)
	putRaw(t, s, metaTable, metaPlace.holding([]byte("no such thing")))
	if _, err := Open(t.Context(), p.o); !errors.Is(err, events.ErrCorrupt) || !strings.Contains(err.Error(), "the description of the store") {
		t.Errorf("%v, want ErrCorrupt that names it", err)
	}
	if _, err := Create(t.Context(), p.o, projections.Meta{Store: events.StoreID{1}, Shards: 1}); !errors.Is(err, events.ErrCorrupt) {
		t.Errorf("%v, want ErrCorrupt", err)
	}
	putRaw(t, s, metaTable, metaPlace.holding(sealMeta(meta{format: DataFormat + 1, id: events.StoreID{1}, shards: 1})))
	if _, err := Open(t.Context(), p.o); !errors.Is(err, events.ErrFormat) || !strings.Contains(err.Error(), fmt.Sprint("format ", DataFormat+1)) {
		t.Errorf("%v, want ErrFormat that names the format", err)
	}
}

func TestDamagedLeaseIsNamed(t *testing.T) {
	s := openNew(t)
	putRaw(t, s, leasesTable, item{"kind": &types.AttributeValueMemberS{Value: "shard"}, "name": &types.AttributeValueMemberS{Value: "7"}})
	if _, err := s.ListLeases(t.Context(), "shard"); !errors.Is(err, events.ErrCorrupt) || !strings.Contains(err.Error(), `"7"`) {
		t.Errorf("%v, want ErrCorrupt that names the lease", err)
	}
}
