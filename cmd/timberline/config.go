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
	"timberline/projections"
)

// The defaults that server and clients share.
const (
	defaultData   = "timberline-data"
	defaultServer = "127.0.0.1:4747"

	defaultMonitor = "127.0.0.1:0"
)

// A config is what a server can be told.
type config struct {
	roles // what it is: fixed by the command
	storage
	data          string
	keys          string // empty: data
	listen        string // addresses, separated by commas
	listenPlain   string // likewise, in plain mode
	advertise     string
	handover      string
	plainAnywhere bool
	monitor       string // address of HTTP; empty: none
	sockets       int    // for each address of listen; 0: one for each core
	limits
	trust
	retention
}

// A retention is what of the store stays, for a process that projects; nothing is trimmed
// if both are 0.
type retention struct {
	keep      uint64
	olderThan time.Duration
	every     time.Duration
}

// trimEvery is how often, unless otherwise said.
const trimEvery = 24 * time.Hour

func (r *retention) define(fs *flag.FlagSet) {
	fs.Uint64Var(&r.keep, "trim-keep", 0, "trim the store now and then: `entries` of each timeline that stay at least; 0: the number does not matter. See timberline trim")
	fs.DurationVar(&r.olderThan, "trim-older-than", 0, "trim the store now and then: only entries that are older than this `duration`, 2160h is 90 days; 0: the age does not matter")
	fs.DurationVar(&r.every, "trim-every", trimEvery, "how often the store is trimmed, if it is: 1s or more. It reads all timelines")
}

func (r *retention) check() error {
	switch {
	case r.every != trimEvery && r.keep == 0 && r.olderThan == 0:
		return wrong("trim-every", "is of no use alone: say what stays, with --trim-keep or --trim-older-than")
	case r.olderThan < 0:
		return wrong("trim-older-than", "is %v, want a time, such as 2160h", r.olderThan)
	case r.every < time.Second:
		return wrong("trim-every", "is %v, want 1s or more", r.every)
	}
	return nil
}

// of returns the configuration of what trims a store, nil if nothing does.
func (r *retention) of(s wholeStore) *projections.RetentionConfig {
	if r.keep == 0 && r.olderThan == 0 {
		return nil
	}
	return &projections.RetentionConfig{Store: s, Keep: r.keep, OlderThan: r.olderThan, Every: r.every}
}

// limits are how much a server takes from whom.
type limits struct {
	heartbeat    time.Duration
	maxHeartbeat time.Duration // 0: two minutes, or heartbeat if that is more
	maxBody      int
	maxSessions  int
	userSessions int
	halfOpen     int
	sessionRate  int
	sourceRate   int
}

// trust is whose tokens a server takes, besides its own; empty: nobody's.
type trust struct {
	hs256, rs256, jwks string
	revocations        string // the list of those it takes no more; empty: that of the data folder
}

// define adds the fields that matter to the roles to a set of flags, with their
// defaults.
func (c *config) define(fs *flag.FlagSet) {
	c.storage.define(fs, c.roles != allRoles)
	fs.StringVar(&c.monitor, "monitor", defaultMonitor, "`address` (host:port) of metrics and health by HTTP, and of profiles where it is on the loopback; port 0: any that is free; empty: none")
	if c.edge {
		c.defineEdge(fs)
	}
	if c.projector {
		c.retention.define(fs)
	}
}

func (c *config) defineEdge(fs *flag.FlagSet) {
	fs.StringVar(&c.data, "data", defaultData, "`folder` of all data and keys; made if there is none")
	fs.StringVar(&c.keys, "keys", "", "`folder` of server.key and token.key, which edges that clients take for one have in common (default: that of --data)")
	fs.StringVar(&c.listen, "listen", defaultServer, "UDP `addresses` to listen on, separated by commas: 127.0.0.1:4747,[::1]:4747")
	fs.StringVar(&c.listenPlain, "listen-plain", "", "UDP `addresses` to listen on in plain mode, where nothing is encrypted: for reading packets by eye")
	fs.StringVar(&c.advertise, "advertise", "", "`address` (host:port) that clients are told to use, where a NAT hides the one listened on")
	fs.StringVar(&c.handover, "handover", "", "`address` (host:port) that clients are told to go to when this edge stops, such as that of all edges; empty: where they would go anyway")
	fs.BoolVar(&c.plainAnywhere, "plain-anywhere", false, "let --listen-plain have other addresses than the loopback: whoever is on the way can read and forge everything")
	fs.IntVar(&c.sockets, "sockets", 0, "`number` of sockets for each address of --listen, on Linux; 0: one for each core")
	c.limits.define(fs)
	c.trust.define(fs)
}

func (l *limits) define(fs *flag.FlagSet) {
	fs.DurationVar(&l.heartbeat, "heartbeat", 15*time.Second, "how often clients ping: 1s to 1h")
	fs.DurationVar(&l.maxHeartbeat, "max-heartbeat", 0, "how rarely clients may ping if they say so: --heartbeat to 1h; 0 means 2m, or --heartbeat if that is more")
	fs.IntVar(&l.maxBody, "max-body", events.DefaultMaxBody, fmt.Sprintf("largest body of a message, in `bytes`: at most %d", events.HardMaxBody))
	fs.IntVar(&l.maxSessions, "max-sessions", 100_000, "most sessions at a time; further logins are told that the server is busy")
	fs.IntVar(&l.userSessions, "user-sessions", 32, "most sessions of one user at a time; further devices are told that there are too many")
	fs.IntVar(&l.halfOpen, "half-open", 4096, "most connections that nobody has logged in on; a new one takes the place of the oldest")
	fs.IntVar(&l.sessionRate, "session-rate", 1000, "most `packets` a second of one session; it is told to slow down")
	fs.IntVar(&l.sourceRate, "source-rate", 200, "most `packets` a second of one source that has not logged in; others are dropped")
}

func (t *trust) define(fs *flag.FlagSet) {
	fs.StringVar(&t.hs256, "token-hs256", "", "`file` with a secret of at least 32 bytes: tokens signed with it (HS256) are taken, too")
	fs.StringVar(&t.rs256, "token-rs256", "", "`file` with an RSA public key in PEM: tokens signed with its other half (RS256) are taken, too")
	fs.StringVar(&t.jwks, "token-jwks", "", "`file` with a JWK set: tokens signed with its keys (EdDSA, RS256, HS256) are taken, too")
	fs.StringVar(&t.revocations, "revocations", "", "`file` that lists which tokens count no more (default revoked, in the data folder)")
}

// maxSockets bounds the sockets for an address.
const maxSockets = 256

// serverFlags returns the fields with their defaults.
func serverFlags() *flag.FlagSet {
	fs := flag.NewFlagSet("", flag.ContinueOnError)
	(&config{roles: allRoles}).define(fs)
	return fs
}

// check finds what is wrong. The error names the field.
func (c *config) check() error {
	if c.monitor != "" {
		if err := checkAddress(c.monitor); err != nil {
			return wrong("monitor", "is %q: %v", c.monitor, err)
		}
	}
	if err := c.storage.check(); err != nil {
		return err
	}
	if c.projector {
		if err := c.retention.check(); err != nil {
			return err
		}
	}
	if !c.edge {
		return nil
	}
	return c.checkEdge()
}

func (c *config) checkEdge() error {
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
	for _, a := range []struct{ flag, value string }{{"advertise", c.advertise}, {"handover", c.handover}} {
		if a.value == "" {
			continue
		}
		if err := checkAddress(a.value); err != nil {
			return wrong(a.flag, "is %q: %v", a.value, err)
		}
	}
	if c.sockets < 0 || c.sockets > maxSockets {
		return wrong("sockets", "is %d, want 0 to %d", c.sockets, maxSockets)
	}
	return c.limits.check()
}

func (l *limits) check() error {
	switch {
	case l.heartbeat < time.Second || l.heartbeat > time.Hour:
		return wrong("heartbeat", "is %v, want 1s to 1h", l.heartbeat)
	case l.maxHeartbeat != 0 && (l.maxHeartbeat < l.heartbeat || l.maxHeartbeat > time.Hour):
		return wrong("max-heartbeat", "is %v, want --heartbeat (%v) to 1h", l.maxHeartbeat, l.heartbeat)
	case l.maxBody < 1 || l.maxBody > events.HardMaxBody:
		return wrong("max-body", "is %d, want 1 to %d bytes", l.maxBody, events.HardMaxBody)
	}
	const million = 1_000_000
	for _, limit := range []struct {
		flag        string
		value, most int
	}{
		{"max-sessions", l.maxSessions, 100 * million}, {"user-sessions", l.userSessions, 100 * million},
		{"half-open", l.halfOpen, million}, {"session-rate", l.sessionRate, million}, {"source-rate", l.sourceRate, million},
	} {
		if limit.value < 1 || limit.value > limit.most {
			return wrong(limit.flag, "is %d, want 1 to %d", limit.value, limit.most)
		}
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
