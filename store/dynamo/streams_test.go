package dynamo

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"timberline/events"
	"timberline/projections"
	"timberline/projections/relay"
)

// commit appends a checkpoint with an item for each user.
func commit(t *testing.T, s *Store, n projections.CheckpointNumber, users ...events.User) {
	t.Helper()
	var items []projections.Stored
	for _, u := range users {
		i := projections.Item{First: events.Seq(n), Checkpoint: n, Newest: events.ID{byte(n)}, Entries: []projections.Entry{{Event: []byte("event")}}}
		items = append(items, i.Encode(projections.Timeline{User: u}))
	}
	if _, err := s.Commit(t.Context(), 0, n, []byte("checkpoint"), items); err != nil {
		t.Fatal(err)
	}
}

// readOn reads from a place until so many changes came.
func readOn(t *testing.T, s *Stream, place string, want int) (all []relay.Change, last string) {
	t.Helper()
	shards, err := s.Shards(t.Context())
	if err != nil || len(shards) != 1 {
		t.Fatalf("shards %v, %v, want one: it is the emulator's", shards, err)
	}
	next, err := s.Seek(t.Context(), shards[0].Name, place)
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(30 * time.Second); len(all) < want; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d changes came, want %d", len(all), want)
		}
		page, err := s.Read(t.Context(), next)
		if err != nil {
			t.Fatal(err)
		}
		if page.Place != "" {
			last = page.Place
		}
		all, next = append(all, page.Changes...), page.Next
	}
	return all, last
}

func TestStreamTellsOfItemsInOrderAndGoesOnFromAPlace(t *testing.T) {
	p := newPlace(t)
	s, err := p.open()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	stream := NewStream(s)
	for n := range projections.CheckpointNumber(3) {
		commit(t, s, n+1, "ann", "ben")
	}
	came, place := readOn(t, stream, "", 6)
	seqs := make(map[events.User][]events.Seq)
	for _, c := range came {
		item, err := c.Decode()
		if err != nil {
			t.Fatalf("change of %s: %v", c.User, err)
		}
		if age := time.Since(c.At); age > 2*time.Minute || item.Last() != c.Last {
			t.Errorf("item %+v came as of seq %d, %v old", item, c.Last, age)
		}
		seqs[c.User] = append(seqs[c.User], c.Last)
	}
	for _, u := range []events.User{"ann", "ben"} {
		if want := []events.Seq{1, 2, 3}; !slices.Equal(seqs[u], want) {
			t.Errorf("items of %s came as %v, want %v", u, seqs[u], want)
		}
	}
	commit(t, s, 4, "cat")
	came, _ = readOn(t, stream, place, 1)
	if len(came) != 1 || came[0].User != "cat" {
		t.Errorf("%v came from the place on, want cat's alone", came)
	}
}

// A script answers calls, by operation, as told.
type script map[string][]string

func (s script) RoundTrip(r *http.Request) (*http.Response, error) {
	_, operation, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
	answers := s[operation]
	if len(answers) == 0 {
		return nil, fmt.Errorf("%s was not to be called", operation)
	}
	if len(answers) > 1 {
		s[operation] = answers[1:]
	}
	body, _ := io.ReadAll(r.Body)
	status := http.StatusOK
	if strings.Contains(answers[0], "__type") {
		status = http.StatusBadRequest
	}
	answer := strings.ReplaceAll(answers[0], "ASKED", strings.ReplaceAll(string(body), `"`, `\"`))
	return &http.Response{
		StatusCode: status, Header: http.Header{"Content-Type": {"application/x-amz-json-1.0"}},
		Body: io.NopCloser(strings.NewReader(answer)), Request: r,
	}, nil
}

// scripted returns a stream whose store answers as told.
func scripted(t *testing.T, s script) *Stream {
	t.Helper()
	if s["DescribeTable"] == nil {
		s["DescribeTable"] = []string{`{"Table":{"LatestStreamArn":"arn:one"}}`}
	}
	o := options(t)
	o.Transport, o.Attempts, o.Backoff = s, 1, time.Millisecond
	store, err := newStore(o)
	if err != nil {
		t.Fatal(err)
	}
	return NewStream(store)
}

func TestShardsAreReadToTheLastPage(t *testing.T) {
	s := scripted(t, script{"DescribeStream": {
		`{"StreamDescription":{"Shards":[{"ShardId":"a"},{"ShardId":"b","ParentShardId":"a"}],"LastEvaluatedShardId":"b"}}`,
		`{"StreamDescription":{"Shards":[{"ShardId":"c","ParentShardId":"b"}]}}`,
	}})
	got, err := s.Shards(t.Context())
	if want := []relay.Shard{{Name: "a"}, {Name: "b", Parent: "a"}, {Name: "c", Parent: "b"}}; err != nil || !slices.Equal(got, want) {
		t.Errorf("shards %v, %v, want %v", got, err, want)
	}
}

func TestStreamThatWasSwitchedOnAgainIsFound(t *testing.T) {
	s := scripted(t, script{
		"DescribeTable": {`{"Table":{"LatestStreamArn":"arn:one"}}`, `{"Table":{"LatestStreamArn":"arn:two"}}`},
		"DescribeStream": {
			`{"StreamDescription":{"StreamStatus":"DISABLED","Shards":[{"ShardId":"a"}]}}`,
			`{"__type":"ResourceNotFoundException","message":"ASKED"}`,
		},
	})
	if _, err := s.Shards(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Shards(t.Context()); err == nil || !strings.Contains(err.Error(), "arn:two") {
		t.Errorf("%v, want that the new stream was asked for", err)
	}
}

func TestStreamErrorsThatARelayActsOnAreNamed(t *testing.T) {
	for _, test := range []struct {
		kind string
		want error
	}{
		{"ExpiredIteratorException", relay.ErrExpired},
		{"TrimmedDataAccessException", relay.ErrTrimmed},
		{"ResourceNotFoundException", relay.ErrTrimmed},
	} {
		answer, _ := json.Marshal(map[string]string{"__type": "com.amazonaws.dynamodb.v20120810#" + test.kind})
		s := scripted(t, script{"GetRecords": {string(answer)}, "GetShardIterator": {string(answer)}})
		if _, err := s.Read(t.Context(), "iterator"); !errors.Is(err, test.want) {
			t.Errorf("read: %s is %v, want %v", test.kind, err, test.want)
		}
		if _, err := s.Seek(t.Context(), "shard", "7"); !errors.Is(err, test.want) {
			t.Errorf("seek: %s is %v, want %v", test.kind, err, test.want)
		}
	}
	s := scripted(t, script{"GetRecords": {`{"__type":"LimitExceededException"}`}})
	if _, err := s.Read(t.Context(), "iterator"); err == nil || errors.Is(err, relay.ErrExpired) || errors.Is(err, relay.ErrTrimmed) {
		t.Errorf("throttled: %v, want an error that is neither", err)
	}
}

func TestRecordsThatAreNoItemsMoveThePlaceOnly(t *testing.T) {
	s := scripted(t, script{"GetRecords": {
		`{"NextShardIterator":"next","Records":[
			{"eventName":"REMOVE","dynamodb":{"SequenceNumber":"7","Keys":{"user":{"S":"ann"},"last":{"N":"1"}}}}]}`,
		`{"Records":[{"eventName":"INSERT","dynamodb":{"SequenceNumber":"8","NewImage":{"user":{"S":"ann"}}}}]}`,
	}})
	page, err := s.Read(t.Context(), "iterator")
	if err != nil || page.Place != "7" || page.Next != "next" || len(page.Changes) > 0 {
		t.Errorf("%+v, %v, want no changes, and the place", page, err)
	}
	page, err = s.Read(t.Context(), "iterator")
	if err != nil || page.Place != "8" || page.Next != "" || len(page.Changes) != 1 {
		t.Fatalf("%+v, %v, want one change, and the end", page, err)
	}
	if _, err := page.Changes[0].Decode(); !errors.Is(err, events.ErrCorrupt) {
		t.Errorf("what has no item decodes: %v, want events.ErrCorrupt", err)
	}
}

func TestIteratorsBeginBehindThePlaceOrAtTheOldest(t *testing.T) {
	s := scripted(t, script{"GetShardIterator": {`{"ShardIterator":"ASKED"}`}})
	for place, want := range map[string]string{"": "TRIM_HORIZON", "77": "AFTER_SEQUENCE_NUMBER"} {
		asked, err := s.Seek(t.Context(), "shard", place)
		if err != nil || !strings.Contains(asked, want) || !strings.Contains(asked, place) {
			t.Errorf("seek behind %q asks %s, %v, want %s", place, asked, err, want)
		}
	}
}

// Nobody is told of items that those who read may not see yet; and of one that was put
// quietly and then in turn everybody is.
func TestStreamPassesOverQuietItems(t *testing.T) {
	p := newPlace(t)
	s, err := p.open()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	item := func(v projections.Version, u events.User, quiet bool) projections.Stored {
		i := projections.Item{First: 1, Checkpoint: 1, Newest: events.ID{1}, Entries: []projections.Entry{{Event: []byte("event")}}}
		stored := i.Encode(projections.Timeline{Version: v, User: u})
		stored.Quiet = quiet
		return stored
	}
	for _, i := range []projections.Stored{item(1, "ann", true), item(2, "ann", false), item(1, "ben", true), item(1, "ben", false), item(0, "zoe", false)} {
		if err := s.PutItems(t.Context(), []projections.Stored{i}); err != nil {
			t.Fatal(err)
		}
	}
	came, _ := readOn(t, NewStream(s), "", 3)
	var got []projections.Timeline
	for _, c := range came {
		if _, err := c.Decode(); err != nil {
			t.Error(err)
		}
		got = append(got, c.Timeline)
	}
	want := []projections.Timeline{{Version: 2, User: "ann"}, {Version: 1, User: "ben"}, {User: "zoe"}}
	if !slices.Equal(got, want) {
		t.Errorf("told of %v, want %v", got, want)
	}
}
