package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"timberline/sim/servers"
)

// binary is the program as its users run it.
var binary string

func TestMain(m *testing.M) {
	os.Exit(testMain(m))
}

func testMain(m *testing.M) int {
	for _, setting := range os.Environ() {
		if name, _, _ := strings.Cut(setting, "="); strings.HasPrefix(name, envPrefix+"_") && !strings.HasPrefix(name, envPrefix+"_TEST_") {
			os.Unsetenv(name) // somebody's own
		}
	}
	flag.Parse()
	if flag.Lookup("test.fuzz").Value.String() != "" {
		return m.Run() // no target starts a process
	}
	folder, err := os.MkdirTemp("", "timberline-test-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(folder)
	binary = filepath.Join(folder, "timberline")
	if out, err := exec.Command("go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build: %v\n%s", err, out)
		return 1
	}
	os.Setenv("AWS_ACCESS_KEY_ID", "test") // any do for DynamoDB Local
	os.Setenv("AWS_SECRET_ACCESS_KEY", "test")
	executable = func() (string, error) { return binary, nil }
	return servers.Run(m)
}

// An outcome is what a command has said.
type outcome struct {
	status      int
	out, stderr string
}

// command runs a command in the test's own process.
func tl(t *testing.T, args ...string) outcome { return tlIn(t, "", args...) }

// tlIn does so with something to read.
func tlIn(t *testing.T, stdin string, args ...string) outcome {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var out, stderr bytes.Buffer
	status := run(ctx, args, strings.NewReader(stdin), &out, &stderr)
	return outcome{status, out.String(), stderr.String()}
}

// want checks the status, and that both outputs contain texts.
func (o outcome) want(t *testing.T, status int, out, stderr string) outcome {
	t.Helper()
	if o.status != status || !strings.Contains(o.out, out) || !strings.Contains(o.stderr, stderr) {
		t.Fatalf("status %d, stdout:\n%s\nstderr:\n%s\nwant status %d, stdout with %q, stderr with %q",
			o.status, o.out, o.stderr, status, out, stderr)
	}
	return o
}

// tlUntil runs a command until its output has a number of lines with a text: what
// was acknowledged a moment ago is in the log, and comes to the timelines next.
func tlUntil(t *testing.T, lines int, text string, args ...string) outcome {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		o := tl(t, args...)
		if o.status == exitOK && strings.Count(o.out, text) == lines {
			return o
		}
		if time.Now().After(end) {
			t.Fatalf("status %d, stdout:\n%s\nstderr:\n%s\nwant %d lines with %q", o.status, o.out, o.stderr, lines, text)
		}
	}
}

// lines returns the lines of the output.
func (o outcome) lines() []string {
	return strings.Split(strings.TrimSuffix(o.out, "\n"), "\n")
}

// A process is a server in a process of its own.
type process struct {
	started
	cmd    *exec.Cmd
	stderr *bytes.Buffer
}

// startProcess starts a server. The test's end kills it if it still runs.
func startProcess(t *testing.T, args ...string) *process {
	t.Helper()
	return startRole(t, "serve", args...)
}

// startRole starts a process of any role.
func startRole(t *testing.T, role string, args ...string) *process {
	t.Helper()
	p := &process{cmd: exec.Command(binary, append([]string{role, "--json"}, args...)...), stderr: new(bytes.Buffer)}
	p.cmd.Stderr = p.stderr
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.end(os.Kill) })
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &p.started)
	}
	if err != nil {
		p.end(os.Kill)
		t.Fatalf("server says %q (%v)\n%s", line, err, p.stderr)
	}
	return p
}

// end sends a signal and waits for the end.
func (p *process) end(signal os.Signal) error {
	if p.cmd.ProcessState != nil {
		return nil
	}
	p.cmd.Process.Signal(signal)
	return p.cmd.Wait()
}

// freePort returns a port of the loopback that nobody has.
func freePort(t *testing.T, network string) string {
	t.Helper()
	var at net.Addr
	if network == "udp" {
		c, err := net.ListenPacket(network, "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		at = c.LocalAddr()
	} else {
		l, err := net.Listen(network, "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		at = l.Addr()
	}
	_, port, err := net.SplitHostPort(at.String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// newServer starts a server with a folder of its own on a port of its own, and
// returns the flags that lead to it.
func newServer(t *testing.T, args ...string) (p *process, flags []string) {
	t.Helper()
	p = startProcess(t, append(args, "--data", filepath.Join(t.TempDir(), "data"), "--listen", "127.0.0.1:0")...)
	return p, []string{"--server", p.Listen[0], "--data", p.Data}
}

// with puts a command's name before flags and more.
func with(name string, flags []string, more ...string) []string {
	return append(append([]string{name}, flags...), more...)
}

func TestEveryCommandHasHelpWithAnExampleThatParses(t *testing.T) {
	for _, cmd := range commands() {
		o := tl(t, cmd.name, "--help").want(t, exitOK, "usage: timberline "+cmd.name, "")
		if !strings.Contains(o.out, "example:\n  timberline ") {
			t.Errorf("%s has no example:\n%s", cmd.name, o.out)
		}
		for _, word := range strings.Fields(strings.SplitN(cmd.example, "|", 2)[0]) {
			if flag, is := strings.CutPrefix(word, "--"); is && flag != "version" && !strings.Contains(o.out, "  --"+flag) {
				t.Errorf("the example of %s has --%s, which does not exist", cmd.name, flag)
			}
		}
		if o := tl(t, "help"); strings.Contains(o.out, cmd.summary) == cmd.hidden {
			t.Errorf("%s is hidden: %v, but help says:\n%s", cmd.name, cmd.hidden, o.out)
		}
	}
}

func TestWrongCommandLinesSayWhatIsWrong(t *testing.T) {
	for _, test := range []struct{ args, want string }{
		{"", "usage: timberline COMMAND"},
		{"fly", `there is no command "fly"`},
		{"serve --wings", "-wings"},
		{"serve now", `"now" is one argument too many`},
		{"serve --heartbeat soon", `invalid value "soon" for flag -heartbeat`},
		{"serve --heartbeat 1ms", "--heartbeat is 1ms, want 1s to 1h"},
		{"serve --listen here", "--listen is \"here\""},
		{"serve --listen 127.0.0.1:0,127.0.0.1:http", `port "http" is not a number`},
		{"serve --advertise chat.example", "--advertise is \"chat.example\""},
		{"edge --handover chat.example", "--handover is \"chat.example\""},
		{"serve --max-body 70000", "--max-body is 70000, want 1 to 65536 bytes"},
		{"serve --max-sessions 0", "--max-sessions is 0"},
		{"serve --user-sessions 0", "--user-sessions is 0, want 1 to"},
		{"serve --session-rate -1", "--session-rate is -1, want 1 to 1000000"},
		{"serve --source-rate 0", "--source-rate is 0, want 1 to 1000000"},
		{"serve --half-open 9999999", "--half-open is 9999999, want 1 to 1000000"},
		{"serve --max-heartbeat 5s", "--max-heartbeat is 5s, want --heartbeat (15s) to 1h"},
		{"serve --max-heartbeat 2h", "--max-heartbeat is 2h0m0s"},
		{"serve --sockets -1", "--sockets is -1, want 0 to 256"},
		{"serve --shards 5000", "--shards is 5000, want 1 to 4096"},
		{"serve --data=", "--data is empty"},
		{"serve --trim-older-than -1h", "--trim-older-than is -1h0m0s, want a time"},
		{"serve --trim-keep 5 --trim-every 0", "--trim-every is 0s, want 1s or more"},
		{"serve --config /does/not/exist", "--config cannot be read: open /does/not/exist: "},
		{"serve --config /", "--config is /, line 1: read /: "},
		{"token --device phone", "--user is missing"},
		{"token --user alice", "--device is missing"},
		{"token --user al/ice --device phone", "--user is \"al/ice\""},
		{"token --user alice --device phone --ttl 0", "--ttl is 0s"},
		{"key", "want list, rotate or retire"},
		{"key list server", "want list, rotate or retire"},
		{"key rotate", "want rotate server or rotate token"},
		{"key retire clients", "want retire server or retire token"},
		{"key rotate server token", "want rotate server or rotate token"},
		{"key fly --json", `"fly" is no action`},
		{"revoke", "want one of them"},
		{"revoke --device phone", "--user is missing"},
		{"revoke --before now", "--user is missing"},
		{"revoke --user alice --token x", "want one of them"},
		{"revoke --token x --device phone", "--device is given without --user"},
		{"revoke --list --before now", "--before is given without --user"},
		{"revoke --user al/ice", "--user is \"al/ice\""},
		{"revoke --user alice --device ph/one", "--device is \"ph/one\""},
		{"revoke --user alice --before yesterday", "want a time such as 2026-01-31T12:00:00Z, or now"},
		{"revoke --token eyJh.eyJz.c2ln", "--token is of no use: it is a token itself"},
		{"chat --as alice", "--to is missing"},
		{"chat --to bob", "--as is missing"},
		{"send hi --as alice --to bob", "--as stands in the text: flags come first"},
		{"send --read 01M8AS3JG3000EH4BDYK4HP58M --as alice hi --to bob", "--to stands in the text: flags come first"},
		{"send --as alice --to bob! hi", "--to is \"bob!\""},
		{"send --as alice --to bob --timeout 0 hi", "--timeout is 0s"},
		{"send --as alice --to bob --codec xml hi", "--codec is \"xml\", want protobuf or json"},
		{"inbox --as alice --server there", "--server is \"there\""},
		{"inbox --token abc", "--token is of no use"},
		{"log --journal x", `invalid value "x" for flag -journal`},
		{"demo --loss 2", "--loss is 2, want 0 to 0.9"},
		{"demo --loss NaN", "--loss is NaN"},
		{"demo --duplicate -1", "--duplicate is -1"},
		{"demo --reorder 7", "--reorder is 7"},
		{"demo --users 1", "--users is 1"},
		{"demo --kills -1", "--kills is -1"},
		{"demo --kills 9 --messages 3", "--kills is 9, want at most one for each of the 3 messages"},
		{"soak --minutes 0", "--minutes comes to 0s"},
		{"soak --users 51", "--users is 51, want 2 to 50"},
		{"soak --rate 0", "--rate is 0, want 1 to 2000"},
		{"soak --nodes 11", "--nodes is 11, want 0 to 10"},
		{"soak --kills -1", "--kills is -1"},
		{"soak --nodes 2 --bus http://127.0.0.1", "--bus is not local, and no URL that begins with amqp://"},
		{"soak --nodes 2 --bus local", "--bus is local, but a process that is one of many needs the others"},
		{"soak --nodes 2 --dynamodb-prefix=", "--dynamodb-prefix is empty"},
		{"soak --every 1ms", "--every is 1ms, want 100ms to 1h"},
		{"soak --payload fixed:3", "--payload is \"fixed:3\", want corpus or corpus:FILE"},
		{"soak --payload corpus:", "--payload is \"corpus:\", want corpus or corpus:FILE"},
		{"soak --delay 11s", "--delay is 11s, want 0 to 10s"},
		{"soak --loss 1", "--loss is 1, want 0 to 0.9"},
		{"demo --codec both --messages -1", "--messages is -1"},
	} {
		tl(t, strings.Fields(test.args)...).want(t, exitUsage, "", test.want)
	}
}

func TestVersionSaysWhatDecidesCompatibility(t *testing.T) {
	out, err := exec.Command(binary, "--version").Output()
	if err != nil || !strings.Contains(string(out), "protocol 1, data format 2") {
		t.Errorf("%q, %v", out, err)
	}
	var v versionInfo
	o := tl(t, "version", "--json").want(t, exitOK, "", "")
	if err := json.Unmarshal([]byte(o.out), &v); err != nil || v.Protocol != 1 || v.Data != 2 {
		t.Errorf("%s: %+v, %v", o.out, v, err)
	}
}

func TestOutputThatNobodyReadsIsAnError(t *testing.T) {
	r, w := io.Pipe()
	r.Close()
	var stderr bytes.Buffer
	if status := run(t.Context(), []string{"version"}, nil, w, &stderr); status != exitFailed || !strings.Contains(stderr.String(), "print") {
		t.Errorf("status %d, %s", status, &stderr)
	}
}

func TestInterruptedCommandSaysSo(t *testing.T) {
	_, flags := newServer(t)
	cmd := exec.Command(binary, with("inbox", flags, "--as", "alice", "--follow", "--json")...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	tl(t, with("send", flags, "--as", "bob", "--to", "alice", "hi")...).want(t, exitOK, "", "")
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || !strings.Contains(line, `"seq":"1"`) {
		t.Errorf("it follows with %q, %v", line, err)
	}
	cmd.Process.Signal(syscall.SIGINT)
	cmd.Wait()
	if status := cmd.ProcessState.ExitCode(); status != exitInterrupted || !strings.Contains(stderr.String(), "interrupted") {
		t.Errorf("status %d, %s", status, &stderr)
	}
}
