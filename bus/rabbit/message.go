package rabbit

import (
	"fmt"
	"math"
	"strconv"

	"timberline/bus"
	"timberline/events"
	"timberline/events/fields"
)

// A kind is what a message is: its AMQP type. Whoever gets one that it does not know
// ignores it, so that later versions can add some.
type kind string

const (
	kindPushes   kind = "pushes"   // also of those that were missed
	kindHint     kind = "hint"     // of an append
	kindDistrust kind = "distrust" // pushes were lost: read heads again
)

// version is the format of all messages: see fields.Seal. A message's kind is its
// place there.
const version = 1

// maxBody bounds the events in one message of pushes, in bytes. One push that is
// larger has a message for itself.
const maxBody = 64 << 10

// A message is one on its way to the broker.
type message struct {
	kind     kind
	exchange string // without its prefix
	key      string
	body     []byte
	pushes   int      // how many are in it
	lasts    bool     // over a restart of the broker
	waiting  *waiting // for its confirm; nil: nobody
	tries    int      // how often it was on its way when a connection broke
}

// size returns about how many bytes the message takes in memory.
func (m *message) size() int { return len(m.body) + 256 }

// The formats. All messages name the store.
type (
	pushesBody struct {
		store  events.StoreID
		pushes []push
	}
	push     bus.Push // its store aside
	hintBody struct {
		store   events.StoreID
		journal events.Journal
		offset  events.Offset
	}
	distrustBody struct{ store events.StoreID }
)

// Fields lists the message's fields.
func (b *pushesBody) Fields(v fields.Visitor) {
	fields.ID(v, 1, "store", &b.store)
	fields.List(v, 2, "pushes", &b.pushes)
}

// Fields lists the push's fields.
func (p *push) Fields(v fields.Visitor) {
	fields.String(v, 1, "user", &p.User)
	fields.Uint(v, 2, "first", &p.First)
	fields.ID(v, 3, "newest", &p.Newest)
	p.Events = v.RawList(4, "events", p.Events, func() fields.Message { return new(events.Event) })
}

// Fields lists the message's fields.
func (b *hintBody) Fields(v fields.Visitor) {
	fields.ID(v, 1, "store", &b.store)
	fields.String(v, 2, "journal", &b.journal)
	fields.Uint(v, 3, "offset", &b.offset)
}

// Fields lists the message's fields.
func (b *distrustBody) Fields(v fields.Visitor) { fields.ID(v, 1, "store", &b.store) }

func seal(k kind, m fields.Message) []byte { return fields.Seal(version, []byte(k), m) }

func unseal(k kind, body []byte, m fields.Message) error {
	return fields.Unseal(version, []byte(k), body, m)
}

// DecodePushes reads the body of a message of type "pushes", such as an app finds in
// the offline queue. The pushes alias it. An error wraps fields.ErrMalformed or
// fields.ErrVersion.
func DecodePushes(body []byte) ([]bus.Push, error) {
	_, ps, err := decodePushes(body)
	return ps, err
}

func decodePushes(body []byte) (events.StoreID, []bus.Push, error) {
	var b pushesBody
	if err := unseal(kindPushes, body, &b); err != nil {
		return b.store, nil, err
	}
	ps := make([]bus.Push, len(b.pushes))
	for i, p := range b.pushes {
		p.Store = b.store
		ps[i] = bus.Push(p)
		if err := check(ps[i]); err != nil {
			return b.store, nil, err
		}
	}
	return b.store, ps, nil
}

// check finds what would mislead whoever takes in a push.
func check(p bus.Push) error {
	switch {
	case p.User.Validate() != nil:
		return fmt.Errorf("%w: push to user %q", fields.ErrMalformed, p.User)
	case p.First == 0, len(p.Events) == 0, uint64(p.First) > math.MaxUint64-uint64(len(p.Events)):
		return fmt.Errorf("%w: push of %d events from %d on", fields.ErrMalformed, len(p.Events), p.First)
	}
	return nil
}

func decodeHint(body []byte) (bus.Hint, error) {
	var b hintBody
	if err := unseal(kindHint, body, &b); err != nil {
		return bus.Hint{}, err
	}
	return bus.Hint{Store: b.store, Journal: b.journal, Offset: b.offset}, nil
}

func decodeDistrust(body []byte) (events.StoreID, error) {
	var b distrustBody
	err := unseal(kindDistrust, body, &b)
	return b.store, err
}

// pushMessages returns the messages for pushes: those of a slot share some, in their
// order.
func pushMessages(exchange string, ps []bus.Push) []*message {
	var all []*message
	var bodies []*pushesBody
	var sizes []int
	open := make(map[slotOf]int) // the last message of a slot
	for _, p := range ps {
		of, size := slotOf{p.Store, p.User.Slot()}, 0
		for _, raw := range p.Events {
			size += len(raw)
		}
		i, found := open[of]
		if !found || sizes[i]+size > maxBody {
			i = len(all)
			open[of] = i
			all = append(all, &message{kind: kindPushes, exchange: exchange, key: slotKey(of.slot), lasts: true})
			bodies = append(bodies, &pushesBody{store: p.Store})
			sizes = append(sizes, 0)
		}
		bodies[i].pushes = append(bodies[i].pushes, push(p))
		sizes[i] += size
		all[i].pushes++
	}
	for i, m := range all {
		m.body = seal(kindPushes, bodies[i])
	}
	return all
}

// A slotOf is a store's slot.
type slotOf struct {
	store events.StoreID
	slot  events.Slot
}

// slotKey returns the routing key of a slot.
func slotKey(s events.Slot) string { return strconv.Itoa(int(s)) }

func hintMessage(h bus.Hint) *message {
	return &message{kind: kindHint, exchange: hintsExchange, body: seal(kindHint, &hintBody{h.Store, h.Journal, h.Offset})}
}

func distrustMessage(store events.StoreID) *message {
	return &message{kind: kindDistrust, exchange: signalsExchange, key: everybody, body: seal(kindDistrust, &distrustBody{store})}
}
