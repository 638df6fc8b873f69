package main

import (
	"context"

	"timberline/client"
	"timberline/events"
)

// receipts is how far a conversation was read.
type receipts struct {
	came   events.ID                       // the newest message of the other one
	mine   events.ID                       // up to which one has said to have read
	theirs events.ID                       // up to which the other one has
	shown  events.ID                       // up to there all that is unread was gone through
	unread map[events.MessageID]unreadLine // of one's own: those that are shown, or will be

	marks chan events.ID            // up to which is to be said next: has room for one
	quiet map[events.MessageID]bool // what was said and is not answered: nobody is told of that
}

// An unreadLine is a message as it is shown, without its mark.
type unreadLine struct {
	id   events.ID // zero: not known yet
	line string
}

func newReceipts() receipts {
	return receipts{unread: make(map[events.MessageID]unreadLine), marks: make(chan events.ID, 1), quiet: make(map[events.MessageID]bool)}
}

// take takes in an entry of the conversation.
func (r *receipts) take(e *events.Event, me events.User) {
	newest, id := &r.came, e.ID
	switch mine := e.Sender == me; {
	case e.Kind == events.KindReadUpTo && mine:
		newest, id = &r.mine, e.ReadUpTo()
	case e.Kind == events.KindReadUpTo:
		newest, id = &r.theirs, e.ReadUpTo()
	case e.Kind != events.KindMessage || mine:
		return
	}
	if id.Compare(*newest) > 0 {
		*newest = id
	}
}

// wrote notes the id of a message of one's own, and how it is shown unless that is known.
func (r *receipts) wrote(e *events.Event, line string) {
	l, shown := r.unread[e.Message]
	if l.id = e.ID; !shown {
		l.line = line
	}
	r.unread[e.Message] = l
}

// read reports whether the other one has read a message of one's own, once.
func (r *receipts) read(id events.MessageID) bool {
	l, ok := r.unread[id]
	if !ok || l.id == (events.ID{}) || l.id.Compare(r.theirs) > 0 {
		return false
	}
	delete(r.unread, id)
	return true
}

// tellRead shows what the other one has read, and has it said what one has read oneself who
// sits at a terminal. Of one's own messages there is news of that one, or of none but those
// that were read meanwhile: they are many if the other one never says so. The caller holds mu.
func (ch *chat) tellRead(news events.MessageID) {
	g := &ch.state
	r := &g.receipts
	if !g.caught {
		return
	}
	ch.markIfRead(news)
	if r.theirs != r.shown {
		r.shown = r.theirs
		for id := range r.unread {
			ch.markIfRead(id)
		}
	}
	if r.came.Compare(r.mine) > 0 && ch.view.Interactive() {
		r.mine = r.came
		select {
		case <-r.marks: // there is a newer one
		default:
		}
		r.marks <- r.came
	}
}

// markIfRead marks a message of one's own if the other one has read it. The caller holds mu.
func (ch *chat) markIfRead(id events.MessageID) {
	l := ch.state.receipts.unread[id]
	if _, sending := ch.state.mine[id]; !sending && ch.state.receipts.read(id) {
		ch.view.Update(id, markRead+l.line)
	}
}

// markRead says that all up to an event was read.
func (ch *chat) markRead(ctx context.Context, cl *client.Client, upto events.ID) error {
	id, err := cl.MarkRead(ctx, ch.peer, upto)
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return err
	}
	g := &ch.state
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, told := g.fates[id]; told {
		delete(g.fates, id)
	} else {
		g.receipts.quiet[id] = true
	}
	return nil
}
