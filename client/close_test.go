package client

import (
	"bytes"
	"context"
	"errors"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"timberline/events"
	"timberline/wire"
)

// A bubble fails its test when goroutines are left in it; so each of these has
// its client closed in another state.
func TestCloseLeavesNothingWhateverTheClientIsDoing(t *testing.T) {
	hang := func(ctx context.Context) (string, error) {
		<-ctx.Done()
		return "", ctx.Err()
	}
	for name, c := range map[string]struct {
		options Options
		play    func(s *story)
	}{
		"getting a token": {Options{Token: hang}, func(*story) {}},
		"logging in":      {Options{}, func(*story) {}},
		"online":          {Options{}, func(s *story) { s.welcome(1, 0) }},
		"settling":        {Options{}, func(s *story) { s.welcome(1, 0); s.send("one"); s.lose(); s.welcome(2, 0) }},
		"between tries":   {Options{}, func(s *story) { s.welcome(1, 0); s.say(&wire.Closed{}) }},
		"denied":          {Options{}, func(s *story) { s.say(&wire.Denied{Attempt: s.login().Attempt, Reason: wire.ReasonBadToken}) }},
		"sending":         {Options{}, func(s *story) { s.welcome(1, 0); s.send("one", "two") }},
		"syncing":         {Options{}, func(s *story) { s.welcome(1, 5000); s.advance(grain) }},
		"refused by app": {Options{}, func(s *story) {
			s.welcome(1, 0)
			s.refuseWith(errNotNow)
			s.say(&wire.Push{From: 1, Events: entries("one")})
		}},
		"without storage":  {Options{Store: &stalling{Store: NewMemory(), err: errFull}}, func(s *story) { s.welcome(1, 0); s.say(&wire.Push{From: 1, Events: entries("one")}) }},
		"with lost server": {Options{}, func(s *story) { s.welcome(1, 0); s.advance(time.Minute) }},
	} {
		t.Run(name, func(t *testing.T) {
			tell(t, c.options, func(s *story) {
				c.play(s)
				begin := time.Now()
				s.c.Close()
				if took := time.Since(begin); took > 0 {
					s.t.Errorf("Close waited %v", took)
				}
				s.wantState(StateClosed)
				for _, e := range s.ends {
					select {
					case <-e.gone:
					default:
						s.t.Error("a socket is left open")
					}
				}
				if _, err := s.c.Send(s.t.Context(), "bob", nil); !errors.Is(err, ErrClosed) {
					s.t.Errorf("Send after Close: %v, want ErrClosed", err)
				}
				if err := s.c.Sync(s.t.Context()); !errors.Is(err, ErrClosed) {
					s.t.Errorf("Sync after Close: %v, want ErrClosed", err)
				}
			})
		})
	}
}

func TestCloseWaitsForCallbacksUnderWay(t *testing.T) {
	tell(t, Options{}, func(s *story) {
		s.block = make(chan struct{})
		s.welcome(1, 0)
		s.say(&wire.Push{From: 1, Events: entries("one", "two")})
		closed := make(chan struct{})
		go func() {
			s.c.Close()
			close(closed)
		}()
		s.advance(time.Minute)
		select {
		case <-closed:
			s.t.Error("Close returned while OnMessage runs")
		default:
		}
		close(s.block)
		<-closed
		s.wantApp("only what was under way", "one")
		s.wantCursor("it was taken", 1)
	})
}

func TestCloseReleasesWhoWaits(t *testing.T) {
	tell(t, Options{OutboxLimit: 1}, func(s *story) {
		s.welcome(1, 0)
		s.send("one")
		errs := make(chan error, 3)
		go func() {
			_, err := s.c.Send(context.Background(), "bob", nil)
			errs <- err
		}()
		go func() { errs <- s.c.Flush(context.Background()) }()
		go func() { errs <- s.c.Sync(context.Background()) }()
		synctest.Wait()
		s.c.Close()
		for range 3 {
			if err := <-errs; !errors.Is(err, ErrClosed) {
				s.t.Errorf("%v, want ErrClosed", err)
			}
		}
		if n := len(s.saved().Sends); n != 1 {
			s.t.Errorf("%d sends are kept, want the one that was taken", n)
		}
	})
}

type closing struct {
	Store
	closed int
}

func (c *closing) Close() error {
	c.closed++
	return errFull
}

func TestCloseClosesTheStoreOnceAndTellsItsError(t *testing.T) {
	store := &closing{Store: NewMemory()}
	tell(t, Options{Store: store}, func(s *story) {
		for range 3 {
			if err := s.c.Close(); err != errFull {
				s.t.Errorf("%v, want the Store's error", err)
			}
		}
	})
	if store.closed != 1 {
		t.Errorf("the Store was closed %d times", store.closed)
	}
}

// Whoever calls Send while another closes the client must learn whether the
// message was taken: an app that is told ErrClosed will send it again.
func TestSendKnowsWhetherItWasTakenWhenTheClientCloses(t *testing.T) {
	for round := range 40 {
		store := NewMemory()
		c, err := Dial("127.0.0.1:9", Options{
			Token: func(ctx context.Context) (string, error) { <-ctx.Done(); return "", ctx.Err() },
			Store: store, Plain: true, Random: bytes.NewReader(bytes.Repeat([]byte{byte(round)}, 32)),
		})
		if err != nil {
			t.Fatal(err)
		}
		var mu sync.Mutex
		taken := map[events.MessageID]bool{}
		var senders sync.WaitGroup
		for range 16 {
			senders.Go(func() {
				for {
					id, err := c.Send(context.Background(), "bob", nil)
					if err != nil {
						return
					}
					mu.Lock()
					taken[id] = true
					mu.Unlock()
				}
			})
		}
		for n := 0; n < 50; runtime.Gosched() {
			mu.Lock()
			n = len(taken)
			mu.Unlock()
		}
		c.Close()
		senders.Wait()
		saved, _ := store.Load()
		if len(saved.Sends) != len(taken) {
			t.Fatalf("round %d: %d sends are kept, and %d were said to be", round, len(saved.Sends), len(taken))
		}
		for _, x := range saved.Sends {
			if !taken[x.Message] {
				t.Fatalf("round %d: message %v is kept, and its sender was told otherwise", round, x.Message)
			}
		}
	}
}
