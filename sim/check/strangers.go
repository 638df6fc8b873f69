package check

// A Stranger is an address that has proved nothing to one process of the server:
// it may get what it has sent, and no more (promise 8).
type Stranger struct {
	h         *History
	at        string
	sent, got int // bytes
}

// Stranger returns an address that has sent nothing yet.
func (h *History) Stranger(at string) *Stranger { return &Stranger{h: h, at: at} }

// Sent records that so many bytes came from the address.
func (s *Stranger) Sent(bytes int) {
	s.h.mu.Lock()
	defer s.h.mu.Unlock()
	s.sent += bytes
}

// Got records that the server sent so many bytes there.
func (s *Stranger) Got(bytes int) {
	s.h.mu.Lock()
	defer s.h.mu.Unlock()
	s.got += bytes
	if s.got > s.sent {
		s.h.violated(Strangers, "%s, which had sent %d bytes, got %d", s.at, s.sent, s.got)
	}
}

// Told records that the server sent something there that is for others.
func (s *Stranger) Told(what string) {
	s.h.mu.Lock()
	defer s.h.mu.Unlock()
	s.h.violated(Strangers, "%s was sent %s", s.at, what)
}
