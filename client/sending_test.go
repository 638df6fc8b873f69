package client

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"timberline/events"
	"timberline/wire"
)

func TestSendsGoOutOnceTheSessionIsThere(t *testing.T) {
	tell(t, Options{}, func(s *story) {
		s.send("one", "two")
		if n := len(took[wire.Send](s)); n != 0 {
			t.Errorf("%d sends before the login was accepted", n)
		}
		s.advance(400 * time.Millisecond) // LOGIN is repeated
		s.welcome(1, 0)
		s.wantSends("logged in: both go out, in order", "one", "two")
		s.send("three")
		f := one[wire.Send](s)
		if f.Number != 3 || f.Low != 1 || f.To != "bob" {
			t.Errorf("send %+v, want number 3, low 1, to bob", f)
		}
		s.wantResults("no ack yet")
		s.say(&wire.Ack{Through: 2})
		s.wantResults("acked through 2", "stored", "stored")
		s.say(&wire.Ack{Through: 2}, &wire.Ack{Through: 3}, &wire.Ack{Through: 1})
		s.wantResults("acked through 3, whatever else comes", "stored", "stored", "stored")
	})
}

// It survives a crash as a message does.
func TestWhatWasReadIsSentAsMessagesAre(t *testing.T) {
	tell(t, Options{}, func(s *story) {
		s.welcome(1, 0)
		if _, err := s.c.MarkRead(s.t.Context(), "bob", events.ID{7}); err != nil {
			t.Fatal(err)
		}
		want := func(why string) {
			t.Helper()
			f := one[wire.Send](s)
			want := wire.Send{Number: 1, Low: 1, Message: f.Message, With: "bob", Read: events.ID{7}}
			if f.Message == (events.MessageID{}) || !reflect.DeepEqual(*f, want) {
				t.Errorf("%s: send %+v, want %+v with an id", why, f, want)
			}
		}
		want("said")
		s.again(Options{})
		s.welcome(2, 0)
		s.say(&wire.Settled{Session: events.SessionID{1}})
		want("started anew, and the first copy never arrived")
		s.say(&wire.Ack{Through: 1})
		s.wantResults("acked", "stored")
		for what, err := range map[string]error{
			"no user":  second(s.c.MarkRead(s.t.Context(), "", events.ID{7})),
			"no event": second(s.c.MarkRead(s.t.Context(), "bob", events.ID{})),
		} {
			if !errors.Is(err, events.ErrInvalid) {
				t.Errorf("%s: %v, want events.ErrInvalid", what, err)
			}
		}
		s.wantSends("none of that")
	})
}

func second[T any](_ T, err error) error { return err }

func TestSendsAreRepeatedUntilAcked(t *testing.T) {
	tell(t, Options{}, func(s *story) {
		s.advance(100 * time.Millisecond)
		s.welcome(1, 0)
		s.send("one", "two")
		s.wantSends("first copy", "one", "two")
		s.advance(50 * time.Millisecond)
		s.wantSends("it is not late yet")
		s.advance(5 * time.Second)
		if n := len(took[wire.Send](s)); n < 4 || n > 20 {
			t.Errorf("%d repeats within 5 s, want some, with pauses that grow", n)
		}
		s.say(&wire.Ack{Through: 2})
		s.advance(30 * time.Second)
		s.wantSends("acked: nothing left in flight")
		s.wantResults("acked", "stored", "stored")
	})
}

func TestSendsThatTheServerHoldsAreNotRepeated(t *testing.T) {
	tell(t, Options{}, func(s *story) {
		s.advance(100 * time.Millisecond)
		s.welcome(1, 0)
		s.send("one", "two", "three", "four", "five")
		s.wantSends("first copy", "one", "two", "three", "four", "five")
		s.say(&wire.Ack{Through: 0, Held: bits(1, 2)})
		s.wantSends("two were overtaken by two: wait")
		s.say(&wire.Ack{Through: 0, Held: bits(1, 2, 3)})
		s.wantSends("overtaken by three: one is lost", "one")
		s.advance(time.Second)
		for _, f := range took[wire.Send](s) {
			if text := string(f.Body); text != "one" && text != "five" {
				t.Errorf("%s was repeated, but the server holds it", text)
			}
		}
		s.say(&wire.Ack{Through: 5})
		s.wantResults("all acked", "stored", "stored", "stored", "stored", "stored")
	})
}

func TestServerThatForgotWhatItHeldIsAsked(t *testing.T) {
	tell(t, Options{}, func(s *story) {
		s.welcome(1, 0)
		s.send("one")
		s.wantSends("first copy", "one")
		for range 3 {
			s.say(&wire.Ack{Through: 0, Held: bits(0)})
			s.advance(minProbe - 100*time.Millisecond)
			s.wantSends("the server holds it: trust it for a while")
			s.advance(150 * time.Millisecond)
			s.wantSends("it may have been dropped: ask", "one")
		}
		s.advance(time.Second)
		if len(took[wire.Send](s)) == 0 {
			t.Error("the probe was not answered, and nothing more was asked")
		}
		s.say(&wire.Ack{Through: 1})
		s.wantResults("acked", "stored")
	})
}

// It was full when it had all of them, and dropped them; its Busy was lost, or an older Ack
// came behind it. Whatever it still has of them, it answers only when it has them all.
func TestServerThatForgotFragmentsThatItHeldIsAskedAboutAll(t *testing.T) {
	tell(t, Options{}, func(s *story) {
		s.welcome(1, 0)
		s.send(strings.Repeat("x", 3000), "after")
		if n := len(took[wire.Send](s)); n != 4 {
			t.Fatalf("%d fragments came, want 4", n)
		}
		for range 2 {
			s.say(&wire.Ack{Through: 0, Held: bits(0, 1, 2, 3)})
			s.advance(minProbe + 50*time.Millisecond)
			var asked []events.Number
			for _, f := range took[wire.Send](s) {
				asked = append(asked, f.Number)
			}
			if want := []events.Number{1, 2, 3}; !slices.Equal(asked, want) {
				t.Errorf("asked about %v, want about all that the first send needs: %v", asked, want)
			}
		}
		s.say(&wire.Ack{Through: 4})
		s.wantResults("acked", "stored", "stored")
	})
}

func TestBusyHoldsBackWhatFollows(t *testing.T) {
	tell(t, Options{}, func(s *story) {
		s.welcome(1, 0)
		s.send("one", "two", "three")
		s.wantSends("first copy", "one", "two", "three")
		s.say(&wire.Ack{Through: 1}, &wire.Busy{From: 2, RetryAfter: 1000})
		s.send("four")
		s.advance(990 * time.Millisecond)
		s.wantSends("busy from two on")
		s.advance(600 * time.Millisecond)
		fs := took[wire.Send](s)
		if len(fs) < 3 || string(fs[0].Body) != "two" || string(fs[1].Body) != "three" || string(fs[2].Body) != "four" {
			t.Errorf("the pause is over: %d sends came, want two, three and four again, in order", len(fs))
		}
	})
}

func TestRefusedSendsSayWhy(t *testing.T) {
	tell(t, Options{}, func(s *story) {
		s.welcome(1, 0)
		s.send("one", "two", "three")
		s.say(&wire.Ack{Through: 3, Refused: []wire.Refusal{{From: 2, To: 2, Reason: wire.ReasonTooLarge}}})
		s.wantResults("two is refused", "stored", "send was refused: too large", "stored")
		if err := s.results[1].Err; !errors.Is(err, ErrRefused) || !errors.Is(err, events.ErrTooLarge) {
			t.Errorf("result %v, want ErrRefused and events.ErrTooLarge", err)
		}
		s.wantLow(4, 4)
	})
}

// wantLow checks the number and the low of the next send.
func (s *story) wantLow(number, low events.Number) {
	s.t.Helper()
	took[wire.Send](s)
	s.send("next")
	if f := one[wire.Send](s); f.Number != number || f.Low != low {
		s.t.Errorf("send %d with low %d, want %d with low %d", f.Number, f.Low, number, low)
	}
}

func TestLargeSendsTakeANumberForEachFragment(t *testing.T) {
	tell(t, Options{}, func(s *story) {
		s.welcome(1, 0)
		s.send(strings.Repeat("x", 3000), "after")
		fs := took[wire.Send](s)
		if len(fs) != 4 || fs[2].Number != 3 || fs[2].Fragment != 2 || fs[3].Number != 4 {
			t.Fatalf("%d fragments came, want 3 of the first and 1 of the second", len(fs))
		}
		s.say(&wire.Ack{Through: 4, Refused: []wire.Refusal{{From: 1, To: 3, Reason: wire.ReasonNotAllowed}}})
		s.wantResults("the refusal takes all fragments", "send was refused: not_allowed", "stored")
	})
}

func TestSendWaitsForRoomInTheOutbox(t *testing.T) {
	tell(t, Options{OutboxLimit: 2}, func(s *story) {
		s.welcome(1, 0)
		s.send("one", "two")
		third := make(chan error, 1)
		go func() {
			_, err := s.c.Send(s.t.Context(), "bob", []byte("three"))
			third <- err
		}()
		s.advance(time.Second)
		select {
		case err := <-third:
			t.Fatalf("the third send did not wait: %v", err)
		default:
		}
		s.say(&wire.Ack{Through: 1})
		if err := <-third; err != nil {
			t.Errorf("there is room now: %v", err)
		}
		ctx, cancel := in(time.Second)
		defer cancel()
		if _, err := s.c.Send(ctx, "bob", []byte("four")); !errors.Is(err, ctx.Err()) {
			t.Errorf("send into a full outbox: %v, want the context's error", err)
		}
	})
}

func TestMessagesThatCannotBeSentAreErrors(t *testing.T) {
	tell(t, Options{}, func(s *story) {
		s.welcome(1, 0)
		if _, err := s.c.Send(s.t.Context(), "not a name", nil); !errors.Is(err, events.ErrInvalid) {
			t.Errorf("a bad recipient: %v, want events.ErrInvalid", err)
		}
		if _, err := s.c.Send(s.t.Context(), "bob", make([]byte, 20<<10)); !errors.Is(err, events.ErrTooLarge) {
			t.Errorf("a body beyond what the server takes: %v, want events.ErrTooLarge", err)
		}
		s.wantSends("nothing of it goes out")
	})
}
