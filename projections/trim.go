package projections

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"timberline/events"
	"timberline/events/fields"
	"timberline/sim/planted"
)

// A mark says where a timeline begins of which the beginning was trimmed. It follows from
// nothing else, and never goes back.
type mark struct {
	first      events.Seq       // that can be read
	checkpoint CheckpointNumber // of the item that begins with it
	newest     events.ID        // the highest id below it
}

// Fields lists the stored fields.
func (m *mark) Fields(v fields.Visitor) {
	fields.Uint(v, 1, "first", &m.first)
	fields.Uint(v, 2, "checkpoint", &m.checkpoint)
	fields.ID(v, 3, "newest", &m.newest)
}

// tail is the state behind which the timeline begins.
func (m *mark) tail() tail {
	if m.first <= 1 {
		return tail{}
	}
	return tail{last: m.first - 1, newest: m.newest, checkpoint: m.checkpoint - 1}
}

// behind returns the state behind which a timeline goes on that ends at t: that is t, if not
// more was trimmed.
func (m *mark) behind(t tail) tail {
	if trimmed := m.tail(); trimmed.last > t.last {
		return trimmed
	}
	return t
}

// Marks is how the spaces of rows begin that say where timelines begin.
const Marks = "trim/"

// marksOf names the space of a user's mark.
func marksOf(u events.User) string { return Marks + string(u) }

// MarkAhead reports whether a row of Marks says that a timeline begins at an item of a
// checkpoint behind the last one of its shard, of which each shard's is given: the row is
// of a later moment than log and checkpoints are.
func MarkAhead(row *Row, last []CheckpointNumber) (bool, error) {
	var m mark
	if err := unsealRow(row, &m); err != nil {
		return false, err
	}
	u := events.User(strings.TrimPrefix(row.Space, Marks))
	return m.checkpoint > last[ShardOf(u.Slot(), uint32(len(last)))], nil
}

const markKey = "first"

// readMark reads where a user's timeline begins: at 1 if nothing was trimmed.
func readMark(ctx context.Context, rows Rows, u events.User) (mark, error) {
	row, err := rows.GetRow(ctx, marksOf(u), markKey)
	if errors.Is(err, events.ErrNotFound) {
		return mark{first: 1}, nil
	}
	var m mark
	if err == nil {
		err = unsealRow(&row, &m)
	}
	return m, err
}

// readMarks reads where users' timelines begin.
func readMarks(ctx context.Context, rows Rows, users []events.User) ([]mark, error) {
	return ofEach(ctx, users, func(ctx context.Context, u events.User) (mark, error) { return readMark(ctx, rows, u) })
}

// keepMark makes a mark durable, unless one stands that is as high.
func keepMark(ctx context.Context, rows Rows, u events.User, m mark) error {
	row := Row{Space: marksOf(u), Key: markKey, Checkpoint: CheckpointNumber(m.first)}
	return rows.PutRows(ctx, []Row{sealRow(row, &m)})
}

// A Trim takes the beginnings of timelines away, item by item, and never a timeline's newest
// one. Readers are told where a timeline begins. What was trimmed is out of rebuilds and
// verifications. It works beside projectors and readers, and may be run again at any time.
type Trim struct {
	Store Whole
	Meta  Meta
	// Keep is how many entries stay at least, and Before up to when, by their ids: an item
	// is trimmed if as many entries stand behind it, and all up to it are older. Zero: it
	// does not count. One of both is needed.
	Keep   uint64
	Before time.Time
	// Rate limits the items and checkpoints gone through in a second; one that is deleted,
	// or a record, counts as five. 0: as many as can be.
	Rate float64
	Told func(TrimProgress) // is called now and then; nil: nobody is
}

// TrimProgress is how far a Trim is.
type TrimProgress struct {
	Users   uint64 // looked at
	Trimmed uint64 // of them
	Entries uint64 // that cannot be read any more
}

// Run trims all timelines.
func (t *Trim) Run(ctx context.Context) (p TrimProgress, err error) {
	if t.Keep == 0 && t.Before.IsZero() {
		return p, errors.New("trim: neither how many entries stay nor up to when")
	}
	versions := make(map[Version]map[Shard]bool)
	for s := range Shard(t.Meta.Shards) {
		n, last, err := lastCheckpoint(ctx, t.Store, s)
		if err != nil {
			return p, err
		}
		if n == 0 {
			continue
		}
		if versions[last.Version] == nil {
			versions[last.Version] = make(map[Shard]bool)
		}
		versions[last.Version][s] = true
	}
	pace := newPace(t.Rate)
	for _, v := range slices.Sorted(maps.Keys(versions)) {
		if err := t.version(ctx, v, versions[v], pace, &p); err != nil {
			return p, err
		}
	}
	return p, nil
}

// version trims the timelines of a version, of the shards where it is live.
func (t *Trim) version(ctx context.Context, v Version, shards map[Shard]bool, pace *pace, p *TrimProgress) error {
	var at Timeline
	var ends []mark // of the items of at: where it would begin behind each; checkpoint is 0 where the next item is not known
	trim := func() error {
		if at.User == "" {
			return nil
		}
		p.Users++
		if t.Told != nil {
			t.Told(*p)
		}
		return t.timeline(ctx, at, ends, pace, p)
	}
	err := t.Store.ScanItems(ctx, v, func(s Stored) error {
		if err := pace.did(ctx, 1); err != nil {
			return err
		}
		if !shards[ShardOf(s.User.Slot(), t.Meta.Shards)] {
			return nil
		}
		item, err := s.Decode()
		if err != nil {
			return err
		}
		if s.Timeline != at {
			if err := trim(); err != nil {
				return err
			}
			at, ends = s.Timeline, ends[:0]
		}
		if n := len(ends); n > 0 && ends[n-1].first == item.First { // else what begins there is not this one
			ends[n-1].checkpoint = item.Checkpoint
		}
		ends = append(ends, mark{first: s.Last + 1, newest: item.Newest})
		return nil
	})
	if err != nil {
		return err
	}
	return trim()
}

// timeline trims one timeline, of which it is known where it would begin behind each item.
func (t *Trim) timeline(ctx context.Context, at Timeline, ends []mark, pace *pace, p *TrimProgress) error {
	is, err := readMark(ctx, t.Store, at.User)
	if err != nil {
		return err
	}
	head := ends[len(ends)-1].first - 1
	begins := is
	for _, m := range ends[:len(ends)-1] { // the newest item stays
		if uint64(head-(m.first-1)) < t.Keep || !t.Before.IsZero() && !m.newest.Time().Before(t.Before) {
			break
		}
		if m.first > begins.first && m.checkpoint > 0 {
			begins = m
		}
	}
	if begins.first > is.first && planted.Is(planted.TrimmedUnmarked) {
		if err := t.Store.DeleteItems(ctx, at, begins.first); err != nil {
			return err
		}
	}
	if begins.first > is.first {
		if err := keepMark(ctx, t.Store, at.User, begins); err != nil {
			return err
		}
		p.Trimmed++
		p.Entries += uint64(begins.first - is.first)
	}
	if begins.first == 1 || ends[0].first > begins.first { // nothing, or what an interrupted one has left
		return nil
	}
	if err := t.Store.DeleteItems(ctx, at, begins.first); err != nil {
		return err
	}
	deleted := 0
	for deleted < len(ends) && ends[deleted].first <= begins.first {
		deleted++
	}
	return pace.did(ctx, deleteCosts*deleted)
}

// deleteCosts is how many times as much a delete counts as a read.
const deleteCosts = 5

// TrimJournals removes the records of the journals that all timelines have outlived: that
// have ended, before Before if there is one, that each shard has read to the end, and of
// which timelines had entries (without a Before) and have none any more. A device may still
// ask what became of sends in a journal that has ended a moment ago, also if nobody has an
// entry of it. Their rows stay, and say so, and what closes them (see fence). The newest journal with records always stays, as new
// processes set their clocks by it (R4). It returns the numbers of those removed.
func (t *Trim) TrimJournals(ctx context.Context) (gone []uint64, err error) {
	rows, err := t.Store.ListJournals(ctx, 0, events.Strong)
	if err != nil {
		return nil, err
	}
	ends, err := t.Store.JournalEnds(ctx)
	if err != nil {
		return nil, err
	}
	newest := slices.Max(append(slices.Collect(maps.Keys(ends)), 0))
	old := make(map[uint64]bool)
	for _, row := range rows {
		_, left := ends[row.Number]
		old[row.Number] = left && row.Number != newest && !row.Trimmed
	}
	pace, had := newPace(t.Rate), make(map[uint64]bool)
	for _, row := range rows {
		if !old[row.Number] || t.Before.IsZero() {
			continue
		}
		if old[row.Number], err = t.endedBefore(ctx, row.Number, ends[row.Number]); err != nil {
			return nil, err
		}
	}
	for s := range Shard(t.Meta.Shards) {
		if err := t.spare(ctx, s, old, had, pace); err != nil {
			return nil, err
		}
	}
	for _, row := range rows {
		if t.Before.IsZero() {
			old[row.Number] = old[row.Number] && had[row.Number]
		}
		if !old[row.Number] && !row.Trimmed {
			continue
		}
		end, left := ends[row.Number]
		if !left {
			continue
		}
		below, err := t.fence(ctx, row.Journal(), end)
		if err != nil {
			return gone, err
		}
		if below == 1 {
			continue
		}
		if !row.Trimmed {
			row.Trimmed = true
			if err := t.Store.UpdateJournal(ctx, row); err != nil {
				return gone, err
			}
		}
		if err := t.Store.DeleteRecords(ctx, row.Journal(), below); err != nil {
			return gone, err
		}
		gone = append(gone, row.Number)
		if err := pace.did(ctx, deleteCosts*int(ends[row.Number])); err != nil {
			return gone, err
		}
	}
	return gone, nil
}

// fence returns the first of the records at the end of a journal that only close sessions,
// or the journal. They stay for ever: an owner that was taken for dead wrongly, and has been
// held up since, must find one where it goes on, or what it appends there, behind what
// every shard has read, would be acknowledged and be in no timeline (R2).
func (t *Trim) fence(ctx context.Context, j events.Journal, end events.Offset) (events.Offset, error) {
	for at := end; at > 0; at-- {
		raws, stands, err := t.eventsAt(ctx, j, at)
		switch {
		case err != nil:
			return 0, err
		case !stands:
			return at + 1, nil
		}
		for _, raw := range raws {
			_, kind, _, err := events.Raw(raw).Place()
			if err != nil {
				return 0, err
			}
			if kind != events.KindSessionClosed && kind != events.KindJournalEnded {
				return at + 1, nil
			}
		}
	}
	return 1, nil
}

// endedBefore reports whether a journal that ends with a record has ended before Before.
func (t *Trim) endedBefore(ctx context.Context, number uint64, end events.Offset) (bool, error) {
	raws, _, err := t.eventsAt(ctx, events.JournalNumbered(number), end)
	if err != nil || len(raws) == 0 {
		return false, err
	}
	return events.Raw(raws[len(raws)-1]).EventID().Time().Before(t.Before), nil
}

// eventsAt returns the events of a record, if it is there.
func (t *Trim) eventsAt(ctx context.Context, j events.Journal, at events.Offset) (raws [][]byte, stands bool, err error) {
	recs, err := t.Store.ReadLog(ctx, j, at, 0, events.Strong)
	if err != nil || len(recs) == 0 {
		return nil, false, err
	}
	raws, err = recs[0].Events(j, at)
	return raws, true, err
}

// spare takes the journals out of old that a shard still needs, and notes in had of which
// of them its timelines have, or had, entries. Of those that are out already nothing is
// read: so the log is read as far as it is removed.
func (t *Trim) spare(ctx context.Context, s Shard, old, had map[uint64]bool, pace *pace) error {
	last, _, err := t.Store.LastCheckpoint(ctx, s, events.Strong)
	if err != nil {
		return err
	}
	at, err := positionsAt(ctx, t.Store, s, last)
	if err != nil {
		return err
	}
	for number := range old {
		if _, open := at.next(number); open {
			old[number] = false // not read to its end
		}
	}
	w := walk{store: t.Store, shard: s, mine: usersOf(s, t.Meta.Shards), only: old}
	if err := w.from(ctx, 0); err != nil {
		return err
	}
	trimmed := make(map[events.User]CheckpointNumber) // up to that one
	err = w.run(ctx, func(n CheckpointNumber, c *cover) error {
		if n > last { // of journals that were read to their end there is nothing more
			return errEnough
		}
		unknown := without(c.order, trimmed)
		marks, err := readMarks(ctx, t.Store, unknown)
		if err != nil {
			return err
		}
		for i, u := range unknown {
			trimmed[u] = marks[i].tail().checkpoint
		}
		for _, p := range c.events {
			had[p.journal] = true
			if (n > trimmed[p.a] || p.b != "" && n > trimmed[p.b]) && !planted.Is(planted.JournalStillRead) {
				old[p.journal] = false
			}
		}
		return pace.did(ctx, 1)
	})
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}
