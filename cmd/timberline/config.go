package main

import (
	"flag"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"

	"timberline/events"
)

// The defaults that server and clients share.
const (
	defaultData   = "timberline-data"
	defaultServer = "127.0.0.1:4747"
)

// A config is what a server can be told.
type config struct {
	data          string
	listen        string // addresses, separated by commas
	listenPlain   string // likewise, in plain mode
	advertise     string
	plainAnywhere bool
	heartbeat     time.Duration
	maxBody       int
	maxSessions   int
	shards        uint
}

// define adds the fields to a set of flags, with their defaults.
func (c *config) define(fs *flag.FlagSet) {
	fs.StringVar(&c.data, "data", defaultData, "`folder` of all data and keys; made if there is none")
	fs.StringVar(&c.listen, "listen", defaultServer, "UDP `addresses` to listen on, separated by commas: 127.0.0.1:4747,[::1]:4747")
	fs.StringVar(&c.listenPlain, "listen-plain", "", "UDP `addresses` to listen on in plain mode, where nothing is encrypted: for reading packets by eye")
	fs.StringVar(&c.advertise, "advertise", "", "`address` (host:port) that clients are told to use, where a NAT hides the one listened on")
	fs.BoolVar(&c.plainAnywhere, "plain-anywhere", false, "let --listen-plain have other addresses than the loopback: whoever is on the way can read and forge everything")
	fs.DurationVar(&c.heartbeat, "heartbeat", 15*time.Second, "how often clients ping: 1s to 1h")
	fs.IntVar(&c.maxBody, "max-body", events.DefaultMaxBody, fmt.Sprintf("largest body of a message, in `bytes`: at most %d", events.HardMaxBody))
	fs.IntVar(&c.maxSessions, "max-sessions", 100_000, "most sessions at a time; further logins are told that the server is busy")
	fs.UintVar(&c.shards, "shards", 1, fmt.Sprintf("shards of a store that is created, 1 to %d; it keeps them for ever", events.Slots))
}

// serverFlags returns the fields with their defaults.
func serverFlags() *flag.FlagSet {
	fs := flag.NewFlagSet("", flag.ContinueOnError)
	new(config).define(fs)
	return fs
}

// check finds what is wrong. The error names the field.
func (c *config) check() error {
	if c.data == "" {
		return wrong("data", "is empty, want a folder")
	}
	if c.listen == "" && c.listenPlain == "" {
		return wrong("listen", "is empty, want an address, such as %s", defaultServer)
	}
	for name, list := range map[string]string{"listen": c.listen, "listen-plain": c.listenPlain} {
		for _, a := range addresses(list) {
			if err := checkAddress(a); err != nil {
				return wrong(name, "is %q: %v", list, err)
			}
		}
	}
	if c.advertise != "" {
		if err := checkAddress(c.advertise); err != nil {
			return wrong("advertise", "is %q: %v", c.advertise, err)
		}
	}
	switch {
	case c.heartbeat < time.Second || c.heartbeat > time.Hour:
		return wrong("heartbeat", "is %v, want 1s to 1h", c.heartbeat)
	case c.maxBody < 1 || c.maxBody > events.HardMaxBody:
		return wrong("max-body", "is %d, want 1 to %d bytes", c.maxBody, events.HardMaxBody)
	case c.maxSessions < 1:
		return wrong("max-sessions", "is %d, want at least 1", c.maxSessions)
	case c.shards < 1 || c.shards > events.Slots:
		return wrong("shards", "is %d, want 1 to %d", c.shards, events.Slots)
	}
	return nil
}

// addresses returns those of a list, none if it is empty.
func addresses(list string) (all []string) {
	if list == "" {
		return nil
	}
	for a := range strings.SplitSeq(list, ",") {
		all = append(all, strings.TrimSpace(a))
	}
	return all
}

func checkAddress(a string) error {
	_, port, err := net.SplitHostPort(a)
	if err != nil {
		return fmt.Errorf("%w; want host:port, such as 127.0.0.1:4747 or [::1]:4747", err)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("port %q is not a number from 0 to 65535", port)
	}
	return nil
}

// printConfig prints a configuration in the form that --config reads.
func printConfig(w io.Writer, fs *flag.FlagSet) {
	serverFlags().VisitAll(func(f *flag.Flag) {
		_, usage := flag.UnquoteUsage(f)
		fmt.Fprintf(w, "# %s\n", usage)
		if value := fs.Lookup(f.Name).Value.String(); value != "" {
			fmt.Fprintf(w, "%s %s\n", f.Name, value)
		} else {
			fmt.Fprintf(w, "# %s\n", f.Name)
		}
	})
}
