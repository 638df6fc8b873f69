package client

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"timberline/events"
	"timberline/wire"
)

// lose ends the session: the server has forgotten it. The next LOGIN is on its
// way when lose returns.
func (s *story) lose() {
	s.say(&wire.Closed{})
	s.hear()
	took[wire.Send](s)
	s.awaitLogin()
}

// wantSettle checks which session a LOGIN names.
func (s *story) wantSettle(f *wire.Login, session byte, offset events.Offset) {
	s.t.Helper()
	want := []wire.OldSession{{Session: events.SessionID{session}, Journal: "j:1", Offset: offset}}
	if d := cmp.Diff(want, f.Settle); d != "" {
		s.t.Errorf("LOGIN settles (-want +got):\n%s", d)
	}
}

func TestSendsOfALostSessionAreSettledFirst(t *testing.T) {
	tell(t, Options{}, func(s *story) {
		s.welcome(1, 0)
		s.send("one", "two", "three", "four")
		s.say(&wire.Ack{Through: 1, Offset: 0})
		s.lose()
		s.wantSettle(s.welcome(2, 0), 1, 10)
		s.send("five")
		s.advance(time.Second)
		s.wantSends("nobody knows yet what stands in the log")
		s.say(&wire.Settled{Session: events.SessionID{1}, Numbers: []uint64{1, 1, 3, 3}})
		s.wantResults("the set says what stands, no count", "stored", "stored")
		fs := took[wire.Send](s)
		if len(fs) != 3 || string(fs[0].Body) != "two" || string(fs[1].Body) != "four" || string(fs[2].Body) != "five" {
			s.t.Fatalf("sends %+v, want two, four and five", fs)
		}
		for i, f := range fs {
			if f.Number != events.Number(i+1) {
				s.t.Errorf("%s has number %d, want %d", f.Body, f.Number, i+1)
			}
		}
		s.say(&wire.Ack{Through: 3})
		s.wantResults("all", "stored", "stored", "stored", "stored", "stored")
	})
}

func TestSessionWithoutOpenSendsIsNotSettled(t *testing.T) {
	tell(t, Options{}, func(s *story) {
		s.welcome(1, 0)
		s.send("one")
		s.say(&wire.Ack{Through: 1})
		s.lose()
		s.send("two")
		if f := s.welcome(2, 0); len(f.Settle) != 0 {
			s.t.Errorf("LOGIN settles %v, want nothing: all is answered", f.Settle)
		}
		s.wantSends("at once", "two")
	})
}

func TestLoginIsRepeatedUntilTheOldSessionIsSettled(t *testing.T) {
	tell(t, Options{}, func(s *story) {
		s.welcome(1, 0)
		s.send("one")
		s.lose()
		f := s.welcome(2, 0)
		s.advance(2 * time.Second)
		again := took[wire.Login](s)
		if len(again) < 2 || again[0].Attempt != f.Attempt {
			s.t.Fatalf("%d LOGINs within 2 s, want repeats of the one that was accepted", len(again))
		}
		s.say(&wire.Settled{Session: events.SessionID{7}, Numbers: []uint64{1, 1}})
		s.sayAs(serverAddr, events.SessionID{1}, &wire.Settled{Session: events.SessionID{1}, Numbers: []uint64{1, 1}})
		s.wantResults("neither another's answer nor one outside the session counts")
		s.say(&wire.Settled{Session: events.SessionID{1}})
		s.wantSends("it does not stand: anew", "one")
		s.say(&wire.Settled{Session: events.SessionID{1}, Numbers: []uint64{1, 1}}) // repeated by the network, with the past of another
		s.wantResults("its number is one of the new session now")
		s.say(&wire.Ack{Through: 1})
		s.advance(5 * time.Second)
		took[wire.Ping](s)
		wantNo[wire.Login](s, "it is settled")
		s.wantResults("acked", "stored")
	})
}

func TestAckOfASessionThatWasLeftDoesNotCount(t *testing.T) {
	tell(t, Options{}, func(s *story) {
		s.welcome(1, 0)
		s.send("one", "two")
		s.lose()
		s.welcome(2, 0)
		old := events.SessionID{1}
		s.sayAs(serverAddr, old, &wire.Ack{Through: 2})
		s.wantResults("it is late")
		s.say(&wire.Settled{Session: old})
		s.wantSends("anew", "one", "two")
		s.sayAs(serverAddr, old, &wire.Ack{Through: 2})
		s.wantResults("it is of the session that was left")
	})
}

// The second session is lost before the first is settled. The sends may stand in
// the first only.
func TestSessionLostWhileSettlingChangesNothing(t *testing.T) {
	tell(t, Options{}, func(s *story) {
		s.welcome(1, 0)
		s.send("one")
		for session := byte(2); session < 6; session++ {
			s.lose()
			s.wantSettle(s.welcome(session, 0), 1, 10)
		}
		s.say(&wire.Settled{Session: events.SessionID{1}, Numbers: []uint64{1, 1}})
		s.wantResults("it stood all the time", "stored")
	})
}

func TestFateThatTheServerCannotFindOutIsUnknown(t *testing.T) {
	tell(t, Options{}, func(s *story) {
		s.welcome(1, 0)
		s.send("one", "two")
		s.lose()
		s.welcome(2, 0)
		s.send("three")
		s.say(&wire.Settled{Session: events.SessionID{1}, Unknown: true})
		s.wantResults("the app has to look", ErrUnknown.Error(), ErrUnknown.Error())
		if !errors.Is(s.results[0].Err, ErrUnknown) {
			s.t.Errorf("result %v, want ErrUnknown", s.results[0].Err)
		}
		s.wantSends("only what was never sent", "three")
	})
}

func TestSendsOfAnEarlierProcessAreSettled(t *testing.T) {
	tell(t, Options{}, func(s *story) {
		s.welcome(1, 0)
		ids := s.send("one", "two", "three")
		s.say(&wire.Ack{Through: 1})
		s.wantResults("one is acked", "stored")
		s.again(Options{})
		s.send("four")
		s.wantSettle(s.welcome(2, 0), 1, 10)
		s.wantSends("nothing before it is settled")
		s.say(&wire.Settled{Session: events.SessionID{1}, Numbers: []uint64{1, 2}})
		s.wantResults("two stood, three did not", "stored", "stored")
		fs := took[wire.Send](s)
		if len(fs) != 2 || fs[0].Message != ids[2] || fs[0].Number != 1 || string(fs[1].Body) != "four" {
			s.t.Errorf("sends %+v, want three with its old message id, then four", fs)
		}
		s.say(&wire.Ack{Through: 2})
		if n := len(s.saved().Sends); n != 0 {
			s.t.Errorf("%d sends are kept, want none: all are over", n)
		}
	})
}

// stalling is a store that keeps nothing while it is told to.
type stalling struct {
	Store
	mu    sync.Mutex
	err   error
	saves int
	most  int // changes in one Save that failed
}

func (s *stalling) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

// counts returns the saves so far, and the most changes of one that failed.
func (s *stalling) counts() (saves, most int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.saves, s.most
}

func (s *stalling) Save(changes []Change) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.saves++
	if s.err != nil {
		s.most = max(s.most, len(changes))
		return s.err
	}
	return s.Store.Save(changes)
}

var errFull = errors.New("disk is full")

// When the process dies, what it has sent must be known to the next one: so the
// session is kept before its first send goes out.
func TestNothingIsSentBeforeItsSessionIsKept(t *testing.T) {
	store := &stalling{Store: NewMemory()}
	tell(t, Options{Store: store}, func(s *story) {
		s.send("one", "two")
		store.fail(errFull)
		s.welcome(1, 0)
		s.advance(10 * time.Second)
		s.wantSends("the Store keeps nothing")
		if saves, _ := store.counts(); saves > 15 {
			s.t.Errorf("%d tries to save within 10 s, want about one a second", saves)
		}
		if saved := s.saved(); saved.Sends[0].Number != 0 {
			s.t.Errorf("number %d is kept without a session", saved.Sends[0].Number)
		}
		store.fail(nil)
		s.advance(saveAgain + grain)
		if fs := took[wire.Send](s); len(fs) < 2 || string(fs[0].Body) != "one" || string(fs[1].Body) != "two" {
			s.t.Errorf("the Store works again: %d sends came, want one, two and perhaps repeats", len(fs))
		}
		saved := s.saved()
		if saved.Session.Session != s.session || saved.Sends[0].Number != 1 || saved.Sends[1].Number != 2 {
			s.t.Errorf("kept: session %v, numbers %d and %d", saved.Session.Session, saved.Sends[0].Number, saved.Sends[1].Number)
		}
	})
}

func TestSendThatTheStoreDoesNotKeepIsAnError(t *testing.T) {
	store := &stalling{Store: NewMemory()}
	tell(t, Options{Store: store}, func(s *story) {
		s.welcome(1, 0)
		s.send("one")
		s.wantSends("kept", "one")
		store.fail(errFull)
		if _, err := s.c.Send(s.t.Context(), "bob", []byte("two")); !errors.Is(err, ErrStore) || !errors.Is(err, errFull) {
			s.t.Errorf("%v, want ErrStore with its cause", err)
		}
		s.wantSends("it was not taken")
		store.fail(nil)
		s.send("three")
		if f := one[wire.Send](s); f.Number != 2 {
			s.t.Errorf("the next send has number %d, want 2", f.Number)
		}
	})
}

// A server forgets a refusal when it hears of a low above it. Settling would then
// say that the send stands.
func TestLowStaysBelowAnswersThatAreNotKept(t *testing.T) {
	store := &stalling{Store: NewMemory()}
	tell(t, Options{Store: store}, func(s *story) {
		s.welcome(1, 0)
		s.send("one", "two", "three")
		took[wire.Send](s)
		store.fail(errFull)
		s.say(&wire.Ack{Through: 1, Refused: []wire.Refusal{{From: 1, To: 1, Reason: wire.ReasonTooLarge}}})
		s.advance(900 * time.Millisecond)
		fs := took[wire.Send](s)
		if len(fs) == 0 {
			s.t.Fatal("two and three are not repeated")
		}
		for _, f := range fs {
			if f.Low != 1 {
				s.t.Errorf("send %d has low %d, want 1: the refusal is not kept", f.Number, f.Low)
			}
		}
		store.fail(nil)
		s.advance(saveAgain + 5*time.Second)
		if fs := took[wire.Send](s); len(fs) == 0 || fs[len(fs)-1].Low != 2 {
			s.t.Errorf("sends %v, want low 2: now it is kept", fs)
		}
	})
}

func TestLongOneThatTheStoreDoesNotKeepTakesNoNumbers(t *testing.T) {
	store := &stalling{Store: NewMemory()}
	tell(t, Options{Store: store}, func(s *story) {
		s.welcome(1, 0)
		s.send("one")
		took[wire.Send](s)
		store.fail(errFull)
		if _, err := s.c.Send(s.t.Context(), "bob", make([]byte, 5000)); !errors.Is(err, ErrStore) {
			s.t.Errorf("%v, want ErrStore", err)
		}
		store.fail(nil)
		s.send("three")
		if f := one[wire.Send](s); f.Number != 2 {
			s.t.Errorf("the next send has number %d, want 2", f.Number)
		}
	})
}

// While the Store fails the device goes on; what waits to be kept must not grow
// with every message.
func TestWhatWaitsForAFailingStoreIsBounded(t *testing.T) {
	store := &stalling{Store: NewMemory()}
	tell(t, Options{Store: store}, func(s *story) {
		s.welcome(1, 0)
		store.fail(errFull)
		for seq := range events.Seq(500) {
			s.say(&wire.Push{From: seq + 1, Events: entries("message")})
		}
		s.advance(5 * time.Second)
		if _, most := store.counts(); most == 0 || most > 3 {
			s.t.Errorf("%d changes wait for the Store, want the newest cursor alone", most)
		}
		store.fail(nil)
		s.advance(saveAgain + grain)
		s.wantCursor("kept at last", 500)
	})
}

func TestOnlyCursorsAndOffsetsAreSuperseded(t *testing.T) {
	cursor := func(n events.Seq) Change { return Change{Cursor: &Cursor{Seq: n}} }
	got := superseded([]Change{cursor(1), {Done: 1}, {Offset: 5}, cursor(2), {Done: 2}, {Offset: 6}, {Send: &SavedSend{ID: 3}}, cursor(3)})
	want := []Change{{Done: 1}, {Done: 2}, {Offset: 6}, {Send: &SavedSend{ID: 3}}, cursor(3)}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// stick makes OnResult wait, as in an app that never comes back from it.
func (s *story) stick() { s.note(func() { s.stuck = make(chan struct{}) }) }

func (s *story) unstick() {
	s.note(func() {
		close(s.stuck)
		s.stuck = nil
	})
}

// dies plays a process that dies, having kept what is in a store, and the next
// one. What the app was told before is forgotten with it.
func (s *story) dies(kept Store) {
	s.unstick()
	s.c.Close()
	s.results = nil
	s.again(Options{Store: kept})
}

// A send that was acked, but whose result the app had not taken, when the
// process died: the result comes again.
func TestResultsThatTheAppHasNotTakenComeAgain(t *testing.T) {
	for _, refused := range []bool{false, true} {
		t.Run(fmt.Sprintf("refused %v", refused), func(t *testing.T) {
			tell(t, Options{}, func(s *story) {
				s.stick()
				s.welcome(1, 0)
				ids := s.send("one", "two")
				ack := &wire.Ack{Through: 2}
				want := "stored"
				if refused {
					ack.Refused = []wire.Refusal{{From: 1, To: 2, Reason: wire.ReasonNotAllowed}}
					want = "send was refused: not_allowed"
				}
				s.say(ack)
				dead := &Memory{saved: s.saved()} // what a process that dies here leaves
				s.dies(dead)
				f := s.welcome(2, 0)
				if len(f.Settle) > 0 {
					s.say(&wire.Settled{Session: events.SessionID{1}, Numbers: []uint64{1, 2}})
				}
				if refused && len(f.Settle) > 0 {
					s.t.Error("refused sends are settled: the log cannot tell that they were refused")
				}
				s.wantResults("they are told again", want, want)
				if s.results[0].Message != ids[0] || s.results[1].Message != ids[1] {
					s.t.Errorf("results are of %v and %v, want %v", s.results[0].Message, s.results[1].Message, ids)
				}
			})
		})
	}
}

// The answers of a session are forgotten by the server with the session: they are
// kept before another one takes its place.
func TestAnswersAreKeptBeforeTheNextSessionSends(t *testing.T) {
	tell(t, Options{}, func(s *story) {
		s.stick()
		s.welcome(1, 0)
		s.send("one", "two")
		s.say(&wire.Ack{Through: 1})
		s.lose()
		s.welcome(2, 0)
		s.say(&wire.Settled{Session: events.SessionID{1}})
		s.wantSends("two goes out anew", "two")
		saved := s.saved()
		if saved.Session.Session != (events.SessionID{2}) || saved.Sends[0].Answer.Fate != FateStored {
			s.t.Errorf("kept: session %v, send %+v; want session 2, and that the first is stored", saved.Session.Session, saved.Sends[0])
		}
		dead := &Memory{saved: saved}
		s.dies(dead)
		s.wantSettle(s.welcome(3, 0), 2, 10)
		s.say(&wire.Settled{Session: events.SessionID{2}, Numbers: []uint64{1, 1}})
		s.wantResults("nothing of the first session is asked for in the second", "stored", "stored")
	})
}

func TestOffsetIsKeptOnceAllBeforeItIsOver(t *testing.T) {
	tell(t, Options{}, func(s *story) {
		s.welcome(1, 0)
		s.send("one", "two", "three")
		s.say(&wire.Ack{Through: 2, Offset: 55})
		if o := s.saved().Session.Offset; o != 55 {
			s.t.Errorf("offset %d is kept, want 55: there is less to read", o)
		}
		s.lose()
		s.wantSettle(s.welcome(2, 0), 1, 55)
	})
	tell(t, Options{}, func(s *story) {
		s.stick()
		s.welcome(1, 0)
		s.send("one", "two", "three")
		s.say(&wire.Ack{Through: 2, Offset: 55})
		if o := s.saved().Session.Offset; o != 10 {
			s.t.Errorf("offset %d is kept, want 10: a process that dies now has to find one and two", o)
		}
		s.unstick()
		if o := s.saved().Session.Offset; o != 55 {
			s.t.Errorf("offset %d is kept after the results were taken, want 55", o)
		}
	})
}

// That a send is stored is kept nowhere before the app has taken it.
func TestOffsetWaitsForEverySendBeforeIt(t *testing.T) {
	now := time.Unix(1000, 0)
	o := outbox{codec: wire.Proto}
	o.load(Saved{})
	for range 2 {
		if err := o.add(SavedSend{To: "bob"}); err != nil {
			t.Fatal(err)
		}
	}
	o.enter(wire.OldSession{Session: events.SessionID{1}, Journal: "j:1", Offset: 10})
	o.begin()
	o.transmit(now, func(*wire.Send) {})
	o.acked(now, &wire.Ack{Through: 2, Offset: 55}, new(rtt))
	o.done(1)
	if o.session.Offset != 10 {
		t.Errorf("offset %d is kept with one result taken, want 10: the other may have to be found again", o.session.Offset)
	}
	o.done(2)
	if o.session.Offset != 55 {
		t.Errorf("offset %d is kept with both taken, want 55", o.session.Offset)
	}
}

// A process that speaks JSON takes over what one that spoke protobuf left. Bodies
// that are no text take more room there.
func TestSendTooLargeForTheCodecOfTheNextProcessIsRefused(t *testing.T) {
	tell(t, Options{}, func(s *story) {
		s.accept(s.login(), 1, wire.Accepted{First: 1, Store: store1})
		body := make([]byte, 60<<10)
		s.c.do(s.t.Context(), func(time.Time) { s.c.loop.d.maxBody = len(body) })
		if _, err := s.c.Send(s.t.Context(), "bob", body); err != nil {
			s.t.Fatal(err)
		}
		s.send("small")
		s.again(Options{Codec: wire.JSON})
		s.welcome(2, 0)
		s.say(&wire.Settled{Session: events.SessionID{1}})
		s.wantResults("no answer would ever come", refusal(wire.ReasonTooLarge).Error())
		s.wantSends("the rest goes out", "small")
	})
}

func TestAnswersThatWaitForTheStoreAreBounded(t *testing.T) {
	store := &stalling{Store: NewMemory()}
	tell(t, Options{Store: store}, func(s *story) {
		s.stick() // the app does not come back from OnResult
		defer close(s.stuck)
		s.welcome(1, 0)
		s.send("1", "2", "3", "4", "5", "6", "7", "8", "9", "open")
		s.say(&wire.Ack{Through: 9})
		s.lose()
		store.fail(errFull)
		s.accept(s.login(), 2, wire.Accepted{First: 1, Store: store1})
		s.say(&wire.Settled{Session: events.SessionID{1}})
		s.live(10*time.Minute, 0)
		if _, most := store.counts(); most > 20 {
			s.t.Errorf("%d changes wait for the Store, want about one for each of 10 sends", most)
		}
	})
}

func TestSessionBeginsWithTheFirstSendThatIsKeptAgain(t *testing.T) {
	store := &stalling{Store: NewMemory()}
	tell(t, Options{Store: store}, func(s *story) {
		s.send("one")
		store.fail(errFull)
		s.welcome(1, 0)
		s.advance(10 * time.Millisecond)
		s.wantSends("its session is not kept")
		store.fail(nil)
		s.send("two")
		s.wantSends("the Store works again", "one", "two")
	})
}
