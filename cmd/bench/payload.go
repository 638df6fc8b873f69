package bench

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"

	"timberline/events"
	"timberline/sim/corpus"
)

// A Payload is the bodies that are sent, one after the other, again and again.
type Payload struct {
	Name   string
	Bodies [][]byte
}

// Mean returns the mean size of a body, in bytes.
func (p *Payload) Mean() int {
	n := 0
	for _, b := range p.Bodies {
		n += len(b)
	}
	return n / len(p.Bodies)
}

// body returns what a sender says in its send with a number.
func (p *Payload) body(sender int, n events.Number) []byte {
	return p.Bodies[(uint64(sender)*257+uint64(n))%uint64(len(p.Bodies))]
}

// ParsePayload reads "fixed:BYTES" or "corpus:FILE"; "corpus" alone is the sample
// that is at hand.
func ParsePayload(text string) (Payload, error) {
	kind, value, named := strings.Cut(text, ":")
	p := Payload{Name: text}
	switch {
	case kind == "fixed":
		n, err := strconv.Atoi(value)
		if err != nil || n < 0 || n > maxBody {
			return p, fmt.Errorf("payload %q: want fixed: and 0 to %d bytes", text, maxBody)
		}
		p.Bodies = [][]byte{bytes.Repeat([]byte("x"), n)}
		return p, nil
	case kind == "corpus" && named == (value != ""):
		return p, p.read(value)
	}
	return p, fmt.Errorf("payload %q: want fixed:BYTES or corpus:FILE", text)
}

// read takes the texts of a corpus.
func (p *Payload) read(file string) error {
	lines, err := corpus.Load(file)
	if err != nil {
		return err
	}
	for _, l := range lines {
		p.Bodies = append(p.Bodies, []byte(l.Text[:min(len(l.Text), maxBody)]))
	}
	return nil
}

// maxBody bounds a body, in bytes, so that a send and its entry each fit into one
// packet.
const maxBody = 800
