package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"timberline/events"
)

func TestTokenLetsADeviceInWithoutTheKey(t *testing.T) {
	p, _ := newServer(t)
	token := strings.TrimSpace(tl(t, "token", "--data", p.Data, "--user", "alice", "--device", "phone").want(t, exitOK, ".", "").out)
	flags := []string{"--server", p.Listen[0], "--server-key", p.ServerKey, "--token", token}
	tl(t, with("send", flags, "--to", "bob", "by token")...).want(t, exitOK, "", "")
	tlUntil(t, 1, "by token", with("inbox", flags)...)
	tl(t, with("inbox", flags, "--as", "bob")...).want(t, exitUsage, "", "the token is alice's")
	tl(t, with("inbox", flags, "--device", "pad")...).want(t, exitUsage, "", "the token is for phone")

	var made struct{ Token, User, Device, Expires string }
	o := tl(t, "token", "--data", p.Data, "--user", "alice", "--device", "phone", "--json").want(t, exitOK, "", "")
	if err := json.Unmarshal([]byte(o.out), &made); err != nil || made.User != "alice" || made.Device != "phone" || made.Expires == "" || made.Token == "" {
		t.Errorf("%s: %v", o.out, err)
	}
}

func TestTokenOfAnotherServerIsRefused(t *testing.T) {
	one, _ := newServer(t)
	two, _ := newServer(t)
	flags := []string{"--server", one.Listen[0], "--server-key", one.ServerKey, "--data", two.Data}
	tl(t, with("send", flags, "--as", "alice", "--to", "bob", "hi")...).want(t, exitFailed, "", "is "+one.Listen[0]+" the server whose key signed the token?")
	tl(t, with("inbox", flags, "--as", "alice")...).want(t, exitFailed, "", "whose key signed")
}

func TestWrongKeyOrModeIsNamed(t *testing.T) {
	t.Parallel()
	one, _ := newServer(t)
	two, _ := newServer(t)
	flags := []string{"--server", one.Listen[0], "--as", "alice", "--timeout", "2s"}
	for command, rest := range map[string][]string{"send": {"--to", "bob", "hi"}, "inbox": nil} {
		wrong := append([]string{"--data", one.Data, "--server-key", two.ServerKey}, rest...)
		o := tl(t, with(command, flags, wrong...)...).want(t, exitFailed, "", "the server does not have the key "+two.ServerKey)
		if command == "send" {
			o.want(t, exitFailed, "", "1 message is not stored, as there was no login within 2s")
		}
		wrong = append([]string{"--data", one.Data, "--plain"}, rest...)
		tl(t, with(command, flags, wrong...)...).want(t, exitFailed, "", "leave out --plain")
	}
	tl(t, "send", "--server", "127.0.0.1:1", "--data", one.Data, "--as", "alice", "--to", "bob", "--timeout", "6s", "hi").want(t, exitFailed, "", "no answer from 127.0.0.1:1")
}

func TestLinesOfTheInputAreMessagesInOrder(t *testing.T) {
	_, flags := newServer(t)
	var input strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&input, "line %d\n", i)
	}
	o := tlIn(t, input.String(), with("send", flags, "--as", "alice", "--to", "bob", "--json")...).want(t, exitOK, `"stored":true`, "")
	if n := len(o.lines()); n != 1000 {
		t.Fatalf("%d results, want 1000", n)
	}
	got := tlUntil(t, 990, `"seq":`, with("inbox", flags, "--as", "bob", "--json", "--after", "10")...).lines()
	for i, line := range got {
		var entry struct {
			Seq   uint64 `json:",string"`
			Event struct{ Text string }
		}
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if want := fmt.Sprintf("line %d", i+10); entry.Seq != uint64(i+11) || entry.Event.Text != want {
			t.Fatalf("%s, want seq %d with %q", line, i+11, want)
		}
	}
}

func TestMessageThatCannotBeStoredIsAnError(t *testing.T) {
	_, flags := newServer(t)
	long := strings.Repeat("x", 20_000)
	tl(t, with("send", flags, "--as", "alice", "--to", "bob", long)...).want(t, exitFailed, "", "(the server's --max-body is the limit)")
	tl(t, "send", "--server", "127.0.0.1:9", "--data", flags[3], "--timeout", "300ms", "--as", "alice", "--to", "bob", "hi").
		want(t, exitFailed, "", "is the server running there")
	tl(t, "inbox", "--server", "127.0.0.1:9", "--data", flags[3], "--timeout", "300ms", "--as", "alice").
		want(t, exitFailed, "", "is the server running there")
	tl(t, with("inbox", flags, "--as", "alice", "--after", "5")...).want(t, exitUsage, "", "--after is 5, but the timeline does not reach that far")
}

func TestLogIsReadWhileTheServerRunsAndAfter(t *testing.T) {
	p, flags := newServer(t)
	for _, text := range []string{"one", "two", "three"} {
		tl(t, with("send", flags, "--as", "alice", "--to", "bob", text)...).want(t, exitOK, "", "")
	}
	texts := func(args ...string) (all []string) {
		for _, line := range tl(t, append([]string{"log", "--data", p.Data}, args...)...).want(t, exitOK, "", "").lines() {
			var l struct {
				Journal string
				Offset  uint64 `json:",string"`
				Event   struct{ Kind, Text string }
			}
			if err := json.Unmarshal([]byte(line), &l); err != nil || l.Journal != "j:1" || l.Offset == 0 {
				t.Fatalf("%s: %v", line, err)
			}
			if l.Event.Kind == "message" {
				all = append(all, l.Event.Text)
			}
		}
		return all
	}
	if got := texts(); fmt.Sprint(got) != "[one two three]" {
		t.Errorf("while it runs: %v", got)
	}
	tl(t, "log", "--data", p.Data, "--journal", "9").want(t, exitFailed, "", "there is no journal 9, the last one is 1")
	p.end(os.Interrupt)
	if got := texts("--journal", "1"); fmt.Sprint(got) != "[one two three]" {
		t.Errorf("after it: %v", got)
	}
	if got := texts("--offset", "2"); len(got) != 2 || got[1] != "three" {
		t.Errorf("from record 2: %v", got)
	}
	tl(t, "log", "--data", filepath.Join(p.Data, "nothing")).want(t, exitFailed, "", "there is no store in")
	tl(t, "log", "--data", p.Data, "--journal", "9").want(t, exitFailed, "", "there is no journal 9, the last one is 1")
}

func TestChatWithoutATerminalSendsItsLines(t *testing.T) {
	_, flags := newServer(t)
	alice := with("chat", flags, "--as", "alice", "--to", "bob")
	tlIn(t, "hi bob\n\n/help\nhow are you?\n", alice...).want(t, exitOK, "alice: hi bob", "connected to").want(t, exitOK, "alice: how are you?", "/quit")
	tlUntil(t, 2, "alice → bob", with("inbox", flags, "--as", "bob")...)
	bob := with("chat", flags, "--as", "bob", "--to", "alice", "--codec", "json")
	tlIn(t, "fine\n", bob...).want(t, exitOK, "alice: hi bob", "")
	o := tlIn(t, "", alice...).want(t, exitOK, "alice: how are you?", "")
	if strings.Count(o.out, "hi bob") != 1 {
		t.Errorf("history is told twice:\n%s", o.out)
	}
}

func TestChatKeepsWhatTheServerIsNotThereFor(t *testing.T) {
	p, flags := newServer(t)
	p.end(os.Kill)
	alice := with("chat", flags, "--as", "alice", "--to", "bob")
	tlIn(t, "into the dark\n/quit\n", alice...).want(t, exitOK, "", "1 on their way: they are kept")
	again := startProcess(t, "--data", p.Data, "--listen", p.Listen[0])
	tlIn(t, "", alice...).want(t, exitOK, "✓ ", "")
	tlUntil(t, 1, "into the dark", with("inbox", flags, "--as", "bob")...)
	again.end(os.Interrupt)
}

func TestNamesOfFilesDifferOnEverySystem(t *testing.T) {
	seen := make(map[string]string)
	for _, name := range []string{"alice", "Alice", "ALICE", "a.b", "a_b", "a-b", "127.0.0.1:4747", "[::1]:4747", "^alice", "%5ealice"} {
		file := strings.ToLower(fileName(name))
		if other, taken := seen[file]; taken {
			t.Errorf("%q and %q are both kept in %s", name, other, file)
		}
		seen[file] = name
	}
}

func TestTerminalsAreSafeFromMessages(t *testing.T) {
	for text, want := range map[string]string{
		"plain ü 日本 👩‍🚀":    "plain ü 日本 👩‍🚀",
		"\x1b[2Jgone":       "\ufffd[2Jgone",
		"a\nb\tc\r":         "a⏎b c\ufffd",
		"abc\u202egnp.exe":  "abcgnp.exe",
		"bell\a and \x00 0": "bell\ufffd and \ufffd 0",
	} {
		if got := printable(text); got != want {
			t.Errorf("printable(%q) = %q, want %q", text, got, want)
		}
	}
}

func TestBodyThatIsNoTextIsNotShown(t *testing.T) {
	for _, test := range []struct{ contentType, body, want string }{
		{"", "hi", "hi"},
		{"text/markdown", "hi", "hi"},
		{"image/png", "hi", "(2 bytes of image/png)"},
		{"image/png", "\xff", "(1 byte of image/png)"},
		{"", "\xff\xfe\xfd\xfc", "(4 bytes, not UTF-8)"},
		{"text/plain; charset=latin1", "\xfc", "(1 byte of text/plain; charset=latin1, not UTF-8)"},
	} {
		e := events.Event{Kind: events.KindMessage, ContentType: test.contentType, Body: []byte(test.body)}
		if got := text(&e); got != test.want {
			t.Errorf("%q of %q is shown as %q, want %q", test.body, test.contentType, got, test.want)
		}
	}
}
