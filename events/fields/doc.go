// Package fields describes a message once and encodes it twice: as protobuf and
// as JSON.
//
// A type that is stored or sent implements [Message] by listing its fields to a
// [Visitor], in the order of their numbers. The same list encodes and decodes
// both codecs, so the two cannot drift apart, and a decoded message is a plain
// Go struct with typed numbers.
//
// # Protobuf
//
// The encoding is proto3: fields that are zero are left out, fields are written
// in the order listed, unknown fields are kept where the message asks for them
// (Visitor.Unknown) and skipped elsewhere. wire/timberline.proto states the same
// schema for other languages; a test holds the two together.
//
// # JSON
//
// The encoding is protobuf's JSON mapping with snake_case names and two
// differences made for people who read it: 16-byte ids are ULID text (26
// characters of Crockford's base32) and a body that is UTF-8 stands as a string
// in "text", any other as base64 in "body". Numbers of every size are written as
// strings and read as strings or numbers. Unknown fields are skipped, and an
// enumeration's value with an unknown name is read as its type's largest number:
// both are of a later version.
//
// # Concurrency
//
// Nothing here is shared: every call works on its own arguments.
package fields
