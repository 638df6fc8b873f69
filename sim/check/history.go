package check

import (
	"hash/maphash"
	"sync"
	"time"

	"timberline/events"
)

// A History is what happened, as devices know it. The zero value is not ready:
// see NewHistory.
type History struct {
	seed maphash.Seed

	mu        sync.Mutex
	readers   []*Reader
	messages  []message
	byID      map[events.MessageID]int32
	claims    []claim
	byClaim   map[claim]int32
	timelines map[place]*timeline
	store     events.StoreID // the one that counts at the end
	clock     func() time.Time
	found     []Violation // while recording
}

// A place is a timeline: a user's, in a store.
type place struct {
	store events.StoreID
	user  events.User
}

// A message is one send, or one that an entry or answer speaks of.
type message struct {
	id     events.MessageID
	sender *Reader // nil: nobody is known to have sent it
	to     events.User
	nth    uint32 // among its sender's sends
	body   uint64
	after  events.ID // the newest that its device had been shown
	answer answer
	excuse bool // perhaps acked by a store that was replaced since, by a copy that lacks it
	empty  bool // its body may have been emptied
}

type answer uint8

const (
	open answer = iota
	acked
	refused
	unknown
)

// A timeline is all that anybody was shown of one.
type timeline struct {
	place
	entries []entry    // entries[i] at seq i+1; zero where nobody was shown anything
	trimmed events.Seq // up to this one
}

// An entry is what stands at a seq.
type entry struct {
	message int32 // -1: it is no message
	claim   int32
	id      events.ID
	rest    uint64 // hash of all but the body
	body    uint64 // hash; 0 if it is empty
}

// A claim is where an event says to come from and go to. Many events share one.
type claim struct {
	session      events.SessionID
	sender       events.User
	device       events.Device
	conversation events.Conversation
}

// NewHistory returns an empty history.
func NewHistory() *History {
	return &History{
		seed:      maphash.MakeSeed(),
		byID:      make(map[events.MessageID]int32),
		byClaim:   make(map[claim]int32),
		timelines: make(map[place]*timeline),
	}
}

// Clock tells the highest time that any server's clock has shown so far. From then
// on no id may be above that, but for what ids of the same moment take: a client's
// word moves no clock.
func (h *History) Clock(highest func() time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.clock = highest
}

// maxAhead is how far ids may be above all clocks. They count on where many are made
// in a millisecond; whoever moves a clock moves it by more.
const maxAhead = time.Second

// A Reader is one device of a user: it sends, and is shown the user's timeline.
type Reader struct {
	h      *History
	user   events.User
	device events.Device

	store    events.StoreID
	cursor   events.Seq
	skipped  events.Seq // up to this one it was told that the beginning was trimmed
	newest   events.ID  // of all that it was shown
	sends    uint32
	complete bool
}

// Reader returns a device that has been shown nothing.
func (h *History) Reader(u events.User, d events.Device) *Reader {
	h.mu.Lock()
	defer h.mu.Unlock()
	r := &Reader{h: h, user: u, device: d, store: h.store}
	h.readers = append(h.readers, r)
	return r
}

// A Sending is a send that is being handed to the SDK.
type Sending struct {
	reader *Reader
	store  events.StoreID // when it began
	m      message
}

// Send records that the device is about to send. Call Kept on the result when
// the SDK has taken the message, nothing when it has not.
func (r *Reader) Send(to events.User, body []byte) Sending {
	h := r.h
	h.mu.Lock()
	defer h.mu.Unlock()
	return r.sending(message{to: to, body: h.hash(body)})
}

// MarkRead is Send where the device is about to say what it has read.
func (r *Reader) MarkRead(with events.User, upto events.ID) Sending {
	h := r.h
	h.mu.Lock()
	defer h.mu.Unlock()
	return r.sending(message{to: with, body: h.hash(readUpTo(upto))})
}

// sending completes a message that the device is about to send. The caller holds mu.
func (r *Reader) sending(m message) Sending {
	h := r.h
	r.sends++
	m.sender, m.nth = r, r.sends
	if r.store == h.store { // else it is yet to learn that its store was replaced
		m.after = r.newest
	}
	return Sending{r, h.store, m}
}

// Kept records that the SDK has taken the message and gave it that id.
func (s Sending) Kept(id events.MessageID) {
	h := s.reader.h
	h.mu.Lock()
	defer h.mu.Unlock()
	m := h.message(id)
	if m.sender != nil {
		h.violated(Foreign, "message %v was sent twice, by %s and %s", id, m.sender, s.reader)
		return
	}
	if s.store != h.store {
		s.m.after = events.ID{} // see Replaced
	}
	s.m.id, s.m.answer, s.m.excuse, s.m.empty = id, m.answer, m.excuse, m.empty
	*m = s.m
}

// Acked records that a message is said to be durable.
func (h *History) Acked(id events.MessageID) { h.answered(id, acked) }

// Refused records that a message is said never to be stored.
func (h *History) Refused(id events.MessageID) { h.answered(id, refused) }

// Unknown records that nobody will ever say what became of a message.
func (h *History) Unknown(id events.MessageID) { h.answered(id, unknown) }

func (h *History) answered(id events.MessageID, a answer) {
	h.mu.Lock()
	defer h.mu.Unlock()
	m := h.message(id)
	if m.answer == acked && a != acked {
		h.violated(Foreign, "message %v was answered twice, with an ack first", id)
	}
	m.answer = a
}

// Emptied records that a message's body may be empty from now on: somebody has
// recalled it, or its time is over.
func (h *History) Emptied(id events.MessageID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.message(id).empty = true
}

// message returns the message with that id, made if there is none. It is valid
// until the next call.
func (h *History) message(id events.MessageID) *message {
	i, ok := h.byID[id]
	if !ok {
		i = int32(len(h.messages))
		h.byID[id] = i
		h.messages = append(h.messages, message{id: id})
	}
	return &h.messages[i]
}

// maxHole bounds what a seq out of all proportion makes the checker allocate.
const maxHole = 1 << 20

// Entry records that the device was shown an event at a seq. Entries that it was
// shown before may come again.
func (r *Reader) Entry(seq events.Seq, e *events.Event) {
	h := r.h
	h.mu.Lock()
	defer h.mu.Unlock()
	if seq == 0 || seq > r.cursor+1 {
		h.violated(Gap, "%s was shown seq %d behind %d", r, seq, r.cursor)
	}
	r.cursor = max(r.cursor, seq)
	if e.ID.Compare(r.newest) > 0 {
		r.newest = e.ID
	}
	if h.clock != nil && e.ID.Time().After(h.clock().Add(maxAhead)) {
		h.violated(Ahead, "%s was shown %v at seq %d: it is of %v, no clock has shown more than %v",
			r, e.ID, seq, e.ID.Time().UTC(), h.clock().UTC())
	}
	t := h.timeline(place{r.store, r.user})
	if seq == 0 || seq > events.Seq(len(t.entries))+maxHole {
		return
	}
	for events.Seq(len(t.entries)) < seq {
		t.entries = append(t.entries, entry{})
	}
	h.show(r, &t.entries[seq-1], seq, h.entry(e))
}

// show holds what was shown against what stands there already.
func (h *History) show(r *Reader, stands *entry, seq events.Seq, shown entry) {
	if *stands == (entry{}) {
		*stands = shown
		return
	}
	same := *stands
	same.body = shown.body
	if same != shown || stands.body != shown.body && stands.body != 0 && shown.body != 0 {
		h.violated(Changed, "%s was shown %v at seq %d, where %v stood", r, shown.id, seq, stands.id)
	}
	if shown.body == 0 {
		stands.body = 0
	}
}

func (h *History) entry(e *events.Event) entry {
	n := entry{message: -1, id: e.ID, body: h.hash(says(e))}
	rest := *e
	rest.Body = nil
	n.rest = h.hash(rest.Encode())
	if e.Kind.Sent() {
		h.message(e.Message)
		n.message = h.byID[e.Message]
	}
	n.claim = h.claim(claim{e.Session, e.Sender, e.Device, e.Conversation})
	return n
}

// says returns what its sender has put into an event.
func says(e *events.Event) []byte {
	if e.Kind == events.KindReadUpTo {
		return readUpTo(e.Target)
	}
	return e.Body
}

func readUpTo(id events.ID) []byte { return append([]byte("has read up to "), id[:]...) }

func (h *History) claim(c claim) int32 {
	i, ok := h.byClaim[c]
	if !ok {
		i = int32(len(h.claims))
		h.byClaim[c] = i
		h.claims = append(h.claims, c)
	}
	return i
}

// hash returns a hash of data that is 0 for no data only.
func (h *History) hash(data []byte) uint64 {
	if len(data) == 0 {
		return 0
	}
	return max(maphash.Bytes(h.seed, data), 1)
}

func (h *History) timeline(p place) *timeline {
	t := h.timelines[p]
	if t == nil {
		t = &timeline{place: p}
		h.timelines[p] = t
	}
	return t
}

// Reset records that the device was told of another store: it starts anew.
func (r *Reader) Reset(store events.StoreID) {
	r.h.mu.Lock()
	defer r.h.mu.Unlock()
	r.reset(store)
}

func (r *Reader) reset(store events.StoreID) {
	if r.store != store {
		r.store, r.cursor, r.skipped, r.newest = store, 0, 0, events.ID{}
	}
}

// Trimmed records that the device was told that all up to a seq was trimmed, before it
// had it.
func (r *Reader) Trimmed(upto events.Seq) {
	r.h.mu.Lock()
	defer r.h.mu.Unlock()
	r.cursor, r.skipped = max(r.cursor, upto), max(r.skipped, upto)
}

// Trimmed records that a user's timeline is trimmed, up to a seq.
func (h *History) Trimmed(u events.User, upto events.Seq) {
	h.mu.Lock()
	defer h.mu.Unlock()
	t := h.timeline(place{h.store, u})
	t.trimmed = max(t.trimmed, upto)
}

// Inexact records that a timeline is not what the log and the checkpoints give when
// they are read again.
func (h *History) Inexact(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.violated(Inexact, format, args...)
}

// Unbounded records that a server held more of something than its limits let it.
func (h *History) Unbounded(what string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.violated(Unbounded, "%s", what)
}

// Complete records that the device says to have everything that its timeline
// holds at the end.
func (r *Reader) Complete() {
	r.h.mu.Lock()
	defer r.h.mu.Unlock()
	r.complete = true
}

// Cursor returns the last seq that the device was shown.
func (r *Reader) Cursor() events.Seq {
	r.h.mu.Lock()
	defer r.h.mu.Unlock()
	return r.cursor
}

// String names the device for messages to people.
func (r *Reader) String() string { return string(r.user) + "/" + string(r.device) }

// A Copy is what was acked when a copy of the store was begun.
type Copy struct{ acked []events.MessageID }

// Copy records that a copy of the store is begun: what was acked so far has to be in it.
func (h *History) Copy() *Copy {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := new(Copy)
	for i := range h.messages {
		if m := &h.messages[i]; m.answer == acked && !m.excuse {
			c.acked = append(c.acked, m.id)
		}
	}
	return c
}

// Replaced records that a copy was put in place of the store. Whatever else was acked so
// far, or was acked and its sender is yet to hear of it, is no promise of the new one. Nor
// does what anybody was shown of the old one come before anything there. Who has been shown
// nothing meets the new one.
func (h *History) Replaced(store events.StoreID, by *Copy) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.store = store
	for i := range h.messages {
		m := &h.messages[i]
		m.excuse = m.excuse || m.answer == acked || m.answer == open
		m.after = events.ID{}
	}
	for _, id := range by.acked {
		h.message(id).excuse = false
	}
	for _, r := range h.readers {
		if r.cursor == 0 {
			r.reset(store)
		}
	}
}
