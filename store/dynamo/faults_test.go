package dynamo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"timberline/events"
	"timberline/events/logtest"
	"timberline/projections"
	"timberline/projections/storetest"
	"timberline/store/dynamo/faults"
)

// badDay is what happens to the requests of the contract's tests.
var badDay = faults.Odds{
	faults.Throttled: 0.05, faults.Failed: 0.05, faults.Dropped: 0.05, faults.Lost: 0.07,
	faults.Late: 0.07, faults.Slow: 0.02, faults.Unprocessed: 0.2, faults.Short: 0.2,
}

// badPlace returns a place whose requests have bad days. Calls are tried a number of
// times: with one, callers meet every fault.
func badPlace(t *testing.T, seed uint64, attempts int) (*storePlace, *faults.Transport) {
	p := newPlace(t)
	net := badNet(p, seed)
	t.Cleanup(net.Land)
	p.o.Transport, p.o.Attempts, p.o.Backoff = net, attempts, time.Millisecond
	return p, net
}

// badNet returns a transport on a bad day. What happens goes by the seed alone: the name of
// the tables is left out.
func badNet(p *storePlace, seed uint64) *faults.Transport {
	choose := faults.Seeded(seed, badDay)
	return &faults.Transport{
		Next: http.DefaultTransport,
		Choose: func(c faults.Call) faults.Fault {
			c.Body = bytes.ReplaceAll(c.Body, []byte(p.o.Prefix), []byte("test"))
			return choose(c)
		},
		Delay: 5 * time.Millisecond,
	}
}

// wantMet checks that faults have happened, and each of those named: the tests would prove
// nothing otherwise. Where calls are few, chance decides which are met.
func wantMet(t *testing.T, all []*faults.Transport, want ...faults.Fault) {
	t.Helper()
	met, any := make(map[faults.Fault]int), 0
	for _, net := range all {
		for f, n := range net.Met() {
			met[f] += n
			if f != faults.None {
				any += n
			}
		}
	}
	t.Logf("met: %v", met)
	if any < 5 {
		t.Errorf("%d faults in all", any)
	}
	for _, f := range want {
		if met[f] == 0 {
			t.Errorf("no request was %v", f)
		}
	}
}

func TestStoreIsALogOnBadDays(t *testing.T) {
	var all []*faults.Transport
	for attempts := 1; attempts <= 2; attempts++ {
		t.Run(fmt.Sprint("attempts of a call: ", attempts), func(t *testing.T) {
			logtest.Run(t, func(t *testing.T) logtest.Place {
				p, net := badPlace(t, uint64(len(all)), attempts)
				all = append(all, net)
				return patientLogPlace{p}
			})
		})
	}
	wantMet(t, all, faults.Throttled, faults.Failed, faults.Dropped, faults.Lost, faults.Late, faults.Slow, faults.Short)
}

func TestStoreKeepsTimelinesOnBadDays(t *testing.T) {
	var all []*faults.Transport
	for attempts := 1; attempts <= 2; attempts++ {
		t.Run(fmt.Sprint("attempts of a call: ", attempts), func(t *testing.T) {
			storetest.Run(t, func(t *testing.T) storetest.Place {
				p, net := badPlace(t, uint64(len(all)), attempts)
				all = append(all, net)
				return patientStorePlace{p}
			})
		})
	}
	wantMet(t, all, faults.Throttled, faults.Failed, faults.Dropped, faults.Lost, faults.Late, faults.Slow, faults.Short, faults.Unprocessed)
}

// patience is how often a caller tries what settles nothing.
const patience = 50

// again tries something until it is settled. (A generic function, as methods cannot be.)
func again[T any](try func() (T, error)) (got T, err error) {
	for range patience {
		got, err = try()
		if err == nil || settles(err) {
			break
		}
	}
	return got, err
}

func settles(err error) bool {
	return errors.Is(err, events.ErrConflict) || errors.Is(err, events.ErrNotFound) || events.Final(err)
}

type none = struct{}

func openPatiently(p *storePlace) (*Store, error) {
	return again(p.open)
}

type patientLogPlace struct{ *storePlace }

func (p patientLogPlace) Open() (logtest.Engine, error) {
	s, err := openPatiently(p.storePlace)
	return patientLog{s}, err
}

// A patientLog is how a writer uses a log (R2): what settles nothing is tried again.
type patientLog struct{ *Store }

func (l patientLog) Append(ctx context.Context, j events.Journal, at events.Offset, rec events.Record) (events.Record, error) {
	return again(func() (events.Record, error) { return l.Store.Append(ctx, j, at, rec) })
}

func (l patientLog) ReadLog(ctx context.Context, j events.Journal, from events.Offset, size int, c events.Consistency) ([]events.Record, error) {
	return again(func() ([]events.Record, error) { return l.Store.ReadLog(ctx, j, from, size, c) })
}

func (l patientLog) CreateJournal(ctx context.Context, r events.Row) (events.Row, error) {
	return again(func() (events.Row, error) { return l.Store.CreateJournal(ctx, r) })
}

func (l patientLog) UpdateJournal(ctx context.Context, r events.Row) error {
	_, err := again(func() (none, error) { return none{}, l.Store.UpdateJournal(ctx, r) })
	return err
}

func (l patientLog) ListJournals(ctx context.Context, after uint64, c events.Consistency) ([]events.Row, error) {
	return again(func() ([]events.Row, error) { return l.Store.ListJournals(ctx, after, c) })
}

type patientStorePlace struct{ *storePlace }

func (p patientStorePlace) Open() (storetest.Store, error) {
	s, err := openPatiently(p.storePlace)
	return patientStore{s}, err
}

// A patientStore is how a projector uses a store: when it does not know what became of a
// commit it looks, and if the checkpoint stands it puts the items again (R7).
type patientStore struct{ *Store }

func (p patientStore) Commit(ctx context.Context, shard projections.Shard, n projections.CheckpointNumber, checkpoint []byte, items []projections.Stored) ([]byte, error) {
	stands, err := again(func() ([]byte, error) { return p.Store.Commit(ctx, shard, n, checkpoint, items) })
	if errors.Is(err, events.ErrConflict) && bytes.Equal(stands, checkpoint) {
		return nil, p.PutItems(ctx, items)
	}
	return stands, err
}

// PutItems goes on behind what stands: items of a user are written in their order.
func (p patientStore) PutItems(ctx context.Context, items []projections.Stored) error {
	for try := 0; ; try++ {
		err := p.Store.PutItems(ctx, items)
		if err == nil || settles(err) || try == patience {
			return err
		}
		var missing []projections.Stored
		for _, item := range items {
			newest, err := p.NewestItem(ctx, item.Timeline, events.Strong)
			switch {
			case errors.Is(err, events.ErrNotFound), err == nil && newest.Last < item.Last:
				missing = append(missing, item)
			case err != nil:
				return err
			}
		}
		if len(missing) < len(items) {
			items, try = missing, 0
		}
	}
}

func (p patientStore) LastCheckpoint(ctx context.Context, shard projections.Shard, c events.Consistency) (projections.CheckpointNumber, []byte, error) {
	type last struct {
		n    projections.CheckpointNumber
		data []byte
	}
	got, err := again(func() (l last, err error) {
		l.n, l.data, err = p.Store.LastCheckpoint(ctx, shard, c)
		return l, err
	})
	return got.n, got.data, err
}

func (p patientStore) ReadCheckpoints(ctx context.Context, shard projections.Shard, from projections.CheckpointNumber, size int) ([][]byte, error) {
	return again(func() ([][]byte, error) { return p.Store.ReadCheckpoints(ctx, shard, from, size) })
}

func (p patientStore) NewestItem(ctx context.Context, t projections.Timeline, c events.Consistency) (projections.Stored, error) {
	return again(func() (projections.Stored, error) { return p.Store.NewestItem(ctx, t, c) })
}

func (p patientStore) ReadItems(ctx context.Context, t projections.Timeline, from events.Seq, size int, c events.Consistency) ([]projections.Stored, error) {
	return again(func() ([]projections.Stored, error) { return p.Store.ReadItems(ctx, t, from, size, c) })
}

// ScanItems visits what a scan that came through has found.
func (p patientStore) ScanItems(ctx context.Context, v projections.Version, visit func(projections.Stored) error) error {
	all, err := again(func() (all []projections.Stored, err error) {
		err = p.Store.ScanItems(ctx, v, func(i projections.Stored) error { all = append(all, i); return nil })
		return all, err
	})
	if err != nil {
		return err
	}
	for _, i := range all {
		if err := visit(i); err != nil {
			return err
		}
	}
	return nil
}

func (p patientStore) Append(ctx context.Context, j events.Journal, at events.Offset, rec events.Record) (events.Record, error) {
	stands, err := patientLog(p).Append(ctx, j, at, rec)
	if errors.Is(err, events.ErrConflict) && bytes.Equal(stands, rec) {
		return nil, nil
	}
	return stands, err
}

func (p patientStore) JournalEnds(ctx context.Context) (map[uint64]events.Offset, error) {
	return again(func() (map[uint64]events.Offset, error) { return p.Store.JournalEnds(ctx) })
}

func (p patientStore) CutCheckpoints(ctx context.Context, shard projections.Shard, from projections.CheckpointNumber) error {
	_, err := again(func() (none, error) { return none{}, p.Store.CutCheckpoints(ctx, shard, from) })
	return err
}

func (p patientStore) GetRow(ctx context.Context, space, key string) (projections.Row, error) {
	return again(func() (projections.Row, error) { return p.Store.GetRow(ctx, space, key) })
}

func (p patientStore) ReadRows(ctx context.Context, space, from string, size int) ([]projections.Row, error) {
	return again(func() ([]projections.Row, error) { return p.Store.ReadRows(ctx, space, from, size) })
}

func (p patientStore) PutRows(ctx context.Context, rows []projections.Row) error {
	if projections.ValidateRows(rows) != nil {
		return p.Store.PutRows(ctx, rows) // refused, all of them
	}
	for i := range rows { // of many one always fails
		if _, err := again(func() (none struct{}, err error) { return none, p.Store.PutRows(ctx, rows[i:i+1]) }); err != nil {
			return err
		}
	}
	return nil
}

func (p patientStore) DeleteRows(ctx context.Context, prefix string) error {
	_, err := again(func() (none struct{}, err error) { return none, p.Store.DeleteRows(ctx, prefix) })
	return err
}

func (p patientStore) DeleteRecords(ctx context.Context, j events.Journal, below events.Offset) error {
	_, err := again(func() (none struct{}, err error) { return none, p.Store.DeleteRecords(ctx, j, below) })
	return err
}

func (p patientStore) DeleteItems(ctx context.Context, t projections.Timeline, below events.Seq) error {
	_, err := again(func() (none struct{}, err error) { return none, p.Store.DeleteItems(ctx, t, below) })
	return err
}

func (p patientStore) EmptyTimelines(ctx context.Context) error {
	_, err := again(func() (none, error) { return none{}, p.Store.EmptyTimelines(ctx) })
	return err
}
