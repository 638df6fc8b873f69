package lease

import (
	"cmp"
	"slices"
	"time"
)

// A holder decides what its process does about the leases of a kind. It does no I/O
// and reads no clock.
type holder struct {
	owner  string
	length time.Duration
	seen   map[string]sighting
	looked time.Time // when
}

// A sighting is a lease as it was seen, and since when it has stood so.
type sighting struct {
	lease Lease
	since time.Time
}

// A move is a lease to put.
type move struct {
	was, is Lease
}

// moves returns the leases to put: those held are renewed, at the places given; free
// ones and those of the dead are taken up to a fair share; and one of a process that
// has at least two more is taken as well, again and again.
func (h *holder) moves(now time.Time, kind string, names []string, stand []Lease, places map[string]string) []move {
	h.look(now, stand)
	var mine, free []Lease
	living := map[string][]Lease{h.owner: nil}
	for _, name := range names {
		l := Lease{Kind: kind, Name: name}
		s, known := h.seen[name]
		if known {
			l = s.lease
		}
		switch {
		case l.Owner == h.owner:
			mine = append(mine, l)
		case l.Owner == "" || now.Sub(s.since) >= h.length:
			free = append(free, l)
		default:
			living[l.Owner] = append(living[l.Owner], l)
		}
	}
	var moves []move
	for _, l := range mine {
		place, moved := places[l.Name]
		if !moved {
			place = l.Place
		}
		moves = append(moves, h.take(l, place))
	}
	fair := (len(names) + len(living) - 1) / len(living)
	for _, l := range free[:min(len(free), max(fair-len(mine), 0))] {
		moves = append(moves, h.take(l, l.Place))
	}
	return append(moves, h.level(len(moves), living)...)
}

// look notes which leases have changed. What was not looked at for long may have stood
// unchanged because nobody could change it.
func (h *holder) look(now time.Time, stand []Lease) {
	before := h.seen
	if now.Sub(h.looked) > h.length {
		before = nil
	}
	h.looked = now
	h.seen = make(map[string]sighting, len(stand))
	for _, l := range stand {
		since := now
		if s, ok := before[l.Name]; ok && s.lease == l {
			since = s.since
		}
		h.seen[l.Name] = sighting{l, since}
	}
}

// level returns the moves that take leases of those who hold at least two more.
func (h *holder) level(mine int, living map[string][]Lease) (moves []move) {
	for {
		richest := ""
		for owner, has := range living {
			if n := cmp.Compare(len(has), len(living[richest])); n > 0 || n == 0 && owner < richest {
				richest = owner
			}
		}
		has := living[richest]
		if len(has) < mine+2 {
			return moves
		}
		moves = append(moves, h.take(has[len(has)-1], has[len(has)-1].Place))
		living[richest] = slices.Delete(has, len(has)-1, len(has))
		mine++
	}
}

// take returns the move that makes a lease the holder's own, or keeps it so.
func (h *holder) take(l Lease, place string) move {
	return move{was: l, is: Lease{Kind: l.Kind, Name: l.Name, Owner: h.owner, Counter: l.Counter + 1, Place: place}}
}
