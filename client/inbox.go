package client

import (
	"maps"
	"slices"
	"time"

	"timberline/events"
	"timberline/wire"
)

const (
	// gapWait is how long a missing entry has to come by itself: datagrams
	// overtake each other.
	gapWait = 200 * time.Millisecond
	// gotDelay gathers what is acknowledged.
	gotDelay = 20 * time.Millisecond
)

// The bounds of entries that came before their turn. What finds no room is asked
// for again.
const (
	maxEarly      = 2048 // seqs above the cursor
	maxEarlyBytes = 1 << 20
)

// An inbox is a device's part of the timeline. It does no I/O and reads no
// clock.
//
//	1 … taken by the app | queue … have | a gap | early … head
type inbox struct {
	store events.StoreID
	have  events.Seq // up to here everything is in the queue, or was taken
	head  events.Seq // the last entry known of
	early map[events.Seq]events.Event
	bytes int // of early
	parts wire.Assembler
	queue queue
	sync  syncing
	gotAt time.Time // when to acknowledge; zero: there is nothing new
}

func newInbox(c Cursor) inbox {
	return inbox{
		store: c.Store, have: c.Seq, head: c.Seq, early: map[events.Seq]events.Event{},
		queue: queue{cursor: c}, sync: newSyncing(),
	}
}

// enter takes in what an accepted login says of the timeline. It reports whether
// the store is another one than before.
func (in *inbox) enter(now time.Time, f *wire.Accepted) (reset bool) {
	if in.store != f.Store && in.store != (events.StoreID{}) {
		in.reset(f.Store)
		reset = true
	}
	if in.store == (events.StoreID{}) {
		in.queue.cursor.Store = f.Store
	}
	in.store = f.Store
	in.bounds(f.Head, f.First)
	in.sync.leave()
	if in.have < in.head {
		in.sync.want(now)
	}
	if f.Head < in.have {
		in.ask(now) // the answer says whether the cursor is of this timeline
	}
	return reset
}

// reset begins anew: nothing that the device has is of this store.
func (in *inbox) reset(s events.StoreID) {
	in.store, in.have, in.head = s, 0, 0
	clear(in.early)
	in.bytes, in.parts = 0, wire.Assembler{}
	in.queue.clear()
	in.queue.add(delivery{kind: deliverReset, cursor: Cursor{Store: s}})
}

// bounds takes in where the timeline begins and ends. What was trimmed before
// the device had it is skipped, and the app is told.
func (in *inbox) bounds(head, first events.Seq) {
	in.head = max(in.head, head)
	if first <= in.have || first == in.have+1 { // a cursor may be as high as can be
		return
	}
	missed := in.have + 1
	in.have = first - 1
	in.head = max(in.head, in.have)
	for seq, e := range in.early {
		if seq <= in.have {
			in.forget(seq, e)
		}
	}
	in.queue.add(delivery{kind: deliverTrimmed, first: missed, cursor: Cursor{in.store, in.have}})
	in.advance()
}

// pong takes in what a heartbeat says. A push may be on its way, so it waits.
func (in *inbox) pong(now time.Time, head, first events.Seq) {
	in.bounds(head, first)
	in.gap(now)
}

// lacks reports whether the device does not have an entry.
func (in *inbox) lacks(seq events.Seq) bool {
	_, early := in.early[seq]
	return seq > in.have && !early
}

// entry takes in one entry. It reports whether the device did not have it yet.
func (in *inbox) entry(seq events.Seq, e events.Event) bool {
	in.head = max(in.head, seq)
	size := len(e.Body)
	if !in.lacks(seq) {
		return false
	}
	if seq > in.have+maxEarly || seq > in.have+1 && in.bytes+size > maxEarlyBytes {
		return false
	}
	in.early[seq] = e
	in.bytes += size
	in.advance()
	return true
}

func (in *inbox) forget(seq events.Seq, e events.Event) {
	delete(in.early, seq)
	in.bytes -= len(e.Body)
}

// advance moves what stands in a row into the queue, as far as there is room.
func (in *inbox) advance() {
	for !in.queue.full() {
		e, ok := in.early[in.have+1]
		if !ok {
			return
		}
		in.have++
		in.forget(in.have, e)
		c := Cursor{in.store, in.have}
		in.queue.add(delivery{message: Message{Store: in.store, Seq: in.have, Event: e}, cursor: c})
	}
}

// taken notes that the app has taken everything up to a serial. It returns the
// cursor if it moved.
func (in *inbox) taken(now time.Time, serial uint64) (c Cursor, moved bool) {
	wasFull := in.queue.full()
	moved = in.queue.taken(serial)
	in.advance()
	if wasFull && len(in.holes()) > 0 {
		in.sync.want(now)
	}
	return in.queue.cursor, moved
}

// gap asks for what is missing, after it had time to come by itself.
func (in *inbox) gap(now time.Time) {
	if in.have < in.head {
		in.sync.want(now.Add(gapWait))
	} else if !in.sync.force {
		in.sync.at = time.Time{} // the next gap has its own time
	}
}

// acknowledge makes the device tell the server what it has.
func (in *inbox) acknowledge(now time.Time) { in.gotAt = sooner(in.gotAt, now.Add(gotDelay)) }

// holes returns the ranges that are missing up to the head, in order.
func (in *inbox) holes() (rs []wire.Range) {
	after := in.have
	for _, seq := range slices.Sorted(maps.Keys(in.early)) {
		if seq > after+1 {
			rs = append(rs, wire.Range{After: after, Upto: seq - 1})
		}
		after = seq
	}
	if after < in.head {
		rs = append(rs, wire.Range{After: after, Upto: in.head})
	}
	return rs
}

// missing reports whether anything up to seq is missing.
func (in *inbox) missing(seq events.Seq) bool { return in.missingUpTo(seq) > 0 }

// missingUpTo counts the entries up to seq that are missing.
func (in *inbox) missingUpTo(seq events.Seq) (n int) {
	for _, r := range in.holes() {
		if r.After < seq {
			n += int(min(r.Upto, seq) - r.After)
		}
	}
	return n
}
