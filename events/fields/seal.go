package fields

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"google.golang.org/protobuf/encoding/protowire"
)

// What is stored begins with the version of its format and a checksum:
//
//	0         1                 5
//	+---------+-----------------+------------------+
//	| version | CRC-32C         | protobuf message |
//	+---------+-----------------+------------------+
//
// The checksum covers the place where the bytes belong (its name, not stored),
// the version and the message. So bytes that stand in a wrong place are damage,
// too.
//
// All versions begin so: what is whole and of another version is not damage.
const sealHeader = 5

// ErrVersion says that something is whole, but of a version that this program does
// not read.
var ErrVersion = errors.New("of another version")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Seal encodes m for storage at a place.
func Seal(version byte, place []byte, m Message) []byte {
	return AppendSealed(make([]byte, 0, 256), version, place, m)
}

// AppendSealed appends what Seal makes to b.
func AppendSealed(b []byte, version byte, place []byte, m Message) []byte {
	at := len(b)
	b = Append(append(b, make([]byte, sealHeader)...), m)
	sealed := b[at:]
	sealed[0] = version
	binary.BigEndian.PutUint32(sealed[1:], checksum(place, sealed))
	return b
}

// Unseal checks and decodes what Seal made into m, which must be zero. Byte
// fields of m alias b. The error wraps ErrMalformed, or ErrVersion if the bytes are
// whole.
func Unseal(version byte, place, b []byte, m Message) error {
	switch {
	case len(b) < sealHeader:
		return fmt.Errorf("%w: cut short to %d bytes", ErrMalformed, len(b))
	case binary.BigEndian.Uint32(b[1:]) != checksum(place, b):
		return fmt.Errorf("%w: checksum does not match", ErrMalformed)
	case b[0] != version:
		return fmt.Errorf("%w: format version %d, this program reads %d", ErrVersion, b[0], version)
	}
	return Unmarshal(b[sealHeader:], m)
}

// PeekUint returns a number field of what Seal made, without a look at the checksum or the
// rest: 0 if there is none, and anything if b is damaged.
func PeekUint(b []byte, num int) uint64 {
	if len(b) < sealHeader {
		return 0
	}
	for rest := b[sealHeader:]; len(rest) > 0; {
		n, typ, tag := protowire.ConsumeTag(rest)
		if tag < 0 {
			return 0
		}
		if n == protowire.Number(num) && typ == protowire.VarintType {
			x, _ := protowire.ConsumeVarint(rest[tag:])
			return x
		}
		size := protowire.ConsumeFieldValue(n, typ, rest[tag:])
		if size < 0 {
			return 0
		}
		rest = rest[tag+size:]
	}
	return 0
}

func checksum(place, b []byte) uint32 {
	sum := crc32.Update(0, castagnoli, place)
	sum = crc32.Update(sum, castagnoli, b[:1])
	return crc32.Update(sum, castagnoli, b[sealHeader:])
}
