package units

import (
	"fmt"
	"time"

	"timberline/events"
)

// Config says what is measured.
type Config struct {
	Rate   float64  // messages a second
	Bodies [][]byte // of the messages, one after the other, again and again
	Users  int      // who write to their neighbours, i xor 1, drawn at random: an even number
	Shards uint32   // all of one projector

	Write time.Duration // that a put, or a batch of them, takes
	Read  time.Duration // that a page of a query takes

	Duration time.Duration // of the load
	// Slower makes all take so many times as long: a machine that cannot keep up with
	// the load itself finds the same units. Duration stays.
	Slower float64
}

func (c *Config) check() error {
	switch {
	case !(c.Rate > 0):
		return fmt.Errorf("rate is %v, want more than 0", c.Rate)
	case len(c.Bodies) == 0:
		return fmt.Errorf("there are no bodies")
	case c.Users < 2 || c.Users%2 != 0:
		return fmt.Errorf("users are %d, want an even number", c.Users)
	case c.Shards < 1 || c.Shards > events.Slots:
		return fmt.Errorf("shards are %d, want 1 to %d", c.Shards, events.Slots)
	case c.Write < 0 || c.Read < 0 || c.Duration <= 0:
		return fmt.Errorf("a time is negative, or the duration 0")
	case !(c.Slower >= 1):
		return fmt.Errorf("slower is %v, want 1 or more", c.Slower)
	}
	return nil
}

// A Report says what a load has cost.
type Report struct {
	Rate     float64 `json:"rate"` // messages a second
	Messages int     `json:"messages"`
	Users    int     `json:"users"`
	Shards   uint32  `json:"shards"`
	WriteMs  float64 `json:"write_ms"`
	ReadMs   float64 `json:"read_ms"`
	Slower   float64 `json:"slower"`

	Log         Use `json:"log"`
	Checkpoints Use `json:"checkpoints"`
	Timelines   Use `json:"timelines"`

	Entries  int     `json:"entries"`
	AppendMs float64 `json:"append_ms"` // what an append took in fact, mean; far above WriteMs: see Config.Slower
	// LogBytes is what a message takes in a record, mean.
	LogBytes float64 `json:"log_bytes_per_message"`

	// Per message, but for the last, which is per entry: what a store is held to.
	PerMessage struct {
		LogWrite        float64 `json:"log_write_units"`
		CheckpointWrite float64 `json:"checkpoint_write_units"`
		TimelineWrite   float64 `json:"timeline_write_units"`
		LogRead         float64 `json:"log_read_units"`
		EntryWrite      float64 `json:"entry_write_units"`
	} `json:"per_message"`
}

// A Use is what was done with a table.
type Use struct {
	Items      int     `json:"items"` // written
	Bytes      int     `json:"bytes"` // of those, names and keys included
	WriteUnits int     `json:"write_units"`
	Queries    int     `json:"queries"`
	ReadUnits  float64 `json:"read_units"`
}

func (u *Use) wrote(items, bytes, units int) {
	u.Items, u.Bytes, u.WriteUnits = u.Items+items, u.Bytes+bytes, u.WriteUnits+units
}
