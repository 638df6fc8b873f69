package network

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"time"
)

// maxTrace bounds the steps that a trace keeps. Later ones replace the oldest;
// the sum covers all.
const maxTrace = 1 << 16

// A Trace is what a network did, in order. Two traces are equal if the same happened at
// each instant, in whatever order: nothing orders goroutines that are ready at one.
type Trace struct {
	count int
	steps []step   // a ring
	sum   [32]byte // over all instants but the last
	last  time.Duration
	at    [4]uint64 // the sum of the hashes of the last one's steps
}

// A step is one datagram delivered or lost, or a note.
type step struct {
	at   time.Duration
	what string // what became of the datagram; empty: delivered. The note, if there is no datagram
	packet
}

// Note adds a line of the test's own to the trace, such as "server crashes".
func (n *Network) Note(text string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.note(packet{}, text)
}

// note adds a step. The caller holds mu.
func (n *Network) note(p packet, what string) {
	n.trace.add(step{at: n.now(), what: what, packet: p})
}

func (t *Trace) add(s step) {
	if len(t.steps) < maxTrace {
		t.steps = append(t.steps, s)
	} else {
		t.steps[t.count%maxTrace] = s
	}
	t.count++
	if s.at != t.last {
		t.sum, t.last, t.at = t.Sum(), s.at, [4]uint64{}
	}
	h := sha256.New()
	fmt.Fprint(h, int64(s.at), s.link, s.number, s.what)
	h.Write(s.data)
	sum := h.Sum(nil)
	for i := range t.at {
		t.at[i] += binary.BigEndian.Uint64(sum[8*i:])
	}
}

// Trace returns what happened so far.
func (n *Network) Trace() Trace {
	n.mu.Lock()
	defer n.mu.Unlock()
	t := n.trace
	t.steps = slices.Clone(t.steps)
	return t
}

// Len returns the number of steps.
func (t *Trace) Len() int { return t.count }

// Sum returns a hash over all steps: equal for equal runs.
func (t *Trace) Sum() [32]byte {
	all := t.sum[:]
	for _, part := range t.at {
		all = binary.BigEndian.AppendUint64(all[:len(all):len(all)], part)
	}
	return sha256.Sum256(all)
}

// Lines returns the last steps that were kept, at most n, one a line: time, from
// whom to whom, which datagram, its size and hash, its frames in words.
//
//	1.203456789s 10.0.0.2:1 > 10.0.0.1:4747 #17 87B 3f2a91bc send 3 to u0002, 43B
func (t *Trace) Lines(n int) []string {
	n = min(n, len(t.steps))
	lines := make([]string, 0, n)
	for i := t.count - n; i < t.count; i++ {
		lines = append(lines, t.steps[i%maxTrace].String())
	}
	return lines
}

// Diff returns the first step in which two traces differ, as each has it; both
// are empty if the traces are equal.
func (t *Trace) Diff(other *Trace) (mine, theirs string) {
	if t.Sum() == other.Sum() {
		return "", ""
	}
	here, there := t.sorted(), other.sorted()
	for i := range max(len(here), len(there)) {
		mine, theirs = "nothing", "nothing"
		if i < len(here) {
			mine = here[i].String()
		}
		if i < len(there) {
			theirs = there[i].String()
		}
		if mine != theirs {
			return fmt.Sprintf("step %d: %s", i, mine), fmt.Sprintf("step %d: %s", i, theirs)
		}
	}
	return "a step that is not kept", "another"
}

// sorted returns the steps that are kept, those of one instant in an order of their own.
func (t *Trace) sorted() []step {
	steps := slices.Clone(t.steps)
	slices.SortFunc(steps, func(a, b step) int {
		return cmp.Or(cmp.Compare(a.at, b.at), strings.Compare(a.String(), b.String()))
	})
	return steps
}

// String returns the step as one line.
func (s step) String() string {
	if !s.from.IsValid() && !s.to.IsValid() {
		return fmt.Sprintf("%-14v %s", s.at, s.what)
	}
	sum := sha256.Sum256(s.data)
	line := fmt.Sprintf("%-14v %v > %v #%d %dB %x %s", s.at, s.from, s.to, s.number, len(s.data), sum[:4], words(s.data))
	if s.what != "" {
		line += " (" + s.what + ")"
	}
	return strings.TrimSpace(line)
}
