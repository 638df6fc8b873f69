package client

import "timberline/events"

// The bounds of the queue. When it is full, entries stay on the server.
const (
	maxQueued      = 1024
	maxQueuedBytes = 4 << 20
	takeAtOnce     = 16
)

// A delivery is one thing that the app is told, in its place among the others.
type delivery struct {
	serial  uint64
	kind    deliveryKind
	message Message
	first   events.Seq // of what was trimmed
	cursor  Cursor     // when the app has taken it
}

type deliveryKind uint8

const (
	deliverMessage deliveryKind = iota
	deliverTrimmed
	deliverReset
)

// A queue is what the app has not taken yet.
type queue struct {
	list   []delivery
	bytes  int
	serial uint64
	cursor Cursor // what the app has taken
}

func (q *queue) full() bool { return len(q.list) >= maxQueued || q.bytes >= maxQueuedBytes }

func (q *queue) add(d delivery) {
	q.serial++
	d.serial = q.serial
	q.list = append(q.list, d)
	q.bytes += size(d)
}

// size is about what a delivery takes in memory.
func size(d delivery) int { return 400 + len(d.message.Event.Body) }

// clear drops everything, because it is of another store.
func (q *queue) clear() { q.list, q.bytes = nil, 0 }

// peek returns a copy of the first deliveries. They stay until taken.
func (q *queue) peek() []delivery {
	return append([]delivery(nil), q.list[:min(takeAtOnce, len(q.list))]...)
}

// taken notes that the app has taken everything up to a serial. It reports
// whether the cursor moved.
func (q *queue) taken(serial uint64) bool {
	n := 0
	for n < len(q.list) && q.list[n].serial <= serial {
		q.bytes -= size(q.list[n])
		q.cursor = q.list[n].cursor
		q.list[n] = delivery{}
		n++
	}
	q.list = q.list[n:]
	return n > 0
}

// takenUpTo reports whether the app has taken every entry up to seq that was in
// the queue.
func (q *queue) takenUpTo(seq events.Seq) bool {
	return len(q.list) == 0 || q.list[0].kind == deliverMessage && q.list[0].cursor.Seq > seq
}
