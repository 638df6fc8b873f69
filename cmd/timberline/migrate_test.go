package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"timberline/client"
	"timberline/events"
	"timberline/sim/servers"
	"timberline/store/dynamo"
)

// migrateFlags lead to a store in DynamoDB that there is not yet.
func migrateFlags(t *testing.T) (flags []string, o dynamo.Options) {
	t.Helper()
	d := dynamoFlags{prefix: "migrate-" + rand.Text(), endpoint: servers.DynamoDB(t).URL(), region: "us-east-1"}
	o, err := d.options(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return []string{"--store", "dynamodb", "--dynamodb-prefix", d.prefix, "--dynamodb-endpoint", d.endpoint, "--dynamodb-region", d.region}, o
}

func TestMigrateAsksForWhatIsMissing(t *testing.T) {
	for _, tt := range []struct {
		args []string
		says string
	}{
		{nil, "want one of plan, up, status, restored"},
		{[]string{"plan", "up"}, "want one of plan, up, status, restored"},
		{[]string{"plan", "--data", "d", "up"}, "want one of plan, up, status, restored"},
		{[]string{"down"}, `"down" is none of`},
		{[]string{"plan", "--store", "mysql"}, "--store is"},
		{[]string{"plan", "--shards", "5000"}, "--shards is 5000"},
		{[]string{"plan", "--data", ""}, "--data is empty"},
		{[]string{"restored", "--store", "dynamodb"}, "--stopped is missing: stop all edges, projectors and relays"},
	} {
		tl(t, append([]string{"migrate"}, tt.args...)...).want(t, exitUsage, "", tt.says)
	}
	tl(t, "migrate", "restored", "--data", filepath.Join(t.TempDir(), "none")).want(t, exitFailed, "", "there is no store in")
}

func TestFolderIsMigrated(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	for _, what := range []string{"plan", "status"} {
		tl(t, "migrate", what, "--data", data).want(t, exitOK, "step 1, data folder", "")
	}
	if _, err := os.Stat(data); err == nil {
		t.Error("the folder was made by looking at it")
	}
	tl(t, "migrate", "up", "--data", data, "--shards", "3").want(t, exitOK, "applied: 2", "step 1, data folder: makes the store, with its id")
	tl(t, "migrate", "--shards", "3", "--data", data, "up").want(t, exitOK, "nothing was pending", "")
	tl(t, "migrate", "up", "--data", data, "--shards", "4").want(t, exitUsage, "", "--shards is 4, but the store was created with 3, which it keeps")
	tl(t, "migrate", "plan", "--data", data).want(t, exitOK, "nothing is pending", "")
	o := tl(t, "migrate", "status", "--data", data, "--json").want(t, exitOK, "", "")
	var info stepInfo
	if err := json.Unmarshal([]byte(o.lines()[0]), &info); err != nil || info.State != "applied" || info.Program == "" || time.Since(*info.Applied) > time.Minute {
		t.Errorf("%s: %v", o.out, err)
	}
	p := startProcess(t, "--data", data, "--listen", "127.0.0.1:0", "--shards", "3")
	for _, what := range []string{"plan", "up", "status", "restored"} {
		tl(t, "migrate", what, "--data", data).want(t, exitFailed, "", "in use by another process")
	}
	p.end(os.Interrupt)
}

func TestTablesAreMigrated(t *testing.T) {
	flags, _ := migrateFlags(t)
	tl(t, with("migrate", []string{"plan"}, flags...)...).want(t, exitOK, "step 2, store\n  changes: makes the store's random id, and its 8 shards", "")
	tl(t, with("migrate", []string{"up"}, append(flags, "--shards", "5", "--json")...)...).want(t, exitOK, `{"number":2,"name":"store","state":"applied"}`, "step 1, tables")
	tl(t, with("migrate", []string{"plan"}, flags...)...).want(t, exitOK, "nothing is pending", "")
	tl(t, with("migrate", []string{"up"}, append(flags, "--shards", "8")...)...).want(t, exitUsage, "", "--shards is 8, but the store was created with 5, which it keeps")
	o := tl(t, with("migrate", []string{"status"}, flags...)...).want(t, exitOK, "step 1, tables: applied 20", "")
	if n := len(o.lines()); n != 3 {
		t.Errorf("%d lines, want one for each step:\n%s", n, o.out)
	}
}

func TestStoreInUseIsNotRestored(t *testing.T) {
	flags, o := migrateFlags(t)
	tl(t, with("migrate", []string{"up"}, flags...)...).want(t, exitOK, "applied: 3", "")
	s, err := dynamo.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	row, err := events.OpenJournal(t.Context(), s, events.EdgeTag{1}, [16]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	lookAtLives = 300 * time.Millisecond
	defer func() { lookAtLives = lookAtLivesFor }()
	ctx, stop := context.WithCancel(t.Context())
	lives := make(chan error)
	go func() { // an edge's sign of life
		for ctx.Err() == nil {
			row.Counter++
			if err := s.UpdateJournal(ctx, row); err != nil && ctx.Err() == nil {
				lives <- err
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
		lives <- nil
	}()
	tl(t, with("migrate", []string{"restored"}, append(flags, "--stopped")...)...).want(t, exitFailed, "", "journal j:1 is in use right now: stop all edges")
	stop()
	if err := <-lives; err != nil {
		t.Fatal(err)
	}
	if again, err := dynamo.Open(t.Context(), o); err != nil || again.Meta() != s.Meta() {
		t.Errorf("%v: the store is %+v, want %+v as before", err, again.Meta(), s.Meta())
	}
	out := tl(t, with("migrate", []string{"restored"}, append(flags, "--stopped", "--json")...)...).want(t, exitOK, `"checkpoints_cut":0`, "the timelines are empty").out
	var info restoredInfo
	again, err := dynamo.Open(t.Context(), o)
	if err := errors.Join(err, json.Unmarshal([]byte(out), &info)); err != nil || again.Meta().Store.String() != info.Store || again.Meta().Store == s.Meta().Store {
		t.Errorf("%v: %s is said to be the new id, it is %v and was %v", err, info.Store, again.Meta().Store, s.Meta().Store)
	}
}

// A phone is a device whose cursor outlives its connections.
type phone struct {
	t      *testing.T
	file   string
	server *process
}

// get connects and takes messages until n have come, and tells of a reset.
func (p phone) get(n int) (texts []string, reset events.StoreID) {
	p.t.Helper()
	token := strings.TrimSpace(tl(p.t, "token", "--data", p.server.Data, "--user", "bob", "--device", "phone").want(p.t, exitOK, "", "").out)
	file, err := client.OpenFile(p.file, client.FileOptions{})
	if err != nil {
		p.t.Fatal(err)
	}
	came := make(chan string, 100)
	resets := make(chan events.StoreID, 1)
	c, err := client.Dial(p.server.Listen[0], client.Options{
		Store: file, ServerKey: p.server.ServerKey,
		Token:   func(context.Context) (string, error) { return token, nil },
		OnReset: func(id events.StoreID) { resets <- id },
		OnMessage: func(m client.Message) error {
			came <- fmt.Sprintf("%d %s", m.Seq, m.Event.Body)
			return nil
		},
	})
	if err != nil {
		p.t.Fatal(err)
	}
	defer c.Close()
	for len(texts) < n {
		select {
		case text := <-came:
			texts = append(texts, text)
		case <-time.After(20 * time.Second):
			p.t.Fatalf("%q came, want %d", texts, n)
		}
	}
	select {
	case reset = <-resets:
	default:
	}
	return texts, reset
}

// A folder is copied, life goes on, and the copy is put back: who saw more than it has is
// told, and reads anew.
func TestRestoredFolderTellsItsClients(t *testing.T) {
	server, flags := newServer(t)
	say := func(text string) {
		t.Helper()
		tl(t, with("send", flags, "--as", "alice", "--to", "bob", text)...).want(t, exitOK, "", "")
	}
	restart := func() {
		t.Helper()
		server = startProcess(t, "--data", server.Data, "--listen", server.Listen[0])
	}
	bob := phone{t, filepath.Join(t.TempDir(), "bob"), server}
	want := func(reset events.StoreID, texts ...string) {
		t.Helper()
		bob.server = server
		if got, id := bob.get(len(texts)); fmt.Sprint(got) != fmt.Sprint(texts) || id != reset {
			t.Fatalf("%q came, reset to %v; want %q, %v", got, id, texts, reset)
		}
	}
	stop := func() {
		t.Helper()
		if err := server.end(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
	}
	say("one")
	say("two")
	want(events.StoreID{}, "1 one", "2 two")
	stop()
	backup := filepath.Join(t.TempDir(), "backup")
	if err := os.CopyFS(backup, os.DirFS(storePath(server.Data))); err != nil {
		t.Fatal(err)
	}
	restart()
	say("three")
	want(events.StoreID{}, "3 three")
	stop()
	was := server.Store

	if err := errors.Join(os.RemoveAll(storePath(server.Data)), os.CopyFS(storePath(server.Data), os.DirFS(backup))); err != nil {
		t.Fatal(err)
	}
	tl(t, "migrate", "restored", "--data", server.Data, "--copied").want(t, exitOK, "the store is whole", "shard 1 of 1")
	restart()
	if server.Store == was {
		t.Fatalf("the store is %s as before", was)
	}
	id, err := events.ParseID(server.Store)
	if err != nil {
		t.Fatal(err)
	}
	say("four")
	want(events.StoreID(id), "1 one", "2 two", "3 four")
	stop()
}
