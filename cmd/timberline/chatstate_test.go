package main

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

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
