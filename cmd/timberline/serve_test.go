package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"timberline/events"
)

func TestServerStartsFromNothingAndFindsEverythingAgain(t *testing.T) {
	data := filepath.Join(t.TempDir(), "a", "data")
	first := startProcess(t, "--data", data, "--listen", "127.0.0.1:0")
	flags := []string{"--server", first.Listen[0], "--data", data}
	tl(t, with("send", flags, "--as", "alice", "--to", "bob", "kept")...).want(t, exitOK, "", "")
	if err := first.end(syscall.SIGTERM); err != nil {
		t.Fatalf("SIGTERM: %v\n%s", err, first.stderr)
	}
	if _, err := os.Lstat(adminPath(data)); err == nil {
		t.Error("the admin socket is still there")
	}
	second := startProcess(t, "--data", data, "--listen", first.Listen[0])
	if second.Store != first.Store {
		t.Errorf("store %s became %s", first.Store, second.Store)
	}
	tlUntil(t, 1, "alice → bob\tkept", with("inbox", flags, "--as", "bob")...)
	for _, path := range []string{data, keyPath(data), adminPath(data)} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: %v, %v: others have rights", path, info.Mode(), err)
		}
	}
}

func TestServerPrintsCommandsThatWork(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "it's a folder")
	cmd := exec.Command(binary, "serve", "--data", folder, "--listen", "127.0.0.1:0")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		cmd.Process.Signal(os.Interrupt)
		if err := cmd.Wait(); err != nil {
			t.Errorf("SIGINT: %v", err)
		}
	}()
	var said []byte
	for buf := make([]byte, 4096); !bytes.Contains(said, []byte("Ctrl-C")); {
		n, err := out.Read(buf)
		if err != nil {
			t.Fatalf("%v after:\n%s", err, said)
		}
		said = append(said, buf[:n]...)
	}
	var chats []string
	for line := range strings.Lines(string(said)) {
		if line = strings.TrimSpace(line); strings.Contains(line, " chat --as ") {
			chats = append(chats, line)
		}
	}
	if len(chats) != 2 {
		t.Fatalf("%d chat commands, want 2:\n%s", len(chats), said)
	}
	for i, text := range []string{"hello", "hello, too"} {
		chat := exec.Command("sh", "-c", chats[i])
		chat.Stdin = strings.NewReader(text + "\n")
		if out, err := chat.CombinedOutput(); err != nil || !strings.Contains(string(out), "✓ ") || !strings.Contains(string(out), "hello") {
			t.Errorf("%s: %v\n%s", chats[i], err, out)
		}
	}
}

func TestSecondServerOnAFolderSaysWhatToDo(t *testing.T) {
	p, _ := newServer(t)
	tl(t, "serve", "--data", p.Data, "--listen", "127.0.0.1:0").want(t, exitFailed, "", "another process")
}

// Whoever reads what it says and logs may end before it does.
func TestServerOutlivesWhoReadsItsOutput(t *testing.T) {
	monitor := "127.0.0.1:" + freePort(t, "tcp")
	cmd := exec.Command(binary, "serve", "--data", filepath.Join(t.TempDir(), "d"), "--listen", "127.0.0.1:0", "--monitor", monitor)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = w, w
	err = cmd.Start()
	if err := errors.Join(err, r.Close(), w.Close()); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(20 * time.Second); askHealth(t.Context(), monitor) != nil && time.Now().Before(end); {
		time.Sleep(20 * time.Millisecond)
	}
	if err := askHealth(t.Context(), monitor); err != nil {
		t.Errorf("it does not serve: %v", err)
	}
	cmd.Process.Signal(syscall.SIGTERM)
	if err := cmd.Wait(); err != nil {
		t.Errorf("it ends with %v", err)
	}
}

func TestPortInUseSaysWhatToDo(t *testing.T) {
	p, _ := newServer(t)
	o := tl(t, "serve", "--data", filepath.Join(t.TempDir(), "d"), "--listen", p.Listen[0])
	o.want(t, exitFailed, "", p.Listen[0])
	if !strings.Contains(o.stderr, "in use") || !strings.Contains(o.stderr, "--listen") {
		t.Errorf("stderr does not say what to do: %s", o.stderr)
	}
}

// Sockets that share a port are several for the system only.
func TestServerWithManySocketsHasOneAddress(t *testing.T) {
	p := startProcess(t, "--data", filepath.Join(t.TempDir(), "d"), "--listen", "127.0.0.1:0", "--sockets", "4")
	if len(p.Listen) != 1 {
		t.Fatalf("listens on %v, want one address", p.Listen)
	}
	for _, sockets := range []string{"1", "4"} {
		tl(t, "serve", "--data", filepath.Join(t.TempDir(), "d"), "--listen", p.Listen[0], "--sockets", sockets).want(t, exitFailed, "", "in use")
	}
	flags := []string{"--server", p.Listen[0], "--data", p.Data}
	for i := range 6 { // each from another port, so to one socket or another
		text := fmt.Sprintf("number %d", i)
		tl(t, with("send", flags, "--as", "alice", "--to", "bob", text)...).want(t, exitOK, "", "")
		tlUntil(t, 1, text, with("inbox", flags, "--as", "bob")...)
	}
}

func TestServerListensOnIPv6(t *testing.T) {
	if c, err := net.ListenPacket("udp6", "[::1]:0"); err != nil {
		t.Fatalf("this machine has no IPv6 loopback, which the test needs: %v", err)
	} else {
		c.Close()
	}
	p := startProcess(t, "--data", filepath.Join(t.TempDir(), "d"), "--listen", "[::1]:0, 127.0.0.1:0")
	if len(p.Listen) != 2 || !strings.HasPrefix(p.Listen[0], "[::1]:") {
		t.Fatalf("listens on %v", p.Listen)
	}
	for i, address := range p.Listen {
		text := fmt.Sprintf("over socket %d", i)
		flags := []string{"--server", address, "--data", p.Data}
		tl(t, with("send", flags, "--as", "alice", "--to", "bob", text)...).want(t, exitOK, "", "")
		tlUntil(t, 1, text, with("inbox", flags, "--as", "bob")...)
	}
}

func TestPlainSocketsStayOnTheLoopback(t *testing.T) {
	data := filepath.Join(t.TempDir(), "d")
	tl(t, "serve", "--data", data, "--listen-plain", "0.0.0.0:0").want(t, exitUsage, "", "--plain-anywhere")
	tl(t, "serve", "--data", data, "--listen-plain", ":0").want(t, exitUsage, "", "not on the loopback")
}

func TestPlainSocketIsForThoseWhoAskForIt(t *testing.T) {
	p := startProcess(t, "--data", filepath.Join(t.TempDir(), "d"), "--listen", "127.0.0.1:0", "--listen-plain", "127.0.0.1:0")
	if len(p.Listen) != 1 || len(p.ListenPlain) != 1 || p.ServerKey == "" {
		t.Fatalf("started as %+v, want a sealed and a plain socket", p.started)
	}
	to := []string{"--as", "alice", "--to", "bob", "--data", p.Data}
	tl(t, with("send", to, "--plain", "--server", p.ListenPlain[0], "by eye")...).want(t, exitOK, "", "")
	tl(t, with("send", to, "--server", p.Listen[0], "sealed")...).want(t, exitOK, "", "")
	tl(t, with("send", to, "--server", p.Listen[0], "--server-key", p.ServerKey, "with its key")...).want(t, exitOK, "", "")
	tl(t, with("send", to, "--plain", "--server-key", p.ServerKey, "x")...).want(t, exitUsage, "", "--server-key")
	tl(t, with("send", to, "--server-key", "x", "x")...).want(t, exitUsage, "", "43 characters")
}

func TestAdvertisedAddressIsTold(t *testing.T) {
	var out bytes.Buffer
	cfg := config{advertise: "chat.example:4747"}
	if line := chatLine(&cfg, &started{Listen: []string{"10.0.0.1:9"}}, "alice", "bob"); !strings.Contains(line, "--server chat.example:4747") {
		t.Errorf("%s%s", &out, line)
	}
}

func TestShardsOfAStoreStay(t *testing.T) {
	data := filepath.Join(t.TempDir(), "d")
	startProcess(t, "--data", data, "--listen", "127.0.0.1:0", "--shards", "3").end(os.Interrupt)
	tl(t, "serve", "--data", data, "--listen", "127.0.0.1:0", "--shards", "4").want(t, exitUsage, "", "was created with 3")
	startProcess(t, "--data", data, "--listen", "127.0.0.1:0").end(os.Interrupt)
}

func TestFolderWithoutRightsSaysWhatToDo(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	tl(t, "serve", "--data", filepath.Join(file, "d"), "--listen", "127.0.0.1:0").want(t, exitFailed, "", "data folder "+file)
	for _, test := range []struct {
		err  error
		want string
	}{
		{os.ErrPermission, "give this user the right"},
		{syscall.EROFS, "choose another with --data"},
		{syscall.ENOSPC, "the disk is full"},
		{events.ErrFormat, "use the version of timberline that wrote it"},
		{events.ErrCorrupt, "restore the folder from a copy"},
	} {
		if err := folderError("d", test.err); !strings.Contains(err.Error(), test.want) {
			t.Errorf("%v: %v, want one that says %q", test.err, err, test.want)
		}
	}
}

func TestLongPathOfTheAdminSocketIsRefused(t *testing.T) {
	data := filepath.Join(t.TempDir(), strings.Repeat("long", 30))
	tl(t, "serve", "--data", data, "--listen", "127.0.0.1:0").want(t, exitUsage, "", "choose a shorter path")
}

func TestConfigurationComesFromFlagsEnvironmentAndFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(file, []byte("heartbeat 20s\nmax-body 1000\nmax-sessions 7\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TIMBERLINE_MAX_BODY", "2000")
	t.Setenv("TIMBERLINE_MAX_SESSIONS", "8")
	o := tl(t, "serve", "--config", file, "--max-sessions", "9", "--print-config")
	o.want(t, exitOK, "heartbeat 20s\n", "").want(t, exitOK, "max-body 2000\n", "").want(t, exitOK, "max-sessions 9\n", "")

	if err := os.WriteFile(file, []byte(o.out), 0o600); err != nil {
		t.Fatal(err)
	}
	os.Unsetenv("TIMBERLINE_MAX_BODY")
	os.Unsetenv("TIMBERLINE_MAX_SESSIONS")
	if again := tl(t, "serve", "--config", file, "--print-config"); again.out != o.out {
		t.Errorf("printed, read and printed again:\n%s\nwant:\n%s", again.out, o.out)
	}
	t.Setenv("TIMBERLINE_CONFIG", file)
	tl(t, "serve", "--print-config").want(t, exitOK, "max-body 2000\n", "")
	tl(t, "token", "--user", "alice", "--device", "phone").want(t, exitFailed, "", "there is no key")
}

func TestWrongConfigurationNamesTheField(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config")
	for _, test := range []struct{ content, want string }{
		{"hartbeat 20s\n", "timberline serve: --config is " + file + ", line 1: config file flag \"hartbeat\" not defined"},
		{"# of all\n\nheartbeat soon\n", "--config is " + file + ", line 3: error setting flag \"heartbeat\" from config file: want a time"},
		{"max-body 5\n" + strings.Repeat("a", 1<<17), "--config is " + file + ", line 2: "},
		{"heartbeat 2h\n", "--heartbeat is 2h0m0s"},
		{"config other\n", "line 1: \"config\" cannot be set in a file"},
	} {
		if err := os.WriteFile(file, []byte(test.content), 0o600); err != nil {
			t.Fatal(err)
		}
		tl(t, "serve", "--config", file, "--print-config").want(t, exitUsage, "", test.want)
	}
	t.Setenv("TIMBERLINE_MAX_BODY", "much")
	tl(t, "serve", "--print-config").want(t, exitUsage, "", "max-body")
}

func TestServerInTheProcessStopsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	var out, stderr bytes.Buffer
	args := []string{"serve", "--data", filepath.Join(t.TempDir(), "d"), "--listen", "127.0.0.1:0"}
	if status := run(ctx, args, nil, &out, &stderr); status != exitOK || !strings.Contains(out.String(), "listens on 127.0.0.1:") {
		t.Errorf("status %d\n%s%s", status, &out, &stderr)
	}
	if _, after, told := strings.Cut(stderr.String(), `msg="stops: `); !told || !strings.HasSuffix(after, "msg=\"has stopped\"\n") {
		t.Errorf("it does not tell that it stops and has stopped:\n%s", &stderr)
	}
}
