package main

import (
	"bufio"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"timberline/edge/auth"
)

// followInbox starts a process that prints the timeline of a user as it grows, and
// returns what waits for a line with a text. The test's end kills it.
func followInbox(t *testing.T, flags ...string) (until func(text string)) {
	t.Helper()
	cmd := exec.Command(binary, with("inbox", flags, "--follow", "--json")...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	lines := bufio.NewScanner(out)
	return func(text string) {
		t.Helper()
		for lines.Scan() {
			if strings.Contains(lines.Text(), text) {
				return
			}
		}
		t.Fatalf("the inbox ends without %q: %v", text, lines.Err())
	}
}

// tokenOf returns a token for a user's phone.
func tokenOf(t *testing.T, data, user string) string {
	t.Helper()
	o := tl(t, "token", "--data", data, "--user", user, "--device", "phone").want(t, exitOK, ".", "")
	return strings.TrimSpace(o.out)
}

func TestTokensOfTheOldKeyLogInUntilItIsRetired(t *testing.T) {
	p, flags := newServer(t)
	first := tokenOf(t, p.Data, "alice")
	by := func(token string) []string {
		return []string{"inbox", "--server", p.Listen[0], "--data", p.Data, "--token", token}
	}
	tl(t, "key", "rotate", "token", "--data", p.Data).want(t, exitOK, "token key, current: ", "")
	second := tokenOf(t, p.Data, "alice")
	tl(t, by(first)...).want(t, exitOK, "", "")
	tl(t, by(second)...).want(t, exitOK, "", "")
	tl(t, "key", "rotate", "token", "--data", p.Data).want(t, exitFailed, "", "key retire token --data "+p.Data)
	tl(t, "key", "retire", "token", "--data", p.Data).want(t, exitOK, "token key, retired: ", "")
	tl(t, by(first)...).want(t, exitFailed, "", "bad_token")
	tl(t, by(second)...).want(t, exitOK, "", "")
	tl(t, with("inbox", flags, "--as", "alice")...).want(t, exitOK, "", "")
	tl(t, "key", "retire", "token", "--data", p.Data).want(t, exitFailed, "", "there is no old key")
}

func TestClientsOfTheOldServerKeyConnectUntilItIsRetired(t *testing.T) {
	p, flags := newServer(t)
	pinned := []string{"--server", p.Listen[0], "--data", p.Data, "--as", "alice", "--server-key", p.ServerKey, "--timeout", "3s"}
	until := followInbox(t, pinned...)
	tl(t, with("send", flags, "--as", "bob", "--to", "alice", "before")...).want(t, exitOK, "", "")
	until("before")

	tl(t, "key", "rotate", "server", "--data", p.Data).want(t, exitOK, "server key, old: "+p.ServerKey, "")
	tl(t, with("inbox", pinned)...).want(t, exitOK, "before", "")
	tl(t, with("inbox", flags, "--as", "alice")...).want(t, exitOK, "before", "")

	tl(t, "key", "retire", "server", "--data", p.Data).want(t, exitOK, "server key, retired: "+p.ServerKey, "")
	if o := tl(t, with("inbox", pinned)...); o.status != exitFailed {
		t.Errorf("whoever knows the retired key only: status %d, %s", o.status, o.out)
	}
	tl(t, with("send", flags, "--as", "bob", "--to", "alice", "after")...).want(t, exitOK, "", "")
	until("after")

	p.end(os.Interrupt)
	again := startProcess(t, "--data", p.Data, "--listen", p.Listen[0])
	if again.ServerKey == p.ServerKey {
		t.Error("the server says that it has the retired key")
	}
}

// keysOf returns what is listed.
func keysOf(t *testing.T, o outcome) (all []keyInfo) {
	t.Helper()
	for _, line := range o.want(t, exitOK, "", "").lines() {
		var i keyInfo
		if err := json.Unmarshal([]byte(line), &i); err != nil || i.Key == "" || i.Made.IsZero() {
			t.Fatalf("%s: %v", line, err)
		}
		all = append(all, i)
	}
	return all
}

func TestKeysAreChangedWhileNoServerRunsToo(t *testing.T) {
	p, _ := newServer(t)
	p.end(os.Interrupt)
	before := keysOf(t, tl(t, "key", "list", "--data", p.Data, "--json"))
	if len(before) != 2 || before[0].Use != "server" || before[0].Key != p.ServerKey || before[1].Use != "token" {
		t.Fatalf("%+v, want a server key and a token key", before)
	}
	tl(t, "key", "--data", p.Data, "rotate", "server").want(t, exitOK, "no server runs on "+p.Data+": those that share it by --keys and --revocations take it up within 2 s", "")
	after := keysOf(t, tl(t, "key", "list", "--data", p.Data, "--json"))
	if len(after) != 3 || after[1].State != "old" || after[1].Key != p.ServerKey || after[0].Key == p.ServerKey {
		t.Fatalf("%+v, want a new server key and the old one", after)
	}
	tl(t, "key", "list", "--data", p.Data).want(t, exitOK, "server  old      "+p.ServerKey, "")
	for _, i := range after {
		if info, err := os.Stat(i.File); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v, want mode 0600", i.File, info, err)
		}
	}
	if gone := keysOf(t, tl(t, "key", "retire", "server", "--data", p.Data, "--json")); len(gone) != 1 || gone[0].Key != p.ServerKey {
		t.Errorf("%+v, want the retired key", gone)
	}
	tl(t, "key", "list", "--data", filepath.Join(p.Data, "none")).want(t, exitFailed, "", "name its folder, or that of its --keys, with --data")
	tl(t, "key", "rotate", "token", "--data", filepath.Join(p.Data, "none")).want(t, exitFailed, "", "or that of its --keys, with --data")
}

func TestServerThatCannotTakeAKeyUpSaysSo(t *testing.T) {
	p, _ := newServer(t)
	if _, err := auth.LoadOrCreateServerKey(auth.OldPath(keyPath(p.Data))); err != nil { // of the wrong kind
		t.Fatal(err)
	}
	tl(t, "key", "rotate", "server", "--data", p.Data).want(t, exitOK, "server key, current: ", "")
	tl(t, "key", "rotate", "token", "--data", p.Data).want(t, exitFailed, "", "there is an old key still")
	if _, err := tellServer(t.Context(), p.Data, tokenKeys); err == nil || !strings.Contains(err.Error(), "token.key.old") {
		t.Errorf("%v, want an error that names the file", err)
	}
	if _, err := tellServer(t.Context(), p.Data, "weather"); err == nil {
		t.Error("the server reads the weather again")
	}
}
