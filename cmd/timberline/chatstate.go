package main

import (
	"fmt"
	"sync"
	"time"

	"timberline/client"
	"timberline/events"
)

// maxHistory is how many messages of before are shown.
const maxHistory = 20

// guarded is what a chat knows.
type guarded struct {
	mu      sync.Mutex
	mine    map[events.MessageID]string // shown as on its way: its line without the mark
	fates   map[events.MessageID]error  // told before the message was shown
	marked  map[events.MessageID]bool   // shown as stored before history is over, of which it may be a part
	caught  bool                        // history is over
	history []said                      // while it is not: of the conversation, the last ones
	earlier int                         // that are not among them
	had     events.Seq                  // the last entry that was seen in an earlier chat
	was     client.State                // as told last

	receipts receipts
}

// said is one message of the past.
type said struct {
	seq  events.Seq
	mark string
	line string
	own  events.MessageID // of one's own, in the conversation; else zero
}

func (g *guarded) pending() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.mine)
}

// begin starts the client, and shows what an earlier chat has left on its way
// before the client tells anything.
func (ch *chat) begin(store *rewound, o client.Options) (*client.Client, error) {
	g := &ch.state
	g.mu.Lock()
	defer g.mu.Unlock()
	cl, err := client.Dial(ch.server, o)
	ch.client.Store(cl)
	if err != nil {
		return nil, err
	}
	g.had = store.had
	for _, s := range store.pending {
		ch.resume(s)
	}
	return cl, nil
}

// resume takes in what an earlier chat has left on its way. The caller holds mu.
func (ch *chat) resume(s client.SavedSend) {
	if s.Read == (events.ID{}) {
		ch.show(s.Message, s.To, printable(string(s.Body)))
		return
	}
	r := &ch.state.receipts
	r.quiet[s.Message] = true
	if s.With == ch.peer && s.Read.Compare(r.mine) > 0 {
		r.mine = s.Read
	}
}

// line returns a message as it is shown, without its mark.
func (ch *chat) line(at time.Time, from, to events.User, text string) string {
	clock := at.Local().Format("15:04")
	if time.Since(at) > 20*time.Hour {
		clock = at.Local().Format("2006-01-02 15:04")
	}
	if from == ch.peer && to == ch.me.User || from == ch.me.User && to == ch.peer {
		return fmt.Sprintf("%s %s: %s", clock, from, text)
	}
	return fmt.Sprintf("%s [%s → %s] %s", clock, from, to, text)
}

// The marks of one's own messages.
const (
	markSending = "… "
	markStored  = "✓ "
	markRead    = "● "
	markRefused = "✗ "
	markOther   = "  "
)

// sent shows a message that was typed.
func (ch *chat) sent(id events.MessageID, text string) {
	g := &ch.state
	g.mu.Lock()
	defer g.mu.Unlock()
	ch.show(id, ch.peer, printable(text))
}

// show shows a message of one's own. The caller holds mu.
func (ch *chat) show(id events.MessageID, to events.User, text string) {
	g := &ch.state
	line := ch.line(time.Now(), ch.me.User, to, text)
	if to == ch.peer {
		g.receipts.unread[id] = unreadLine{line: line}
	}
	ch.view.Sending(id, markSending+line)
	fate, told := g.fates[id]
	delete(g.fates, id)
	g.mine[id] = line
	if told {
		ch.mark(id, fate)
	}
}

// mark shows what became of a message. The caller holds mu.
func (ch *chat) mark(id events.MessageID, fate error) {
	line := ch.state.mine[id]
	delete(ch.state.mine, id)
	if fate != nil {
		delete(ch.state.receipts.unread, id)
		ch.view.Mark(id, fmt.Sprintf("%s%s (%v)", markRefused, line, fate))
		return
	}
	if !ch.state.caught {
		ch.state.marked[id] = true
	}
	ch.view.Mark(id, markStored+line)
	ch.tellRead(id)
}

// result is told by the client what became of a send.
func (ch *chat) result(r client.Result) {
	g := &ch.state
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, shown := g.mine[r.Message]; shown {
		ch.mark(r.Message, r.Err)
		return
	}
	if g.receipts.quiet[r.Message] {
		delete(g.receipts.quiet, r.Message)
		return
	}
	g.fates[r.Message] = r.Err
}

// message is handed the entries of the timeline by the client.
func (ch *chat) message(m client.Message) error {
	g := &ch.state
	g.mu.Lock()
	defer g.mu.Unlock()
	e := &m.Event
	here := e.Conversation == events.Direct(ch.me.User, ch.peer)
	if here {
		g.receipts.take(e, ch.me.User)
		defer ch.tellRead(e.Message)
	}
	peer, direct := e.Conversation.Peer(e.Sender)
	if !direct || e.Kind != events.KindMessage {
		return nil
	}
	s := said{seq: m.Seq, mark: markOther, line: ch.line(e.ID.Time(), e.Sender, peer, text(e))}
	if e.Sender == ch.me.User {
		s.mark = markStored
		if here {
			s.own = e.Message
			g.receipts.wrote(e, s.line)
		}
		if e.Device == ch.me.Device && g.caught {
			return nil // it was shown when it was typed
		}
		if _, shown := g.mine[e.Message]; shown || g.marked[e.Message] {
			return nil // its result is on its way, or has come
		}
	}
	switch {
	case g.caught:
		ch.print(s)
	case m.Seq > g.had || here:
		ch.remember(s)
	}
	return nil
}

// print shows a message that was not typed here.
func (ch *chat) print(s said) {
	switch {
	case s.own == events.MessageID{}:
		ch.view.Print(s.mark + s.line)
	case ch.state.receipts.read(s.own):
		ch.view.Print(markRead + s.line)
	default:
		ch.view.Place(s.own, s.mark+s.line)
	}
}

// remember keeps a message of the past, until the past is over.
func (ch *chat) remember(s said) {
	g := &ch.state
	if len(g.history) == maxHistory {
		g.history = g.history[1:]
		g.earlier++
	}
	g.history = append(g.history, s)
}

// caughtUp shows the past: now everything is there that there was at the start.
func (ch *chat) caughtUp() {
	g := &ch.state
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.caught {
		return
	}
	g.caught, g.marked = true, nil
	if g.earlier > 0 {
		ch.view.Note("%d earlier messages: see timberline inbox", g.earlier)
	}
	unread := false
	for _, s := range g.history {
		if s.seq > g.had && g.had > 0 && !unread {
			unread = true
			ch.view.Note("new since you were here")
		}
		ch.print(s)
	}
	g.history = nil
	ch.tellRead(events.MessageID{})
}

// why says what is wrong with the connection, if anybody knows.
func (ch *chat) why() string {
	if cl := ch.client.Load(); cl != nil && cl.Trouble() != nil {
		return fmt.Sprintf(" (%v)", cl.Trouble())
	}
	return ""
}

// online tells how the connection is, when that is news.
func (ch *chat) online(s client.State) {
	g := &ch.state
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case s == client.StateOnline:
		ch.view.Note("connected to %s as %s/%s", ch.server, ch.me.User, ch.me.Device)
	case s == client.StateOffline && g.was != client.StateOffline:
		ch.view.Note("no connection to %s%s: messages are kept and go out later", ch.server, ch.why())
	}
	if s != client.StateConnecting {
		g.was = s
	}
}
