package main

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"timberline/client"
	"timberline/edge/auth"
	"timberline/events"
)

// newTestChat returns alice's chat with bob, and what it has printed.
func newTestChat(t *testing.T) (*chat, *bytes.Buffer) {
	t.Helper()
	var out bytes.Buffer
	c := newCall(chatCommand, nil, nil, &out, &bytes.Buffer{})
	ch := newChat(c, &deviceConfig{}, auth.Identity{User: "alice", Device: "chat"}, "bob")
	ch.view = &plainView{c: c}
	return ch, &out
}

func said1(id byte, text string) client.Message {
	return client.Message{Seq: events.Seq(id), Event: events.Event{
		Kind: events.KindMessage, Conversation: events.Direct("alice", "bob"), Sender: "alice", Device: "chat",
		Message: events.MessageID{id}, Body: []byte(text),
	}}
}

// A send of an earlier chat is told of twice: by its result, and by the history,
// in either order.
func TestMessageOfAnEarlierChatIsShownOnce(t *testing.T) {
	id := events.MessageID{1}
	for name, play := range map[string]func(ch *chat){
		"result first": func(ch *chat) {
			ch.result(client.Result{Message: id})
			ch.message(said1(1, "hi"))
			ch.caughtUp()
		},
		"history first": func(ch *chat) {
			ch.message(said1(1, "hi"))
			ch.caughtUp()
			ch.result(client.Result{Message: id})
		},
		"history in the middle": func(ch *chat) {
			ch.message(said1(1, "hi"))
			ch.result(client.Result{Message: id})
			ch.message(said1(1, "hi")) // it comes again
			ch.caughtUp()
		},
	} {
		ch, out := newTestChat(t)
		ch.sent(id, "hi")
		play(ch)
		if n := strings.Count(out.String(), "alice: hi"); n != 1 || !strings.HasPrefix(out.String(), markStored) {
			t.Errorf("%s: it is shown %d times:\n%s", name, n, out)
		}
	}
}

// A view that is lookedAt is one that somebody looks at.
type lookedAt struct {
	*plainView
	updates []string
}

func (*lookedAt) Interactive() bool { return true }

func (v *lookedAt) Update(_ events.MessageID, line string) { v.updates = append(v.updates, line) }

// What is on the screen counts as read, once for all that came; what the other one has read
// is marked, once.
func TestChatTellsWhatWasRead(t *testing.T) {
	ch, out := newTestChat(t)
	plain := ch.view.(*plainView)
	view := &lookedAt{plainView: plain}
	ch.view = view
	n := byte(0)
	entry := func(sender events.User, k events.Kind, upto byte, conversation events.Conversation) {
		n++
		e := events.Event{ID: events.ID{n}, Kind: k, Conversation: conversation, Sender: sender, Device: "phone", Message: events.MessageID{n}, Body: fmt.Append(nil, "text ", n)}
		if k == events.KindReadUpTo {
			e.Body, e.Target = nil, events.ID{upto}
		}
		if err := ch.message(client.Message{Seq: events.Seq(n), Event: e}); err != nil {
			t.Fatal(err)
		}
	}
	here, there := events.Direct("alice", "bob"), events.Direct("alice", "carol")
	marks := func(why string, want byte) {
		t.Helper()
		got := events.ID{}
		select {
		case got = <-ch.state.receipts.marks:
		default:
		}
		if got != (events.ID{want}) {
			t.Errorf("%s: it says to have read up to %v, want %d", why, got, want)
		}
	}
	updated := func(why string, want ...string) {
		t.Helper()
		if len(view.updates) != len(want) {
			t.Errorf("%s: it marks %q as read, want %q", why, view.updates, want)
		}
		for i, line := range view.updates {
			if i < len(want) && (!strings.HasPrefix(line, markRead) || !strings.HasSuffix(line, want[i])) {
				t.Errorf("%s: it marks %q as read, want %q", why, line, want[i])
			}
		}
		view.updates = nil
	}
	entry("bob", events.KindMessage, 0, here)
	entry("bob", events.KindMessage, 0, here)
	entry("alice", events.KindReadUpTo, 1, here)
	entry("alice", events.KindMessage, 0, here)
	entry("bob", events.KindReadUpTo, 4, here)
	entry("alice", events.KindMessage, 0, here)
	marks("nothing is shown yet", 0)
	updated("nothing is shown yet")
	ch.caughtUp()
	marks("the past is shown", 2)
	updated("the past is shown")
	for mark, text := range map[string]string{markOther: "bob: text 2", markRead: "alice: text 4", markStored: "alice: text 6"} {
		if lines := strings.Split(out.String(), "\n"); !slices.ContainsFunc(lines, func(l string) bool { return strings.HasPrefix(l, mark) && strings.HasSuffix(l, text) }) {
			t.Errorf("no line %s…%s in\n%s", mark, text, out)
		}
	}
	entry("bob", events.KindMessage, 0, here)
	entry("carol", events.KindMessage, 0, there)
	entry("bob", events.KindMessage, 0, here)
	marks("both at once, none of another conversation", 9)
	entry("bob", events.KindMessage, 0, here)
	entry("alice", events.KindReadUpTo, 10, here)
	marks("another window", 10)
	entry("bob", events.KindReadUpTo, 6, here)
	updated("of the past", "alice: text 6")
	entry("alice", events.KindMessage, 0, here)
	entry("alice", events.KindMessage, 0, there)
	entry("carol", events.KindReadUpTo, 14, there)
	updated("another conversation")
	entry("bob", events.KindReadUpTo, 13, here)
	entry("bob", events.KindReadUpTo, 13, here)
	updated("once", "alice: text 13")

	typed := events.MessageID{100}
	ch.sent(typed, "typed")
	own := events.Event{ID: events.ID{100}, Kind: events.KindMessage, Conversation: here, Sender: "alice", Device: "chat", Message: typed} // pushed without its body
	if err := ch.message(client.Message{Seq: 100, Event: own}); err != nil {
		t.Fatal(err)
	}
	entry("bob", events.KindReadUpTo, 200, here)
	n = 100
	updated("of what is to come")
	entry("bob", events.KindReadUpTo, 100, here)
	updated("its result is still to come")
	ch.result(client.Result{Message: typed})
	updated("its result has come", "alice: typed")
	if strings.Contains(out.String(), "read_up_to") || len(ch.state.receipts.unread) > 0 {
		t.Errorf("%v are unread; it shows\n%s", ch.state.receipts.unread, out)
	}
	marks("nothing new", 0)
	for _, sender := range []events.User{"alice", "bob"} {
		entry(sender, events.KindReadUpTo, 200, here) // which is no event's id
	}
	entry("alice", events.KindMessage, 0, here)
	if lines := strings.Split(strings.TrimSpace(out.String()), "\n"); !strings.HasPrefix(lines[len(lines)-1], markStored) {
		t.Errorf("what comes behind it is shown as %q", lines[len(lines)-1])
	}
	entry("bob", events.KindMessage, 0, here)
	marks("what comes behind it", n)
	ch.view = plain
	entry("bob", events.KindMessage, 0, here)
	marks("nobody looks", 0)
}

// What an earlier chat has said, and is still on its way, is not said again.
func TestChatSaysOnceWhatWasRead(t *testing.T) {
	for with, want := range map[events.User]int{"bob": 0, "carol": 1} {
		ch, _ := newTestChat(t)
		ch.view = &lookedAt{plainView: ch.view.(*plainView)}
		id := events.ID{5}
		ch.resume(client.SavedSend{Message: events.MessageID{1}, With: with, Read: id})
		e := events.Event{ID: id, Kind: events.KindMessage, Conversation: events.Direct("alice", "bob"), Sender: "bob", Message: events.MessageID{2}}
		if err := ch.message(client.Message{Seq: 1, Event: e}); err != nil {
			t.Fatal(err)
		}
		ch.caughtUp()
		if n := len(ch.state.receipts.marks); n != want {
			t.Errorf("of bob it says %d times what was read, want %d, as it was said of %s", n, want, with)
		}
	}
}

// What is piped into a chat may be long, and the other one's app may never say what was read.
func TestChatIsFastWhateverIsUnread(t *testing.T) {
	ch, _ := newTestChat(t)
	ch.caughtUp()
	began := time.Now()
	for n := range 20_000 {
		id := events.MessageID{1, byte(n >> 8), byte(n)}
		ch.sent(id, "hi")
		e := events.Event{ID: events.ID(id), Kind: events.KindMessage, Conversation: events.Direct("alice", "bob"), Sender: "alice", Device: "chat", Message: id}
		if err := ch.message(client.Message{Seq: events.Seq(n + 1), Event: e}); err != nil {
			t.Fatal(err)
		}
		ch.result(client.Result{Message: id})
		if took := time.Since(began); took > 5*time.Second {
			t.Fatalf("%d messages took %v", n, took)
		}
	}
}

func TestTextWithFlagsInItIsRefused(t *testing.T) {
	send := []string{"send", "--as", "alice", "--to", "bob"}
	for _, words := range [][]string{{"lunch", "--server", "10.0.0.1:4747"}, {"hi", "--json"}, {"hi", "-codec=json"}} {
		tl(t, append(send, words...)...).want(t, exitUsage, "", words[1]+" stands in the text")
	}
	_, flags := newServer(t)
	o := tl(t, with("send", flags, "--as", "alice", "--to", "bob", "--", "use", "--json", "for", "that")...).want(t, exitOK, "", "")
	if len(o.lines()) != 1 {
		t.Errorf("%q", o.out)
	}
	tlUntil(t, 1, "use --json for that", with("inbox", flags, "--as", "bob")...)
}

func TestServerThatHasNoAddressIsNamed(t *testing.T) {
	_, flags := newServer(t)
	flags = append(flags, "--server", "nosuch.invalid:4747", "--as", "alice")
	tl(t, with("send", flags, "--to", "bob", "hi")...).want(t, exitFailed, "", "server nosuch.invalid:4747: lookup")
	tl(t, with("inbox", flags)...).want(t, exitFailed, "", "server nosuch.invalid:4747: lookup")
}

func TestProgramThatGoRunHasBuiltIsKnown(t *testing.T) {
	cached := fmt.Sprintf("/cache/7e/%064x-d/timberline", 7)
	for exe, want := range map[string]bool{
		"/tmp/go-build123/b001/exe/timberline": true, cached: true, "/usr/local/bin/timberline": false, "/home/d/timberline": false,
	} {
		if builtByRun(exe) != want {
			t.Errorf("%s: built by go run: %v, want %v", exe, !want, want)
		}
	}
}
