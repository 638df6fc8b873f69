package remote

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"timberline/events"
	"timberline/events/logtest"
	"timberline/projections"
	"timberline/projections/storetest"
	"timberline/store/pebble"
)

// A served store is written directly, but for its rows, and read through a socket.
type served struct {
	*pebble.Store
	remote *Store
}

func (s *served) ReadLog(ctx context.Context, j events.Journal, from events.Offset, size int, c events.Consistency) ([]events.Record, error) {
	return s.remote.ReadLog(ctx, j, from, size, c)
}

func (s *served) ListJournals(ctx context.Context, after uint64, c events.Consistency) ([]events.Row, error) {
	return s.remote.ListJournals(ctx, after, c)
}

func (s *served) LastCheckpoint(ctx context.Context, shard projections.Shard, c events.Consistency) (projections.CheckpointNumber, []byte, error) {
	return s.remote.LastCheckpoint(ctx, shard, c)
}

func (s *served) ReadCheckpoints(ctx context.Context, shard projections.Shard, from projections.CheckpointNumber, size int) ([][]byte, error) {
	return s.remote.ReadCheckpoints(ctx, shard, from, size)
}

func (s *served) GetRow(ctx context.Context, space, key string) (projections.Row, error) {
	return s.remote.GetRow(ctx, space, key)
}

func (s *served) ReadRows(ctx context.Context, space, from string, size int) ([]projections.Row, error) {
	return s.remote.ReadRows(ctx, space, from, size)
}

func (s *served) PutRows(ctx context.Context, rows []projections.Row) error {
	return s.remote.PutRows(ctx, rows)
}

func (s *served) DeleteRows(ctx context.Context, prefix string) error {
	return s.remote.DeleteRows(ctx, prefix)
}

// A place is a file system with a store that a server offers.
type place struct {
	t       *testing.T
	fs      *vfs.MemFS
	store   *served
	handler func(Offered) http.Handler
	stop    func()
}

// everything offers all rows: the contract's have names of their own.
func everything(s Offered) http.Handler { return handler(s, func(string) bool { return true }) }

func newPlace(t *testing.T, h func(Offered) http.Handler) *place {
	return &place{t: t, fs: vfs.NewCrashableMem(), handler: h}
}

func (p *place) open() (*served, error) {
	store, err := pebble.Open("data", pebble.Options{FS: p.fs, OnFatal: func(err error) { p.t.Error(err) }})
	if err != nil {
		return nil, err
	}
	path := filepath.Join(p.t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	server := &http.Server{Handler: p.handler(store)}
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	p.stop = func() {
		p.store.remote.Close()
		server.Close()
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			p.t.Error(err)
		}
	}
	remote, err := Open(p.t.Context(), path)
	p.store = &served{store, remote}
	return p.store, err
}

func (p *place) Close() error {
	p.stop()
	return p.store.Store.Close()
}

// Crash goes on with what the disk has kept.
func (p *place) Crash() error {
	p.fs = p.fs.CrashClone(vfs.CrashCloneCfg{})
	old := p.store.Store
	p.stop()
	p.t.Cleanup(func() { old.Close() })
	return nil
}

type logPlace struct{ *place }

func (p logPlace) Open() (logtest.Engine, error) { return p.open() }

type storePlace struct{ *place }

func (p storePlace) Open() (storetest.Store, error) { return p.open() }

func TestOfferedStoreIsALog(t *testing.T) {
	logtest.Run(t, func(t *testing.T) logtest.Place { return logPlace{newPlace(t, everything)} })
}

func TestOfferedStoreKeepsCheckpointsAndRows(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Place { return storePlace{newPlace(t, everything)} })
}

// Where a program may write rows of its own, it reads and writes no others.
func TestOnlyRowsOfProjectionsAreOffered(t *testing.T) {
	p := newPlace(t, Handler)
	s, err := p.open()
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	ctx := t.Context()
	if s.remote.Meta() != s.Store.Meta() {
		t.Errorf("the store is %+v, told as %+v", s.Store.Meta(), s.remote.Meta())
	}
	own := []string{"p/per-day.1/alice", "p/per-day.12/*", "live/per-day"}
	others := []string{"trim/alice", "rebuild", "retention", "p/", "p/per-day.1", "p/per-day.0/alice", "p/per-day.1/", "p//alice", "live/", "live/a/b", "live/per-day*", ""}
	for _, space := range slices.Concat(own, others) {
		row := projections.Row{Space: space, Key: "k", Checkpoint: 1, Data: []byte("theirs")}
		offered := slices.Contains(own, space)
		if !offered && space != "" {
			if err := s.Store.PutRows(ctx, []projections.Row{row}); err != nil {
				t.Fatal(err)
			}
			row.Checkpoint, row.Data = 2, []byte("mine")
		}
		good := projections.Row{Space: own[0], Key: "before " + space, Checkpoint: 1}
		_, get := s.GetRow(ctx, space, "none")
		_, read := s.ReadRows(ctx, space, "", 100)
		put := s.PutRows(ctx, []projections.Row{good, row})
		for what, err := range map[string]error{"get": get, "read": read, "put": put} {
			if refused := errors.Is(err, events.ErrFatal); refused == offered {
				t.Errorf("%s in %q: %v", what, space, err)
			}
		}
		if _, err := s.Store.GetRow(ctx, good.Space, good.Key); offered != (err == nil) {
			t.Errorf("a row put together with one in %q: %v", space, err)
		}
	}
	for _, prefix := range []string{"", "p", "p/", "p/per-day", "p/per-day.1", "live/", "live/per-day", "trim/", "rebuild"} {
		if err := s.DeleteRows(ctx, prefix); !errors.Is(err, events.ErrFatal) {
			t.Errorf("delete all of %q: %v", prefix, err)
		}
	}
	if err := s.DeleteRows(ctx, "p/per-day.1/"); err != nil {
		t.Error(err)
	}
	if _, err := s.GetRow(ctx, own[0], "k"); !errors.Is(err, events.ErrNotFound) {
		t.Errorf("a row that was deleted: %v", err)
	}
	if row, err := s.GetRow(ctx, own[1], "k"); err != nil || string(row.Data) != "theirs" {
		t.Errorf("a row of another version: %+v, %v", row, err)
	}
}

// restored is a store that may get another id.
type restored struct {
	Offered
	id atomic.Pointer[events.StoreID]
}

func (r *restored) Meta() projections.Meta {
	m := r.Offered.Meta()
	if id := r.id.Load(); id != nil {
		m.Store = *id
	}
	return m
}

// What was made of a store is not written to the one that a restore has put in its place.
func TestStoreThatWasRestoredIsAnother(t *testing.T) {
	var r *restored
	p := newPlace(t, func(s Offered) http.Handler {
		r = &restored{Offered: s}
		return Handler(r)
	})
	s, err := p.open()
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	ctx := t.Context()
	row := projections.Row{Space: "p/per-day.1/alice", Key: "k", Checkpoint: 1, Data: []byte("before")}
	if err := s.PutRows(ctx, []projections.Row{row}); err != nil {
		t.Fatal(err)
	}
	r.id.Store(&events.StoreID{1})
	row.Checkpoint, row.Data = 2, []byte("of the other")
	put := s.PutRows(ctx, []projections.Row{row})
	_, _, last := s.LastCheckpoint(ctx, 0, events.Strong)
	if !errors.Is(put, events.ErrFatal) || !errors.Is(last, events.ErrFatal) {
		t.Errorf("put: %v, last checkpoint: %v; want errors that are final", put, last)
	}
	if is, err := s.Store.GetRow(ctx, row.Space, row.Key); err != nil || is.Checkpoint != 1 {
		t.Errorf("%+v, %v; want what was there before", is, err)
	}
}

// failing is a store whose reads fail.
type failing struct {
	Offered
	err error
}

func (f failing) LastCheckpoint(context.Context, projections.Shard, events.Consistency) (projections.CheckpointNumber, []byte, error) {
	return 0, nil, f.err
}

func TestErrorsKeepTheirCausesOnTheWay(t *testing.T) {
	for _, cause := range append(causes, errors.New("throttled"), fmt.Errorf("%w: %w", events.ErrFatal, events.ErrTooLarge)) {
		p := newPlace(t, func(s Offered) http.Handler { return Handler(failing{s, fmt.Errorf("in a place: %w", cause)}) })
		s, err := p.open()
		if err != nil {
			t.Fatal(err)
		}
		_, _, err = s.LastCheckpoint(t.Context(), 0, events.Strong)
		if err == nil || err.Error() != "in a place: "+cause.Error() {
			t.Errorf("%v comes as %v", cause, err)
		}
		for _, is := range causes {
			if errors.Is(err, is) != errors.Is(cause, is) {
				t.Errorf("%v comes as %#v: is it %v?", cause, err, is)
			}
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		if _, _, err := s.LastCheckpoint(t.Context(), 0, events.Strong); err == nil || events.Final(err) {
			t.Errorf("without a server: %v, want an error that may pass", err)
		}
	}
	if _, err := Open(t.Context(), filepath.Join(t.TempDir(), "none")); !errors.Is(err, ErrNoServer) {
		t.Errorf("where no server ever was: %v", err)
	}
}

// early is a store with a record, a journal and a checkpoint that are not durable yet: strong
// reads do not find them.
type early struct{ Offered }

func (early) ReadLog(_ context.Context, _ events.Journal, _ events.Offset, _ int, c events.Consistency) ([]events.Record, error) {
	if c == events.Strong {
		return nil, nil
	}
	return []events.Record{{1}}, nil
}

func (early) ListJournals(_ context.Context, _ uint64, c events.Consistency) ([]events.Row, error) {
	if c == events.Strong {
		return nil, nil
	}
	return []events.Row{{Number: 1}}, nil
}

func (early) LastCheckpoint(_ context.Context, _ projections.Shard, c events.Consistency) (projections.CheckpointNumber, []byte, error) {
	if c == events.Strong {
		return 0, nil, nil
	}
	return 1, []byte{1}, nil
}

// A projection keeps records that it has read for the next checkpoint. Those that a crash of
// the server takes away would be counted, in place of what stands there then (R8).
func TestNothingIsShownThatACrashCouldTakeBack(t *testing.T) {
	p := newPlace(t, func(s Offered) http.Handler { return Handler(early{s}) })
	s, err := p.open()
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	for _, c := range []events.Consistency{events.Relaxed, events.Latest, events.Strong} {
		recs, log := s.ReadLog(t.Context(), "j:1", 1, 100, c)
		rows, list := s.ListJournals(t.Context(), 0, c)
		n, _, last := s.LastCheckpoint(t.Context(), 0, c)
		if err := errors.Join(log, list, last); err != nil {
			t.Fatal(err)
		}
		if len(recs)+len(rows) > 0 || n > 0 {
			t.Errorf("by a read of level %d: %d records, %d journals, checkpoint %d; want none", c, len(recs), len(rows), n)
		}
	}
}
