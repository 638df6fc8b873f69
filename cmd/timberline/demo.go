package main

import (
	"context"
	"errors"
	"fmt"
	"text/tabwriter"

	"timberline/sim/check"
	"timberline/sim/corpus"
	"timberline/sim/proxy"
)

var demoCommand = &command{
	name:    "demo",
	summary: "real chat over a bad network to a server that is killed: is anything lost, doubled or out of order?",
	about: `
It starts a server as a process of its own and a device for each user, who send what
a corpus of real chat says, through a network that loses, repeats and reorders
packets. In the middle it kills the server (SIGKILL) and starts it again, so many
times. When every message is acknowledged it reads every timeline back, through the
devices and through new ones, and compares them with what was sent.

A corpus has lines of time, nick and text, separated by tabs, gzipped or not. Nicks
fold by hash onto users. The partner of a line is whoever it addresses ("szx0: yes"),
else the last other speaker. Without --corpus it takes 400 lines that come with the
program (from Kummerfeld et al., ACL 2019, CC-BY-4.0).

delivered counts the distinct pairs of a message and a recipient, the sender not
counted; out_of_order the pairs of messages of one session that stand in a timeline
against the order sent. The exit status is 1 if anything is lost, doubled or out of
order. Progress goes to the standard error.`,
	example: "timberline demo --messages 5000 --kills 5 --loss 0.1 --json",
	run: func(ctx context.Context, c *call) error {
		d := demo{c: c}
		file := c.flags.String("corpus", "", "`file` of real chat (default: a sample)")
		c.flags.IntVar(&d.users, "users", 300, fmt.Sprintf("`number` of users that nicks fold onto: %d to %d", corpus.MinUsers, maxDemoUsers))
		messages := c.flags.Int("messages", 0, "`number` of messages; the corpus is repeated as needed (default: the corpus once)")
		c.flags.IntVar(&d.kills, "kills", 3, "`number` of times that the server is killed and started again")
		defineFaults(c, &d.faults)
		c.flags.StringVar(&d.codec, "codec", "protobuf", "`encoding` of the packets: protobuf, json, or both: every second user speaks json")
		c.flags.Uint64Var(&d.seed, "seed", 1, "`seed` of the network's faults")
		asJSON := c.flags.Bool("json", false, "print one line of JSON")
		if err := c.parse(0); err != nil {
			return err
		}
		if err := d.check(*messages); err != nil {
			return err
		}
		if err := d.load(*file, *messages); err != nil {
			return err
		}
		report, err := d.run(ctx)
		if err != nil {
			return err
		}
		return d.report(report, *asJSON)
	},
}

// maxDemoUsers bounds the sockets and files that a demo opens.
const maxDemoUsers = 4000

// demoCodecs are those that users speak in turn.
var demoCodecs = map[string][]string{"protobuf": {"protobuf"}, "json": {"json"}, "both": {"protobuf", "json"}}

// A demo is what is tried.
type demo struct {
	c        *call
	messages []corpus.Message
	users    int
	kills    int
	faults   proxy.Faults
	codec    string
	seed     uint64

	seconds float64
}

// check finds what is wrong with the flags.
func (d *demo) check(messages int) error {
	switch {
	case d.users < corpus.MinUsers || d.users > maxDemoUsers:
		return wrong("users", "is %d, want %d to %d", d.users, corpus.MinUsers, maxDemoUsers)
	case messages < 0:
		return wrong("messages", "is %d, want at least 1", messages)
	case d.kills < 0:
		return wrong("kills", "is %d, want at least 0", d.kills)
	case demoCodecs[d.codec] == nil:
		return wrong("codec", "is %q, want protobuf, json or both", d.codec)
	}
	return checkFaults(d.faults)
}

// load reads the corpus and repeats it as needed.
func (d *demo) load(file string, messages int) error {
	lines, err := corpus.Load(file)
	if err != nil {
		return err
	}
	once, err := corpus.Messages(lines, d.users)
	if err != nil {
		return err
	}
	if messages == 0 {
		messages = len(once)
	}
	if d.kills > messages {
		return wrong("kills", "is %d, want at most one for each of the %d messages", d.kills, messages)
	}
	for len(d.messages) < messages {
		d.messages = append(d.messages, once[:min(len(once), messages-len(d.messages))]...)
	}
	return nil
}

// errBroken says that the report tells of a promise broken.
var errBroken = errors.New("a promise is broken")

// report prints the outcome.
func (d *demo) report(r *check.Report, asJSON bool) error {
	rows := demoReport{
		Sent: r.Sent, Acked: r.Acked, Delivered: r.Delivered,
		Lost: r.Broken[check.Lost], Doubled: r.Broken[check.Doubled], OutOfOrder: r.Broken[check.OutOfOrder],
		Kills: d.kills, Seconds: d.seconds,
	}
	var err error
	if asJSON {
		err = d.c.printJSON(rows)
	} else {
		err = rows.table(d.c)
	}
	if r.OK() {
		return err
	}
	return errors.Join(err, errBroken, r.Err())
}

// A demoReport is what a demo prints.
type demoReport struct {
	Sent       int     `json:"sent"`
	Acked      int     `json:"acked"`
	Delivered  int     `json:"delivered"`
	Lost       int     `json:"lost"`
	Doubled    int     `json:"doubled"`
	OutOfOrder int     `json:"out_of_order"`
	Kills      int     `json:"kills"`
	Seconds    float64 `json:"seconds"`
}

func (r *demoReport) table(c *call) error {
	t := tabwriter.NewWriter(c.stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	for _, row := range []struct {
		name  string
		value any
	}{
		{"sent", r.Sent}, {"acked", r.Acked}, {"delivered", r.Delivered}, {"lost", r.Lost},
		{"doubled", r.Doubled}, {"out of order", r.OutOfOrder}, {"kills", r.Kills}, {"seconds", fmt.Sprintf("%.2f", r.Seconds)},
	} {
		fmt.Fprintf(t, "%s\t%v\t\n", row.name, row.value)
	}
	return t.Flush()
}
