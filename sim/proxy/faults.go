package proxy

import (
	"container/heap"
	"context"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"
)

// Counts is what happened to the datagrams of one direction so far.
type Counts struct {
	Came       uint64 // in all
	Lost       uint64
	Duplicated uint64
	HeldBack   uint64
	Refused    uint64 // no socket could be had for the client
}

type counts struct{ up, down direction }

type direction struct{ came, lost, duplicated, heldBack, refused atomic.Uint64 }

func (d *direction) counts() Counts {
	return Counts{d.came.Load(), d.lost.Load(), d.duplicated.Load(), d.heldBack.Load(), d.refused.Load()}
}

// Counts returns what happened so far, to the server and back.
func (p *Proxy) Counts() (up, down Counts) { return p.counts.up.counts(), p.counts.down.counts() }

// A held is a datagram that is held back.
type held struct {
	until time.Time
	data  []byte
	send  func([]byte)
}

// pass draws what happens to a datagram. Writes to a socket that is closed, or
// to nobody, are lost.
func (p *Proxy) pass(draw *rand.Rand, f Faults, d *direction, data []byte, send func([]byte)) {
	d.came.Add(1)
	if draw.Float64() < f.Loss {
		d.lost.Add(1)
		return
	}
	copies := 1
	if draw.Float64() < f.Duplicate {
		d.duplicated.Add(1)
		copies = 2
	}
	for range copies {
		hold := f.Delay
		if draw.Float64() < f.Reorder {
			d.heldBack.Add(1)
			hold += time.Millisecond + time.Duration(draw.Int64N(int64(maxHold-time.Millisecond)))
		}
		if hold == 0 {
			send(data)
			continue
		}
		select {
		case p.held <- held{time.Now().Add(hold), slices.Clone(data), send}:
		default:
			send(data)
		}
	}
}

// release sends what was held back when its time comes. What is still held at
// the end is lost.
func (p *Proxy) release(ctx context.Context) {
	var waiting heldQueue
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		in := p.held
		if len(waiting) >= maxHeld {
			in = nil
		}
		select {
		case h := <-in:
			heap.Push(&waiting, h)
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		now := time.Now()
		for len(waiting) > 0 && !waiting[0].until.After(now) {
			h := heap.Pop(&waiting).(held)
			h.send(h.data)
		}
		next := time.Hour
		if len(waiting) > 0 {
			next = waiting[0].until.Sub(now)
		}
		timer.Reset(next)
	}
}

// heldQueue is a heap of datagrams by time.
type heldQueue []held

// Len, Less, Swap, Push and Pop serve container/heap.
func (q heldQueue) Len() int           { return len(q) }
func (q heldQueue) Less(i, j int) bool { return q[i].until.Before(q[j].until) }
func (q heldQueue) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }

// Push adds a datagram.
func (q *heldQueue) Push(x any) { *q = append(*q, x.(held)) }

// Pop takes the last datagram off.
func (q *heldQueue) Pop() any {
	last := len(*q) - 1
	h := (*q)[last]
	(*q)[last] = held{}
	*q = (*q)[:last]
	return h
}
