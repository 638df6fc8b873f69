package wire

import "timberline/events"

// The bounds of an Assembler. What exceeds them is dropped, and synced later.
const (
	maxParts      = 128     // of one entry
	maxAssembling = 4       // entries at a time
	maxPartBytes  = 4 << 10 // of one part: more than a packet holds
)

// An Assembler puts the Part frames of entries together, in whatever order they
// come.
type Assembler struct {
	entries []*assembly // oldest first
}

type assembly struct {
	seq     events.Seq
	parts   [][]byte
	missing int
}

// Add takes in a part, copying its data. It returns the entry's event when the
// part was the last one missing.
func (a *Assembler) Add(f *Part) (raw []byte, complete bool) {
	if f.Count == 0 || f.Count > maxParts || f.Index >= f.Count || len(f.Data) == 0 || len(f.Data) > maxPartBytes {
		return nil, false
	}
	e := a.entry(f)
	if e.parts[f.Index] != nil {
		return nil, false
	}
	e.parts[f.Index] = append([]byte(nil), f.Data...)
	if e.missing--; e.missing > 0 {
		return nil, false
	}
	a.drop(e)
	for _, part := range e.parts {
		raw = append(raw, part...)
	}
	return raw, true
}

// entry returns the assembly that a part belongs to, making room for it.
func (a *Assembler) entry(f *Part) *assembly {
	for _, e := range a.entries {
		if e.seq == f.Seq && len(e.parts) == int(f.Count) {
			return e
		}
	}
	if len(a.entries) == maxAssembling {
		a.entries = a.entries[1:]
	}
	e := &assembly{seq: f.Seq, parts: make([][]byte, f.Count), missing: int(f.Count)}
	a.entries = append(a.entries, e)
	return e
}

func (a *Assembler) drop(e *assembly) {
	for i, other := range a.entries {
		if other == e {
			a.entries = append(a.entries[:i], a.entries[i+1:]...)
			return
		}
	}
}
