package node_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"

	"timberline/client"
	"timberline/edge"
	"timberline/events"
	"timberline/sim/proxy"
	"timberline/wire"
)

// protocolPage is the page that tells others how to write a client.
const protocolPage = "../../docs/protocol.md"

// A turn is a block of the page's dialogue: lines that somebody types or reads.
type turn struct {
	who   string
	types bool
	lines []string
}

// turns returns the dialogue.
func turns(t *testing.T) (all []turn) {
	t.Helper()
	page, err := os.ReadFile(protocolPage)
	if err != nil {
		t.Fatal(err)
	}
	for _, block := range regexp.MustCompile("(?s)```json (alice|bob) (types|reads)\n(.*?)```").FindAllSubmatch(page, -1) {
		all = append(all, turn{string(block[1]), string(block[2]) == "types", strings.Split(strings.TrimSpace(string(block[3])), "\n")})
	}
	return all
}

// A player plays one's part of a dialogue. Words in capitals stand for what is
// known only then: of both parts, but for TOKEN.
type player struct {
	t     *testing.T
	addr  netip.AddrPort
	conn  net.Conn
	token string
	words map[string]string
	heard []string // lines that came and were not asked for yet
}

// dial takes another socket, to which nothing comes until it has said something.
func (p *player) dial() {
	p.t.Helper()
	conn, err := net.Dial("udp", p.addr.String())
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { conn.Close() })
	p.conn, p.heard = conn, nil
}

func (p *player) say(line string) {
	p.t.Helper()
	line = strings.ReplaceAll(line, `"TOKEN"`, strconv.Quote(p.token))
	for word, value := range p.words {
		line = strings.ReplaceAll(line, `"`+word+`"`, strconv.Quote(value))
	}
	if _, err := fmt.Fprintln(p.conn, line); err != nil {
		p.t.Fatal(err)
	}
}

// hear waits for a line like the one on the page.
func (p *player) hear(want string) {
	p.t.Helper()
	p.conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	for {
		for i, line := range p.heard {
			if p.matches(want, line) {
				p.heard = append(p.heard[:i], p.heard[i+1:]...)
				return
			}
		}
		buf := make([]byte, 2000)
		n, err := p.conn.Read(buf)
		if err != nil {
			p.t.Fatalf("the page has the answer\n%s\nbut there came only\n%s", want, strings.Join(p.heard, "\n"))
		}
		p.heard = append(p.heard, strings.Split(strings.TrimSpace(string(buf[:n])), "\n")...)
	}
}

// matches compares two lines as values, and learns the words.
func (p *player) matches(want, got string) bool {
	var w, g any
	if json.Unmarshal([]byte(want), &w) != nil || json.Unmarshal([]byte(got), &g) != nil {
		p.t.Fatalf("no JSON:\n%s\n%s", want, got)
	}
	learned := make(map[string]string)
	if !p.same(w, g, learned) {
		return false
	}
	for word, value := range learned {
		p.words[word] = value
	}
	return true
}

var placeholder = regexp.MustCompile(`^[A-Z]{3,}$`)

func (p *player) same(want, got any, learned map[string]string) bool {
	switch w := want.(type) {
	case map[string]any:
		g, ok := got.(map[string]any)
		if !ok || len(g) != len(w) {
			return false
		}
		for name := range w {
			if _, has := g[name]; !has || !p.same(w[name], g[name], learned) {
				return false
			}
		}
		return true
	case []any:
		g, ok := got.([]any)
		if !ok || len(g) != len(w) {
			return false
		}
		for i := range w {
			if !p.same(w[i], g[i], learned) {
				return false
			}
		}
		return true
	case string:
		g, ok := got.(string)
		if !ok || !placeholder.MatchString(w) {
			return ok && g == w
		}
		for _, known := range []map[string]string{p.words, learned} {
			if value, ok := known[w]; ok {
				return value == g
			}
		}
		learned[w] = g
		return true
	}
	return want == got
}

func TestDialogueOfTheProtocolPageIsTrue(t *testing.T) {
	addr, stop := serveEdge(t, vfs.NewMem(), func(conn wire.PacketConn, tag events.EdgeTag) edge.Config {
		c := plainEdge(conn, tag)
		c.Heartbeat = time.Hour // as the page has the reader start it
		return c
	})
	defer stop()
	words := make(map[string]string)
	players := make(map[string]*player)
	for _, who := range []string{"alice", "bob"} {
		players[who] = &player{t: t, addr: addr, token: who + "/hand", words: words}
		players[who].dial()
	}
	read := 0
	for _, turn := range turns(t) {
		p := players[turn.who]
		for _, line := range turn.lines {
			if turn.types {
				p.say(line)
			} else {
				p.hear(line)
				read++
			}
		}
		if !turn.types && strings.Contains(strings.Join(turn.lines, ""), `"accepted"`) {
			p.dial() // the page has the reader end nc, and start it with the new session
		}
	}
	if read < 12 {
		t.Errorf("the page has a dialogue of %d answers, want a whole one", read)
	}
}

// python runs the page's client, or a script that uses it, and returns the lines
// that it prints.
func python(t *testing.T, args ...string) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "python3", args...)
	cmd.Dir = "../../docs/examples"
	cmd.Env = append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1", "PYTHONIOENCODING=utf-8")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("python3: %v\n%s", err, &stderr)
	}
	return strings.Split(strings.TrimRight(string(out), "\n"), "\n")
}

// Whoever waits in vain is told soon, and told what to look at.
func TestPythonClientSaysThatNobodyAnswers(t *testing.T) {
	t.Parallel()
	nobody, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer nobody.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "python3", "client.py", fmt.Sprint(nobody.LocalAddr().(*net.UDPAddr).Port), "token")
	cmd.Dir = "../../docs/examples"
	cmd.Env = append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1")
	out, err := cmd.CombinedOutput()
	want := "no answer to login yet\nno answer to login: is the server there, in this mode, and the token good?\n"
	if err == nil || ctx.Err() != nil || string(out) != want {
		t.Errorf("%v, %v: %s", err, ctx.Err(), out)
	}
}

// sendAll sends texts with the Go client; without a server's key in plain mode.
func sendAll(t *testing.T, addr netip.AddrPort, serverKey, from, to string, texts ...string) {
	t.Helper()
	c, err := client.Dial(addr.String(), client.Options{
		Plain: serverKey == "", ServerKey: serverKey,
		Token: func(context.Context) (string, error) { return from, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, text := range texts {
		if _, err := c.Send(t.Context(), events.User(to), []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestPythonClientLogsInSendsReceivesAndSyncs(t *testing.T) {
	addr, stop := serve(t, vfs.NewMem())
	defer stop()
	port := fmt.Sprint(addr.Port())
	got := python(t, "client.py", port, "alice/py", "bob", "hi bob", "wie geht's? 👋")
	want := []string{"1 alice: hi bob", "2 alice: wie geht's? 👋"}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("alice's timeline (-want +got):\n%s", d)
	}
	var texts []string
	for n := range 300 {
		texts = append(texts, fmt.Sprintf("answer %d", n))
	}
	texts = append(texts, strings.Repeat("a long tale, ", 700))
	sendAll(t, addr, "", "bob/phone", "alice", texts...)
	for _, text := range texts {
		want = append(want, fmt.Sprintf("%d bob: %s", len(want)+1, text))
	}
	if d := cmp.Diff(want, python(t, "client.py", port, "alice/py")); d != "" {
		t.Errorf("alice's timeline, synced (-want +got):\n%s", d)
	}
}

// It is no message, but has its seq.
func TestPythonClientPrintsMessagesOnly(t *testing.T) {
	addr, stop := serve(t, vfs.NewMem())
	defer stop()
	got := python(t, "-c", fmt.Sprintf(`
from client import Client, run
bob = Client(%d, "bob/py")
bob.deliver({"with": "alice", "message": "00000000000000000000000003", "read": "00000000000000000000000004"})
run(bob, ["alice", "hi"])
`, addr.Port()))
	if d := cmp.Diff([]string{"2 bob: hi"}, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestPythonClientReceivesPushes(t *testing.T) {
	addr, stop := serve(t, vfs.NewMem())
	defer stop()
	got := python(t, "-c", fmt.Sprintf(`
from client import Client
alice, bob = Client(%d, "alice/py"), Client(%[1]d, "bob/py")
bob.send("alice", "pushed")
assert alice.hear(20, lambda: alice.have() == 1), "no push came"
print(alice.entries[1])
`, addr.Port()))
	if d := cmp.Diff([]string{"('bob', 'pushed')"}, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// startProxy puts a bad network before a server, and returns its port.
func startProxy(t *testing.T, server netip.AddrPort) (port string) {
	t.Helper()
	faults := proxy.Faults{Loss: 0.1, Duplicate: 0.05, Reorder: 0.1}
	p, err := proxy.New(proxy.Config{Server: server, Up: faults, Down: faults, Seed: 2})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return fmt.Sprint(p.Addr().Port())
}

func TestPythonClientLosesNothingOnABadNetwork(t *testing.T) {
	addr, stop := serve(t, vfs.NewMem())
	defer stop()
	port := startProxy(t, addr)
	var texts, want []string
	for n := range 20 {
		texts = append(texts, fmt.Sprintf("message %d", n))
		want = append(want, fmt.Sprintf("%d alice: message %d", n+1, n))
	}
	got := python(t, append([]string{"client.py", port, "alice/py", "bob"}, texts...)...)
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestPythonSealedClientPassesTheTestPackets(t *testing.T) {
	got := python(t, "sealed.py", "--vectors", "../../wire/testdata/sealed")
	var passed, failed int
	if _, err := fmt.Sscanf(got[len(got)-1], "%d passed, %d failed", &passed, &failed); err != nil || passed < 370 || failed > 0 {
		t.Errorf("sealed.py --vectors says %q, want at least 370 passed, and all", got)
	}
}

func TestPythonSealedClientLogsInSendsReceivesAndSyncs(t *testing.T) {
	addr, key, stop := serveSealed(t, vfs.NewMem())
	defer stop()
	port := fmt.Sprint(addr.Port())
	got := python(t, "sealed.py", port, key, "alice/py", "bob", "hi bob", "wie geht's? 👋")
	want := []string{"1 alice: hi bob", "2 alice: wie geht's? 👋"}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("alice's timeline (-want +got):\n%s", d)
	}
	texts := []string{"answer 1", "answer 2", "answer 3", strings.Repeat("a long tale, ", 300)}
	sendAll(t, addr, key, "bob/phone", "alice", texts...)
	for _, text := range texts {
		want = append(want, fmt.Sprintf("%d bob: %s", len(want)+1, text))
	}
	if d := cmp.Diff(want, python(t, "sealed.py", port, key, "alice/py")); d != "" {
		t.Errorf("alice's timeline, synced (-want +got):\n%s", d)
	}
}

func TestPythonSealedClientLosesNothingOnABadNetwork(t *testing.T) {
	addr, key, stop := serveSealed(t, vfs.NewMem())
	defer stop()
	port := startProxy(t, addr)
	var texts, want []string
	for n := range 8 {
		texts = append(texts, fmt.Sprintf("message %d", n))
		want = append(want, fmt.Sprintf("%d alice: message %d", n+1, n))
	}
	got := python(t, append([]string{"sealed.py", port, key, "alice/py", "bob"}, texts...)...)
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestPythonSealedClientGoesOnFromAnotherSocket(t *testing.T) {
	addr, key, stop := serveSealed(t, vfs.NewMem())
	defer stop()
	got := python(t, "-c", fmt.Sprintf(`
from sealed import Sealed

class Roaming(Sealed):
    challenges = 0

    def on_challenge(self, f):
        self.challenges += 1
        super().on_challenge(f)

alice, bob = Roaming(%d, %q, "alice/py"), Sealed(%[1]d, %[2]q, "bob/py")
session = alice.session
alice.move()
alice.ping()
bob.send("alice", "pushed")
assert alice.hear(20, lambda: alice.have() == 1), "no push came"
print(alice.challenges, alice.session == session, alice.entries[1])
`, addr.Port(), key))
	if d := cmp.Diff([]string{"1 True ('bob', 'pushed')"}, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestPythonSealedClientConnectsAnewAndSettles(t *testing.T) {
	addr, key, stop := serveSealed(t, vfs.NewMem())
	defer stop()
	got := python(t, "-c", fmt.Sprintf(`
from sealed import DATA, Sealed

class Deaf(Sealed):
    deaf = False

    def on_ack(self, f):
        if self.deaf:
            self.deaf = False
            self.close()
        else:
            super().on_ack(f)

alice = Deaf(%d, %q, "alice/py")
first = alice.session
alice.send("bob", "before")
alice.close()
alice.send("bob", "after a RESET")
second = alice.session
alice.deaf = True
alice.send("bob", "without an ack")
for junk in b"", b"junk", bytes([DATA]), alice.connection.reader.head + bytes(60):
    assert alice.frames(junk) == []
alice.sync()
print(len({first, second, alice.session}), [text for _, (_, text) in sorted(alice.entries.items())])
`, addr.Port(), key))
	if d := cmp.Diff([]string{"3 ['before', 'after a RESET', 'without an ack']"}, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}
