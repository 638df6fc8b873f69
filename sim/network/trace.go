package network

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"time"
)

// maxTrace bounds the steps that a trace keeps. Later ones replace the oldest;
// the sum covers all.
const maxTrace = 1 << 16

// A Trace is what a network did, in order.
type Trace struct {
	count int
	steps []step // a ring
	sum   [32]byte
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
	h := sha256.New()
	h.Write(t.sum[:])
	fmt.Fprint(h, int64(s.at), s.link, s.number, s.what)
	h.Write(s.data)
	h.Sum(t.sum[:0])
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
func (t *Trace) Sum() [32]byte { return t.sum }

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
	if t.sum == other.sum {
		return "", ""
	}
	for i := range max(len(t.steps), len(other.steps)) {
		mine, theirs = "nothing", "nothing"
		if i < len(t.steps) {
			mine = t.steps[i].String()
		}
		if i < len(other.steps) {
			theirs = other.steps[i].String()
		}
		if mine != theirs {
			return fmt.Sprintf("step %d: %s", i, mine), fmt.Sprintf("step %d: %s", i, theirs)
		}
	}
	return "a step that is not kept", "another"
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
