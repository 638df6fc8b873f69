package edge

import "sync/atomic"

// A Count is how often something has happened.
type Count struct {
	Name string
	N    uint64
}

// counts are kept by cause; the loop writes them, anybody reads them.
type counts struct {
	packets, malformed, oversized              atomic.Uint64
	unknownSession, wrongCodec                 atomic.Uint64
	forged, replayed, plainOnSealed            atomic.Uint64
	overSource, overSession                    atomic.Uint64
	hellos, retries, challenges, moves, resets atomic.Uint64
	logins, denied, sends, refused, busy       atomic.Uint64
	pushes, pushesDropped, pushesGivenUp       atomic.Uint64
	syncs                                      atomic.Uint64
}

func (c *counts) list() []Count {
	return []Count{
		{"packets", c.packets.Load()},
		{"packets_malformed", c.malformed.Load()},
		{"packets_oversized", c.oversized.Load()},
		{"packets_forged", c.forged.Load()},
		{"packets_replayed", c.replayed.Load()},
		{"packets_plain_on_sealed", c.plainOnSealed.Load()},
		{"packets_unknown_session", c.unknownSession.Load()},
		{"packets_wrong_codec", c.wrongCodec.Load()},
		{"packets_over_source_rate", c.overSource.Load()},
		{"packets_over_session_rate", c.overSession.Load()},
		{"hellos", c.hellos.Load()},
		{"retries", c.retries.Load()},
		{"challenges", c.challenges.Load()},
		{"moves", c.moves.Load()},
		{"resets", c.resets.Load()},
		{"logins", c.logins.Load()},
		{"logins_denied", c.denied.Load()},
		{"sends", c.sends.Load()},
		{"sends_refused", c.refused.Load()},
		{"sends_busy", c.busy.Load()},
		{"pushes", c.pushes.Load()},
		{"pushes_dropped", c.pushesDropped.Load()},
		{"pushes_given_up", c.pushesGivenUp.Load()},
		{"syncs", c.syncs.Load()},
	}
}
