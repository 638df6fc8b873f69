package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/oklog/ulid/v2"

	"timberline/bus/local"
	"timberline/client"
	"timberline/events"
	"timberline/projections"
	"timberline/store/dynamo"
	"timberline/store/pebble"
)

// sendAll sends texts from alice to bob, and waits until they are in his timeline.
func sendAll(t *testing.T, flags []string, texts ...string) {
	t.Helper()
	for _, text := range texts {
		tl(t, with("send", flags, "--as", "alice", "--to", "bob", text)...).want(t, exitOK, "", "")
	}
	tlUntil(t, 1, "alice → bob\t"+texts[len(texts)-1]+"\n", with("inbox", flags, "--as", "bob")...)
}

// messageOf returns the ids of the message with a text: the event's, and the client's.
func messageOf(t *testing.T, data, text string) (id, message string) {
	t.Helper()
	for _, line := range tl(t, "log", "--data", data).want(t, exitOK, text, "").lines() {
		var l struct {
			Event struct{ ID, Message, Text string }
		}
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if l.Event.Text == text {
			return l.Event.ID, l.Event.Message
		}
	}
	t.Fatalf("no message says %q", text)
	return "", ""
}

// The same is told, and done, while a server has the store and when none has.
func TestStoreIsVerifiedRebuiltAndLookedInto(t *testing.T) {
	p, flags := newServer(t)
	sendAll(t, flags, "one", "two", "three")
	id, message := messageOf(t, p.Data, "two")
	look := func(t *testing.T, version string, items uint64) {
		t.Helper()
		tl(t, "verify", "--data", p.Data).want(t, exitOK, fmt.Sprintf(" %d timeline items: no difference", items), "")
		var r report
		o := tl(t, "verify", "--data", p.Data, "--json").want(t, exitOK, `"found":"0"`, "")
		if err := json.Unmarshal([]byte(o.out), &r); err != nil || r.Verified == nil || r.Verified.Items != items {
			t.Errorf("%s: %v", o.out, err)
		}
		for _, known := range []string{id, message, strings.ToLower(id)} {
			tl(t, "trace", "--data", p.Data, known).
				want(t, exitOK, "bob       seq 2, by checkpoint 2 of shard 0", "").want(t, exitOK, "record 3, event 0", "")
		}
		tl(t, "trace", "--data", p.Data, "--json", id).want(t, exitOK, `"user":"bob","shard":0,"version":`+version+`,"checkpoint":"2","seq":"2"`, "")
		tl(t, "log", "--data", p.Data, "--user", "bob", "--from", "1h").wantLines(t, 3)
		tl(t, "log", "--data", p.Data, "--user", "alice", "--to", "1h").wantLines(t, 0)
		tl(t, "log", "--data", p.Data, "--user", "carol").wantLines(t, 0)
		tl(t, "log", "--data", p.Data, "--conversation", "bob,alice").wantLines(t, 3)
		tl(t, "log", "--data", p.Data, "--conversation", "bob,carol").wantLines(t, 0)
	}
	look(t, "0", 6)
	tl(t, "rebuild", "--data", p.Data, "--status").want(t, exitOK, "shard 0: version 0 is read; the next rebuild makes 1", "")
	tl(t, "rebuild", "--data", p.Data).want(t, exitOK, "shard 0: version 1 is read from checkpoint 4 on; 3 events, 6 items", "")
	tl(t, "rebuild", "--data", p.Data, "--user", "bob").want(t, exitOK, "timeline of bob: 3 items written again", "")
	look(t, "1", 12) // with the version to which the way back leads
	tlUntil(t, 3, "alice → bob", with("inbox", flags, "--as", "bob")...)
	p.end(os.Interrupt)

	look(t, "1", 12)
	tl(t, "rebuild", "--data", p.Data, "--back", "--json").want(t, exitOK, `{"rebuilt":{"shard":0,"version":0,"checkpoint":"5"`, "")
	look(t, "0", 12)
	tl(t, "rebuild", "--data", p.Data, "--back").want(t, exitOK, "shard 0: version 0 is read from checkpoint 5 on, as was asked for", "")
	tl(t, "rebuild", "--data", p.Data, "--status").want(t, exitOK, "version 0 is read since checkpoint 5; --forward leads to 1; the next", "")
	tl(t, "rebuild", "--data", p.Data, "--drop", "0").want(t, exitFailed, "", "version 0 of shard 0: this version is live")
	tl(t, "rebuild", "--data", p.Data, "--drop", "1").want(t, exitOK, "shard 0: version 1 is dropped", "")
	tl(t, "rebuild", "--data", p.Data, "--forward").want(t, exitFailed, "", "version 1 is dropped, so nothing leads to it")
	tl(t, "rebuild", "--data", p.Data, "--status").want(t, exitOK, "version 0 is read since checkpoint 5; dropped: 1; the next rebuild makes 2", "")
	tl(t, "rebuild", "--data", p.Data, "--shard", "0", "--rate", "1000").want(t, exitOK, "version 2 is read from checkpoint 7 on", "")
	look(t, "2", 12)
}

func (o outcome) wantLines(t *testing.T, n int) {
	t.Helper()
	if got := len(strings.Fields(o.out)); o.status != exitOK || strings.Count(o.out, "\n") != n {
		t.Errorf("status %d, %d words in %d lines, want %d lines\n%s%s", o.status, got, strings.Count(o.out, "\n"), n, o.out, o.stderr)
	}
}

func TestInboxShowsWhatWasThereAtATime(t *testing.T) {
	p, flags := newServer(t)
	sendAll(t, flags, "one")
	time.Sleep(20 * time.Millisecond)
	between := time.Now().Format(time.RFC3339Nano)
	time.Sleep(20 * time.Millisecond)
	sendAll(t, flags, "two", "three")
	as := func(when string) outcome { return tl(t, with("inbox", flags, "--as", "bob", "--as-of", when)...) }
	as(between).want(t, exitOK, "one", "").wantLines(t, 1)
	as("0s").wantLines(t, 3)
	as("2020-01-01").wantLines(t, 0)
	as("yesterday").want(t, exitUsage, "", "or how long ago: 90m, 36h")
	tl(t, with("inbox", flags, "--as", "bob", "--as-of", "1h", "--follow")...).want(t, exitUsage, "", "--follow is of no use with --as-of")
	tl(t, "log", "--data", p.Data, "--from", between).want(t, exitOK, "two", "")
	tl(t, "log", "--data", p.Data, "--user", "bob", "--to", between).want(t, exitOK, "one", "").wantLines(t, 1)
}

// What differs is told, ends with exit code 1, and is repaired.
func TestVerifyNamesWhatDiffersAndRepairsIt(t *testing.T) {
	p, flags := newServer(t)
	sendAll(t, flags, "one", "two", "three")
	p.end(os.Interrupt)
	s, err := pebble.Open(storePath(p.Data), pebble.Options{})
	if err != nil {
		t.Fatal(err)
	}
	bob := projections.Timeline{User: "bob"}
	if err := s.DeleteItems(t.Context(), bob, 2); err != nil {
		t.Fatal(err)
	}
	items, err := s.ReadItems(t.Context(), bob, 2, 0, events.Strong)
	if err != nil {
		t.Fatal(err)
	}
	items[0].Data[7] ^= 4
	if err := errors.Join(s.PutItems(t.Context(), items), s.Close()); err != nil {
		t.Fatal(err)
	}
	tl(t, "verify", "--data", p.Data).want(t, exitFailed, "timeline of bob, seqs 1 to 1: expected the item of checkpoint 1, found nothing\n", "2 differences are left; for timelines run timberline verify --repair\n").
		want(t, exitFailed, "timeline of bob, seqs 2 to 2: expected the item of checkpoint 2, found stored data is damaged: timeline of bob, item ending at 2: ", "")
	tl(t, "verify", "--data", p.Data, "--json").want(t, exitFailed, `{"found":{"in":"timelines","where":"timeline of bob, seqs 1 to 1","user":"bob","seq":"1","expected":"the item of checkpoint 1","found":"nothing","repaired":false}}`, "2 differences are left")
	again := startProcess(t, "--data", p.Data, "--listen", p.Listen[0])
	tl(t, "verify", "--data", p.Data, "--repair").want(t, exitOK, "2 differences, 2 repaired", "")
	tl(t, "verify", "--data", p.Data).want(t, exitOK, "no difference", "")
	tlUntil(t, 3, "alice → bob", with("inbox", flags, "--as", "bob")...)
	again.end(os.Interrupt)
}

// A backup that is made while messages come has what was acknowledged before, cannot be
// served by mistake, and is whole when it is restored; clients of the lost server go on.
func TestBackupIsRestoredAndClientsGoOn(t *testing.T) {
	p, flags := newServer(t)
	inbox := func(more ...string) outcome { return tl(t, append(with("inbox", flags, "--as", "bob"), more...)...) }
	sendAll(t, flags, "one", "two")
	copied := filepath.Join(t.TempDir(), "copy")
	tl(t, "backup", "--data", p.Data, copied).want(t, exitOK, copied+" is a copy", "")
	tl(t, "backup", "--data", p.Data, copied).want(t, exitFailed, "", copied+" exists: name a folder that does not")
	sendAll(t, flags, "after the backup")
	p.end(os.Kill)
	tl(t, "verify", "--data", copied).want(t, exitOK, "4 timeline items: no difference", "")
	tl(t, "rebuild", "--status", "--data", copied).want(t, exitFailed, "", "migrate restored")
	for _, key := range []string{keyPath(""), serverKeyPath(""), secretPath("")} {
		data, err := os.ReadFile(filepath.Join(p.Data, key))
		if err == nil {
			err = os.WriteFile(filepath.Join(copied, key), data, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	tl(t, "migrate", "restored", "--data", copied).want(t, exitOK, "the store is whole", "it is a copy of one moment")
	tl(t, "verify", "--data", copied).want(t, exitOK, "4 timeline items: no difference", "")
	restored := startProcess(t, "--data", copied, "--listen", p.Listen[0])
	flags = []string{"--server", restored.Listen[0], "--data", copied}
	inbox().want(t, exitOK, "two", "").wantLines(t, 2)
	sendAll(t, flags, "three")
	inbox().want(t, exitOK, "three", "").wantLines(t, 3)
	offline := filepath.Join(t.TempDir(), "again")
	restored.end(os.Interrupt)
	tl(t, "backup", "--data", copied, offline, "--json").want(t, exitUsage, "", "flags come first")
	tl(t, "backup", "--json", "--data", copied, offline).want(t, exitOK, `{"backed_up":{"folder":"`+offline, "")
	tl(t, "backup", "--data", copied).want(t, exitUsage, "", "want one folder")
	tl(t, "backup", "--data", filepath.Join(offline, "nothing"), offline+"2").want(t, exitFailed, "", "there is no store in")
}

// What an interrupted backup has left is nothing that could be served, and nothing that
// keeps it from being made again.
func TestInterruptedBackupIsMadeAgain(t *testing.T) {
	p, flags := newServer(t)
	sendAll(t, flags, "one")
	copied := filepath.Join(t.TempDir(), "copy")
	if err := os.MkdirAll(storePath(copied)+".part", 0o700); err != nil {
		t.Fatal(err)
	}
	tl(t, "serve", "--data", copied, "--listen", "127.0.0.1:0").want(t, exitFailed, "", "it has a backup that was interrupted")
	tl(t, "migrate", "up", "--data", copied).want(t, exitFailed, "", "it has a backup that was interrupted")
	tl(t, "backup", "--data", p.Data, copied).want(t, exitOK, "is a copy", "")
	tl(t, "backup", "--data", p.Data, copied).want(t, exitFailed, "", copied+" exists: name a folder that does not")
	tl(t, "migrate", "restored", "--data", copied).want(t, exitOK, "the store is whole", "")
	tl(t, "verify", "--data", copied).want(t, exitOK, "2 timeline items: no difference", "")
}

// Trimmed timelines begin later, for devices, too; the log loses what nobody needs; and what is
// left is verified, rebuilt and served.
func TestTimelinesAndLogAreTrimmed(t *testing.T) {
	p, flags := newServer(t)
	for _, text := range []string{"one", "two", "three"} {
		sendAll(t, flags, text)
		p.end(os.Interrupt)
		p = startProcess(t, "--data", p.Data, "--listen", p.Listen[0])
	}
	sendAll(t, flags, "four")
	id, _ := messageOf(t, p.Data, "two")
	tl(t, "trim", "--data", p.Data, "--keep", "2").want(t, exitOK, "2 of 2 timelines trimmed by 4 entries; 2 journals removed from the log", "")
	tl(t, "trim", "--data", p.Data, "--keep", "2", "--json").want(t, exitOK, `{"trimmed":{"timelines":"2","trimmed":"0","entries":"0","journals":[]}}`, "")
	tl(t, with("inbox", flags, "--as", "bob")...).want(t, exitOK, "four", "entries 1 to 2 were trimmed").wantLines(t, 2)
	tl(t, "verify", "--data", p.Data).want(t, exitOK, "4 timeline items: no difference; 2 journals and the beginnings of 2 timelines were trimmed", "")
	tl(t, "trace", "--data", p.Data, id).want(t, exitFailed, "", "given it to a message; or it was trimmed, as 2 journals were\n")
	tl(t, "rebuild", "--data", p.Data).want(t, exitOK, "version 1 is read", "").want(t, exitOK, "; 2 journals were trimmed, and out of this", "")
	tl(t, "rebuild", "--data", p.Data, "--user", "bob").want(t, exitOK, "2 items written again, from seq 3 on: what was before is trimmed", "")
	tl(t, "trim", "--data", p.Data, "--older-than", "1000h").want(t, exitOK, "0 of 2 timelines trimmed by 0 entries; 0 journals", "")
	p.end(os.Interrupt)
	id, _ = messageOf(t, p.Data, "three")
	tl(t, "trim", "--data", p.Data, "--older-than", "1ns", "--keep-log").want(t, exitOK, "2 of 2 timelines trimmed by 2 entries; 0 journals", "")
	tl(t, "trace", "--data", p.Data, id).want(t, exitOK, "of shard 0; trimmed, so not in the timeline any more", "")
	tl(t, "trace", "--data", p.Data, "--json", id).want(t, exitOK, `"trimmed":true`, "")
	tl(t, "verify", "--data", p.Data).want(t, exitOK, " 4 timeline items: no difference", "")
	startProcess(t, "--data", p.Data, "--listen", p.Listen[0])
	sendAll(t, flags, "five")
	tl(t, with("inbox", flags, "--as", "bob")...).want(t, exitOK, "4\t", "entries 1 to 3 were trimmed").wantLines(t, 2)
	copied := filepath.Join(t.TempDir(), "copy")
	tl(t, "backup", "--data", p.Data, copied).want(t, exitOK, "is a copy", "")
	tl(t, "migrate", "restored", "--data", copied).want(t, exitOK, "the store is whole", "")
	tl(t, "verify", "--data", copied).want(t, exitOK, "no difference", "")
}

// A server that is told so trims its store while it serves, and while it is rebuilt.
func TestServerTrimsByItself(t *testing.T) {
	p, flags := newServer(t, "--trim-keep", "2", "--trim-every", "1s")
	sendAll(t, flags, "one", "two", "three", "four")
	tl(t, "rebuild", "--data", p.Data, "--rate", "4").want(t, exitOK, "version 1 is read", "")
	for deadline := time.Now().Add(20 * time.Second); p.metric(t, "timberline_retention_entries_trimmed_total") < 4; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("nothing is trimmed\n%s", p.stderr)
		}
	}
	tl(t, with("inbox", flags, "--as", "bob")...).want(t, exitOK, "four", "entries 1 to 2 were trimmed").wantLines(t, 2)
	tl(t, "verify", "--data", p.Data).want(t, exitOK, " 8 timeline items: no difference", "")
	p.end(os.Interrupt)
	if !strings.Contains(p.stderr.String(), "trimmed the store") {
		t.Errorf("its log says nothing of it:\n%s", p.stderr)
	}
}

// The same commands on tables.
func TestStoreOnTablesIsVerifiedRebuiltAndTrimmed(t *testing.T) {
	flags, o := migrateFlags(t)
	on := func(cmd string, more ...string) outcome {
		return tl(t, append([]string{cmd}, append(flags, more...)...)...)
	}
	on("verify").want(t, exitFailed, "", "migrate up")
	tl(t, append([]string{"migrate", "up", "--shards", "2"}, flags...)...).want(t, exitOK, "applied: 3", "")
	s, err := dynamo.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	first := fillTables(t, s, 21)
	on("verify").want(t, exitOK, "21 records with 41 events, 40 timeline items: no difference", "")
	on("rebuild").want(t, exitOK, "shard 0: version 1 is read", "").want(t, exitOK, "shard 1: version 1 is read", "")
	on("verify").want(t, exitOK, " 80 timeline items: no difference", "")
	on("trace", first.String()).want(t, exitOK, "alice     seq 1, by checkpoint 1 of shard", "")
	on("log", "--user", "bob").wantLines(t, 40)
	bob := projections.Timeline{Version: 1, User: "bob"}
	if err := s.DeleteItems(t.Context(), bob, 9); err != nil {
		t.Fatal(err)
	}
	on("verify").want(t, exitFailed, "timeline of bob in version 1, seqs", "differences are left")
	on("verify", "--repair").want(t, exitOK, " repaired", "")
	on("rebuild", "--drop", "0").want(t, exitOK, "shard 1: version 0 is dropped", "")
	on("trim", "--keep", "3").want(t, exitOK, "2 of 2 timelines trimmed by 72 entries; 0 journals", "")
	on("verify").want(t, exitOK, "4 timeline items: no difference; 0 journals and the beginnings of 2 timelines", "")
	on("rebuild", "--user", "bob").want(t, exitOK, "2 items written again", "")
	tl(t, "backup", "--store", "dynamodb", "x").want(t, exitUsage, "", "not defined: -store")
}

// fillTables writes a journal of messages between alice and bob, so many records with the
// end, and their timelines.
func fillTables(t testing.TB, s wholeStore, records events.Offset) (first events.ID) {
	t.Helper()
	row, err := events.OpenJournal(t.Context(), s, events.EdgeTag{1}, [16]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	clock, err := events.NewClock(time.Now, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p, err := projections.NewProjector(projections.Config{
		Log: s, Journals: s, Checkpoints: s, Items: s, Meta: s.Meta(), Bus: new(local.Bus), Random: rand.Reader,
		Logger: slog.New(slog.DiscardHandler), Poll: 10 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	reader := projections.NewReader(s, s.Meta())
	before, err := reader.Head(t.Context(), "alice")
	if err != nil {
		t.Fatal(err)
	}
	for at := events.Offset(1); at <= records; at++ {
		var raws [][]byte
		for range 2 {
			e := events.Event{ID: clock.Next(), Kind: events.KindMessage, Conversation: events.Direct("alice", "bob"), Sender: "alice", Device: "d", Number: 1, Body: []byte("hi")}
			if at == records {
				e = events.Event{ID: clock.Next(), Kind: events.KindJournalEnded}
			}
			if first == (events.ID{}) {
				first = e.ID
			}
			if raws = append(raws, e.Encode()); at == records {
				break
			}
		}
		if _, err := s.Append(t.Context(), row.Journal(), at, events.NewRecord(row.Journal(), at, raws)); err != nil {
			t.Fatal(err)
		}
		for _, u := range []events.User{"alice", "bob"} { // each record its own checkpoint
			for end := time.Now().Add(20 * time.Second); at < records; time.Sleep(5 * time.Millisecond) {
				if run, err := reader.Head(t.Context(), u); err == nil && run.Head == before.Head+events.Seq(2*at) {
					break
				}
				if time.Now().After(end) {
					t.Fatal("the projector does not get on")
				}
			}
		}
	}
	stop()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	return first
}

func TestReplayCommandsSayWhatIsWrong(t *testing.T) {
	nothing := filepath.Join(t.TempDir(), "nothing")
	for _, cmd := range []string{"verify", "rebuild", "log"} {
		tl(t, cmd, "--data", nothing).want(t, exitFailed, "", "there is no store in "+nothing)
		tl(t, cmd, "--store", "mysql").want(t, exitUsage, "", `--store is "mysql", want pebble or dynamodb`)
	}
	for args, want := range map[string]string{
		"trace 00000000000000000000000000":          "is the id of no message",
		"rebuild --user bob --back":                 "--user and --back are different things to do",
		"rebuild --user bob --shard 0":              "--shard is of no use with --user",
		"rebuild --user b/b":                        "--user is",
		"rebuild --shard -2":                        "--shard is -2, want 0 or more",
		"rebuild --drop -1":                         "--drop is -1, want a version",
		"trim":                                      "--keep and --older-than are missing",
		"trim --older-than -1h":                     "--older-than is -1h0m0s",
		"trim --older-than 90d":                     `invalid value "90d" for flag -older-than: want a time with its unit`,
		"trim --keep -1":                            `invalid value "-1" for flag -keep: want a whole number, 0 or more`,
		"trim --keep 5 --keep-log=often":            `invalid boolean value "often" for -keep-log: want true or false`,
		"rebuild --shard all":                       "timberline rebuild: invalid value \"all\" for flag -shard: want a whole number",
		"rebuild --rate fast":                       `invalid value "fast" for flag -rate: want a number`,
		"rebuild --status --rate 5":                 "--rate is of no use with --status or --drop",
		"rebuild --drop 1 --rate 5":                 "--rate is of no use with --status or --drop",
		"serve --trim-every 5s":                     "--trim-every is of no use alone",
		"verify --data /dev/null":                   "--data is /dev/null, which is no folder",
		"rebuild --rate -1":                         "--rate is -1",
		"trace":                                     "want one message",
		"trace a b":                                 `want one message`,
		"trace hello":                               `"hello" is no id`,
		"log --conversation bob":                    "--conversation is \"bob\", want two users, such as alice,bob\n",
		"log --user eve --conversation bob,carol":   `--user is "eve", who is none of the two of --conversation`,
		"log --user b/b":                            "--user is",
		"log --from 2026-01-02 --to 2026-01-01":     "--to is 2026-01-01",
		"log --from today":                          "or how long ago",
		"inbox --as bob --as-of 2026-13-01":         "or how long ago",
		"bench replay --messages 0":                 "--messages is 0",
		"bench replay --users 1000000 --messages 1": "--users is 1000000",
		"bench rebuild --messages 0":                "--messages is 0",
		"bench rebuild --rebuild-rate -1":           "--rebuild-rate is -1",
		"bench rebuild --rounds 0":                  "--rounds is 0",
	} {
		tl(t, strings.Fields(args)...).want(t, exitUsage, "", want)
	}
	p, _ := newServer(t)
	tl(t, "rebuild", "--data", p.Data, "--shard", "1").want(t, exitFailed, "", "there is no shard 1: the store has only shard 0")
	tl(t, "rebuild", "--data", p.Data, "--user", "nobody").want(t, exitOK, "timeline of nobody: no message", "")
	tl(t, "rebuild", "--data", p.Data, "--back").want(t, exitFailed, "", "no version was read before 0")
	tl(t, "rebuild", "--data", p.Data, "--forward").want(t, exitFailed, "", "shard 0: no --back has led away from a version newer than 0")
	tl(t, "rebuild", "--data", p.Data, "--drop", "0").want(t, exitFailed, "", "live: have another one read first, by timberline rebuild, which makes one\n")
	tl(t, "rebuild", "--data", p.Data).want(t, exitOK, "0 events, 0 items", "")
	tl(t, "rebuild", "--data", p.Data, "--drop", "1").want(t, exitFailed, "", "or timberline rebuild --back, which leads back to version 0\n")
	tl(t, "trace", "--data", p.Data, "01M8AS3JG3000EH4BDYK4HP58Z").want(t, exitFailed, "", "no event of the log has the id")
	tl(t, "trace", "--data", p.Data, "--from", "2026-01-31T15:04:00Z", "01M8AS3JG3000EH4BDYK4HP58Z").want(t, exitFailed, "", "to a message since 2026-01-31T15:04:00Z")
}

func TestBenchReplayComesOutExact(t *testing.T) {
	o := tl(t, "bench", "replay", "--messages", "3000", "--users", "50", "--json", "--folder", t.TempDir()).want(t, exitOK, "", "rebuild")
	var r struct {
		Items uint64
		Ratio float64
	}
	if err := json.Unmarshal([]byte(o.out), &r); err != nil || r.Items == 0 || r.Ratio <= 0 {
		t.Errorf("%s: %v", o.out, err)
	}
}

func TestBenchRebuildTellsWhatSendersNotice(t *testing.T) {
	o := runAlone(t, "bench", "rebuild", "--messages", "3000", "--users", "50", "--rounds", "1", "--duration", "1s", "--sessions", "4", "--rate", "200",
		"--rebuild-rate", "6000", "--json").want(t, exitOK, "", "shard 0: [") // how far it gets is the machine's matter
	var r rebuildReport
	if err := json.Unmarshal([]byte(o.out), &r); err != nil || r.Without.P99 <= 0 || r.With.P99 <= 0 || r.Ratio != r.With.P99/r.Without.P99 {
		t.Errorf("%s: %v", o.out, err)
	}
}

func TestVersionThatNeverWasIsNotDropped(t *testing.T) {
	s, err := pebble.Open("data", pebble.Options{FS: vfs.NewMem()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := new(rebuildWork).do(t.Context(), s, func(report) {}); err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{3, 1 << 32, 1<<32 + 2} {
		if err := (&rebuildWork{Drop: &n}).do(t.Context(), s, func(report) {}); err == nil || !strings.Contains(err.Error(), "no shard has a version") {
			t.Errorf("version %d is dropped: %v", n, err)
		}
	}
	if v, err := projections.ReadVersions(t.Context(), s, 0); err != nil || len(v.Dropped) > 0 || v.Next != 2 {
		t.Errorf("%+v, %v", v, err)
	}
}

// That a message was read is an event, so trace knows it from the log alone.
func TestTraceTellsWhoHasReadAMessage(t *testing.T) {
	p, flags := newServer(t)
	sendAll(t, flags, "one", "two", "three")
	id := func(text string) string {
		id, _ := messageOf(t, p.Data, text)
		return id
	}
	tl(t, with("send", flags, "--as", "bob", "--to", "carol", "to another")...).want(t, exitOK, "", "")
	tl(t, with("send", flags, "--as", "bob", "--to", "carol", "--read", id("to another"))...).want(t, exitOK, "", "") // another conversation
	tl(t, with("send", flags, "--as", "alice", "--to", "bob", "--read", id("three"))...).want(t, exitOK, "", "")      // not bob's word
	later := ulid.ULID{}
	if err := later.SetTime(ulid.Timestamp(time.Now().Add(time.Hour))); err != nil {
		t.Fatal(err)
	}
	tl(t, with("send", flags, "--as", "bob", "--to", "alice", "--read", later.String())...).want(t, exitOK, "", "") // no event has that id
	o := tl(t, with("send", flags, "--as", "bob", "--device", "phone", "--to", "alice", "--read", strings.ToLower(id("two")))...).want(t, exitOK, "", "")
	tl(t, with("send", flags, "--as", "bob", "--device", "tablet", "--to", "alice", "--read", id("two"))...).want(t, exitOK, "", "") // later
	tlUntil(t, 1, "has read up to "+id("two"), with("inbox", flags, "--as", "alice", "--after", "6")...)

	for running := true; ; running = false {
		for text, read := range map[string]bool{"one": true, "two": true, "three": false} {
			o := tl(t, "trace", "--data", p.Data, id(text)).want(t, exitOK, "", "")
			if n := strings.Count(o.out, " read "); strings.Contains(o.out, ", on device phone, as seq 8 says\n") != read || n > 1 || n == 1 != read {
				t.Errorf("%s was read: %v, while a server runs: %v:\n%s", text, read, running, o.out)
			}
		}
		var r report
		o := tl(t, "trace", "--data", p.Data, "--json", id("one")).want(t, exitOK, "", "")
		if err := json.Unmarshal([]byte(o.out), &r); err != nil || len(r.Traced.Placed) != 2 {
			t.Fatalf("%s: %v", o.out, err)
		}
		for _, at := range r.Traced.Placed {
			if (at.Read != nil) != (at.User == "bob") || at.Read != nil && (at.Read.Device != "phone" || at.Read.Seq != 8) {
				t.Errorf("of %s it says that it was read: %+v", at.User, at.Read)
			}
		}
		if !running {
			break
		}
		if err := p.end(os.Interrupt); err != nil {
			t.Error(err)
		}
	}
	tl(t, "trace", "--data", p.Data, strings.TrimSpace(o.out)).want(t, exitOK, "read_up_to ", "").want(t, exitOK, "  up to     "+id("two")+"\n", "")
	tl(t, with("send", flags, "--as", "bob", "--to", "alice", "--read", "x")...).want(t, exitUsage, "", "is no id: want 26 characters")
	tl(t, with("send", flags, "--as", "bob", "--to", "alice", "--read", "6NBBD3M7CMJ882RMK652NQJ0S5")...).want(t, exitUsage, "", "would be of 9")
	tl(t, with("send", flags, "--as", "bob", "--to", "alice", "--read", id("two"), "hi")...).want(t, exitUsage, "", "--read leaves no room for a text")
}

// Not all events are sent by a device: those that a server writes have no client's id, and
// none or not all of what a send has.
func TestTraceLeavesOutWhatAnEventDoesNotHave(t *testing.T) {
	session := events.Event{Kind: events.KindSessionClosed, Sender: "alice", Device: "phone", Session: events.SessionID{1}}
	for _, test := range []struct {
		e    events.Event
		want string
	}{
		{session, "session_closed 00000000000000000000000000\n  of        alice, device phone, session 01000000000000000000000000\n  appended  "},
		{events.Event{Kind: events.KindJournalEnded}, "journal_ended 00000000000000000000000000\n  appended  "},
	} {
		raw := test.e.Encode()
		tell := func(r report) {
			if got := r.Traced.String(); !strings.HasPrefix(got, test.want) {
				t.Errorf("it tells\n%s\nwant\n%s", got, test.want)
			}
		}
		s, err := pebble.Open("data", pebble.Options{FS: vfs.NewMem()})
		if err != nil {
			t.Fatal(err)
		}
		if err := new(traceWork).tell(t.Context(), s, 1, 1, 0, raw, &test.e, tell); err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

// A server that runs knows how far a message has come to the devices that are connected.
func TestTraceTellsHowFarAMessageHasComeToDevices(t *testing.T) {
	p, flags := newServer(t)
	dial := func(as string, onMessage func(client.Message) error) *client.Client {
		t.Helper()
		cfg := deviceConfig{server: p.Listen[0], data: p.Data, as: as, device: "phone", codec: "protobuf"}
		o, _, err := cfg.options("")
		if err != nil {
			t.Fatal(err)
		}
		o.OnMessage = onMessage
		c, err := client.Dial(cfg.server, o)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		if err := c.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
		return c
	}
	dial("bob", func(client.Message) error { return nil })
	sendAll(t, flags, "to a phone")
	id, _ := messageOf(t, p.Data, "to a phone")
	trace := []string{"trace", "--data", p.Data, id}
	tlUntil(t, 1, "bob       seq 1, by checkpoint 1 of shard 0\n            device phone has it\n", trace...)
	tl(t, "trace", "--data", p.Data, "--json", id).want(t, exitOK, `"devices":[{"device":"phone","pushed":true,"has":true}]`, "")
	tlUntil(t, 1, "alice     seq 1, by checkpoint 1 of shard 0\n            no device of theirs is connected here\n", trace...)

	refuses := make(chan struct{})
	dial("carol", func(client.Message) error { // says that it has a message when this returns
		<-refuses
		return nil
	})
	defer close(refuses)
	tl(t, with("send", flags, "--as", "alice", "--to", "carol", "to one who waits")...).want(t, exitOK, "", "")
	id, _ = messageOf(t, p.Data, "to one who waits")
	tlUntil(t, 1, "pushed to device phone, which has not said that it has it", "trace", "--data", p.Data, id)

	if err := p.end(os.Interrupt); err != nil {
		t.Error(err)
	}
	o := tl(t, trace...).want(t, exitOK, "bob       seq 1", "")
	if strings.Contains(o.out, "device phone has it") || strings.Contains(o.out, "connected") {
		t.Errorf("%s\nthough no server runs that would know", o.out)
	}
}
