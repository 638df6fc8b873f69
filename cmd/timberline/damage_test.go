package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	engine "github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"timberline/events/fields"
	"timberline/store/dynamo"
)

// A kept is a data folder of a server that has stopped, with messages 0 to 9 from alice
// to bob.
type kept struct {
	t     *testing.T
	data  string
	flags []string
}

// keep makes one, and goes on with a server on a copy of it each time.
func keep(t *testing.T) *kept {
	t.Helper()
	k := &kept{t: t, data: filepath.Join(t.TempDir(), "data")}
	p := startProcess(t, "--data", k.data, "--listen", "127.0.0.1:0")
	k.flags = []string{"--server", p.Listen[0], "--data", k.data}
	var text strings.Builder
	for i := range 10 {
		fmt.Fprintf(&text, "message %d\n", i)
	}
	tlIn(t, text.String(), with("send", k.flags, "--as", "alice", "--to", "bob")...).want(t, exitOK, "", "")
	tlUntil(t, 10, "message", with("inbox", k.flags, "--as", "bob")...)
	if err := p.end(os.Interrupt); err != nil {
		t.Fatalf("%v\n%s", err, p.stderr)
	}
	return k
}

// copy returns another folder like it.
func (k *kept) copy() *kept {
	k.t.Helper()
	to := filepath.Join(k.t.TempDir(), "data")
	if _, err := vfs.Clone(vfs.Default, vfs.Default, k.data, to, vfs.CloneSync); err != nil {
		k.t.Fatal(err)
	}
	return &kept{t: k.t, data: to}
}

// damage changes the last value whose key begins with a prefix, as the engine has it.
func (k *kept) damage(prefix string, change func(value []byte)) {
	k.t.Helper()
	db, err := engine.Open(storePath(k.data), &engine.Options{FormatMajorVersion: engine.FormatNewest, Logger: silent{}})
	if err != nil {
		k.t.Fatal(err)
	}
	defer db.Close()
	it, err := db.NewIter(&engine.IterOptions{LowerBound: []byte(prefix), UpperBound: append([]byte(prefix), 0xff)})
	if err != nil {
		k.t.Fatal(err)
	}
	defer it.Close()
	if !it.Last() {
		k.t.Fatalf("nothing stands under %q", prefix)
	}
	value := bytes.Clone(it.Value())
	change(value)
	if err := db.Set(bytes.Clone(it.Key()), value, engine.Sync); err != nil {
		k.t.Fatal(err)
	}
}

// silent is a Logger that says nothing.
type silent struct{}

func (silent) Infof(string, ...any)         {}
func (silent) Errorf(string, ...any)        {}
func (silent) Fatalf(f string, args ...any) { panic(fmt.Sprintf(f, args...)) }

// run runs a server on the folder, which may end by itself or is stopped after a while.
// While it runs, bob reads and alice writes to him. It returns what bob has read, and
// what the server has said.
func (k *kept) run() (read, said string) {
	k.t.Helper()
	var stderr bytes.Buffer
	cmd := exec.Command(binary, "serve", "--data", k.data, "--listen", "127.0.0.1:0", "--json")
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		k.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		k.t.Fatal(err)
	}
	defer cmd.Process.Kill()
	line := make([]byte, 4096)
	n, _ := out.Read(line)
	if _, address, ok := strings.Cut(string(line[:n]), `"listen":["`); ok {
		address, _, _ = strings.Cut(address, `"`)
		flags := []string{"--server", address, "--data", k.data, "--timeout", "1s"}
		tl(k.t, with("send", flags, "--as", "alice", "--to", "bob", "another one")...)
		read = tl(k.t, with("inbox", flags, "--as", "bob")...).out
		cmd.Process.Signal(os.Interrupt)
	}
	late := time.AfterFunc(20*time.Second, func() { cmd.Process.Kill() })
	defer late.Stop()
	cmd.Wait()
	return read, stderr.String()
}

// A value that is damaged beneath the server is named by whoever meets it, with what to
// do, and is never served.
func TestDamagedValuesAreNamedAndNotServed(t *testing.T) {
	k := keep(t)
	flip := func(at int) func([]byte) {
		return func(value []byte) { value[(at+len(value))%len(value)] ^= 0x20 }
	}
	other := func(value []byte) { value[0] = 9 } // and so its checksum is wrong, too
	for _, test := range []struct {
		what, prefix string
		change       func([]byte)
		place        string
	}{
		{"an item's text", "tbob\x00", flip(-3), "timeline of bob, item ending at 10"},
		{"an item's checksum", "tbob\x00", flip(2), "timeline of bob, item ending at 10"},
		{"an item's version", "tbob\x00", other, "timeline of bob, item ending at 10"},
		{"a checkpoint", "c", flip(-1), "checkpoint "},
		{"a journal's row", "j", flip(-1), "row of journal 1"},
		{"the end of the journal", "l\x03j:1", flip(-1), "of journal j:1"},
		{"the description", "m", flip(-1), "the description of the store"},
	} {
		damaged := k.copy()
		damaged.damage(test.prefix, test.change)
		read, said := damaged.run()
		if !strings.Contains(said, test.place) || !strings.Contains(said, "stored data is damaged") {
			t.Errorf("%s: the server does not name it as %q:\n%s", test.what, test.place, said)
		}
		for line := range strings.Lines(read) {
			if !strings.Contains(line, "message ") && !strings.Contains(line, "another one") {
				t.Errorf("%s: bob reads %q", test.what, line)
			}
		}
		if !strings.Contains(said, "restore the folder") {
			t.Errorf("%s: it does not say what to do:\n%s", test.what, said)
		}
	}
}

// What can be read behind a damaged record is printed, from whichever time on.
func TestLogCommandNamesADamagedRecord(t *testing.T) {
	data, _ := tenRecords(t, time.Now(), 0)
	k := &kept{t: t, data: data}
	for _, at := range []byte{3, 4, 8} {
		k.damage("l\x03j:1\x00\x00\x00\x00\x00\x00\x00"+string(at), func(value []byte) { value[len(value)-1] ^= 1 })
	}
	for args, lines := range map[string]int{"--from 1h": 7, "--offset 1": 7, "--offset 4": 5, "--offset 9": 2} {
		o := tl(t, append(strings.Fields("log "+args), "--data", data)...)
		if n := strings.Count(o.out, "\n"); n != lines {
			t.Errorf("%s: %d lines, want %d\n%s", args, n, lines, o.out)
		}
		if want := "record 8 of journal j:1 cannot be read (stored data is damaged"; lines > 2 && (o.status != exitFailed || !strings.Contains(o.stderr, want) || !strings.Contains(o.stderr, "restore the folder")) {
			t.Errorf("%s: status %d, %q; want that it says %q", args, o.status, o.stderr, want)
		}
		if lines == 7 && !strings.Contains(o.stderr, "records 3 to 4 of journal j:1 cannot be read") {
			t.Errorf("%s: it says %q", args, o.stderr)
		}
	}
}

// On tables, too: what a process meets that is damaged, or that another version has written, it
// names, and says what to do.
func TestWhatCannotBeReadOnTablesSaysWhatToDo(t *testing.T) {
	flags, o := migrateFlags(t)
	tl(t, append([]string{"migrate", "up", "--shards", "1"}, flags...)...).want(t, exitOK, "applied: 3", "")
	s, err := dynamo.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	fillTables(t, s, 4)
	db := dynamodb.NewFromConfig(o.AWS)
	put := func(table string, attributes map[string]types.AttributeValue) {
		t.Helper()
		if _, err := db.PutItem(t.Context(), &dynamodb.PutItemInput{TableName: aws.String(o.Prefix + "-" + table), Item: attributes}); err != nil {
			t.Fatal(err)
		}
	}
	key := func(text string) types.AttributeValue { return &types.AttributeValueMemberS{Value: text} }
	number := func(n string) types.AttributeValue { return &types.AttributeValueMemberN{Value: n} }
	value := func(b []byte) types.AttributeValue { return &types.AttributeValueMemberB{Value: b} }
	wantAdvice := func(place, advice, cmd string, flags ...string) {
		t.Helper()
		tl(t, with(cmd, flags)...).want(t, exitFailed, "", place).want(t, exitFailed, "", advice)
	}
	restore := "come back from a backup (docs/operations.md, Backup and restore), timelines by timberline verify --repair --store dynamodb --dynamodb-prefix " + o.Prefix
	use := "use the version of timberline that wrote it, or a newer one"

	put("log", map[string]types.AttributeValue{"journal": key("j:1"), "offset": number("2"), "record": value([]byte("damaged"))})
	wantAdvice("stored data is damaged: record 2 of journal j:1", restore, "rebuild", flags...)
	third := map[string]types.AttributeValue{"shard": number("0"), "n": number("3"), "checkpoint": value([]byte("damaged"))}
	put("checkpoints", third)
	wantAdvice("stored data is damaged: checkpoint 3 of shard 0", restore, "projector", flags[2:]...)
	third["checkpoint"] = value(fields.Seal(9, []byte("c\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x03"), nothingStored{}))
	put("checkpoints", third)
	wantAdvice("checkpoint 3 of shard 0: of another version", use, "projector", flags[2:]...)
	put("meta", map[string]types.AttributeValue{"what": key("store"), "number": number("0"), "value": value(fields.Seal(9, []byte("store 0"), nothingStored{}))})
	wantAdvice("the description of the store: of another version", use, "verify", flags...)
}

// nothingStored is a message without fields.
type nothingStored struct{}

func (nothingStored) Fields(fields.Visitor) {}
