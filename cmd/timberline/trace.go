package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"

	"timberline/edge"
	"timberline/events"
	"timberline/projections"
)

var traceCommand = &command{
	name:    "trace",
	args:    "MESSAGE",
	summary: "tell what became of a message",
	about: `
MESSAGE is the id of an event, or the id that the client gave the message, as inbox --json
and log print them ("id" and "message"). It tells in which record of the log the message
stands, which checkpoints cover it, at which seqs of whose timelines it is, and whether
whom it was sent to has read it: their app has said so, as chat does at a terminal.

An event's id has a time in it, and is found at once; for a client's id the log is read
from its beginning, or from --from on. Of pushes, which are hints, and of what a device
has, nothing is stored: a server that runs on the folder of --data tells what it knows of the
devices that are connected to it, and so does an edge, whose store is in tables.`,
	example: "timberline trace 01M8AS3JG3000EH4BDYK4HP58M",
	run: func(ctx context.Context, c *call) error {
		var w worker
		var do traceWork
		var from moment
		w.define(c)
		c.flags.Var(&from, "from", "for a client's id: appended at that `time` or later; "+momentHelp)
		words, err := c.parseWords(1)
		if err != nil {
			return err
		}
		if len(words) != 1 {
			return &usageError{errors.New("want one message: its id, 26 characters")}
		}
		id, err := parseID(words[0])
		if err != nil {
			return &usageError{err}
		}
		do.ID, do.From = id.String(), from.Time
		if err := w.check(); err != nil {
			return err
		}
		return w.run(ctx, "trace", &do, nil)
	},
}

// parseID reads the id of an event, or of a message.
func parseID(text string) (ulid.ULID, error) {
	id, err := ulid.ParseStrict(strings.ToUpper(text))
	switch {
	case err != nil:
		return id, fmt.Errorf("%q is no id: want 26 characters, as inbox --json prints them", text)
	case id == ulid.ULID{}: // what has no message's id has this one
		return id, fmt.Errorf("%s is the id of no message", id)
	}
	return id, nil
}

// A traceWork says which message is looked for.
type traceWork struct {
	ID   string    `json:"id"`
	From time.Time `json:"from,omitzero"`

	connected askConnected
}

// A traced is where a message is.
type traced struct {
	ID           string   `json:"id"`
	Message      string   `json:"message"`
	Kind         string   `json:"kind"`
	Target       string   `json:"target,omitempty"` // of a read_up_to
	Conversation string   `json:"conversation,omitempty"`
	Sender       string   `json:"sender"`
	Device       string   `json:"device"`
	Session      string   `json:"session"`
	Number       uint64   `json:"number,string"`
	Appended     string   `json:"appended"` // by the writer's clock, in UTC, as RFC 3339 has it
	Journal      string   `json:"journal"`
	Offset       uint64   `json:"offset,string"`
	Index        int      `json:"index"`
	Placed       []placed `json:"placed"`
}

// A placed is where a message is in a timeline.
type placed struct {
	User       string `json:"user"`
	Shard      uint32 `json:"shard"`
	Version    uint32 `json:"version"`
	Checkpoint uint64 `json:"checkpoint,omitempty,string"`
	Seq        uint64 `json:"seq,omitempty,string"`
	Trimmed    bool   `json:"trimmed,omitempty"`
	Read       *read  `json:"read,omitempty"` // nil: the user has not said so
	// Devices are those connected to the server that was asked; nil: none was.
	Devices []reached `json:"devices,omitzero"`
}

// A read is the first entry by which its user has read the conversation as far as the
// message, or further.
type read struct {
	At     string `json:"at"` // as traced.Appended
	Device string `json:"device"`
	Seq    uint64 `json:"seq,string"`
}

// A reached is how far a message has come to a device.
type reached struct {
	Device string `json:"device"`
	Pushed bool   `json:"pushed"` // to it, and not given up; it may be lost on the way
	Has    bool   `json:"has"`    // it has said so
}

// String is it for people.
func (r reached) String() string {
	switch {
	case r.Has:
		return "device " + r.Device + " has it"
	case r.Pushed:
		return "pushed to device " + r.Device + ", which has not said that it has it"
	}
	return "device " + r.Device + " has not said that it has it, and no push of it is under way"
}

// askConnected returns the devices of a user that are connected to a server, and how far an
// entry of the user's timeline has come to each; nil: it does not know yet.
type askConnected func(context.Context, events.User, events.Seq) ([]edge.Connected, error)

// A servedStore is the store of a server that runs.
type servedStore struct {
	wholeStore
	connected askConnected
}

// String is the trace for people.
func (t *traced) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s", t.Kind, t.ID)
	if t.Message != (events.MessageID{}).String() {
		fmt.Fprintf(&b, ", which its client calls %s", t.Message)
	}
	b.WriteByte('\n')
	if t.Target != "" {
		fmt.Fprintf(&b, "  up to     %s\n", t.Target)
	}
	switch {
	case t.Number > 0:
		fmt.Fprintf(&b, "  sent      by %s, device %s, session %s, as number %d\n", t.Sender, t.Device, t.Session, t.Number)
	case t.Sender != "": // of whose session a server has written it
		fmt.Fprintf(&b, "  of        %s, device %s, session %s\n", t.Sender, t.Device, t.Session)
	}
	fmt.Fprintf(&b, "  appended  %s, journal %s, record %d, event %d", t.Appended, t.Journal, t.Offset, t.Index)
	for _, p := range t.Placed {
		switch {
		case p.Checkpoint == 0:
			fmt.Fprintf(&b, "\n  %-9s covered by no checkpoint of shard %d yet", p.User, p.Shard)
		case p.Trimmed:
			fmt.Fprintf(&b, "\n  %-9s covered by checkpoint %d of shard %d; trimmed, so not in the timeline any more", p.User, p.Checkpoint, p.Shard)
		case p.Seq == 0:
			fmt.Fprintf(&b, "\n  %-9s covered by checkpoint %d of shard %d; not written into the timeline yet", p.User, p.Checkpoint, p.Shard)
		default:
			fmt.Fprintf(&b, "\n  %-9s seq %d, by checkpoint %d of shard %d", p.User, p.Seq, p.Checkpoint, p.Shard)
		}
		if p.Read != nil {
			fmt.Fprintf(&b, "\n  %-9s read %s, on device %s, as seq %d says", "", p.Read.At, p.Read.Device, p.Read.Seq)
		}
		for _, d := range p.Devices {
			fmt.Fprintf(&b, "\n  %-9s %s", "", d)
		}
		if p.Devices != nil && len(p.Devices) == 0 {
			fmt.Fprintf(&b, "\n  %-9s no device of theirs is connected here", "")
		}
	}
	return b.String()
}

func (w *traceWork) do(ctx context.Context, s wholeStore, tell func(report)) error {
	id, err := ulid.ParseStrict(w.ID)
	if err != nil {
		return err
	}
	if s, is := s.(servedStore); is {
		w.connected = s.connected
	}
	var lacks error
	trimmed := 0
	for _, byTime := range []bool{true, false} {
		log, err := openLog(ctx, s)
		if err != nil {
			return err
		}
		found := false
		trimmed = 0
		for _, row := range log.rows {
			at, err := w.journal(ctx, log, row.Number, byTime, events.ID(id), tell)
			if err != nil {
				return err
			}
			found = found || at
			if row.Trimmed {
				trimmed++
			}
		}
		if found {
			return nil
		}
		lacks = log.lacks()
	}
	since, maybe := "", ""
	if !w.From.IsZero() {
		since = " since " + w.From.Format(time.RFC3339)
	}
	if trimmed > 0 {
		maybe = fmt.Sprintf("; or it was trimmed, as %s", counted(trimmed, "journal was", "journals were"))
	}
	err = fmt.Errorf("no event of the log has the id %s, nor has a client given it to a message%s%s", w.ID, since, maybe)
	if lacks != nil {
		return fmt.Errorf("%w; %w", err, lacks)
	}
	return err
}

// journal looks for the message in one journal: as an event's id, whose time says where it
// is, or else as a client's.
func (w *traceWork) journal(ctx context.Context, log *logReader, number uint64, byTime bool, id events.ID, tell func(report)) (found bool, err error) {
	j := events.JournalNumbered(number)
	from := w.From
	if byTime {
		from = id.Time()
	}
	at, err := firstSince(ctx, log, j, from)
	if err != nil {
		return false, err
	}
	p := newPace()
	err = log.each(ctx, j, at, func(at events.Offset, i int, raw events.Raw) error {
		e, err := raw.Decode()
		switch {
		case err != nil:
			return fmt.Errorf("record %d of journal %s: %w", at, j, err)
		case byTime && e.ID.Time().After(id.Time()):
			return errEnough
		case byTime && e.ID != id, !byTime && e.Message != events.MessageID(id):
			if p.due() {
				tell(report{Progress: fmt.Sprintf("journal %s, record %d", j, at)})
			}
			return nil
		}
		found = true
		return w.tell(ctx, log, number, at, i, raw, &e, tell)
	})
	return found, err
}

// tell tells of an event that was found.
func (w *traceWork) tell(ctx context.Context, s wholeStore, number uint64, at events.Offset, i int, raw events.Raw, e *events.Event, tell func(report)) error {
	all, err := projections.Placements(ctx, s, s.Meta(), number, at, raw)
	if err != nil {
		return err
	}
	t := &traced{
		ID: e.ID.String(), Message: e.Message.String(), Kind: e.Kind.String(), Conversation: string(e.Conversation),
		Sender: string(e.Sender), Device: string(e.Device), Session: e.Session.String(), Number: uint64(e.Number),
		Appended: e.ID.Time().UTC().Format(momentLayout), Journal: string(events.JournalNumbered(number)), Offset: uint64(at), Index: i,
	}
	if e.Target != (events.ID{}) {
		t.Target = e.Target.String()
	}
	for _, p := range all {
		read, err := w.read(ctx, s, p, e)
		if err != nil {
			return err
		}
		devices, err := w.devices(ctx, p)
		if err != nil {
			return err
		}
		t.Placed = append(t.Placed, placed{string(p.Timeline.User), uint32(p.Shard), uint32(p.Timeline.Version), uint64(p.Checkpoint), uint64(p.Seq), p.Trimmed, read, devices})
	}
	tell(report{Traced: t})
	return nil
}

// read looks in the timeline of whom a message was sent to, behind the message, for the
// first entry by which they have read as far.
func (w *traceWork) read(ctx context.Context, s wholeStore, p projections.Placement, e *events.Event) (*read, error) {
	u := p.Timeline.User
	if e.Kind != events.KindMessage || u == e.Sender || p.Seq == 0 && !p.Trimmed {
		return nil, nil
	}
	r := projections.NewReader(s, s.Meta())
	run, err := r.Head(ctx, u)
	for after := max(p.Seq, run.First-1); err == nil && after < run.Head; after += events.Seq(len(run.Events)) {
		if run, err = r.Read(ctx, u, after, 0, readAtATime); len(run.Events) == 0 {
			break
		}
		for i, raw := range run.Events {
			said, err := events.Raw(raw).Decode()
			if err != nil {
				return nil, fmt.Errorf("timeline of %s, entry %d: %w", u, run.From+events.Seq(i), err)
			}
			if said.Sender == u && said.Conversation == e.Conversation && said.ReadUpTo().Compare(e.ID) >= 0 {
				return &read{said.ID.Time().UTC().Format(momentLayout), string(said.Device), uint64(run.From) + uint64(i)}, nil
			}
		}
	}
	return nil, err
}

// readAtATime is how many bytes of a timeline are read at a time.
const readAtATime = 1 << 20

// devices tells how far it has come to the devices of one of its users.
func (w *traceWork) devices(ctx context.Context, p projections.Placement) ([]reached, error) {
	if w.connected == nil || p.Seq == 0 || p.Trimmed {
		return nil, nil
	}
	all, err := w.connected(ctx, p.Timeline.User, p.Seq)
	if err != nil || all == nil {
		return nil, err
	}
	devices := make([]reached, len(all))
	for i, c := range all {
		devices[i] = reached{string(c.Device), c.Pushed, c.Has}
	}
	return devices, nil
}
