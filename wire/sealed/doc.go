// Package sealed is the cryptography of packets: the handshake that opens a
// connection, and the channel that seals its packets afterwards.
//
// The handshake is Noise NK (noiseprotocol.org, revision 34) with X25519,
// AES-256-GCM and SHA-256 over the server's static key, which clients know
// beforehand:
//
//	client                                       edge
//	HELLO   e, es, cookie  ─────────────────────▶  no fresh cookie: keeps nothing
//	       ◀─────────────────────  cookie  RETRY
//	HELLO   e, es, cookie  ─────────────────────▶
//	       ◀──────────── e, ee, session  WELCOME
//	DATA    sealed frames  ◀────────────────────▶  sealed frames
//	       ◀──────────────────────  token  RESET   does not know the session
//
// docs/protocol.md has every byte of them. Whatever arrives here may be forged:
// each function says what it proves.
//
// This package does no I/O and reads no clock; randomness is handed in.
//
// # Concurrency
//
// Functions work on their arguments alone. A [Channel] has one user at a time.
package sealed
