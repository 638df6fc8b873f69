package main

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
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
	"timberline/projections/lease"
	"timberline/sim/servers"
	"timberline/store/dynamo"
)

// A rightsRecorder stands before DynamoDB, and notes which role does what with which table.
type rightsRecorder struct {
	server string

	mu   sync.Mutex
	does map[string]map[string]bool // by role: action and resource, as a policy has them
}

// at returns where a role finds DynamoDB.
func (r *rightsRecorder) at(t *testing.T, role string) string {
	target, err := url.Parse(r.server)
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{Rewrite: func(p *httputil.ProxyRequest) { p.SetURL(target) }}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		body, err := io.ReadAll(q.Body)
		if err != nil {
			return // its caller is gone
		}
		r.note(t, role, q.Header.Get("X-Amz-Target"), body)
		q.Body = io.NopCloser(bytes.NewReader(body))
		proxy.ServeHTTP(w, q)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

func (r *rightsRecorder) note(t *testing.T, role, target string, body []byte) {
	var in struct {
		TableName     string
		RequestItems  map[string]any
		StreamArn     string
		ShardIterator string
	}
	service, action, ok := strings.Cut(target, ".")
	if err := json.Unmarshal(body, &in); err != nil || !ok {
		t.Errorf("%s: a request %q of %s (%v)", role, target, body, err)
	}
	var resources []string
	switch {
	case strings.HasPrefix(service, "DynamoDBStreams"):
		resources = []string{"timberline-timelines/stream/*"}
	case in.TableName != "":
		resources = []string{plainName(in.TableName)}
	default:
		for table := range in.RequestItems {
			resources = append(resources, plainName(table))
		}
	}
	if len(resources) == 0 {
		t.Errorf("%s: %s names no table: %s", role, action, body)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.does[role] == nil {
		r.does[role] = make(map[string]bool)
	}
	for _, resource := range resources {
		r.does[role]["dynamodb:"+action+" "+resource] = true
	}
}

// plainName returns a table's name with the prefix that is the default.
func plainName(table string) string { return "timberline" + table[strings.LastIndex(table, "-"):] }

// allowed returns what a role's policy allows.
func allowed(t *testing.T, role string) (all []string) {
	t.Helper()
	file, err := os.ReadFile(filepath.Join(root, "deploy/iam", role+".json"))
	if err != nil {
		t.Fatal(err)
	}
	var policy struct {
		Version   string
		Statement []struct {
			Sid, Effect      string
			Action, Resource oneOrMore
		}
	}
	d := json.NewDecoder(bytes.NewReader(file))
	d.DisallowUnknownFields()
	if err := d.Decode(&policy); err != nil || policy.Version != "2012-10-17" {
		t.Fatalf("policy of %s: version %q, %v", role, policy.Version, err)
	}
	for _, s := range policy.Statement {
		if s.Effect != "Allow" {
			t.Errorf("policy of %s: statement %s has effect %s", role, s.Sid, s.Effect)
		}
		for _, action := range s.Action {
			for _, resource := range s.Resource {
				name, ok := strings.CutPrefix(resource, "arn:aws:dynamodb:*:*:table/")
				if !ok || slices.Contains(all, action+" "+name) {
					t.Errorf("policy of %s: %s on %s is of no table, or said twice", role, action, resource)
				}
				all = append(all, action+" "+name)
			}
		}
	}
	slices.Sort(all)
	return all
}

// oneOrMore is a text, or a list of them.
type oneOrMore []string

// UnmarshalJSON reads either.
func (o *oneOrMore) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		*o = make(oneOrMore, 1)
		return json.Unmarshal(b, &(*o)[0])
	}
	return json.Unmarshal(b, (*[]string)(o))
}

// The services of the compose file run, with their own commands; a message goes through
// all of them; and each role does with DynamoDB what its policy allows, all of it and
// nothing else.
func TestComposedClusterCarriesMessagesWithTheLeastRights(t *testing.T) {
	t.Parallel()
	record := &rightsRecorder{server: servers.DynamoDB(t).URL(), does: make(map[string]map[string]bool)}
	l := newLaptop(t)
	l.amqp = servers.RabbitMQ(t).URL()
	l.dynamodb = func(role string) string { return record.at(t, role) }
	migrateTwice(t, l, record.server)
	plant(t, l, record.server)

	var all []*runs
	for _, name := range []string{"edge-1", "edge-2", "projector-1", "projector-2", "relay"} {
		all = append(all, l.start(t, name))
	}
	keys := []string{"--data", filepath.Join(l.volumes, "keys")}
	first, second := append(keys, "--server", "127.0.0.1:"+l.ports["4747"]), append(keys, "--server", "127.0.0.1:"+l.ports["4748"])
	lines := follow(t, second, "bob")
	tl(t, with("send", first, "--as", "alice", "--to", "bob", "hello")...).want(t, exitOK, "", "")
	select {
	case line := <-lines:
		if !strings.Contains(line, "hello") {
			t.Errorf("bob's inbox prints %s", line)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("the message does not come")
	}
	tl(t, with("send", second, "--as", "bob", "--to", "alice", "well met")...).want(t, exitOK, "", "")
	tlUntil(t, 1, "well met", with("inbox", first, "--as", "alice")...)
	tl(t, "log", "--data", filepath.Join(l.volumes, "edge-1")).want(t, exitOK, "hello", "")
	for _, r := range all {
		r.stop(t)
	}
	restore(t, l, record.server)

	for _, role := range []string{"migrate", "edge", "projector", "relay", "restore"} {
		record.hold(t, role)
	}
}

// hold holds what a role does against its policy, and those that it has besides: its own
// allows what it does, and nothing else.
func (r *rightsRecorder) hold(t *testing.T, role string, besides ...string) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	may := allowed(t, role)
	for _, action := range may {
		if !r.does[role][action] {
			t.Errorf("policy of %s: it never needs %s", role, action)
		}
	}
	for _, other := range besides {
		may = append(may, allowed(t, other)...)
	}
	for action := range r.does[role] {
		if !slices.Contains(may, action) {
			t.Errorf("policy of %s: it needs %s", role, action)
		}
	}
}

// An operator's commands, and a projector that trims, do with DynamoDB what their policies
// allow, all of it and nothing else.
func TestOperatorsCommandsHaveTheLeastRights(t *testing.T) {
	record := &rightsRecorder{server: servers.DynamoDB(t).URL(), does: make(map[string]map[string]bool)}
	l := &laptop{prefix: "operator-" + rand.Text()}
	tables := func(endpoint string) []string {
		return []string{"--dynamodb-prefix", l.prefix, "--dynamodb-endpoint", endpoint, "--dynamodb-region", "us-east-1"}
	}
	tl(t, with("migrate", nil, append([]string{"up", "--store", "dynamodb", "--shards", "2"}, tables(record.server)...)...)...).want(t, exitOK, "applied", "")
	s, err := dynamo.Open(t.Context(), options(t, l, record.server))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	first := fillTables(t, s, 21)
	fillTables(t, s, 21)
	on := func(command string, more ...string) outcome {
		return tl(t, append(append(with(command, nil, "--store", "dynamodb"), tables(record.at(t, "operator"))...), more...)...)
	}
	on("verify").want(t, exitOK, "80 timeline items: no difference", "")
	on("rebuild").want(t, exitOK, "shard 1: version 1 is read", "")
	on("rebuild", "--back").want(t, exitOK, "shard 1: version 0 is read", "")
	on("rebuild", "--drop", "1").want(t, exitOK, "shard 1: version 1 is dropped", "")
	on("rebuild", "--user", "bob").want(t, exitOK, "40 items written again", "")
	on("log", "--user", "bob").wantLines(t, 80)
	on("trace", first.String()).want(t, exitOK, "alice     seq 1", "")
	if err := s.DeleteItems(t.Context(), projections.Timeline{User: "bob"}, 9); err != nil {
		t.Fatal(err)
	}
	on("verify", "--repair").want(t, exitOK, " repaired", "")
	on("trim", "--keep", "10").want(t, exitOK, "2 of 2 timelines trimmed by 140 entries; 1 journal removed from the log", "")
	record.hold(t, "operator")

	fillTables(t, s, 21)
	p := startRole(t, "projector", append(tables(record.at(t, "trim")), "--bus", servers.RabbitMQ(t).URL(), "--trim-keep", "3", "--trim-every", "1s")...)
	for deadline := time.Now().Add(time.Minute); p.metric(t, "timberline_retention_journals_removed_total") == 0; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("nothing is trimmed\n%s", p.stderr)
		}
	}
	if err := p.end(os.Interrupt); err != nil {
		t.Errorf("%v\n%s", err, p.stderr)
	}
	record.hold(t, "trim", "projector")
}

// migrateTwice makes the tables, and once more others that were spoiled.
func migrateTwice(t *testing.T, l *laptop, server string) {
	t.Helper()
	l.once(t, "migrate")
	prefix := l.prefix
	defer func() { l.prefix = prefix }()
	l.prefix += "-spoiled"
	l.once(t, "migrate")
	spoil(t, l, server)
	l.once(t, "migrate")
}

// spoil takes away what backups of tables do not bring back, or somebody's hand: the stream,
// and protection.
func spoil(t *testing.T, l *laptop, server string) {
	t.Helper()
	db := dynamodb.NewFromConfig(options(t, l, server).AWS)
	for _, table := range []string{"log", "journals", "checkpoints", "meta", "rows"} {
		_, err := db.UpdateTable(t.Context(), &dynamodb.UpdateTableInput{TableName: aws.String(l.prefix + "-" + table), DeletionProtectionEnabled: aws.Bool(false)})
		if err != nil {
			t.Fatal(err)
		}
	}
	_, err := db.UpdateTable(t.Context(), &dynamodb.UpdateTableInput{
		TableName: aws.String(l.prefix + "-timelines"), StreamSpecification: &types.StreamSpecification{StreamEnabled: aws.Bool(false)},
	})
	if err != nil {
		t.Fatal(err)
	}
}

// plant puts a lease of a shard that the stream does not have: the relay deletes it; and
// a row of a projection: a restore does.
func plant(t *testing.T, l *laptop, server string) {
	t.Helper()
	store, err := dynamo.Open(t.Context(), options(t, l, server))
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	gone := lease.Lease{Kind: "stream", Name: "gone", Owner: "nobody", Counter: 1}
	if err := store.PutLease(t.Context(), lease.Lease{Kind: gone.Kind, Name: gone.Name}, gone); err != nil {
		t.Fatal(err)
	}
	if err := store.PutRows(t.Context(), []projections.Row{{Space: "p/some.1/alice", Key: "row", Checkpoint: 1}}); err != nil {
		t.Fatal(err)
	}
}

// restore makes a store whole whose tables came from backups; that of the log lacks what the
// second edge wrote. Then it goes on with a restore that was interrupted, of a store with two
// versions of its timelines.
func restore(t *testing.T, l *laptop, server string) {
	t.Helper()
	db := dynamodb.NewFromConfig(options(t, l, server).AWS)
	for offset := range 5 {
		_, err := db.DeleteItem(t.Context(), &dynamodb.DeleteItemInput{TableName: aws.String(l.prefix + "-log"), Key: map[string]types.AttributeValue{
			"journal": &types.AttributeValueMemberS{Value: "j:2"}, "offset": &types.AttributeValueMemberN{Value: strconv.Itoa(offset)},
		}})
		if err != nil {
			t.Fatal(err)
		}
	}
	store, err := dynamo.OpenRestored(t.Context(), options(t, l, server))
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	if err := store.UpdateJournal(t.Context(), events.Row{Number: 2, Ended: 5}); err != nil {
		t.Fatal(err)
	}
	spoil(t, l, server)
	endpoint := l.dynamodb("restore")
	restored := func() {
		tl(t, "migrate", "restored", "--stopped", "--store", "dynamodb", "--dynamodb-prefix", l.prefix, "--dynamodb-endpoint", endpoint, "--dynamodb-region", "us-east-1").
			want(t, exitOK, "the store is whole", "")
	}
	restored()
	tl(t, "rebuild", "--store", "dynamodb", "--dynamodb-prefix", l.prefix, "--dynamodb-endpoint", server, "--dynamodb-region", "us-east-1").
		want(t, exitOK, "version 1 is read", "")
	if _, err := store.BeginRestore(t.Context(), events.StoreID{2}); err != nil {
		t.Fatal(err)
	}
	if err := store.SetPhase(t.Context(), migrations.Filling); err != nil {
		t.Fatal(err)
	}
	restored()
}

// options returns how the test itself calls the store of a laptop.
func options(t *testing.T, l *laptop, server string) dynamo.Options {
	t.Helper()
	o, err := (&dynamoFlags{prefix: l.prefix, endpoint: server, region: "us-east-1"}).options(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return o
}
