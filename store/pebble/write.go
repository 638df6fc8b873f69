package pebble

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"timberline/events"
	"timberline/sim/planted"
)

// taken returns what stands at a key that ends with a number; the error is
// events.ErrNotFound if nothing does. Of those put here it knows the highest number of each
// prefix, and so looks for none above: a look into all levels for what is not there takes
// longer than all the rest of an append. The caller holds mu, and puts the key if it is free.
func (s *Store) taken(key []byte) ([]byte, error) {
	prefix, n := key[:len(key)-8], number(key)
	highest, known := s.highest[string(prefix)]
	if !known {
		switch last, _, err := s.last(prefix); {
		case err == nil:
			highest = number(last)
		case !errors.Is(err, events.ErrNotFound):
			return nil, err
		}
	}
	s.highest[string(prefix)] = max(highest, n)
	if n > highest {
		return nil, events.ErrNotFound
	}
	return s.get(key)
}

// put applies a batch on condition that key is not taken, and waits until it is
// durable. If the key is taken it returns events.ErrConflict and what stands
// there, durably. It closes the batch.
func (s *Store) put(ctx context.Context, key []byte, b *pebble.Batch) (stands []byte, err error) {
	s.unsynced <- struct{}{}
	defer func() { <-s.unsynced }()
	s.mu.Lock()
	stands, err = s.taken(key)
	if !errors.Is(err, events.ErrNotFound) {
		s.mu.Unlock()
		b.Close()
		if err == nil {
			err = s.settled(ctx)
		}
		if err != nil {
			return nil, err
		}
		return stands, events.ErrConflict
	}
	n, err := s.apply(b)
	s.mu.Unlock()
	if err != nil {
		return nil, err
	}
	if planted.Is(planted.AckBeforeFsync) || planted.Is(planted.RevealBeforeDurable) && key[0] == 'c' {
		go s.sync(n, b)
		return nil, nil
	}
	return nil, s.sync(n, b)
}

// write applies a batch without condition and waits until it is durable.
func (s *Store) write(b *pebble.Batch) error {
	_, err := s.writeMade(func() (*pebble.Batch, error) { return b, nil })
	return err
}

// writeMade applies the batch that is made of what stands at that moment, and waits until it
// is durable. none says that there was nothing to write: the batch is nil.
func (s *Store) writeMade(batch func() (*pebble.Batch, error)) (none bool, err error) {
	s.unsynced <- struct{}{}
	defer func() { <-s.unsynced }()
	s.mu.Lock()
	b, err := batch()
	if err != nil || b == nil {
		s.mu.Unlock()
		return err == nil, err
	}
	n, err := s.apply(b)
	s.mu.Unlock()
	if err != nil {
		return false, err
	}
	return false, s.sync(n, b)
}

// writeBehind applies a batch that nobody waits for, and waits until it is durable. Where
// others write, it is by one of their syncs: one more would hold them up. It may take a
// batch of its own to sync, so it has room for two.
func (s *Store) writeBehind(b *pebble.Batch) error {
	s.behind <- struct{}{}
	defer func() { <-s.behind }()
	for range 2 {
		s.unsynced <- struct{}{}
		defer func() { <-s.unsynced }()
	}
	s.mu.Lock()
	n, err := s.applyWith(b, s.db.Apply, pebble.NoSync)
	s.mu.Unlock()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), syncBehind)
	defer cancel()
	if s.synced(ctx, n) == nil {
		return b.Close()
	}
	own := s.db.NewBatch()
	err = own.LogData(nil, nil)
	if err == nil {
		s.mu.Lock()
		n, err = s.apply(own)
		s.mu.Unlock()
	}
	if err == nil {
		err = s.sync(n, own)
	}
	return errors.Join(err, b.Close())
}

// syncBehind is how long a batch that nobody waits for waits for somebody's sync.
const syncBehind = 2 * time.Millisecond

// apply makes a batch visible and starts its sync. The caller holds mu.
func (s *Store) apply(b *pebble.Batch) (n uint64, err error) {
	return s.applyWith(b, s.db.ApplyNoSyncWait, pebble.Sync)
}

// applyWith makes a batch visible. The number is given before anybody can see it.
func (s *Store) applyWith(b *pebble.Batch, apply func(*pebble.Batch, *pebble.WriteOptions) error, o *pebble.WriteOptions) (n uint64, err error) {
	if cause := s.broken.Load(); cause != nil { // Pebble would panic
		return 0, fmt.Errorf("write: %w", s.fail(fmt.Errorf("an earlier write has failed: %w", *cause)))
	}
	n = s.applied.Add(1)
	if err := apply(b, o); err != nil {
		return 0, fmt.Errorf("write: %w", s.fail(err))
	}
	return n, nil
}

// sync waits until batch n is durable, and so everything applied before it.
func (s *Store) sync(n uint64, b *pebble.Batch) error {
	if err := b.SyncWait(); err != nil {
		return fmt.Errorf("sync: %w", s.fail(err))
	}
	s.raise(n)
	return b.Close()
}

// breaks has nothing more be applied, as the log has failed.
func (s *Store) breaks(err error) { s.broken.CompareAndSwap(nil, &err) }

// fail ends the process because of a write or a sync that failed: whoever waits for it, or for
// what was applied before, would wait for ever. A write-ahead log that failed once takes nothing
// more, so the error is one that no retry mends.
func (s *Store) fail(err error) error {
	s.breaks(err)
	s.giveUp(err)
	return fmt.Errorf("%w: %w", events.ErrFatal, err)
}

func (s *Store) raise(n uint64) {
	s.waiting.Lock()
	defer s.waiting.Unlock()
	if n > s.durable {
		s.durable = n
		close(s.news)
		s.news = make(chan struct{})
	}
}

// settled waits until everything that was visible when it was called is durable.
func (s *Store) settled(ctx context.Context) error {
	seen := s.applied.Load()
	if planted.Is(planted.RevealBeforeDurable) {
		seen = 0
	}
	if err := s.synced(ctx, seen); err != nil {
		return fmt.Errorf("wait for a sync: %w", err)
	}
	return nil
}

// synced waits until batch n is durable.
func (s *Store) synced(ctx context.Context, n uint64) error {
	for {
		s.waiting.Lock()
		durable, news := s.durable, s.news
		s.waiting.Unlock()
		if durable >= n {
			return nil
		}
		select {
		case <-news:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// reveal ends a read: a strong one waits until what it has seen is durable.
func (s *Store) reveal(ctx context.Context, c events.Consistency) error {
	if c == events.Strong {
		return s.settled(ctx)
	}
	return nil
}
