package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// A terminal is one that a program under test runs in, with as much of ECMA-48 as
// the program uses.
type terminal struct {
	t    *testing.T
	keys *os.File
	cmd  *exec.Cmd

	mu         sync.Mutex
	rows       [][]rune
	row, col   int
	incomplete []byte // of a character or a sequence
}

const (
	terminalRows = 24
	terminalCols = 80
)

// inTerminal starts the program in a terminal of its own.
func inTerminal(t *testing.T, args ...string) *terminal {
	t.Helper()
	keys, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	fd := int(keys.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: terminalRows, Col: terminalCols}); err != nil {
		t.Fatal(err)
	}
	line, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer line.Close()
	x := &terminal{t: t, keys: keys, cmd: exec.Command(binary, args...), rows: make([][]rune, 1)}
	x.cmd.Stdin, x.cmd.Stdout, x.cmd.Stderr = line, line, line
	if err := x.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	shown := make(chan struct{})
	go func() {
		defer close(shown)
		for buf := make([]byte, 4096); ; {
			n, err := keys.Read(buf)
			if err != nil {
				return // the program has ended
			}
			x.show(buf[:n])
		}
	}()
	t.Cleanup(func() {
		x.cmd.Process.Kill()
		x.cmd.Wait()
		keys.Close()
		<-shown
	})
	return x
}

// sequence is a control sequence: a number and what to do.
var sequence = regexp.MustCompile(`^\x1b\[(\d*)([A-Za-z])`)

func (x *terminal) show(data []byte) {
	x.mu.Lock()
	defer x.mu.Unlock()
	data = append(x.incomplete, data...)
	for len(data) > 0 {
		if data[0] == 0x1b {
			m := sequence.FindSubmatch(data)
			if m == nil {
				break
			}
			x.control(m[2][0], max(1, number(m[1])))
			data = data[len(m[0]):]
			continue
		}
		if !utf8.FullRune(data) {
			break
		}
		r, size := utf8.DecodeRune(data)
		x.put(r)
		data = data[size:]
	}
	x.incomplete = bytes.Clone(data)
}

func number(digits []byte) int {
	n, _ := strconv.Atoi(string(digits))
	return n
}

func (x *terminal) control(what byte, n int) {
	switch what {
	case 'A':
		x.row = max(0, len(x.rows)-terminalRows, x.row-n)
	case 'B':
		x.row += n
	case 'C':
		x.col += n
	case 'D':
		x.col = max(0, x.col-n)
	case 'J':
		x.clearLine()
		x.rows = x.rows[:min(len(x.rows), x.row+1)]
	case 'K':
		x.clearLine()
	default:
		x.t.Errorf("the program uses ESC [ %d %c, which this terminal does not know", n, what)
	}
	x.reach()
}

func (x *terminal) reach() {
	for len(x.rows) <= x.row {
		x.rows = append(x.rows, nil)
	}
}

func (x *terminal) clearLine() {
	if x.row < len(x.rows) {
		x.rows[x.row] = x.rows[x.row][:min(len(x.rows[x.row]), x.col)]
	}
}

func (x *terminal) put(r rune) {
	switch r {
	case '\r':
		x.col = 0
		return
	case '\n':
		x.row++
		x.reach()
		return
	}
	if x.col >= terminalCols {
		x.row, x.col = x.row+1, 0
	}
	x.reach()
	line := x.rows[x.row]
	for len(line) <= x.col {
		line = append(line, ' ')
	}
	line[x.col] = r
	x.rows[x.row] = line
	x.col++
}

// clock is the time that a message has on the screen.
var clock = regexp.MustCompile(`\d\d:\d\d`)

// screen returns what is to be seen. Times are left out.
func (x *terminal) screen() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	var b strings.Builder
	for _, row := range x.rows {
		fmt.Fprintln(&b, strings.TrimRight(string(row), " "))
	}
	return clock.ReplaceAllString(b.String(), "TIME")
}

// want waits until the screen shows exactly that.
func (x *terminal) want(lines ...string) {
	x.t.Helper()
	want := strings.Join(lines, "\n") + "\n"
	for end := time.Now().Add(20 * time.Second); x.screen() != want; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			x.t.Fatalf("the screen shows\n%s\nwant\n%s", x.screen(), want)
		}
	}
}

// press presses keys.
func (x *terminal) press(keys string) {
	x.t.Helper()
	if _, err := x.keys.WriteString(keys); err != nil {
		x.t.Fatal(err)
	}
}

// What is put in the place of a line would else be written over another one.
func TestRowsAreThoseThatTheTerminalFills(t *testing.T) {
	for line, want := range map[string]int{
		"":                                  1,
		strings.Repeat("x", 40):             1,
		strings.Repeat("x", 41):             2,
		strings.Repeat("日", 20):             1,
		strings.Repeat("日", 21):             2,
		"x" + strings.Repeat("日", 20):       2,
		"x" + strings.Repeat("日", 39) + "x": 3, // a cell at the end of a row stays empty
		strings.Repeat("😀", 41):             3,
		strings.Repeat("e\u0301", 40):       1,
		"● " + strings.Repeat("é", 38):      1,
		strings.Repeat("ﾊ", 40):             1,
		"👩" + string(joiner) + "🚀":          1,
	} {
		if n := (&screen{width: 40}).rowsOf(line); n != want {
			t.Errorf("%q: %d rows, want %d", line, n, want)
		}
	}
}

// What is out of reach, as a long line that is being typed has pushed it there, stays as it is.
func TestMarksStayInTheirRowsAboveALongLine(t *testing.T) {
	server, flags := newServer(t)
	alice := inTerminal(t, with("chat", flags, "--as", "alice", "--to", "bob")...)
	alice.awaits("connected to " + server.Listen[0])
	const messages = terminalRows - 2 // and the line above, and the prompt
	for i := range messages {
		alice.press(fmt.Sprintf("message %d.\r", i))
		alice.awaits(fmt.Sprintf("✓ TIME alice: message %d.", i))
	}
	alice.press(strings.Repeat("a long line ", 20))
	bob := inTerminal(t, with("chat", flags, "--as", "bob", "--to", "alice")...)
	bob.awaits(fmt.Sprintf("message %d.", messages-1))
	alice.awaits(fmt.Sprintf("● TIME alice: message %d.", messages-1))
	alice.press("\r")
	alice.awaits("● TIME alice: a long line")
	lines := strings.Split(alice.screen(), "\n")
	for i := range messages {
		if line := lines[i+1]; !strings.HasSuffix(line, fmt.Sprintf(" TIME alice: message %d.", i)) {
			t.Fatalf("row %d is %q, want message %d:\n%s", i+1, line, i, alice.screen())
		}
	}
}

func TestTwoTalkInTerminalsWhileTheServerIsKilledBeneathThem(t *testing.T) {
	server, flags := newServer(t, "--heartbeat", "1s") // so that a chat without sends notices the end of its server
	alice := inTerminal(t, with("chat", flags, "--as", "alice", "--to", "bob")...)
	toAlice := "* connected to " + server.Listen[0] + " as alice/chat"
	alice.want(toAlice, "alice → bob>")
	bob := inTerminal(t, with("chat", flags, "--as", "bob", "--to", "alice", "--codec", "json")...)
	toBob := "* connected to " + server.Listen[0] + " as bob/chat"
	bob.want(toBob, "bob → alice>")

	alice.press("hi bob\r")
	alice.want(toAlice, "● TIME alice: hi bob", "alice → bob>") // bob has it on his screen
	bob.want(toBob, "  TIME alice: hi bob", "bob → alice>")
	bob.press("half a li")
	bob.want(toBob, "  TIME alice: hi bob", "bob → alice> half a li")
	alice.press("still there?\r")
	bob.want(toBob, "  TIME alice: hi bob", "  TIME alice: still there?", "bob → alice> half a li")

	server.end(os.Kill)
	bob.press("ne\r")
	bob.want(toBob, "  TIME alice: hi bob", "  TIME alice: still there?", "… TIME bob: half a line", "bob → alice>")
	long := strings.Repeat("a very long tale ", 9)
	bob.press(long + "\r")
	startProcess(t, "--data", server.Data, "--listen", server.Listen[0], "--heartbeat", "1s")
	alice.awaits("TIME bob: half a line", "TIME bob: "+long[:60])
	bob.awaits("● TIME bob: half a line", "● TIME bob: "+long[:60])
	if strings.Contains(bob.screen(), "…") {
		t.Errorf("something is still on its way:\n%s", bob.screen())
	}
	for _, x := range []*terminal{alice, bob} {
		for _, text := range []string{"hi bob", "still there?", "half a line"} {
			if n := strings.Count(x.screen(), text); n != 1 {
				t.Errorf("%q is shown %d times:\n%s", text, n, x.screen())
			}
		}
	}
	alice.press("/quit\r")
	bob.press("\x04")
	for _, x := range []*terminal{alice, bob} {
		if err := x.cmd.Wait(); err != nil {
			t.Errorf("chat ends with %v", err)
		}
	}
}

// awaits waits until the screen has lines that contain texts.
func (x *terminal) awaits(texts ...string) {
	x.t.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		missing := ""
		for _, text := range texts {
			if !strings.Contains(x.screen(), text) {
				missing = text
			}
		}
		if missing == "" {
			return
		}
		if time.Now().After(end) {
			x.t.Fatalf("%q does not come:\n%s", missing, x.screen())
		}
	}
}
