package edge

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"time"

	"timberline/events"
	"timberline/wire"
	"timberline/wire/sealed"
)

// sealedPacket takes in a datagram of a sealed socket.
func (t *table) sealedPacket(now time.Time, src from, data []byte) {
	switch {
	case len(data) > 0 && data[0] == sealed.TypeHello:
		t.hello(now, src, data)
	case wire.IsPlain(data):
		t.refusePlain(now, src, data)
	default:
		t.data(now, src, data)
	}
}

// mayAsk reports whether somebody who has proved nothing is answered once more.
func (t *table) mayAsk(now time.Time, src from) bool {
	if !t.admits(now, t.unproved, src) {
		return false
	}
	if t.load.pressure >= crowded && !t.crowd.allow(t.since(now), crowdedAnswers) {
		t.counts.shed.Add(1)
		return false
	}
	return true
}

// admits reports whether a source may do something once more.
func (t *table) admits(now time.Time, s *sources, src from) bool {
	if s.allow(t.since(now), src.addr.Addr(), t.cfg.SourceRate) {
		return true
	}
	t.counts.overSource.Add(1)
	return false
}

// refusePlain tells whoever tries to log in unsealed that it cannot.
func (t *table) refusePlain(now time.Time, src from, data []byte) {
	t.counts.plainOnSealed.Add(1)
	p, err := wire.Decode(data)
	if err != nil || !t.mayAsk(now, src) {
		return
	}
	for _, f := range p.Frames {
		if login, ok := f.(*wire.Login); ok {
			who := stranger{src: src, codec: p.Codec, size: len(data)}
			t.deny(who, login, wire.ReasonNotAllowed, "sealed packets only", 0)
			return
		}
	}
}

// hello answers a HELLO: with a RETRY as long as anything is missing, for which
// nothing is kept, and with a WELCOME for whoever has proved its address (R9). What
// somebody sends in the name of another does not keep that one from connecting: who
// has proved its address is measured apart.
func (t *table) hello(now time.Time, src from, data []byte) {
	h, err := sealed.ParseHello(data)
	if err != nil {
		t.counts.malformed.Add(1)
		return
	}
	t.counts.hellos.Add(1)
	key, known := t.key(h.Key)
	switch {
	case h.Version != sealed.Version:
		t.sayRetry(now, src, &h, sealed.Retry{Cause: sealed.CauseVersion})
	case !known:
		t.sayRetry(now, src, &h, sealed.Retry{Cause: sealed.CauseKey})
	case !t.cfg.Secret.Fresh(h.Cookie, src.addr.Addr(), t.cfg.Now()):
		t.sayRetry(now, src, &h, sealed.Retry{Cookie: t.cfg.Secret.Cookie(src.addr.Addr(), t.cfg.Now())})
	case t.admits(now, t.proved, src):
		t.respond(src, &h, key)
	}
}

// key returns the static key that a HELLO names.
func (t *table) key(id sealed.KeyID) (sealed.ServerKey, bool) {
	keys := t.cfg.Keys()
	i := slices.IndexFunc(keys, func(k sealed.ServerKey) bool { return k.Public.ID() == id })
	if i < 0 {
		return sealed.ServerKey{}, false
	}
	return keys[i], true
}

func (t *table) sayRetry(now time.Time, src from, h *sealed.Hello, r sealed.Retry) {
	if !t.mayAsk(now, src) {
		return
	}
	t.counts.retries.Add(1)
	r.Version = sealed.Version
	t.put(src, h.AppendRetry(nil, r))
}

// respond begins a half-open connection, or repeats the WELCOME of the one that
// this HELLO has begun.
func (t *table) respond(src from, h *sealed.Hello, key sealed.ServerKey) {
	name := helloFrom{echo: h.Echo(), addr: src.addr}
	if half := t.ring.hellos[name]; half != nil {
		if half.channel != nil {
			t.put(src, half.welcome)
		}
		return
	}
	var ephemeral [32]byte
	_, err := io.ReadFull(t.cfg.Random, ephemeral[:])
	id, err2 := events.NewSessionID(t.cfg.Tag, t.cfg.Random)
	if err = errors.Join(err, err2); err != nil {
		t.cfg.Logger.Error("no connection can be made", "err", err)
		return
	}
	half := &halfOpen{session: id, hello: name, src: src, turn: t.nextTurn()}
	t.ring.add(half)
	hello, w := *h, sealed.Welcome{Session: id, Reset: t.cfg.Secret.ResetToken(id)}
	t.want(func(context.Context) func(time.Time) {
		packet, channel, err := hello.Respond(key, w, bytes.NewReader(ephemeral[:]))
		return func(time.Time) { t.responded(half, packet, channel, err) }
	}, func(time.Time) { t.ring.drop(half) })
}

// responded sends the WELCOME.
func (t *table) responded(half *halfOpen, packet []byte, c *sealed.Channel, err error) {
	if err != nil {
		t.counts.forged.Add(1)
		t.ring.drop(half)
		return
	}
	half.welcome, half.channel = packet, c
	t.put(half.src, packet)
}

// data takes in a DATA packet: of a session, or of a connection that nobody has
// logged in on.
func (t *table) data(now time.Time, src from, data []byte) {
	id, ok := sealed.PeekData(data)
	if !ok {
		t.counts.malformed.Add(1)
		return
	}
	s := t.sessions[id]
	switch half := t.ring.sessions[id]; {
	case s != nil && s.channel != nil && s.state != closing:
		t.sessionData(now, s, src, data)
	case half != nil:
		t.halfData(half, data)
	default:
		t.counts.unknownSession.Add(1)
		t.resetSealed(now, src, id, len(data))
	}
}

// unseal opens a DATA packet and reads its frames; ok is false if it is not to be
// taken in.
func (t *table) unseal(c *sealed.Channel, data []byte) (p wire.Packet, newest, ok bool) {
	frames, newest, err := c.Open(data)
	switch {
	case errors.Is(err, sealed.ErrReplayed):
		t.counts.replayed.Add(1)
		return p, false, false
	case err != nil:
		t.counts.forged.Add(1)
		return p, false, false
	}
	p, err = wire.DecodeSealed(c.Session(), frames)
	if err != nil {
		t.counts.malformed.Add(1)
		return p, false, false
	}
	return p, newest, true
}

// sessionData takes in a packet of a session.
func (t *table) sessionData(now time.Time, s *session, src from, data []byte) {
	size := len(data)
	p, newest, ok := t.unseal(s.channel, data)
	if !ok {
		return
	}
	if s.codec != p.Codec && len(p.Frames) > 0 {
		t.counts.wrongCodec.Add(1)
		return
	}
	t.heard++
	s.heard = now
	t.timers.set(s, now.Add(restAfter))
	t.arrived(now, s, src, newest, size)
	if s.channel.Worn() {
		t.end(s, wire.ReasonExpired)
		return
	}
	t.frames(now, s, src, p.Frames)
}

// maxHalfPackets bounds what a half-open connection may say: its LOGIN, repeated, and
// a few others after denials.
const maxHalfPackets = 64

// halfData takes in a packet of a connection that nobody has logged in on: it counts
// only if it does. The client may have moved since its HELLO; answers go to where that
// came from, for only that is proved.
func (t *table) halfData(half *halfOpen, data []byte) {
	switch {
	case half.channel == nil:
		t.counts.unknownSession.Add(1)
		return
	case half.packets >= maxHalfPackets:
		t.counts.overSource.Add(1)
		return
	}
	p, _, ok := t.unseal(half.channel, data)
	if !ok {
		return
	}
	half.packets++
	for _, f := range p.Frames {
		if login, ok := f.(*wire.Login); ok {
			t.login(stranger{src: half.src, codec: p.Codec, half: half}, login)
			return
		}
	}
	t.counts.malformed.Add(1)
}

// resetSealed tells whoever sent a DATA packet that its session is dead, if it was
// one of this edge. The answer is smaller than any DATA packet.
func (t *table) resetSealed(now time.Time, src from, id events.SessionID, size int) {
	if id.Edge() != t.cfg.Tag || size <= sealed.ResetSize || !t.mayAsk(now, src) || !t.mayReset(now) {
		return
	}
	t.counts.resets.Add(1)
	t.put(src, sealed.AppendReset(nil, id, t.cfg.Secret.ResetToken(id)))
}

// put sends a packet.
func (t *table) put(to from, data []byte) {
	t.out[to.conn] = append(t.out[to.conn], wire.Datagram{Addr: to.addr, Data: data})
}
