package ingest

import (
	"context"
	"fmt"
	"log/slog"
	"slices"

	"timberline/events"
	"timberline/sim/planted"
)

// A Question asks which sends of an old session stand in the log (R3).
type Question struct {
	Owner
	Journal events.Journal
	Offset  events.Offset // before the first send asked for
}

// An Answered is the answer to a Question: the session is closed for ever.
type Answered struct {
	Owner
	Numbers []uint64 // pairs: first and last number of each run, rising
	Unknown bool     // too much log to search: the sends may or may not stand
}

// maxSettleScan is how many bytes of log are searched for one question.
const maxSettleScan = 64 << 20

// settleRead is how many bytes of log are read at a time.
const settleRead = 1 << 20

// A Settler settles sessions that do not live in this process.
type Settler struct {
	Log      events.Log
	Journals events.Journals
	Clock    *events.Clock
	Logger   *slog.Logger
	// Close writes session_closed into the journal if this process owns it, and
	// waits until that is durable; it returns false for any other journal.
	Close func(ctx context.Context, j events.Journal, o Owner) (mine bool, err error)
	// MaxScan overrides the bytes searched for one question; default: 64 MiB.
	MaxScan int
}

// Settle answers all questions about one journal with one read and, where
// sessions are still open, one record. An error leaves every question open: ask
// again.
func (s *Settler) Settle(ctx context.Context, j events.Journal, qs []Question) ([]Answered, error) {
	row, err := s.row(ctx, j)
	if err != nil {
		return nil, err
	}
	scan := newScan(qs, s.maxScan(), s.Clock)
	switch {
	case row == nil:
		return scan.answers(), nil
	case row.Trimmed: // what stood there was delivered long ago, and nobody knows any more
		return scan.unknown(), nil
	}
	if err := s.closeMine(ctx, j, qs); err != nil {
		return nil, err
	}
	at, err := s.start(ctx, j, qs)
	if err != nil {
		return nil, err
	}
	for begun := at; ; {
		at, err = s.read(ctx, j, at, scan)
		if err != nil {
			return nil, err
		}
		if scan.done() {
			return s.answer(ctx, j, scan)
		}
		if at == begun && at > 1 {
			if err := s.lookAt(ctx, j, at-1); err != nil {
				return nil, err
			}
		}
		if err := s.closeAt(ctx, j, at, scan.open()); err != nil {
			return nil, err
		}
	}
}

// answer returns what was found, unless the journal was trimmed meanwhile: what stood there
// may have been gone when it was looked for, and would be sent once more.
func (s *Settler) answer(ctx context.Context, j events.Journal, scan *scan) ([]Answered, error) {
	row, err := s.row(ctx, j)
	switch {
	case err != nil:
		return nil, err
	case row != nil && row.Trimmed:
		return scan.unknown(), nil
	}
	return scan.answers(), nil
}

func (s *Settler) maxScan() int {
	if s.MaxScan == 0 {
		return maxSettleScan
	}
	return s.MaxScan
}

// row returns the journal's row, nil if there is none: only journals with a row can be named.
func (s *Settler) row(ctx context.Context, j events.Journal) (*events.Row, error) {
	n, ok := j.Number()
	if !ok {
		return nil, nil
	}
	rows, err := s.Journals.ListJournals(ctx, n-1, events.Strong)
	if err != nil {
		return nil, fmt.Errorf("settle in journal %s: %w", j, err)
	}
	if len(rows) == 0 || rows[0].Number != n {
		return nil, nil
	}
	return &rows[0], nil
}

func (s *Settler) closeMine(ctx context.Context, j events.Journal, qs []Question) error {
	for _, q := range qs {
		mine, err := s.Close(ctx, j, q.Owner)
		if !mine || err != nil {
			return err
		}
	}
	return nil
}

// start returns the first offset to read. One beyond the end counts as the end.
func (s *Settler) start(ctx context.Context, j events.Journal, qs []Question) (events.Offset, error) {
	first := qs[0].Offset
	for _, q := range qs {
		first = min(first, q.Offset)
	}
	if first == 0 {
		return 1, nil
	}
	last, err := lastOffset(ctx, s.Log, j, first)
	return last + 1, err
}

// read goes through the journal until every question is answered, or to its
// end; it returns the offset behind what it read.
func (s *Settler) read(ctx context.Context, j events.Journal, at events.Offset, scan *scan) (events.Offset, error) {
	for !scan.done() {
		recs, err := s.Log.ReadLog(ctx, j, at, settleRead, events.Strong)
		if err != nil {
			return at, fmt.Errorf("settle in journal %s: %w", j, err)
		}
		if len(recs) == 0 {
			return at, nil
		}
		for _, rec := range recs {
			if err := scan.record(j, at, rec); err != nil {
				return at, err
			}
			at++
		}
	}
	return at, nil
}

// lookAt has the clock know the ids of a record in front of which nothing was read (R4).
func (s *Settler) lookAt(ctx context.Context, j events.Journal, at events.Offset) error {
	recs, err := s.Log.ReadLog(ctx, j, at, 1, events.Strong)
	if err != nil || len(recs) == 0 {
		return err
	}
	raws, err := recs[0].Events(j, at)
	for _, raw := range raws {
		s.Clock.Observe(events.Raw(raw).EventID())
	}
	return err
}

// closeAt tries to close sessions at the first empty offset. Whatever stands
// there afterwards is read next.
func (s *Settler) closeAt(ctx context.Context, j events.Journal, at events.Offset, open []Owner) error {
	raws := make([][]byte, len(open))
	for i, o := range open {
		e := events.Event{ID: s.Clock.Next(), Kind: events.KindSessionClosed, Sender: o.User, Device: o.Device, Session: o.Session}
		raws[i] = e.Encode()
	}
	_, err := settle(ctx, s.Log, logFailed(s.Logger), j, at, events.NewRecord(j, at, raws))
	return err
}

// A scan gathers answers while it is shown records in order.
type scan struct {
	questions map[Owner]*found
	order     []Owner
	unsettled int
	max       int
	clock     *events.Clock
}

// found is what was found for one question.
type found struct {
	numbers []events.Number
	offset  events.Offset
	bytes   int
	settled bool
	unknown bool
}

func newScan(qs []Question, maxBytes int, clock *events.Clock) *scan {
	s := &scan{questions: make(map[Owner]*found), max: maxBytes, clock: clock}
	for _, q := range qs {
		f, twice := s.questions[q.Owner]
		if !twice {
			f = &found{offset: q.Offset}
			s.questions[q.Owner] = f
			s.order = append(s.order, q.Owner)
			s.unsettled++
		}
		f.offset = min(f.offset, q.Offset)
	}
	return s
}

// unknown answers that nobody knows what stands in the log.
func (s *scan) unknown() []Answered {
	for _, f := range s.questions {
		f.unknown = true
		s.settle(f)
	}
	return s.answers()
}

func (s *scan) done() bool { return s.unsettled == 0 }

// open returns the sessions that nothing has closed so far.
func (s *scan) open() []Owner {
	var open []Owner
	for _, o := range s.order {
		if !s.questions[o].settled {
			open = append(open, o)
		}
	}
	return open
}

func (s *scan) settle(f *found) {
	if !f.settled {
		f.settled = true
		s.unsettled--
	}
}

// record takes in the record at an offset.
func (s *scan) record(j events.Journal, at events.Offset, rec events.Record) error {
	raws, err := rec.Events(j, at)
	if err != nil {
		return err
	}
	for _, raw := range raws {
		e, err := events.Raw(raw).Decode()
		if err != nil {
			return fmt.Errorf("record %d of journal %s: %w", at, j, err)
		}
		s.event(&e)
	}
	for _, o := range s.order {
		f := s.questions[o]
		if f.settled || at <= f.offset {
			continue
		}
		if f.bytes += len(rec); f.bytes > s.max {
			f.unknown = true
			s.settle(f)
		}
	}
	return nil
}

func (s *scan) event(e *events.Event) {
	s.clock.Observe(e.ID) // a close that follows has a higher id
	if e.Kind == events.KindJournalEnded {
		for _, o := range s.order {
			s.settle(s.questions[o])
		}
		return
	}
	f := s.questions[ownerOf(e)]
	switch {
	case f == nil || f.settled:
	case e.Kind == events.KindSessionClosed:
		s.settle(f)
	default:
		f.numbers = append(f.numbers, e.Number)
	}
}

func (s *scan) answers() []Answered {
	as := make([]Answered, len(s.order))
	for i, o := range s.order {
		f := s.questions[o]
		as[i] = Answered{Owner: o, Unknown: f.unknown}
		if planted.Is(planted.SettledAsCount) {
			as[i].Numbers = []uint64{1, uint64(len(f.numbers))}
			continue
		}
		if !f.unknown {
			as[i].Numbers = runs(f.numbers)
		}
	}
	return as
}

// runs turns numbers into pairs of first and last.
func runs(ns []events.Number) []uint64 {
	slices.Sort(ns)
	var pairs []uint64
	for _, n := range ns {
		if k := len(pairs); k > 0 && pairs[k-1]+1 >= uint64(n) {
			pairs[k-1] = uint64(n)
			continue
		}
		pairs = append(pairs, uint64(n), uint64(n))
	}
	return pairs
}
