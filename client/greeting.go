package client

import (
	"bytes"
	"fmt"
	"io"
	"time"

	"timberline/events"
	"timberline/wire"
	"timberline/wire/sealed"
)

// A seal is the sealed side of a link: the handshake, and then the channel.
type seal struct {
	key    sealed.PublicKey // of the server, pinned
	random io.Reader        // for ephemeral keys

	handshake *sealed.Initiator
	cookie    sealed.Cookie   // for the next HELLO; zero: none
	helloAt   time.Time       // when to send HELLO next
	helloSent time.Time       // when it was sent last
	hellos    int             // with this cookie
	retries   int             // RETRYs that were obeyed in this handshake
	channel   *sealed.Channel // nil: there is none yet
	reset     sealed.Token
	challenge []byte // to be echoed; nil: nothing is
}

// maxRetries bounds the RETRYs that are obeyed at once: a second cookie is needed
// only if the first was lost with its address.
const maxRetries = 3

// pingPadding makes a ping as large as the challenge that may have to answer it.
var pingPadding = make([]byte, 24)

// greet begins a handshake.
func (l *link) greet(now time.Time) error {
	s := l.seal
	h, err := sealed.NewInitiator(s.key, s.random)
	if err != nil {
		return err
	}
	s.handshake, s.channel, s.challenge = h, nil, nil
	s.helloAt, s.hellos, s.retries = now, 0, 0
	l.phase, l.loginAt = greeting, time.Time{}
	return nil
}

// repeatHello returns the HELLO if it is to be sent now.
func (l *link) repeatHello(now time.Time) []byte {
	if l.phase != greeting || now.Before(l.seal.helloAt) {
		return nil
	}
	s := l.seal
	s.hellos++
	s.helloSent = now
	s.helloAt = now.Add(min(l.rtt.rto()<<min(s.hellos-1, 8), maxLoginPause))
	return s.handshake.Hello(s.cookie)
}

// sealedPacket takes in a datagram. It keeps parts of data.
func (d *device) sealedPacket(now time.Time, data []byte) {
	l, s := &d.link, d.link.seal
	kind := byte(0)
	if len(data) > 0 {
		kind = data[0]
	}
	switch {
	case kind == sealed.TypeRetry && l.phase == greeting:
		d.retry(now, data)
	case kind == sealed.TypeWelcome && l.phase == greeting:
		d.welcome(now, data)
	case kind == sealed.TypeReset && l.connected() && sealed.IsReset(data, s.channel.Session(), s.reset):
		d.rest(now, 0) // the server has forgotten the session
	case kind == sealed.TypeData && l.connected():
		d.data(now, data)
	default:
		d.dropped.malformed++
	}
}

// connected reports whether there is a channel to the server, and nobody has given it
// up: each packet that was on its way then may bring another RESET.
func (l *link) connected() bool { return l.phase == joining || l.phase == joined }

// greeted measures the round trip of a HELLO that was sent once: so a new device need
// not wait long for what is lost of its login.
func (l *link) greeted(now time.Time) {
	if l.seal.hellos == 1 {
		l.rtt.measured(now.Sub(l.seal.helloSent))
	}
}

// retry takes in a RETRY. Whoever has seen the HELLO can forge it: so it may cost
// time and nothing else.
func (d *device) retry(now time.Time, data []byte) {
	s := d.link.seal
	r, err := s.handshake.Retry(data)
	if err != nil {
		d.dropped.malformed++
		return
	}
	d.link.greeted(now)
	switch r.Cause {
	case sealed.CauseCookie:
		s.cookie = r.Cookie
		if s.retries++; s.retries <= maxRetries {
			s.helloAt, s.hellos = now, 0
		}
		return
	case sealed.CauseVersion:
		d.trouble = fmt.Errorf("the server speaks version %d of the protocol, this client version %d", r.Version, sealed.Version)
	case sealed.CauseKey:
		d.trouble = fmt.Errorf("the server does not have the key %v", s.key)
	default:
		d.trouble = fmt.Errorf("the server does not take this client, for cause %d, which this version does not know", r.Cause)
	}
	d.rest(now, 0)
}

// welcome goes on with the LOGIN: the server has proved that it has its key.
func (d *device) welcome(now time.Time, data []byte) {
	s := d.link.seal
	channel, w, err := s.handshake.Finish(data)
	if err != nil {
		d.dropped.malformed++
		return
	}
	d.link.greeted(now)
	s.channel, s.reset, s.handshake = channel, w.Reset, nil
	d.link.phase, d.link.loginAt, d.link.logins = joining, now, 0
}

// data takes in a packet of the connection.
func (d *device) data(now time.Time, data []byte) {
	s := d.link.seal
	id, ok := sealed.PeekData(data)
	if !ok || id != s.channel.Session() {
		d.dropped.otherSession++
		return
	}
	frames, _, err := s.channel.Open(data)
	if err != nil {
		d.dropped.malformed++
		return
	}
	p, err := wire.DecodeSealed(id, frames)
	if err != nil {
		d.dropped.malformed++
		return
	}
	d.frames(now, p)
}

// sealPackets seals what a packer has made, in its place; without a seal it
// changes nothing.
func (l *link) sealPackets(packets [][]byte) [][]byte {
	if l.seal == nil {
		return packets
	}
	for i := range packets {
		var err error
		if packets[i], err = l.seal.channel.Seal(packets[i]); err != nil {
			return packets[:i] // the keys are used up: see worn
		}
	}
	return packets
}

// worn reports whether the keys of the connection are nearly used up.
func (l *link) worn() bool {
	return l.phase == joined && l.seal != nil && l.seal.channel.Worn()
}

// packer returns what puts frames of a session into packets for sealPackets.
func (d *device) packer(session events.SessionID) *wire.Packer {
	if d.link.seal != nil {
		return wire.NewSealedPacker(d.codec)
	}
	return wire.NewPacker(d.codec, session)
}

// challenged takes in a Challenge, and reports whether the frame is one. The device
// has another address than before: a NAT may have forgotten the one that it had. It
// may have a session and not know it yet, since the answer went to the old address.
func (d *device) challenged(now time.Time, f wire.Frame) bool {
	c, ok := f.(*wire.Challenge)
	l := &d.link
	if !ok || l.seal == nil || !l.connected() {
		return false
	}
	l.seal.challenge = bytes.Clone(c.Token)
	if l.phase != joined {
		l.loginAt = now // so that the answer comes to the new one
		return true
	}
	l.heard = now
	if l.pings > 0 {
		l.pace.after(l.silence, false)
		l.silence = 0
	}
	return true
}

// echo returns the answer to a Challenge; nil if there is none to be sent.
func (l *link) echo() *wire.Echo {
	if l.seal == nil || l.seal.challenge == nil || !l.connected() {
		return nil
	}
	f := &wire.Echo{Token: l.seal.challenge}
	l.seal.challenge = nil
	return f
}
