package projections

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"timberline/bus/local"
)

func TestProjectorIsAliveUnlessItIsStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		w := &scribe{t: t, m: m, r: rand.New(rand.NewPCG(1, 1))}
		w.append(w.open(), w.message(3))
		stuck := make(chan struct{})
		var hangs atomic.Bool
		p := newProjector(t, m.by(func(string) (bool, error) {
			if hangs.Load() {
				<-stuck
			}
			return false, errors.New("the store is away")
		}), new(local.Bus), 1)
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- p.Run(ctx) }()
		time.Sleep(time.Hour)
		if err := p.Alive(); err != nil {
			t.Errorf("%v, though it tries again and again", err)
		}
		hangs.Store(true)
		time.Sleep(stuckAfter + time.Minute)
		if p.Alive() == nil {
			t.Error("it has hung for minutes and is said to be alive")
		}
		stop()
		close(stuck)
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// Whoever restarts a projector that takes over many shards has it begin anew.
func TestProjectorThatLoadsManyShardsIsAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const shards = 64
		p := newProjector(t, newMemory().by(func(what string) (bool, error) {
			if what == "last checkpoint" {
				time.Sleep(stuckAfter / 20)
			}
			return true, nil
		}), new(local.Bus), shards)
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- p.Run(ctx) }()
		for range shards {
			time.Sleep(stuckAfter / 20)
			if err := p.Alive(); err != nil {
				t.Fatal(err)
			}
		}
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// A monitor may ask as soon as a process has started, before its roles have.
func TestProjectorThatHasNotBegunIsAlive(t *testing.T) {
	p := newProjector(t, newMemory().by(func(string) (bool, error) { return true, nil }), new(local.Bus), 1)
	if err := p.Alive(); err != nil {
		t.Error(err)
	}
}
