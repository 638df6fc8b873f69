package network

import (
	"crypto/sha256"
	"encoding/binary"
	"io"
	"math/rand/v2"
)

// Random returns a source of random bytes that depends on a seed and a name
// alone. Whoever needs randomness gets a source of its own, so that what one
// draws does not depend on what others drew before. It is safe for one goroutine.
func Random(seed uint64, name string) io.Reader { return rand.NewChaCha8(key(seed, name)) }

// Source returns a generator that depends on a seed, a name and a number alone:
// the draws for the number-th thing of that name.
func Source(seed uint64, name string, number uint64) *rand.Rand {
	k := key(seed, name)
	return rand.New(rand.NewPCG(binary.LittleEndian.Uint64(k[:8])^number, binary.LittleEndian.Uint64(k[8:16])))
}

func key(seed uint64, name string) [32]byte {
	return sha256.Sum256(append(binary.LittleEndian.AppendUint64(nil, seed), name...))
}

// draw returns the draws for one datagram.
func draw(seed uint64, l link, number uint64) *rand.Rand {
	return Source(seed, l.from.String()+">"+l.to.String(), number)
}
