package client

import "timberline/events"

// The bounds of echoes. What was dropped too early comes by sync.
const (
	maxEchoes    = 256
	maxEchoBytes = 1 << 20
)

// echoes keeps the bodies of stored sends until the device has seen them in its
// timeline.
type echoes struct {
	list  []echo // by number
	bytes int
}

type echo struct {
	number events.Number
	body   []byte
}

// add keeps a send's body, and drops the oldest if there are too many.
func (e *echoes) add(x *send) {
	e.list = append(e.list, echo{x.Number, x.Body})
	e.bytes += len(x.Body)
	for len(e.list) > maxEchoes || e.bytes > maxEchoBytes {
		e.drop(0)
	}
}

// body returns the body kept for a number.
func (e *echoes) body(n events.Number) (body []byte, ok bool) {
	for _, x := range e.list {
		if x.number == n {
			return x.body, true
		}
	}
	return nil, false
}

// seen drops the body of a send that stands in the timeline.
func (e *echoes) seen(n events.Number) {
	for i, x := range e.list {
		if x.number == n {
			e.drop(i)
			return
		}
	}
}

func (e *echoes) drop(i int) {
	e.bytes -= len(e.list[i].body)
	e.list = append(e.list[:i], e.list[i+1:]...)
}
