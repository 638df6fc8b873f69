package wire

import (
	"timberline/events"
	"timberline/events/fields"
)

// Version is the protocol version that LOGIN names.
const Version = 1

// Limits of frames; a frame beyond one of them is malformed.
const (
	MaxRanges    = 8  // of a Sync
	MaxSettle    = 4  // of a Login
	MaxRefusals  = 64 // standing in acks
	MaxFragments = 64 // of one send
)

// A Login asks for a session (client to edge). It is sent again, unchanged,
// until Accepted or Denied comes and, where sessions are to be settled, until
// each is answered by Settled. In a session it renews the token; all else in it
// counts for nothing then.
type Login struct {
	Version uint32           // protocol version
	Attempt events.MessageID // random; the same in a repeat, another in a new login
	Token   string           // JWT: sub is the user, dev the device
	Cursor  events.Seq       // the last seq the device has
	Store   events.StoreID   // the store the cursor is from; zero if it has none
	Settle  []OldSession     // sessions with unanswered sends, at most MaxSettle
}

// Fields lists the frame's fields.
func (f *Login) Fields(v fields.Visitor) {
	fields.Uint(v, 1, "version", &f.Version)
	fields.ID(v, 2, "attempt", &f.Attempt)
	fields.String(v, 3, "token", &f.Token)
	fields.Uint(v, 4, "cursor", &f.Cursor)
	fields.ID(v, 5, "store", &f.Store)
	fields.List(v, 6, "settle", &f.Settle)
}

// An OldSession is a session to be settled: which of its sends stand in the log?
type OldSession struct {
	Session events.SessionID
	Journal events.Journal
	Offset  events.Offset // an offset before the first unanswered send
}

// Fields lists the message's fields.
func (o *OldSession) Fields(v fields.Visitor) {
	fields.ID(v, 1, "session", &o.Session)
	fields.String(v, 2, "journal", &o.Journal)
	fields.Uint(v, 3, "offset", &o.Offset)
}

// Accepted answers Login: the device has a session (edge to client).
type Accepted struct {
	Attempt   events.MessageID // of the Login
	Session   events.SessionID
	Journal   events.Journal // where the session's sends will stand
	Offset    events.Offset  // every send of the session will stand behind it
	Store     events.StoreID // other than the client's: start from cursor 0
	Head      events.Seq     // the last seq of the timeline
	First     events.Seq     // the first seq that can still be read
	Heartbeat uint32         // milliseconds: ping at least this often, or as often as Ping has said
	MaxBody   uint32         // bytes a body may have
	Address   string         // the edge's own address; empty: the one that was used
	Expires   uint64         // milliseconds until the session ends with its token; 0: never
	Cookie    []byte         // for the next HELLO from this address; empty in plain mode
	// MaxHeartbeat is milliseconds: the longest that Ping may say. Zero: Heartbeat.
	MaxHeartbeat uint32
}

// Fields lists the frame's fields.
func (f *Accepted) Fields(v fields.Visitor) {
	fields.ID(v, 1, "attempt", &f.Attempt)
	fields.ID(v, 2, "session", &f.Session)
	fields.String(v, 3, "journal", &f.Journal)
	fields.Uint(v, 4, "offset", &f.Offset)
	fields.ID(v, 5, "store", &f.Store)
	fields.Uint(v, 6, "head", &f.Head)
	fields.Uint(v, 7, "first", &f.First)
	fields.Uint(v, 8, "heartbeat_ms", &f.Heartbeat)
	fields.Uint(v, 9, "max_body", &f.MaxBody)
	fields.String(v, 10, "address", &f.Address)
	fields.Uint(v, 11, "expires_ms", &f.Expires)
	fields.Bytes(v, 12, "cookie", &f.Cookie)
	fields.Uint(v, 13, "max_heartbeat_ms", &f.MaxHeartbeat)
}

// Denied answers a Login that gets no session (edge to client).
type Denied struct {
	Attempt    events.MessageID
	Reason     Reason
	Detail     string // for people; may be empty
	RetryAfter uint32 // milliseconds; 0: the same login will never succeed
}

// Fields lists the frame's fields.
func (f *Denied) Fields(v fields.Visitor) {
	fields.ID(v, 1, "attempt", &f.Attempt)
	fields.Enum(v, 2, "reason", &f.Reason, reasonNames)
	fields.String(v, 3, "detail", &f.Detail)
	fields.Uint(v, 4, "retry_after_ms", &f.RetryAfter)
}

// A Send is one message, or one fragment of a message too large for a packet, or says
// that a conversation was read (client to edge). A send of k fragments has k numbers in a
// row; the event will carry the last of them.
type Send struct {
	Number    events.Number
	Low       events.Number // the lowest number the client has no answer for
	To        events.User   // the other user; first fragment only, as the next two
	Message   events.MessageID
	Type      string // content type; empty: text/plain; charset=utf-8
	Body      []byte // of this fragment
	Fragment  uint32 // 0 is the first
	Fragments uint32 // 0 and 1: the send is whole
	// With stands in place of To, and without type and body: the conversation with that
	// user was read, up to the event Read.
	With events.User
	Read events.ID
}

// Fields lists the frame's fields.
func (f *Send) Fields(v fields.Visitor) {
	fields.Uint(v, 1, "n", &f.Number)
	fields.Uint(v, 2, "low", &f.Low)
	fields.String(v, 3, "to", &f.To)
	fields.ID(v, 4, "message", &f.Message)
	fields.String(v, 5, "type", &f.Type)
	f.Body = v.Text(6, "body", f.Body)
	fields.Uint(v, 7, "fragment", &f.Fragment)
	fields.Uint(v, 8, "fragments", &f.Fragments)
	fields.String(v, 9, "with", &f.With)
	fields.ID(v, 10, "read", &f.Read)
}

// An Ack says what became of a session's sends (edge to client).
type Ack struct {
	Through events.Number // every send up to here is answered: durable, or in Refused
	Offset  events.Offset // every send after Through will stand behind it; 0: not told
	Refused []Refusal     // until the client names a Low above them
	Held    []byte        // bit i (least significant first) set: Through+1+i has arrived and waits
}

// Fields lists the frame's fields.
func (f *Ack) Fields(v fields.Visitor) {
	fields.Uint(v, 1, "through", &f.Through)
	fields.Uint(v, 2, "offset", &f.Offset)
	fields.List(v, 3, "refused", &f.Refused)
	fields.Bytes(v, 4, "held", &f.Held)
}

// A Refusal is a send that will never be in the log. Its numbers are used up.
type Refusal struct {
	From, To events.Number // all fragments of the send
	Reason   Reason
}

// Fields lists the message's fields.
func (r *Refusal) Fields(v fields.Visitor) {
	fields.Uint(v, 1, "from", &r.From)
	fields.Uint(v, 2, "to", &r.To)
	fields.Enum(v, 3, "reason", &r.Reason, reasonNames)
}

// Busy refuses every send from a number on, for now (edge to client). The client
// waits and sends them again, in order.
type Busy struct {
	From       events.Number
	RetryAfter uint32 // milliseconds
}

// Fields lists the frame's fields.
func (f *Busy) Fields(v fields.Visitor) {
	fields.Uint(v, 1, "from", &f.From)
	fields.Uint(v, 2, "retry_after_ms", &f.RetryAfter)
}

// A Push brings entries that stand in a row in the user's timeline, unasked
// (edge to client). The client answers with Got.
type Push struct {
	From   events.Seq // of the first event
	Events [][]byte   // each an events.Raw
	// Omitted says that the bodies were left out because this very session sent
	// them.
	Omitted bool
}

// Fields lists the frame's fields.
func (f *Push) Fields(v fields.Visitor) {
	fields.Uint(v, 1, "from", &f.From)
	f.Events = v.RawList(2, "events", f.Events, newEvent)
	fields.Bool(v, 3, "omitted", &f.Omitted)
}

func newEvent() fields.Message { return new(events.Event) }

// A Part is a piece of one entry that is too large for a packet, pushed or
// synced (edge to client).
type Part struct {
	Sync  uint32     // the Sync that it answers; 0: pushed
	Seq   events.Seq // of the entry
	Index uint32     // from 0
	Count uint32     // how many parts the entry has
	Data  []byte     // of the events.Raw, in either codec
}

// Fields lists the frame's fields.
func (f *Part) Fields(v fields.Visitor) {
	fields.Uint(v, 1, "sync", &f.Sync)
	fields.Uint(v, 2, "seq", &f.Seq)
	fields.Uint(v, 3, "index", &f.Index)
	fields.Uint(v, 4, "count", &f.Count)
	fields.Bytes(v, 5, "data", &f.Data)
}

// Got acknowledges entries: the device has everything up to Cursor (client to
// edge).
type Got struct {
	Cursor events.Seq
}

// Fields lists the frame's fields.
func (f *Got) Fields(v fields.Visitor) {
	fields.Uint(v, 1, "cursor", &f.Cursor)
}

// A Range is the entries after After, up to and with Upto.
type Range struct {
	After, Upto events.Seq
}

// Fields lists the message's fields.
func (r *Range) Fields(v fields.Visitor) {
	fields.Uint(v, 1, "after", &r.After)
	fields.Uint(v, 2, "upto", &r.Upto)
}

// A Sync asks for entries (client to edge).
type Sync struct {
	ID     uint32  // chosen by the client, to tell answers apart; not 0
	Ranges []Range // at most MaxRanges; Upto 0: to the end
	Budget uint32  // bytes that the answer may have in all; 0: the edge's default
	Spread uint32  // milliseconds over which the answer should come; 0: as fast as the edge sends
}

// Fields lists the frame's fields.
func (f *Sync) Fields(v fields.Visitor) {
	fields.Uint(v, 1, "id", &f.ID)
	fields.List(v, 2, "ranges", &f.Ranges)
	fields.Uint(v, 3, "budget", &f.Budget)
	fields.Uint(v, 4, "spread_ms", &f.Spread)
}

// A Page is one datagram's worth of the answer to Sync (edge to client).
type Page struct {
	Sync   uint32     // the Sync that it answers
	From   events.Seq // of the first event
	Events [][]byte   // each an events.Raw, in a row
	Head   events.Seq // the last seq of the timeline
	First  events.Seq // the first seq that can still be read
	Last   bool       // nothing more comes for this Sync
	Status Status
}

// Fields lists the frame's fields.
func (f *Page) Fields(v fields.Visitor) {
	fields.Uint(v, 1, "sync", &f.Sync)
	fields.Uint(v, 2, "from", &f.From)
	f.Events = v.RawList(3, "events", f.Events, newEvent)
	fields.Uint(v, 4, "head", &f.Head)
	fields.Uint(v, 5, "first", &f.First)
	fields.Bool(v, 6, "last", &f.Last)
	fields.Enum(v, 7, "status", &f.Status, statusNames)
}

// A Ping is the heartbeat (client to edge).
type Ping struct {
	ID     uint32        // given back in Pong
	Cursor events.Seq    // as in Got
	Low    events.Number // as in Send
	Next   uint32        // milliseconds: the next ping may be as late as that; 0: Accepted's Heartbeat
	// Padding makes the packet as large as the one with a Challenge that may
	// have to answer it.
	Padding []byte
}

// Fields lists the frame's fields.
func (f *Ping) Fields(v fields.Visitor) {
	fields.Uint(v, 1, "id", &f.ID)
	fields.Uint(v, 2, "cursor", &f.Cursor)
	fields.Uint(v, 3, "low", &f.Low)
	fields.Uint(v, 4, "next_ms", &f.Next)
	fields.Bytes(v, 5, "padding", &f.Padding)
}

// A Pong answers Ping (edge to client). An Ack is sent with it where the session
// has sent anything. Pong itself names no offset of the journal: one that arrived
// without the Ack before it could be ahead of a send that the client has no
// answer for yet.
type Pong struct {
	ID    uint32
	Head  events.Seq
	First events.Seq
}

// Fields lists the frame's fields.
func (f *Pong) Fields(v fields.Visitor) {
	fields.Uint(v, 1, "id", &f.ID)
	fields.Uint(v, 2, "head", &f.Head)
	fields.Uint(v, 3, "first", &f.First)
}

// Settled answers for one of Login's old sessions (edge to client): it is closed
// for ever, and these of its sends stand in the log behind the offset that Login
// named. A send that is not among them never will be. One refused before is not
// among them either, unless the client's Low has passed it: the client knows.
type Settled struct {
	Session events.SessionID
	Numbers []uint64 // pairs: first and last number of each run
	Unknown bool     // too much to search, or to tell: the sends may or may not stand
}

// Fields lists the frame's fields.
func (f *Settled) Fields(v fields.Visitor) {
	fields.ID(v, 1, "session", &f.Session)
	f.Numbers = v.Uints(2, "numbers", f.Numbers)
	fields.Bool(v, 3, "unknown", &f.Unknown)
}

// Closed says that a session is over (edge to client). The client logs in again
// unless Reason tells it not to.
type Closed struct {
	Reason     Reason // zero: the edge does not know the session
	Detail     string
	RetryAfter uint32 // milliseconds
	// Final says that the session's journal has ended, and that every send through
	// Through is answered; those above are not in the log and never will be.
	Final   bool
	Through events.Number
	Address string // host:port where the client is to log in next; empty: as ever
}

// Fields lists the frame's fields.
func (f *Closed) Fields(v fields.Visitor) {
	fields.Enum(v, 1, "reason", &f.Reason, reasonNames)
	fields.String(v, 2, "detail", &f.Detail)
	fields.Uint(v, 3, "retry_after_ms", &f.RetryAfter)
	fields.Bool(v, 4, "final", &f.Final)
	fields.Uint(v, 5, "through", &f.Through)
	fields.String(v, 6, "address", &f.Address)
}

// Bye ends the session (client to edge).
type Bye struct{}

// Fields lists the frame's fields.
func (*Bye) Fields(fields.Visitor) {}

// A Challenge asks the client to echo a token, because its packets come from
// another address than before (edge to client, sealed mode only).
type Challenge struct {
	Token []byte
}

// Fields lists the frame's fields.
func (f *Challenge) Fields(v fields.Visitor) {
	fields.Bytes(v, 1, "token", &f.Token)
}

// An Echo answers Challenge (client to edge).
type Echo struct {
	Token []byte
}

// Fields lists the frame's fields.
func (f *Echo) Fields(v fields.Visitor) {
	fields.Bytes(v, 1, "token", &f.Token)
}
