package rabbit

import (
	"testing"
)

func TestOutboxIsBoundedAndKeepsTheOrder(t *testing.T) {
	o := newOutbox(1000)
	numbered := func(n int) *message { return &message{kind: kindPushes, body: make([]byte, 44), tries: n} }
	for i := range 3 {
		if !o.add(numbered(i)) {
			t.Fatalf("no room for message %d", i)
		}
	}
	if o.add(numbered(3)) {
		t.Error("there is room for 1200 bytes in 1000")
	}
	awaited := numbered(4)
	awaited.waiting = &waiting{left: 1, done: make(chan struct{})}
	if !o.add(awaited) {
		t.Error("no room for what somebody waits for")
	}
	o.putBack([]*message{o.take()})
	if gone := o.remove(func(m *message) bool { return m.waiting != nil }); len(gone) != 1 || gone[0] != awaited {
		t.Errorf("%d messages were removed, want the one that is waited for", len(gone))
	}
	for want := range 3 {
		if m := o.take(); m == nil || m.tries != want {
			t.Errorf("message %v is taken, want %d", m, want)
		}
	}
	if m := o.take(); m != nil || o.size() != 0 {
		t.Errorf("%d bytes are left, message %v", o.size(), m)
	}
	if !o.add(numbered(5)) {
		t.Error("room is not given back")
	}
}

func TestMessageThatBreaksConnectionsIsDroppedInTheEnd(t *testing.T) {
	b, err := New(Config{URL: "amqp://localhost", Store: store})
	if err != nil {
		t.Fatal(err)
	}
	b.PublishPushes(somePushes)
	b.PublishMissed(somePushes)
	for try := 1; ; try++ {
		var flying []*message
		for m := b.out.take(); m != nil; m = b.out.take() {
			flying = append(flying, m)
		}
		if len(flying) == 0 {
			if try != maxTries+1 {
				t.Errorf("a message was dropped after %d tries, want %d", try-1, maxTries)
			}
			break
		}
		if b.lossy.Load() {
			t.Error("all are told to distrust while the push may still come")
		}
		b.again(flying)
	}
	if !b.lossy.Load() || count(b.counts.dropped, "pushes") != 2 || count(b.counts.dropped, "missed") != 2 {
		t.Error("a push was lost, and nobody is told")
	}
}

func TestWaitingHearsOfTheGravestOutcomeWhenAllAreSettled(t *testing.T) {
	for _, test := range []struct {
		outcomes []error
		want     error
	}{
		{[]error{nil, nil}, nil},
		{[]error{nil, errRejected, nil}, errRejected},
		{[]error{errRejected, ErrAway, errRejected}, ErrAway},
	} {
		w := &waiting{left: len(test.outcomes), done: make(chan struct{})}
		for i, err := range test.outcomes {
			select {
			case <-w.done:
				t.Fatalf("%v: done after %d", test.outcomes, i)
			default:
			}
			w.settle(err)
		}
		<-w.done
		if w.err != test.want {
			t.Errorf("%v: %v, want %v", test.outcomes, w.err, test.want)
		}
	}
}
