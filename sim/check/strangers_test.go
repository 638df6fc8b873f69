package check

import "testing"

func TestStrangersGetNoMoreThanTheySent(t *testing.T) {
	h := NewHistory()
	s := h.Stranger("203.0.113.5:1")
	s.Sent(256)
	s.Got(43)
	s.Got(213)
	if r := h.Check(); !r.OK() {
		t.Errorf("it got what it had sent: %v", r.Err())
	}
	s.Got(1)
	s.Sent(1)
	s.Told("something of a session")
	if n := h.Check().Broken[Strangers]; n != 2 {
		t.Errorf("%d violations, want 2: a byte too much, though more came later, and what is for others", n)
	}
}
