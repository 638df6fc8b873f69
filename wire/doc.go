// Package wire is the language between client and edge: packets, the frames in
// them, and the two codecs.
//
// A packet is one UDP datagram of at most [MaxPacket] bytes. It belongs to a
// session and carries frames; docs/protocol.md describes both for implementers
// in other languages, and timberline.proto states the schema of the frames.
//
// Frames are plain structs. Which codec wrote them is known to a packet only;
// events inside frames stay encoded ([events.Raw]) so that the edge passes on
// what is stored.
//
// This package does no I/O and reads no clock.
//
// # Concurrency
//
// Functions work on their arguments alone.
package wire
