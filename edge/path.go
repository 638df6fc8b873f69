package edge

import (
	"bytes"
	"io"
	"time"

	"timberline/sim/planted"
	"timberline/wire"
)

// A path is an address that packets of a session come from, but that its client
// has not shown yet to be its own: whoever repeats a packet can put any address on
// it. Until then it gets no more bytes than came from it.
type path struct {
	src    from
	token  [8]byte
	credit int       // bytes that came, less those that were sent
	asked  time.Time // when the token was sent; zero: never
}

// challengeAgain is how long to wait for the echo of a challenge.
const challengeAgain = 200 * time.Millisecond

// arrived looks at where a packet of a session came from. The newest packet says
// where the client is now: if that is elsewhere, it is challenged (R9).
func (t *table) arrived(now time.Time, s *session, src from, newest bool, size int) {
	if newest && planted.Is(planted.MoveUnchallenged) {
		s.src = src
	}
	switch {
	case src.addr == s.src.addr:
		s.src.conn = src.conn
		if newest {
			s.path = nil // it is where it was
		}
		return
	case s.path != nil && s.path.src.addr == src.addr:
	case newest:
		s.path = &path{src: src}
		if _, err := io.ReadFull(t.cfg.Random, s.path.token[:]); err != nil {
			t.cfg.Logger.Error("no challenge can be made", "err", err)
			s.path = nil
			return
		}
	default:
		return
	}
	s.path.credit += size
	if now.Sub(s.path.asked) >= challengeAgain {
		t.challenge(now, s)
	}
}

// challenge sends the token to the new address.
func (t *table) challenge(now time.Time, s *session) {
	t.packer.BeginSealed(s.codec)
	t.packer.Add(&wire.Challenge{Token: s.path.token[:]})
	packet := t.packer.Packets()[0]
	if len(packet)+wire.SealedTag > s.path.credit {
		return
	}
	packet, err := s.channel.Seal(packet)
	if err != nil {
		return // worn out: the session is about to end
	}
	s.path.credit -= len(packet)
	s.path.asked = now
	t.counts.challenges.Add(1)
	t.put(s.path.src, packet)
}

// echo moves the session to the address that has shown to be the client's. What it
// was told at the old one may be lost: the answer to the ping that brought the
// challenge is.
func (t *table) echo(now time.Time, s *session, src from, f *wire.Echo) {
	if s.path == nil || s.path.src.addr != src.addr || !bytes.Equal(f.Token, s.path.token[:]) {
		return
	}
	s.src, s.path = src, nil
	t.counts.moves.Add(1)
	s.pong(0)
	if s.order.Sent() {
		s.wantAck()
	}
	if len(s.deliver.flight) > 0 {
		s.deliver.tries, s.deliver.resendAt = 0, now
		t.timers.set(s, now)
	}
}
