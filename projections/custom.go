package projections

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"timberline/events"
	"timberline/events/fields"
	"timberline/sim/planted"
)

// A Projection is one of a developer's own: what it makes of the log, such as how many
// messages each user has had on each day. It keeps rows of users.
//
// A change of what Apply does is a new Version: it is run from the start of the log,
// beside the old one, and switched to when it has caught up.
type Projection struct {
	Name    string // a-z, 0-9 and -; at most 40 characters
	Version uint32 // counted from 1
	// Apply takes in what one checkpoint gives, and changes rows. What it does follows from
	// that and from the rows it reads alone: no clock, no chance, no state of its own.
	Apply func(given []Given, t *Table) error
}

// Given is an event of the log that gives somebody an entry.
type Given struct {
	Event events.Event
	// Users are those of its recipients, the sender among them, who are in the shard: what
	// is done for each user named here is done once for each recipient.
	Users []events.User
}

// A RowKey names a row of a projection.
type RowKey struct {
	User events.User // whose row it is: one that Given names
	Name string      // 1 to 200 bytes of UTF-8, without NUL; a user's rows are in the order of their names
}

// Validate says what is wrong with the projection.
func (p *Projection) Validate() error {
	const allowed = "abcdefghijklmnopqrstuvwxyz0123456789-"
	switch {
	case p.Name == "" || len(p.Name) > 40 || strings.Trim(p.Name, allowed) != "":
		return fmt.Errorf("projection %q: want a name of a-z, 0-9 and -, at most 40 characters", p.Name)
	case p.Version == 0:
		return fmt.Errorf("projection %s: version is 0, want 1 or more", p.Name)
	case p.Apply == nil:
		return fmt.Errorf("projection %s: it has no Apply", p.Name)
	}
	return nil
}

// space names where a user's rows are kept.
func (p *Projection) space(u events.User) string { return p.prefix() + string(u) }

// rowsOfProjections is what the names of the spaces of all projections begin with.
const rowsOfProjections = "p/"

func (p *Projection) prefix() string {
	return fmt.Sprintf("%s%s.%d/", rowsOfProjections, p.Name, p.Version)
}

// places names where it is kept how far the projection has come. No user has that name.
func (p *Projection) places() string { return p.prefix() + "*" }

// A value is what a row holds: what it is as of its checkpoint, and what it was before.
type value struct {
	is, was       []byte
	stands, stood bool // else the row is gone, or there was none
}

// Fields lists the stored fields.
func (v *value) Fields(f fields.Visitor) {
	fields.Bool(f, 1, "stands", &v.stands)
	fields.Bytes(f, 2, "is", &v.is)
	fields.Bool(f, 3, "stood", &v.stood)
	fields.Bytes(f, 4, "was", &v.was)
}

// spacesOfProjections are those of rows, and of which version is read.
var spacesOfProjections = regexp.MustCompile(`^(p/[a-z0-9-]{1,40}\.[1-9][0-9]*/.|live/[a-z0-9-]{1,40}$)`)

// OfProjection reports whether a space of rows is that of a projection of one's own, and so
// nobody else's.
func OfProjection(space string) bool { return spacesOfProjections.MatchString(space) }

func rowPlace(r *Row) []byte { return []byte("p" + r.Space + "\x00" + r.Key) }

func sealRow(r Row, m fields.Message) Row {
	r.Data = fields.Seal(FormatVersion, rowPlace(&r), m)
	return r
}

func unsealRow(r *Row, m fields.Message) error {
	if err := fields.Unseal(FormatVersion, rowPlace(r), r.Data, m); err != nil {
		return events.Unreadable(fmt.Sprintf("row %s of %s", r.Key, r.Space), err)
	}
	return nil
}

// A Follower has a projection follow the checkpoints of a shard, from the start of the log
// on. Several may follow the same at a time: they write the same.
type Follower struct {
	Store      Followed
	Meta       Meta
	Shard      Shard
	Projection *Projection
}

// A step is some checkpoints that are applied together: those behind Done, up to Upto.
// Which ones is stored before any row that follows from them, so whoever goes on does the
// same step, and finds in rows that were written already what they were before it.
type step struct{ done, upto CheckpointNumber }

// Fields lists the stored fields.
func (s *step) Fields(f fields.Visitor) {
	fields.Uint(f, 1, "done", &s.done)
	fields.Uint(f, 2, "upto", &s.upto)
}

// stepCheckpoints bounds the checkpoints of a step.
const stepCheckpoints = 64

// Run applies the checkpoints that follow on what was applied before, up to the last one that
// there is when it is called (in a shard where much happens there is always one more), and
// returns the last one applied. After an error it goes on when it is called again: every
// event counts once. The error wraps ErrDropped if somebody has dropped the version.
func (f *Follower) Run(ctx context.Context) (CheckpointNumber, error) {
	if err := f.Projection.Validate(); err != nil {
		return 0, err
	}
	last, _, err := f.Store.LastCheckpoint(ctx, f.Shard, events.Strong)
	if err != nil {
		return 0, err
	}
	w := walk{store: f.Store, shard: f.Shard, mine: usersOf(f.Shard, f.Meta.Shards)}
	begun := false
	for {
		k, s, err := f.next(ctx, last)
		if err != nil || s.done >= last {
			return s.done, err
		}
		if !begun || w.n != s.done {
			if err := w.from(ctx, s.done); err != nil {
				return s.done, err
			}
			begun = true
		}
		if err = f.apply(ctx, &w, s); err == nil {
			err = f.keep(ctx, k+1, step{s.upto, s.upto})
		} else {
			begun = false // the walk stands somewhere in the step
		}
		if err != nil && !errors.Is(err, errOvertaken) && !errors.Is(err, errTrimmed) {
			return s.done, fmt.Errorf("projection %s, checkpoints %d to %d of shard %d: %w", f.Projection.Name, s.done+1, s.upto, f.Shard, err)
		}
	}
}

// next returns the step that is to be done next to get to checkpoint last, as it is stored
// under number k.
func (f *Follower) next(ctx context.Context, last CheckpointNumber) (k CheckpointNumber, s step, err error) {
	_, l, err := readLive(ctx, f.Store, f.Projection.Name)
	if err == nil {
		err = f.Projection.stays(&l)
	}
	if err != nil {
		return 0, s, err
	}
	k, s, err = f.stands(ctx)
	if err != nil || s.upto > s.done || s.done >= last {
		return k, s, err // begun, perhaps by another, or there already
	}
	if planted.Is(planted.StepUnstored) {
		return k, step{s.done, min(last, s.done+stepCheckpoints)}, nil
	}
	if err := f.keep(ctx, k+1, step{s.done, min(last, s.done+stepCheckpoints)}); err != nil {
		return k, s, err
	}
	return f.stands(ctx) // it may be another's
}

// stands reads what step is stored.
func (f *Follower) stands(ctx context.Context) (k CheckpointNumber, s step, err error) {
	return f.Projection.stands(ctx, f.Store, f.Shard)
}

// stands reads what step is stored of a shard.
func (p *Projection) stands(ctx context.Context, rows Rows, shard Shard) (k CheckpointNumber, s step, err error) {
	row, err := rows.GetRow(ctx, p.places(), shardKey(shard))
	if errors.Is(err, events.ErrNotFound) {
		return 0, step{}, nil
	}
	if err == nil {
		err = unsealRow(&row, &s)
	}
	return row.Checkpoint, s, err
}

// keep stores a step under its number, unless another stands there.
func (f *Follower) keep(ctx context.Context, k CheckpointNumber, s step) error {
	row := sealRow(Row{Space: f.Projection.places(), Key: shardKey(f.Shard), Checkpoint: k}, &s)
	return f.Store.PutRows(ctx, []Row{row})
}

func shardKey(s Shard) string { return strconv.FormatUint(uint64(s), 10) }

// apply applies the checkpoints of a step, and writes what follows.
func (f *Follower) apply(ctx context.Context, w *walk, s step) error {
	t := &Table{ctx: ctx, f: f, upto: s.upto, rows: make(map[RowKey]*value)}
	err := w.run(ctx, func(n CheckpointNumber, c *cover) error {
		given, err := c.given()
		if err != nil {
			return err
		}
		if len(given) > 0 {
			if err := t.apply(given); err != nil {
				return err
			}
		}
		if n == s.upto {
			return errEnough
		}
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) {
		return err
	}
	return f.Store.PutRows(ctx, t.written())
}

// given returns the events of a cover for a projection.
func (c *cover) given() ([]Given, error) {
	slices.SortFunc(c.events, byID)
	all := make([]Given, len(c.events))
	for i, p := range c.events {
		e, err := events.Raw(p.raw).Decode()
		if err != nil {
			return nil, err
		}
		all[i] = Given{Event: e, Users: []events.User{p.a}}
		if p.b != "" {
			all[i].Users = append(all[i].Users, p.b)
		}
	}
	return all, nil
}

// A Table is the rows of a projection as Apply reads and changes them.
type Table struct {
	ctx  context.Context
	f    *Follower
	upto CheckpointNumber
	rows map[RowKey]*value // read, or changed in this step
	err  error             // the first one of a read
}

// An applyError is what Apply says, of itself.
type applyError struct{ error }

func (e applyError) Unwrap() error { return e.error }

// apply calls Apply. If it could not read a row what it says does not count.
func (t *Table) apply(given []Given) error {
	err := t.f.Projection.Apply(given, t)
	switch {
	case t.err != nil:
		return t.err
	case err != nil:
		return applyError{err}
	}
	return nil
}

// Get returns a row, nil if there is none. It is the caller's to read only. The error wraps
// ErrRow if its user is in another shard.
func (t *Table) Get(k RowKey) ([]byte, error) {
	v, err := t.get(k)
	if err != nil || !v.stands {
		return nil, err
	}
	if v.is == nil {
		return []byte{}, nil
	}
	return v.is, nil
}

func (t *Table) get(k RowKey) (*value, error) {
	if v, known := t.rows[k]; known {
		return v, nil
	}
	if s := ShardOf(k.User.Slot(), t.f.Meta.Shards); s != t.f.Shard { // whose checkpoints have numbers of their own
		return nil, fmt.Errorf("%w: row %.40q of %s, who is in shard %d: shard %d has rows of its own users only, those that Given names", ErrRow, k.Name, k.User, s, t.f.Shard)
	}
	v, err := t.read(k)
	if err != nil {
		if t.err == nil {
			t.err = err
		}
		return nil, err
	}
	v.was, v.stood = v.is, v.stands // as of the step before
	t.rows[k] = v
	return v, nil
}

// read returns a row as it was before the step.
func (t *Table) read(k RowKey) (*value, error) {
	v := new(value)
	row, err := t.f.Store.GetRow(t.ctx, t.f.Projection.space(k.User), k.Name)
	switch {
	case errors.Is(err, events.ErrNotFound):
	case err != nil:
		return nil, err
	case row.Checkpoint > t.upto:
		return nil, errOvertaken
	default:
		if err := unsealRow(&row, v); err != nil {
			return nil, err
		}
		if row.Checkpoint == t.upto { // written by a try of this step
			v.is, v.stands = v.was, v.stood
		}
	}
	return v, nil
}

// MaxValue is how many bytes a row of a projection has at most: what it was before is kept
// with it.
const MaxValue = 120 << 10

// Set makes a row another; nil takes it away. The bytes are the table's from then on. The
// error wraps ErrRow if the row cannot be kept, by its name or its length, or as its user is
// in another shard.
func (t *Table) Set(k RowKey, is []byte) error {
	row := Row{Space: t.f.Projection.space(k.User), Key: k.Name}
	if err := row.Validate(); err != nil {
		return err
	}
	if len(k.Name) > 200 || len(is) > MaxValue {
		return fmt.Errorf("%w: row %.40q of %s: its name has %d bytes and it has %d, want at most 200 and %d", ErrRow, k.Name, k.User, len(k.Name), len(is), MaxValue)
	}
	v, err := t.get(k)
	if err == nil {
		v.is, v.stands = is, is != nil
	}
	return err
}

// written returns the rows that are another now, in a fixed order.
func (t *Table) written() (rows []Row) {
	for k, v := range t.rows {
		if v.stands != v.stood || string(v.is) != string(v.was) {
			rows = append(rows, sealRow(Row{Space: t.f.Projection.space(k.User), Key: k.Name, Checkpoint: t.upto}, v))
		}
	}
	slices.SortFunc(rows, func(x, y Row) int { return strings.Compare(x.Space+"\x00"+x.Key, y.Space+"\x00"+y.Key) })
	return rows
}

// Follow has a projection follow all shards, and looks for new checkpoints every so often (0:
// each second), until ctx ends; it returns nil then. What fails is tried again, but for damage
// (events.ErrCorrupt, events.ErrFormat), what Apply says, and a version that was dropped
// (ErrDropped). told, if it is not nil, is
// called with how far each shard is, and with what failed.
func Follow(ctx context.Context, f Follower, every time.Duration, told func(Shard, CheckpointNumber, error)) error {
	if err := f.Projection.Validate(); err != nil {
		return err
	}
	if every <= 0 {
		every = time.Second
	}
	look := time.NewTicker(every)
	defer look.Stop()
	for {
		for s := range Shard(f.Meta.Shards) {
			f.Shard = s
			n, err := f.Run(ctx)
			var said applyError
			switch {
			case ctx.Err() != nil:
				return nil
			case events.Final(err), errors.As(err, &said), errors.Is(err, ErrDropped):
				return err
			case told != nil:
				told(s, n, err)
			}
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// A NamedRow is a row of a user as its readers get it.
type NamedRow struct {
	Name  string
	Value []byte
}

// ReadProjection returns the rows of a user in a version of a projection whose names are
// at least from, in order, in about size bytes.
func ReadProjection(ctx context.Context, rows Rows, p *Projection, u events.User, from string, size int) ([]NamedRow, error) {
	all, err := rows.ReadRows(ctx, p.space(u), from, size)
	if err != nil {
		return nil, err
	}
	var named []NamedRow
	for _, r := range all {
		var v value
		if err := unsealRow(&r, &v); err != nil {
			return nil, err
		}
		if v.stands {
			named = append(named, NamedRow{r.Key, v.is})
		}
	}
	return named, nil
}
