package ingest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"timberline/bus"
	"timberline/events"
	"timberline/sim/planted"
)

// Config says what a Writer works with. Zero fields have the defaults named.
type Config struct {
	Log      events.Log
	Journals events.Journals
	Clock    *events.Clock
	Store    events.StoreID
	Tag      events.EdgeTag
	Random   io.Reader // for the journal's writer id
	Logger   *slog.Logger
	Metrics  prometheus.Registerer // default: nobody is told

	// Report is called after each append with what became of the sends in it.
	// It may block; the next append waits for it.
	Report func(Report)
	// Appended is called after each append, and before Report, with the record.
	Appended func(bus.Hint)

	MaxPending int // bytes of events that may wait; default: 32 MiB
}

// A Report says what one append settled.
type Report struct {
	Journal events.Journal
	Offset  events.Offset // everything not yet reported will stand behind it
	Durable []Durable     // in the order of the log
	// Closed are sessions that another process closed in this journal: what they
	// had gathered will never be in the log.
	Closed []Owner
	// Ended says that the journal takes no more records: its sessions are lost.
	Ended bool
}

// An Owner is a session and whose it is.
type Owner struct {
	Session events.SessionID
	User    events.User
	Device  events.Device
}

func ownerOf(e *events.Event) Owner {
	return Owner{Session: e.Session, User: e.Sender, Device: e.Device}
}

// A Durable is an event that is in the log.
type Durable struct {
	Owner
	Number events.Number
	Kind   events.Kind
}

// ErrJournalLost says that a session's journal is not the one written now, or that
// another process has closed the session in it. The session is over.
var ErrJournalLost = errors.New("journal is lost")

// A commit is events that were committed together, and when.
type commit struct {
	events int
	at     time.Time
}

// A Writer appends the events of one edge process to a journal (R1, R2).
type Writer struct {
	cfg     Config
	wake    chan struct{}
	metrics *metrics

	mu      sync.Mutex
	row     events.Row
	offset  events.Offset // of the last record known to stand
	pending []events.Event
	ready   int      // of pending: those that may go into a record
	commits []commit // of those
	size    int      // of pending, in bytes
	stop    bool     // gather no more; end the journal when pending is empty
	ended   bool
	closed  map[Owner]bool            // by others; until Forget
	closing map[Owner][]chan struct{} // to be closed when session_closed stands
}

// NewWriter returns a Writer that has no journal yet: call Open, then Run.
func NewWriter(c Config) *Writer {
	if c.MaxPending == 0 {
		c.MaxPending = 32 << 20
	}
	w := &Writer{cfg: c, wake: make(chan struct{}, 1), closed: make(map[Owner]bool), closing: make(map[Owner][]chan struct{})}
	w.metrics = newMetrics(c.Metrics, w.waiting)
	return w
}

// waiting returns the bytes of events that wait.
func (w *Writer) waiting() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.size
}

// Open creates the Writer's journal.
func (w *Writer) Open(ctx context.Context) error {
	var id [16]byte
	if _, err := io.ReadFull(w.cfg.Random, id[:]); err != nil {
		return fmt.Errorf("draw a writer id: %w", err)
	}
	row, err := events.OpenJournal(ctx, w.cfg.Journals, w.cfg.Tag, id)
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.row, w.offset, w.ended = row, 0, false
	return nil
}

// Position returns the journal, and an offset behind which everything submitted
// from now on will stand.
func (w *Writer) Position() (events.Journal, events.Offset) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.row.Journal(), w.offset
}

// Submit adds an event to the next record of journal j, once Commit is called: what
// comes together goes into one record. The event's id is made when the record is. Its
// bytes belong to the Writer from then on. The error is events.ErrBusy if too much
// waits already (session_closed always finds room), or ErrJournalLost.
func (w *Writer) Submit(j events.Journal, e events.Event) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.submit(j, e)
}

func (w *Writer) submit(j events.Journal, e events.Event) error {
	size := eventSize(&e)
	switch {
	case w.ended || w.row.Journal() != j || w.closed[ownerOf(&e)]:
		return ErrJournalLost
	case e.Kind == events.KindSessionClosed:
	case w.stop || w.size+size > w.cfg.MaxPending:
		return events.ErrBusy
	}
	w.pending = append(w.pending, e)
	w.size += size
	return nil
}

// Commit makes Run append what was submitted.
func (w *Writer) Commit() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.commit()
}

func (w *Writer) commit() {
	if w.ready == len(w.pending) && !w.stop {
		return
	}
	if n := len(w.pending) - w.ready; n > 0 {
		w.commits = append(w.commits, commit{events: n, at: time.Now()})
	}
	w.ready = len(w.pending)
	select {
	case w.wake <- struct{}{}:
	default: // Run has not seen the last signal yet
	}
}

// CloseSession writes session_closed into journal j, if that is the one written
// now, and waits until it stands there or the journal is over.
func (w *Writer) CloseSession(ctx context.Context, j events.Journal, o Owner) (mine bool, err error) {
	closed := events.Event{Kind: events.KindSessionClosed, Sender: o.User, Device: o.Device, Session: o.Session}
	done := make(chan struct{})
	w.mu.Lock()
	if w.submit(j, closed) != nil {
		w.mu.Unlock()
		return false, nil // the journal is another's, or over
	}
	w.closing[o] = append(w.closing[o], done)
	w.commit()
	w.mu.Unlock()
	select {
	case <-done:
		return true, nil
	case <-ctx.Done():
		return true, ctx.Err()
	}
}

// Forget drops what is remembered of a session that another process closed. Its
// owner calls it when it submits nothing more for the session.
func (w *Writer) Forget(s Owner) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.closed, s)
}

// Stop makes Run append what has gathered, end the journal and return. Sends are
// answered busy from now on.
func (w *Writer) Stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stop = true
	w.commit()
}

// Run appends until Stop has done its work, or ctx ends; then what is in flight
// stays unsettled. It returns an error only if the log refuses to be written.
func (w *Writer) Run(ctx context.Context) error {
	for {
		batch, stop := w.gather()
		switch {
		case len(batch) > 0:
			if err := w.append(ctx, batch); err != nil {
				return w.done(ctx, err)
			}
		case stop && w.over():
			return nil
		case stop:
			return w.done(ctx, w.append(ctx, []events.Event{{Kind: events.KindJournalEnded}}))
		default:
			select {
			case <-w.wake:
			case <-ctx.Done():
				return nil
			}
		}
	}
}

// over reports whether the journal has its end, written by another process.
func (w *Writer) over() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.ended
}

func (w *Writer) done(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// gather takes from pending what one record may hold.
func (w *Writer) gather() (batch []events.Event, stop bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n, size, recipients := 0, 0, 0
	for n < w.ready {
		e := &w.pending[n]
		size += eventSize(e)
		recipients += 2
		if n > 0 && (size > events.MaxRecordBytes || recipients > events.MaxRecordRecipients) {
			break
		}
		n++
		w.size -= eventSize(e)
	}
	if n > 0 {
		w.metrics.gather.Observe(time.Since(w.commits[0].at).Seconds())
	}
	w.taken(n)
	batch = w.pending[:n:n]
	w.pending, w.ready = w.pending[n:], w.ready-n
	if len(w.pending) == 0 {
		w.pending = nil
	}
	return batch, w.stop
}

// taken notes that so many committed events are in a record.
func (w *Writer) taken(events int) {
	for events > 0 {
		n := min(events, w.commits[0].events)
		w.commits[0].events -= n
		events -= n
		if w.commits[0].events == 0 {
			w.commits = w.commits[1:]
		}
	}
}

// eventSize returns no less than the bytes an event takes in a record.
func eventSize(e *events.Event) int {
	const fixed = 4*18 + 10*4 + 8 // ids, numbers, tags and lengths
	return fixed + len(e.Conversation) + len(e.Sender) + len(e.Device) + len(e.ContentType) + len(e.Body)
}

// append puts a batch into the log: at the next offset, again and again until
// something stands there, and anew behind whatever else stands there (R2).
func (w *Writer) append(ctx context.Context, batch []events.Event) error {
	for len(batch) > 0 {
		j, last := w.Position()
		at := last + 1
		rec := w.build(j, at, batch)
		if planted.Is(planted.LatePutNotLanded) && w.hasty(ctx, j, at, rec) {
			continue
		}
		began := time.Now()
		stands, err := settle(ctx, w.cfg.Log, w.failed, j, at, rec)
		if err != nil {
			return err
		}
		if bytes.Equal(stands, rec) {
			w.metrics.append.Observe(time.Since(began).Seconds())
			w.metrics.events.Observe(float64(len(batch)))
			w.metrics.bytes.Observe(float64(len(rec)))
			w.landed(j, at, rec, batch)
			return nil
		}
		w.metrics.conflict.Inc()
		kept, ended, err := w.takeIn(ctx, j, at, stands, batch)
		if err != nil || ended {
			return err
		}
		batch = kept
	}
	return nil
}

// hasty is the bug of planted.LatePutNotLanded: it reports whether a record did not
// land at once, after which another is built for its place.
func (w *Writer) hasty(ctx context.Context, j events.Journal, at events.Offset, rec events.Record) bool {
	_, err := w.cfg.Log.Append(ctx, j, at, rec)
	return err != nil && !errors.Is(err, events.ErrConflict) && sleep(ctx, retryMost/20) == nil
}

// failed notes that an append is not settled.
func (w *Writer) failed(j events.Journal, at events.Offset, err error) {
	w.metrics.unsettled.Inc()
	logFailed(w.cfg.Logger)(j, at, err)
}

// build makes the record, giving each event its id.
func (w *Writer) build(j events.Journal, at events.Offset, batch []events.Event) events.Record {
	raws := make([][]byte, len(batch))
	for i := range batch {
		batch[i].ID = w.cfg.Clock.Next()
		raws[i] = batch[i].Encode()
	}
	return events.NewRecord(j, at, raws)
}

// landed reports a record of our own.
func (w *Writer) landed(j events.Journal, at events.Offset, rec events.Record, batch []events.Event) {
	r := Report{Journal: j, Offset: at, Durable: make([]Durable, len(batch))}
	for i := range batch {
		e := &batch[i]
		r.Durable[i] = Durable{Owner: ownerOf(e), Number: e.Number, Kind: e.Kind}
		r.Ended = r.Ended || e.Kind == events.KindJournalEnded
	}
	w.moved(at, r)
	w.cfg.Appended(bus.Hint{Store: w.cfg.Store, Journal: j, Offset: at, Record: rec})
	w.cfg.Report(r)
}

func (w *Writer) moved(at events.Offset, r Report) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.offset, w.ended = at, r.Ended
	for i := range r.Durable {
		if d := &r.Durable[i]; d.Kind == events.KindSessionClosed {
			w.release(d.Owner)
		}
	}
	if r.Ended {
		w.releaseAll()
	}
}

// releaseAll wakes all who wait: the end of the journal has closed its sessions.
func (w *Writer) releaseAll() {
	for o := range w.closing {
		w.release(o)
	}
}

// release wakes those who wait for a session to be closed.
func (w *Writer) release(o Owner) {
	for _, done := range w.closing[o] {
		close(done)
	}
	delete(w.closing, o)
}

// takeIn obeys a record that another process put where ours was to stand.
// It returns what is left of the batch that was to stand there.
func (w *Writer) takeIn(ctx context.Context, j events.Journal, at events.Offset, rec events.Record, batch []events.Event) (kept []events.Event, ended bool, err error) {
	raws, err := rec.Events(j, at)
	if err != nil {
		return nil, false, err
	}
	r := Report{Journal: j, Offset: at}
	for _, raw := range raws {
		e, err := events.Raw(raw).Decode()
		if err != nil {
			return nil, false, fmt.Errorf("record %d of journal %s: %w", at, j, err)
		}
		w.cfg.Clock.Observe(e.ID)
		switch e.Kind {
		case events.KindSessionClosed:
			r.Closed = append(r.Closed, ownerOf(&e))
		case events.KindJournalEnded:
			r.Ended = true
		}
	}
	kept = w.close(at, r.Closed, batch)
	w.cfg.Appended(bus.Hint{Store: w.cfg.Store, Journal: j, Offset: at, Record: rec})
	if r.Ended && !w.lose() {
		err = w.reopen(ctx)
	}
	w.cfg.Report(r)
	return kept, r.Ended, err
}

// reopen creates another journal in place of one that is lost, however often the store
// does not answer: until then every send is told that its journal is lost.
func (w *Writer) reopen(ctx context.Context) error {
	for pause := retryFirst; ; pause = min(2*pause, retryMost) {
		err := w.Open(ctx)
		if err == nil || events.Final(err) {
			return err
		}
		w.cfg.Logger.Warn("no journal can be opened; trying again", "err", err)
		if err := sleep(ctx, pause); err != nil {
			return err
		}
	}
}

// close keeps sessions that others closed out of every later record: nothing of
// them is taken any more, and what was taken is dropped, from what has gathered
// and from the batch in flight. All that must be done before anybody is told, and
// can Forget. It returns what is left of the batch.
func (w *Writer) close(at events.Offset, sessions []Owner, batch []events.Event) []events.Event {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.offset = at
	for _, o := range sessions {
		w.closed[o] = true
		w.release(o)
	}
	if len(sessions) == 0 || planted.Is(planted.KeptAfterClose) {
		return batch
	}
	over := func(e events.Event) bool { return w.closed[ownerOf(&e)] }
	for i := range w.pending {
		if e := &w.pending[i]; over(*e) {
			w.size -= eventSize(e)
		}
	}
	w.pending = slices.DeleteFunc(w.pending, over)
	w.ready = len(w.pending)
	if w.commits = nil; w.ready > 0 { // who came when is no longer known
		w.commits = []commit{{events: w.ready, at: time.Now()}}
	}
	return slices.DeleteFunc(batch, over)
}

// lose drops all that was to go into a journal that is over. It reports whether
// the Writer is to stop.
func (w *Writer) lose() (stop bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended = true
	w.pending, w.commits, w.ready, w.size = nil, nil, 0, 0
	clear(w.closed)
	w.releaseAll()
	return w.stop
}
