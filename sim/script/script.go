// Package script has bytes say what happens to a state machine, one choice after the
// other, so that a fuzzer that changes the bytes changes what happens.
package script

import (
	"math/rand/v2"
	"testing"
)

// A Script is the bytes that have not been used. When there are none the next is 0.
type Script []byte

// Next takes a byte.
func (s *Script) Next() byte {
	if len(*s) == 0 {
		return 0
	}
	b := (*s)[0]
	*s = (*s)[1:]
	return b
}

// Pick takes a byte for a number below n, which is at most 256.
func (s *Script) Pick(n int) int { return int(s.Next()) % n }

// Chance takes a byte for yes or no.
func (s *Script) Chance() bool { return s.Pick(2) == 0 }

// Take takes n bytes, or as many as there are. They alias the script.
func (s *Script) Take(n int) []byte {
	n = min(n, len(*s))
	taken := (*s)[:n]
	*s = (*s)[n:]
	return taken
}

// seeds is how many scripts a fuzzer starts from.
const seeds = 12

// Seed gives a fuzzer random scripts to start from, the same each time: the longer the
// script, the further its story goes.
func Seed(f *testing.F) {
	for seed := range uint64(seeds) {
		f.Add(random(seed))
	}
}

func random(seed uint64) []byte {
	r := rand.New(rand.NewPCG(seed, 0))
	b := make([]byte, 150*(seed+1))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}
