package bench

import (
	"cmp"
	"fmt"
	"net/netip"
	"time"

	"timberline/sim/proxy"
	"timberline/wire"
	"timberline/wire/sealed"
)

// Config says what load there is. All fields are required unless they say
// otherwise.
type Config struct {
	Server  netip.AddrPort
	Key     sealed.PublicKey                 // of the server; not in plain mode
	Token   func(user, device string) string // a token for a device
	Plain   bool
	Codec   wire.Codec
	Payload Payload
	Faults  proxy.Faults // of the network, in each direction; zero: none
	// Names is what users' names begin with, so that each of several loads on one server
	// has timelines of its own; default: u.
	Names string

	Sessions int // that send
	Sockets  int // that they share
	Window   int // sends of a session without an answer
	// Rate is sends a second in all, sent when they are due, whether the server keeps
	// up or not; their latency counts from then. Zero: each session sends whenever its
	// window has room.
	Rate float64
	// Online says that receivers are logged in: each session writes to its neighbour.
	// Otherwise they never are.
	Online   bool
	Duration time.Duration // of the measured part
	Progress func(string)  // optional: told what is going on
}

// aside is how long is spent on each thing besides the load itself: warming up
// before it, and measuring each of the machine's limits.
func (c *Config) aside() time.Duration { return min(2*time.Second, c.Duration/4) }

func (c *Config) check() error {
	switch {
	case c.Sessions < 1:
		return fmt.Errorf("bench: %d sessions, want at least 1", c.Sessions)
	case c.Online && c.Sessions%2 != 0:
		return fmt.Errorf("bench: %d sessions, want an even number: each writes to its neighbour", c.Sessions)
	case c.Sockets < 1 || c.Sockets > c.Sessions:
		return fmt.Errorf("bench: %d sockets, want 1 to the number of sessions", c.Sockets)
	case c.Window < 1:
		return fmt.Errorf("bench: window %d, want at least 1", c.Window)
	case !(c.Rate >= 0):
		return fmt.Errorf("bench: rate %v, want 0 or more", c.Rate)
	case c.Duration <= 0:
		return fmt.Errorf("bench: duration %v, want more than 0", c.Duration)
	}
	return nil
}

// sender returns the user whose session is number i, and whom it writes to.
func (c *Config) sender(i int) (user, to string) {
	if c.Online {
		return c.user(i), c.user(i ^ 1)
	}
	return c.user(2 * i), c.user(2*i + 1)
}

func (c *Config) user(n int) string { return fmt.Sprintf("%s%05d", cmp.Or(c.Names, "u"), n) }
