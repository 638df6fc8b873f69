package units_test

import (
	"bytes"
	"testing"
	"testing/synctest"
	"time"

	"timberline/cmd/bench"
	"timberline/cmd/units"
)

// run runs a load in virtual time: the machine's own speed is none of it.
func run(t *testing.T, c units.Config) (r *units.Report) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var err error
		if r, err = units.Run(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	})
	return r
}

// At one message a time, each is a record of its own, gives a checkpoint for one shard,
// and an item of each user.
func TestLonelyMessageCostsAWholeUnitEverywhere(t *testing.T) {
	r := run(t, units.Config{Rate: 10, Bodies: [][]byte{[]byte("hello")}, Users: 10, Shards: 1, Duration: time.Second, Slower: 1})
	if r.Messages < 5 || r.Entries != 2*r.Messages {
		t.Fatalf("%d entries of %d messages, want two each, of at least 5", r.Entries, r.Messages)
	}
	if p := r.PerMessage; p.LogWrite != 1 || p.CheckpointWrite != 1 || p.TimelineWrite != 2 || p.EntryWrite != 1 {
		t.Errorf("%+v, want 1 in the log, 1 in checkpoints, 2 in timelines: 1 an entry", p)
	}
}

// What gathers while a write is under way shares its unit.
func TestMessagesThatComeTogetherShareUnits(t *testing.T) {
	c := units.Config{Rate: 1000, Bodies: [][]byte{bytes.Repeat([]byte("x"), 58)}, Users: 1000, Shards: 2, Write: 40 * time.Millisecond, Duration: time.Second, Slower: 1}
	r := run(t, c)
	if r.AppendMs < 40 || r.Log.Items > 26 {
		t.Errorf("%d records, an append took %.1f ms; want at most one each 40 ms", r.Log.Items, r.AppendMs)
	}
	if least := r.LogBytes / 1024; r.PerMessage.LogWrite < least || r.PerMessage.LogWrite > least+float64(r.Log.Items)/float64(r.Messages) {
		t.Errorf("%.4f units in the log for %.0f bytes a message in %d records", r.PerMessage.LogWrite, r.LogBytes, r.Log.Items)
	}
	if r.PerMessage.CheckpointWrite > 0.1 || r.PerMessage.EntryWrite > 1 || r.Log.ReadUnits == 0 {
		t.Errorf("%+v, and the log was read for %v units", r.PerMessage, r.Log.ReadUnits)
	}
}

// What a busy edge is held to: 10,000 messages of real chat a second.
func TestBusyEdgePaysForBytesNotForMessages(t *testing.T) {
	payload, err := bench.ParsePayload("corpus")
	if err != nil {
		t.Fatal(err)
	}
	r := run(t, units.Config{
		Rate: 10_000, Bodies: payload.Bodies, Users: 20_000, Shards: 8,
		Write: 5 * time.Millisecond, Read: 3 * time.Millisecond, Duration: 2 * time.Second, Slower: 1,
	})
	if p := r.PerMessage; p.LogWrite > 0.2 || p.CheckpointWrite > 0.2 || p.EntryWrite > 1 || r.Entries != 2*r.Messages {
		t.Errorf("%+v, want at most 0.2 in the log, 0.2 in checkpoints, 1 an entry", p)
	}
}

// The machine's speed does not matter to a load that is slowed down with all else.
func TestSlowerLoadGathersAsMuch(t *testing.T) {
	c := units.Config{Rate: 2000, Bodies: [][]byte{[]byte("hello")}, Users: 100, Shards: 1, Write: 10 * time.Millisecond, Duration: 2 * time.Second, Slower: 4}
	r := run(t, c)
	if n := r.Messages; n < 990 || n > 1000 {
		t.Errorf("%v messages in 2 s, four times as slow as 2000 a second", n)
	}
	if each := float64(r.Messages) / float64(r.Log.Items); each < 19 || each > 21 || r.AppendMs != 10 {
		t.Errorf("%.1f messages a record, an append took %.1f ms; want the 20 of 10 ms", each, r.AppendMs)
	}
}

func TestConfigThatMeansNothingIsRefused(t *testing.T) {
	good := units.Config{Rate: 10, Bodies: [][]byte{nil}, Users: 2, Shards: 1, Duration: time.Second, Slower: 1}
	for name, spoil := range map[string]func(*units.Config){
		"rate":     func(c *units.Config) { c.Rate = 0 },
		"bodies":   func(c *units.Config) { c.Bodies = nil },
		"users":    func(c *units.Config) { c.Users = 3 },
		"shards":   func(c *units.Config) { c.Shards = 5000 },
		"write":    func(c *units.Config) { c.Write = -1 },
		"duration": func(c *units.Config) { c.Duration = 0 },
		"slower":   func(c *units.Config) { c.Slower = 0.5 },
	} {
		c := good
		spoil(&c)
		if _, err := units.Run(t.Context(), c); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
