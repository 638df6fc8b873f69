package rabbit

import (
	"encoding/hex"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"timberline/bus"
	"timberline/events"
	"timberline/events/fields"
)

var somePushes = []bus.Push{
	{Store: store, User: "ann", First: 3, Events: [][]byte{[]byte("three"), {}}, Newest: events.ID{9}},
	{Store: store, User: "ann", First: 5, Events: [][]byte{[]byte("five")}, Newest: events.ID{10}},
}

func TestPushesAreReadAsTheyWereWritten(t *testing.T) {
	ms := pushMessages(pushesExchange, somePushes)
	if len(ms) != 1 || ms[0].pushes != 2 || ms[0].key != "1177" {
		t.Fatalf("%d messages, the first %+v, want one for slot 1177", len(ms), ms[0])
	}
	got, err := DecodePushes(ms[0].body)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(somePushes, got); diff != "" {
		t.Error(diff)
	}
}

func TestPushesOfASlotShareMessagesInTheirOrder(t *testing.T) {
	var ps []bus.Push
	sizes := map[events.User]int{"ann": 30 << 10, "ben": 100, "carol": 200 << 10}
	for seq := range events.Seq(5) {
		for _, u := range []events.User{"ann", "ben", "carol"} {
			p := onePush(u, seq+1)
			p.Events[0] = make([]byte, sizes[u])
			ps = append(ps, p)
		}
	}
	ps[len(ps)-1].Store = events.StoreID{2}
	messages := make(map[string]int)
	next := make(map[events.User]events.Seq)
	for _, m := range pushMessages(pushesExchange, ps) {
		got, err := DecodePushes(m.body)
		if err != nil {
			t.Fatal(err)
		}
		if len(m.body) > maxBody+1<<10 && len(got) > 1 {
			t.Errorf("%d pushes in %d bytes, want at most about %d", len(got), len(m.body), maxBody)
		}
		for _, p := range got {
			if slotKey(p.User.Slot()) != m.key {
				t.Errorf("a push to %s, of slot %d, has the key %s", p.User, p.User.Slot(), m.key)
			}
			if next[p.User]++; p.First != next[p.User] {
				t.Errorf("push %d to %s comes as the %dth", p.First, p.User, next[p.User])
			}
		}
		messages[fmt.Sprint(got[0].User, got[0].Store[0])]++
	}
	if diff := cmp.Diff(map[string]int{"ann1": 3, "ben1": 1, "carol1": 4, "carol2": 1}, messages); diff != "" {
		t.Errorf("messages: %s", diff)
	}
}

// Processes of two versions talk to each other while one takes the other's place.
func TestFormatsNeverChange(t *testing.T) {
	for _, test := range []struct {
		name string
		body []byte
		want string
	}{
		{"pushes", pushMessages(pushesExchange, somePushes)[0].body, "01532e3b190a100100000000000000000000000000000012220a03616e6e10031a1009000000000000000000000000000000220574687265652200121f0a03616e6e10051a100a000000000000000000000000000000220466697665"},
		{"hint", hintMessage(bus.Hint{Store: store, Journal: "j:7", Offset: 300}).body, "012a11e6b60a100100000000000000000000000000000012036a3a3718ac02"},
		{"distrust", distrustMessage(store).body, "01f2b8b7420a1001000000000000000000000000000000"},
	} {
		if got := hex.EncodeToString(test.body); got != test.want {
			t.Errorf("%s is written as\n%s, was\n%s", test.name, got, test.want)
		}
	}
}

func TestPushesThatWouldMisleadAreMalformed(t *testing.T) {
	for name, p := range map[string]bus.Push{
		"user":      {User: "a b", First: 1, Events: [][]byte{{1}}},
		"no events": {User: "ann", First: 1},
		"first":     {User: "ann", Events: [][]byte{{1}}},
		"overflow":  {User: "ann", First: 1<<64 - 1, Events: [][]byte{{1}, {2}}},
	} {
		if _, err := DecodePushes(seal(kindPushes, &pushesBody{store, []push{push(p)}})); err == nil {
			t.Errorf("%s: %+v is taken in", name, p)
		}
	}
}

func FuzzMessages(f *testing.F) {
	f.Add(string(kindPushes), pushMessages(pushesExchange, somePushes)[0].body[5:])
	f.Add(string(kindHint), hintMessage(bus.Hint{Store: store, Journal: "j:7", Offset: 300}).body[5:])
	f.Add(string(kindDistrust), distrustMessage(store).body[5:])
	f.Add("typing", []byte("x"))
	b, err := New(Config{URL: "amqp://localhost", Store: store})
	if err != nil {
		f.Fatal(err)
	}
	b.OnPushes(func(ps []bus.Push) {
		for _, p := range ps {
			if p.Head() < p.First || p.User.Validate() != nil || p.Store != store {
				panic(fmt.Sprintf("%+v was taken in", p))
			}
			for _, raw := range p.Events {
				events.Raw(raw).SessionID() // as an edge does
				events.Raw(raw).WithoutBody()
			}
		}
	}, func() {})
	f.Fuzz(func(t *testing.T, k string, message []byte) {
		b.take(kind(k), message)
		b.take(kind(k), seal(kind(k), bytesMessage(message)))
		_, ps, err := decodePushes(seal(kindPushes, bytesMessage(message)))
		if err != nil || len(ps) == 0 {
			return
		}
		ms := pushMessages(pushesExchange, ps)
		again := 0
		for _, m := range ms {
			got, err := DecodePushes(m.body)
			if err != nil {
				t.Fatalf("what was read is written as what cannot be read: %v", err)
			}
			again += len(got)
		}
		if again != len(ps) {
			t.Fatalf("%d of %d pushes are written again", again, len(ps))
		}
	})
}

// A bytesMessage is a message that is written already.
type bytesMessage []byte

// Fields writes the bytes as they are.
func (b bytesMessage) Fields(v fields.Visitor) { v.Unknown(b) }
