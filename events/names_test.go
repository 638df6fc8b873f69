package events

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestSlotsNeverChange(t *testing.T) {
	for u, want := range map[User]Slot{
		"a": 3241, "alice": 701, "bob": 2075, "Bob": 3289, "u0000": 4079, "u0001": 3827, "a.b-c_D": 667,
		User(strings.Repeat("x", 64)): 1998,
	} {
		if got := u.Slot(); got != want {
			t.Errorf("user %s is in slot %d, and was in %d", u, got, want)
		}
	}
}

func TestUsersSpreadOverAllSlots(t *testing.T) {
	used := make(map[Slot]int)
	for i := range 20 * Slots {
		used[User(fmt.Sprintf("user%d", i)).Slot()]++
	}
	for s, n := range used {
		if s >= Slots || n > 60 {
			t.Errorf("%d users in slot %d, want about 20 in slots below %d", n, s, Slots)
		}
	}
	if len(used) != Slots {
		t.Errorf("%d of %d slots are used", len(used), Slots)
	}
}

func TestNamesHaveOneForm(t *testing.T) {
	const allowed = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-"
	for c := range 256 {
		name := "a" + string([]byte{byte(c)})
		want := strings.IndexByte(allowed, byte(c)) >= 0
		for _, err := range []error{User(name).Validate(), Device(name).Validate()} {
			if (err == nil) != want || err != nil && !errors.Is(err, ErrInvalid) {
				t.Errorf("%q: error %v", name, err)
			}
		}
	}
	for length, want := range map[int]bool{0: false, 1: true, 64: true, 65: false} {
		if err := User(strings.Repeat("x", length)).Validate(); (err == nil) != want {
			t.Errorf("a name of %d bytes: error %v", length, err)
		}
	}
}

func TestDirectConversationsNameTheirUsersInOrder(t *testing.T) {
	for _, test := range []struct {
		a, b User
		want Conversation
	}{
		{"alice", "bob", "d:alice,bob"},
		{"bob", "alice", "d:alice,bob"},
		{"alice", "alice", "d:alice,alice"},
		{"a", "a.b", "d:a,a.b"},
		{"b", "Z", "d:Z,b"}, // as bytes
	} {
		c := Direct(test.a, test.b)
		if c != test.want {
			t.Errorf("Direct(%s, %s) = %s, want %s", test.a, test.b, c, test.want)
		}
		if peer, ok := c.Peer(test.a); !ok || peer != test.b {
			t.Errorf("in %s the peer of %s is %q, %v", c, test.a, peer, ok)
		}
		if peer, ok := c.Peer(test.b); !ok || peer != test.a {
			t.Errorf("in %s the peer of %s is %q, %v", c, test.b, peer, ok)
		}
		if peer, ok := c.Peer("mallory"); ok {
			t.Errorf("in %s mallory has the peer %q", c, peer)
		}
	}
}

func TestOtherConversationsHaveNoUsers(t *testing.T) {
	for _, c := range []Conversation{
		"", "d:", "d:,", "d:alice", "d:alice,", "d:,alice", "d:bob,alice", "d:a,b,c", "D:a,b", "d:a,b ", "d:a, b", "d:a;b",
		"d:a\x00,b", "g:a,b", "g:01J0000000000000000000000A", Conversation("d:a," + strings.Repeat("b", 65)),
	} {
		if a, b, ok := c.Users(); ok {
			t.Errorf("%q is of %q and %q", c, a, b)
		}
		if peer, ok := c.Peer("alice"); ok {
			t.Errorf("in %q alice has the peer %q", c, peer)
		}
	}
}

func TestJournalsAreNamedInOneWay(t *testing.T) {
	for n, want := range map[uint64]Journal{1: "j:1", 10: "j:10", 1<<64 - 1: "j:18446744073709551615"} {
		j := JournalNumbered(n)
		if j != want || (Row{Number: n}).Journal() != want {
			t.Errorf("journal %d is named %s, want %s", n, j, want)
		}
		if got, ok := j.Number(); !ok || got != n {
			t.Errorf("%s has number %d, %v", j, got, ok)
		}
	}
	for _, j := range []Journal{"", "j:", "j:0", "j:01", "j:+1", "j:-1", "j: 1", "j:1 ", "j:0x1", "J:1", "g:1", "1", "j:18446744073709551616"} {
		if n, ok := j.Number(); ok {
			t.Errorf("%q has number %d", j, n)
		}
	}
}

func TestSessionIDsCarryTheirEdge(t *testing.T) {
	random := bytes.NewReader([]byte("abcdefghijklmnopqrst"))
	s, err := NewSessionID(EdgeTag{'e', 'd', 'g', 'e'}, random)
	if err != nil || string(s[:]) != "edgeabcdefghijkl" || s.Edge() != (EdgeTag{'e', 'd', 'g', 'e'}) {
		t.Errorf("session %q, error %v", s[:], err)
	}
	if s, err := NewSessionID(EdgeTag{1}, random); err == nil || s != (SessionID{}) {
		t.Errorf("session %q is made of 8 random bytes, error %v", s[:], err)
	}
	if one, two := NewMessageID(), NewMessageID(); one == two {
		t.Error("two messages have one id")
	}
}

// rows keeps journal rows in memory, as an engine does. Before each creation it
// asks hook, which may create one of its own.
type rows struct {
	all  []Row
	hook func(r Row) error
}

func (rs *rows) CreateJournal(_ context.Context, r Row) (Row, error) {
	if err := rs.hook(r); err != nil {
		return Row{}, err
	}
	if r.Number <= uint64(len(rs.all)) {
		return rs.all[r.Number-1], ErrConflict
	}
	rs.all = append(rs.all, r)
	return Row{}, nil
}

func (rs *rows) UpdateJournal(context.Context, Row) error { return nil }

func (rs *rows) ListJournals(_ context.Context, after uint64, c Consistency) ([]Row, error) {
	if c != Strong {
		return nil, errors.New("a row that a crash takes back would be counted")
	}
	return rs.all[after:], nil
}

func TestAJournalIsOpenedBehindAllOthers(t *testing.T) {
	edge, mine, other := EdgeTag{1}, [16]byte{1}, [16]byte{2}
	down := errors.New("down")
	for _, test := range []struct {
		name string
		hook func(rs *rows, r Row) error
		want uint64
		err  error
	}{
		{"nobody else", func(*rows, Row) error { return nil }, 3, nil},
		{"others are faster, twice", func(rs *rows, r Row) error {
			if len(rs.all) < 4 {
				rs.all = append(rs.all, Row{Number: r.Number, Writer: other})
			}
			return nil
		}, 5, nil},
		{"it has landed before, its answer was lost", func(rs *rows, r Row) error {
			rs.all = append(rs.all, r)
			return nil
		}, 3, nil},
		{"the store is down", func(*rows, Row) error { return down }, 0, down},
	} {
		rs := &rows{all: []Row{{Number: 1}, {Number: 2}}}
		rs.hook = func(r Row) error { return test.hook(rs, r) }
		got, err := OpenJournal(t.Context(), rs, edge, mine)
		if !errors.Is(err, test.err) || got.Number != test.want {
			t.Errorf("%s: journal %d, error %v, want %d, %v", test.name, got.Number, err, test.want, test.err)
			continue
		}
		if err == nil && (got != Row{Number: test.want, Writer: mine, Edge: edge} || rs.all[test.want-1] != got) {
			t.Errorf("%s: opened %+v, the store has %+v", test.name, got, rs.all)
		}
	}
}
