package main

import (
	"bytes"
	"context"
	"encoding/gob"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"timberline/client"
	"timberline/edge/auth"
	"timberline/events"
	"timberline/sim/check"
)

// soaked runs a soak, in which every promise must hold.
func soaked(t *testing.T, flags ...string) (got soakReport) {
	t.Helper()
	o := runAlone(t, with("soak", flags, "--users", "3", "--seed", "1", "--json")...).want(t, exitOK, "", "seed 1")
	if err := json.Unmarshal([]byte(o.out), &got); err != nil {
		t.Fatalf("%q: %v", o.out, err)
	}
	if got.Sent < 500 || got.Acked != got.Sent || got.Delivered != got.Sent {
		t.Errorf("of %d messages %d were acknowledged and %d delivered, want 500 at least, and all", got.Sent, got.Acked, got.Delivered)
	}
	if broken := got.Lost + got.Doubled + got.OutOfOrder + got.Gaps + got.Others; broken > 0 {
		t.Errorf("%d promises are broken: %s", broken, o.out)
	}
	return got
}

func TestSoakKeepsEveryPromiseUnderKills(t *testing.T) {
	t.Parallel()
	got := soaked(t, "--minutes", "0.4", "--every", "1s", "--rate", "100")
	if got.Kills < 5 || got.ServerKills < 1 || got.Kills == got.ServerKills {
		t.Errorf("%d kills, %d of the server: want 5 at least, of both", got.Kills, got.ServerKills)
	}
}

// A confession is a soakDevice that hears what the test says, in several lives.
type confession struct {
	t *testing.T
	*soakDevice
}

func newConfession(t *testing.T) *confession {
	r := &soakRun{soak: new(soak), trial: &trial{history: check.NewHistory(), tally: newTally()}}
	return &confession{t, newSoakDevice(r, auth.Identity{User: "alice", Device: "phone"}, "protobuf")}
}

// life tells deeds, and is cut off in the middle of another one.
func (c *confession) life(deeds ...deed) {
	c.t.Helper()
	var record bytes.Buffer
	out := gob.NewEncoder(&record)
	for _, d := range deeds {
		if err := out.Encode(d); err != nil {
			c.t.Fatal(err)
		}
	}
	whole := record.Len()
	out.Encode(deed{What: toldSends, Message: events.MessageID{9}, To: "bob", Body: []byte("never kept")})
	record.Truncate(whole + (record.Len()-whole)/2)
	if err := c.hear(&record); err != nil {
		c.t.Fatal(err)
	}
}

func TestRecordIsTrueWheneverADeviceIsKilled(t *testing.T) {
	m := events.MessageID{1}
	sends := deed{What: toldSends, Message: m, To: "bob", Body: []byte("hi")}
	for _, test := range []struct {
		name              string
		before, after     []deed
		sent, acked       int
		complete, allowed bool
	}{
		{"before it was kept", []deed{sends}, []deed{{What: toldBegins}}, 0, 0, false, true},
		{"after it was kept, before that was told", []deed{sends}, []deed{{What: toldBegins, Outbox: []events.MessageID{m}}, {What: toldAcked, Message: m}}, 1, 1, false, true},
		{"after it was acknowledged, before it was told to be kept", []deed{sends, {What: toldAcked, Message: m}}, []deed{{What: toldBegins}}, 1, 1, false, true},
		{"after the ack was told, before the outbox forgot", []deed{sends, {What: toldKept, Message: m}, {What: toldAcked, Message: m}},
			[]deed{{What: toldBegins, Outbox: []events.MessageID{m}}, {What: toldAcked, Message: m}}, 1, 1, false, true},
		{"an outbox that forgets", []deed{sends, {What: toldKept, Message: m}}, []deed{{What: toldBegins}}, 1, 0, false, false},
		{"a message that is refused", []deed{sends, {What: toldRefused, Message: m}}, nil, 1, 0, false, false},
		{"an ack without a timeline", []deed{sends, {What: toldAcked, Message: m}}, nil, 1, 1, true, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := newConfession(t)
			c.life(append([]deed{{What: toldBegins}}, test.before...)...)
			c.life(test.after...)
			if test.complete {
				c.reader.Complete()
				c.run.history.Reader("bob", "phone").Complete()
			} else { // it stands there, or nobody would have to know of it
				e := events.Event{ID: events.ID{1}, Kind: events.KindMessage, Sender: "alice", Device: "phone", Conversation: events.Direct("alice", "bob"), Message: m, Body: []byte("hi")}
				if test.acked > 0 {
					c.run.history.Reader("bob", "phone").Entry(1, &e)
					c.life(deed{What: toldShown, Seq: 1, Event: e.Encode()}, deed{What: toldShown, Seq: 1, Event: e.Encode()})
				}
			}
			got := newSoakReport(c.run.history.Check(), counts{})
			if got.Sent != test.sent || got.Acked != test.acked {
				t.Errorf("%d sent and %d acked, want %d and %d", got.Sent, got.Acked, test.sent, test.acked)
			}
			if err := got.err(); (err == nil) != test.allowed {
				t.Errorf("the report ends with %v, want that it is allowed: %v", err, test.allowed)
			}
		})
	}
}

func TestSoakFailsWhenAPromiseIsBroken(t *testing.T) {
	c := newConfession(t)
	e := events.Event{ID: events.ID{1}, Kind: events.KindMessage, Sender: "bob", Device: "desk", Conversation: events.Direct("alice", "bob")}
	c.life(deed{What: toldShown, Seq: 2, Event: e.Encode()})
	var out, stderr bytes.Buffer
	r := newSoakReport(c.run.history.Check(), counts{kills: 3, serverKills: 1, roleKills: roleKills{1, 2, 3}, stops: 4, restarts: 5})
	status := status(t.Context(), soakCommand, r.report(newCall(soakCommand, nil, nil, &out, &stderr), true), &stderr)
	if status != exitFailed || !strings.Contains(stderr.String(), "a promise is broken") {
		t.Errorf("status %d\n%s", status, &stderr)
	}
	got := map[string]float64{}
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]float64{
		"seed": 0, "seconds": 0, "kills": 3, "server_kills": 1, "edge_kills": 1, "projector_kills": 2, "relay_kills": 3, "stops": 4, "restarts": 5, "sent": 0, "acked": 0, "delivered": 0,
		"lost": 0, "doubled": 0, "out_of_order": 0, "gaps": 2, "others": 1,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("report (-want +got):\n%s", d)
	}
	out.Reset()
	r.report(newCall(soakCommand, nil, nil, &out, &stderr), false)
	if !strings.Contains(out.String(), "gaps  2") {
		t.Errorf("the table says:\n%s", &out)
	}
}

func TestServerThatComplainsEndsASoak(t *testing.T) {
	server := &childServer{child: child{log: filepath.Join(t.TempDir(), "log")}}
	r := &soakRun{trial: &trial{behind: []*childServer{server}}}
	for text, want := range map[string]bool{"level=WARN msg=late\n": true, "level=INFO\nlevel=ERROR msg=\"log is damaged\"\n": false} {
		if err := os.WriteFile(server.log, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := r.complaints(t.Context()); (err == nil) != want {
			t.Errorf("it said %q: %v", text, err)
		}
	}
}

// A witness is a store that looks into the record.
type witness struct {
	client.Store
	record *bytes.Buffer
	seen   []deed
}

var errNoRoom = errors.New("no space on the device")

func (w *witness) Save([]client.Change) error {
	for from := gob.NewDecoder(bytes.NewReader(w.record.Bytes())); ; {
		var d deed
		if from.Decode(&d) != nil {
			return errNoRoom
		}
		w.seen = append(w.seen, d)
	}
}

func TestMessageIsToldBeforeItIsKept(t *testing.T) {
	var record bytes.Buffer
	w := &witness{record: &record}
	r := &recorder{Store: w, out: gob.NewEncoder(&record)}
	err := r.Save([]client.Change{{Done: 1}, {Send: &client.SavedSend{Message: events.MessageID{1}, To: "bob", Body: []byte("hi")}}})
	if !errors.Is(err, errNoRoom) {
		t.Errorf("error %v, want that of the store", err)
	}
	want := []deed{{What: toldSends, Message: events.MessageID{1}, To: "bob", Body: []byte("hi")}}
	if d := cmp.Diff(want, w.seen); d != "" {
		t.Errorf("the record as it is kept (-want +got):\n%s", d)
	}
	gone, out := io.Pipe()
	gone.Close()
	r.out, w.seen = gob.NewEncoder(out), nil
	if err := r.Save([]client.Change{{Send: &client.SavedSend{To: "bob"}}}); err == nil || w.seen != nil {
		t.Errorf("what nobody hears is kept: %v", err)
	}
}

func TestDeviceOfASoakEndsWithItsInput(t *testing.T) {
	_, flags := newServer(t)
	outbox := filepath.Join(t.TempDir(), "outbox")
	args := with("soak-device", flags, "--as", "alice", "--outbox", outbox)
	var orders bytes.Buffer
	to := gob.NewEncoder(&orders)
	for _, o := range []order{{To: "bob", Body: []byte("hi")}, {}} {
		if err := to.Encode(o); err != nil {
			t.Fatal(err)
		}
	}
	var out, stderr bytes.Buffer
	if status := run(context.WithoutCancel(t.Context()), args, &orders, &out, &stderr); status != exitOK {
		t.Fatalf("status %d\n%s", status, &stderr)
	}
	var kinds []deedKind
	for from := gob.NewDecoder(&out); ; {
		var d deed
		if err := from.Decode(&d); err != nil {
			break
		}
		kinds = append(kinds, d.What)
	}
	if len(kinds) < 4 || kinds[0] != toldBegins || kinds[1] != toldSends || kinds[len(kinds)-1] != toldSettled {
		t.Errorf("it tells %v", kinds)
	}
}
